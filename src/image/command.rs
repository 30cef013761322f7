//! What an image says of how to start, and what a pocker says: each from the other.

use super::types::Execution;
use crate::control::api::{ImageNotes, RunConfig};

/// Notes longer than this are not kept: every list of pockers has them.
const NOTES_MAX: usize = 256 << 10;

/// Where nothing says what starts a tree.
pub const SHELL: &str = "/bin/sh";

/// Entrypoint and Cmd, Env, User, WorkingDir and Volumes as RUN, ENV, USER, WORKDIR and VOLUME.
pub fn to_run(image: &Execution) -> RunConfig {
    let words: Vec<String> = image.entrypoint.iter().chain(&image.cmd).cloned().collect();
    // A word with a NUL could not be executed.
    let sound = |text: &String| !text.is_empty() && !text.contains('\0');
    let env = image.env.iter().filter(|pair| sound(pair));
    let env = env.filter_map(|pair| pair.split_once('='));
    let (command, argv) = match &words[..] {
        [] => (SHELL.to_owned(), Vec::new()),
        [shell, flag, text] if is_shell(shell) && flag == "-c" && !text.trim().is_empty() => {
            (text.clone(), Vec::new())
        }
        _ => (shown(&words), words),
    };
    RunConfig {
        command,
        argv,
        env: env
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        user: Some(image.user.clone()).filter(sound),
        workdir: Some(image.working_dir.clone()).filter(sound).map(absolute),
        volumes: image
            .volumes
            .keys()
            .filter(|path| sound(path))
            .cloned()
            .collect(),
        image: notes(image),
        // OpenBSD has no images of this kind.
        openbsd: None,
    }
}

fn notes(image: &Execution) -> ImageNotes {
    let notes = ImageNotes {
        labels: image.labels.clone(),
        ports: image.exposed_ports.keys().cloned().collect(),
        stop_signal: Some(image.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        healthcheck: image.healthcheck.clone(),
    };
    match serde_json::to_vec(&notes) {
        Ok(text) if text.len() <= NOTES_MAX => notes,
        _ => ImageNotes::default(),
    }
}

/// The same the other way.
pub fn to_image(run: &RunConfig) -> Execution {
    let argv = match run.argv.is_empty() {
        false => run.argv.clone(),
        true => vec![SHELL.to_owned(), "-c".to_owned(), run.command.clone()],
    };
    Execution {
        user: run.user.clone().unwrap_or_default(),
        env: run
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        entrypoint: Vec::new(),
        cmd: argv,
        volumes: run
            .volumes
            .iter()
            .map(|path| (path.clone(), serde_json::json!({})))
            .collect(),
        working_dir: run.workdir.clone().unwrap_or_default(),
        labels: run.image.labels.clone(),
        exposed_ports: run
            .image
            .ports
            .iter()
            .map(|port| (port.clone(), serde_json::json!({})))
            .collect(),
        stop_signal: run.image.stop_signal.clone().unwrap_or_default(),
        healthcheck: run.image.healthcheck.clone(),
    }
}

fn is_shell(word: &str) -> bool {
    word == "/bin/sh" || word == "sh"
}

fn absolute(path: String) -> String {
    match path.starts_with('/') {
        true => path,
        false => format!("/{path}"),
    }
}

/// Words as a shell would take them.
pub fn shown(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%=".contains(c);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn what_a_pocker_says_comes_back_from_the_image() {
        let runs = [
            RunConfig {
                command: "exec nginx -g 'daemon off;'".into(),
                env: vec![("A".into(), "1=2".into()), ("PATH".into(), "/bin".into())],
                user: Some("www:www".into()),
                workdir: Some("/srv".into()),
                volumes: vec!["/data".into()],
                image: ImageNotes {
                    labels: [("a.b".into(), "c \"d\"".into())].into(),
                    ports: vec!["53/udp".into(), "80/tcp".into()],
                    stop_signal: Some("SIGQUIT".into()),
                    healthcheck: Some(serde_json::json!({"Test": ["CMD", "x"], "Interval": 5})),
                },
                ..RunConfig::default()
            },
            RunConfig {
                command: "/app -x 'a b'".into(),
                argv: words(&["/app", "-x", "a b"]),
                ..RunConfig::default()
            },
        ];
        for run in runs {
            assert_eq!(to_run(&to_image(&run)), run);
        }
    }

    #[test]
    fn an_images_words_become_the_command() {
        let image = Execution {
            entrypoint: words(&["/entry.sh", "it's"]),
            cmd: words(&["nginx", "-g", "daemon off;", ""]),
            env: words(&["PATH=/usr/bin", "EMPTY=", "=x", "none", "N\0=x"]),
            working_dir: "srv".into(),
            ..Execution::default()
        };
        let run = to_run(&image);
        assert_eq!(run.argv.len(), 6);
        assert_eq!(
            run.command,
            r"/entry.sh 'it'\''s' nginx -g 'daemon off;' ''"
        );
        assert_eq!(
            run.env,
            [
                ("PATH".into(), "/usr/bin".into()),
                ("EMPTY".into(), String::new())
            ]
        );
        assert_eq!((run.user, run.workdir), (None, Some("/srv".into())));
        let long = Execution {
            labels: [("a".into(), "x".repeat(NOTES_MAX))].into(),
            ..Execution::default()
        };
        assert!(to_run(&long).image.is_empty());
        let run = to_run(&Execution::default());
        assert_eq!((run.command.as_str(), run.argv.len()), (SHELL, 0));
    }
}
