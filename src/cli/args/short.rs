//! The seed's short form, and the names that it can't have.

use super::Cli;
use clap::CommandFactory;
use std::ffi::OsString;

/// Inserts `run` where the seed's short form leaves it out: the first word
/// that is no global option and no command begins a run.
pub fn expand_short_form(mut argv: Vec<OsString>) -> Vec<OsString> {
    if let Some(at) = command_at(&argv)
        && !command_names().contains(&argv[at].to_string_lossy().into_owned())
    {
        argv.insert(at, "run".into());
    }
    argv
}

/// The command that expanded words are.
pub fn command_of(argv: &[OsString]) -> Option<&OsString> {
    argv.get(command_at(argv)?)
}

/// Where the command is, or the short form's first word.
fn command_at(argv: &[OsString]) -> Option<usize> {
    let command = Cli::command();
    let mut at = 1;
    while at < argv.len() {
        let word = argv[at].to_string_lossy().into_owned();
        if let Some(name) = word.strip_prefix("--") {
            let (name, inline) = name
                .split_once('=')
                .map_or((name, false), |(n, _)| (n, true));
            let global = command.get_arguments().find(|a| a.get_long() == Some(name));
            match global {
                Some(arg) => {
                    let takes_value = arg.get_action().takes_values() && !inline;
                    at += 1 + usize::from(takes_value);
                }
                None if name == "help" || name == "version" => return None,
                None => break,
            }
        } else if matches!(word.as_str(), "-q") {
            at += 1;
        } else if matches!(word.as_str(), "-h" | "-V") {
            return None;
        } else {
            break;
        }
    }
    (at < argv.len()).then_some(at)
}

/// Every command's name, which no pocker may have.
pub fn command_names() -> Vec<String> {
    let mut names: Vec<String> = Cli::command()
        .get_subcommands()
        .map(|c| c.get_name().to_string())
        .collect();
    names.push("help".to_string());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(words: &[&str]) -> String {
        let argv = words.iter().map(|w| (*w).into()).collect();
        let out: Vec<String> = expand_short_form(argv)
            .iter()
            .map(|w: &std::ffi::OsString| w.to_string_lossy().into_owned())
            .collect();
        out.join(" ")
    }

    #[test]
    fn the_seeds_short_form_is_a_run() {
        assert_eq!(
            expand(&["pocker", "-d", "/a/:/b/", "nginx"]),
            "pocker run -d /a/:/b/ nginx"
        );
        assert_eq!(
            expand(&["pocker", "--store", "/s", "-d", "/a/:/b/", "nginx"]),
            "pocker --store /s run -d /a/:/b/ nginx"
        );
        assert_eq!(
            expand(&["pocker", "--store=/s", "nginx"]),
            "pocker --store=/s run nginx"
        );
    }

    #[test]
    fn commands_and_help_stay_as_they_are() {
        for line in [
            "pocker create nginx",
            "pocker --help",
            "pocker -V",
            "pocker",
            "pocker -q ls",
        ] {
            assert_eq!(expand(&line.split(' ').collect::<Vec<_>>()), line);
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
