//! What the parser refuses, said as every other error is: why, the usage, and a hint.

use super::args::{Cli, command_names, command_of};
use super::error::CliError;
use crate::run::GraftError;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};
use std::ffi::OsString;

/// What other programs call it, and people with them: the word, and what to say here.
const ELSEWHERE: [(&str, &str); 13] = [
    ("attach", "`pocker logs -f`"),
    ("build", "`pocker create`"),
    ("container", "`pocker ps`"),
    ("image", "`pocker ls`"),
    ("images", "`pocker ls`"),
    ("info", "`pocker doctor`"),
    ("list", "`pocker ls`"),
    ("log", "`pocker logs`"),
    ("remove", "`pocker rm`"),
    ("rmi", "`pocker rm`"),
    ("shell", "`pocker run NAME -- sh`"),
    ("start", "`pocker restart`, which starts ended runs"),
    ("unmount", "`pocker umount`"),
];

/// What somebody may have meant by a word that is no command.
fn meant(word: &str) -> Option<String> {
    if let Some((_, said)) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == word) {
        return Some((*said).to_owned());
    }
    let most = if word.chars().count() < 4 { 1 } else { 2 };
    let near = Cli::command()
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
        .map(|c| {
            (
                strsim::osa_distance(word, c.get_name()),
                c.get_name().to_owned(),
            )
        })
        .min()?;
    (near.0 <= most).then(|| format!("`pocker {}`", near.1))
}

/// The word that the short form took for a pocker's name: where `run` was put before it.
fn first<'a>(argv: &[OsString], words: &'a [OsString]) -> Option<&'a str> {
    if argv.len() == words.len() {
        return None;
    }
    let at = (0..words.len()).find(|at| argv.get(*at) != Some(&words[*at]))?;
    let word = words.get(at + 1)?.to_str()?;
    (!word.starts_with('-')).then_some(word)
}

/// A run of a pocker that is not there, begun with a word that may have been meant as a command.
pub fn unknown(error: CliError, argv: &[OsString], words: &[OsString]) -> CliError {
    let Some(word) = first(argv, words).filter(|_| error.gone) else {
        return error;
    };
    let hint = match meant(word) {
        Some(said) => Some(format!("did you mean {said}?")),
        None => error.hint,
    };
    CliError {
        message: format!("there is no command and no pocker named {word}"),
        hint,
        ..error
    }
}

/// `argv` as it was said, `words` with the short form written out.
pub fn refused(error: &clap::Error, argv: &[OsString], words: &[OsString]) -> CliError {
    if let Some(word) = first(argv, words)
        && let Some(said) = meant(word)
    {
        return CliError::usage(format!("there is no command named {word}"))
            .hint(format!("did you mean {said}?"));
    }
    let (command, line) = command(words);
    let text = error.render().to_string();
    let mut lines = text.lines();
    let said = lines.next().unwrap_or_default();
    let mut message = said.strip_prefix("error: ").unwrap_or(said).to_owned();
    let mut tip = None;
    for line in lines {
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        match line.trim_start().strip_prefix("tip: ") {
            Some(text) => tip = tip.or(Some(text.to_owned())),
            None if line.is_empty() => {}
            None => message = format!("{message}\n{line}"),
        }
    }
    // The parser's own list has what people never say.
    if error.kind() == ErrorKind::MissingSubcommand {
        message = format!("`{line}` takes a command");
    }
    // The parser's own lists what comes from the environment as if it had to be said.
    let usage = command
        .filter(|_| text.contains("\nUsage: "))
        .map(|mut command| format!("\n\n{}\n", command.render_usage()))
        .unwrap_or_default();
    let other = match first(argv, words) {
        Some(_) => "; `pocker help` lists the commands",
        None => "",
    };
    let hint = known(error, words)
        .map(|hint| hint + other)
        .or(tip)
        .unwrap_or_else(|| format!("`{line} --help` says what it takes"));
    CliError::usage(message + &usage).hint(hint)
}

/// What the words are said to, as far as they name commands.
fn command(words: &[OsString]) -> (Option<Command>, String) {
    let mut all = Cli::command();
    all.build();
    let mut line = "pocker".to_owned();
    let mut found = all;
    let mut rest = command_of(words)
        .and_then(|first| words.iter().position(|w| w == first))
        .map_or(&[][..], |at| &words[at..]);
    while let [word, more @ ..] = rest
        && let Some(next) = word
            .to_str()
            .and_then(|w| found.find_subcommand(w))
            .cloned()
    {
        line = format!("{line} {}", next.get_name());
        found = next;
        rest = more;
    }
    (Some(found), line)
}

/// The mistakes that people who know other programs make.
fn known(error: &clap::Error, words: &[OsString]) -> Option<String> {
    let run = words.iter().position(|w| w == "run")?;
    if command_of(words)? != "run" {
        return None;
    }
    let said = &words[run + 1..];
    match (error.kind(), error.get(ContextKind::InvalidArg)?) {
        (ErrorKind::MissingRequiredArgument, ContextValue::Strings(missing))
            if missing.iter().any(|m| m == "<NAME>") =>
        {
            // `-d` is `--detach` elsewhere: it took the name for a graft.
            let text = grafts(said).find(|text| !text.contains([':', '/']))?;
            GraftError::NoColon { text }.hint()
        }
        (ErrorKind::UnknownArgument, ContextValue::String(word)) if !word.starts_with('-') => {
            let at = said.iter().skip(1).position(|w| w == word.as_str())? + 1;
            let quoted =
                |words: &[OsString]| words.iter().map(quoted).collect::<Vec<_>>().join(" ");
            Some(format!(
                "put `--` before the command: pocker run {} -- {}",
                quoted(&said[..at]),
                quoted(&said[at..])
            ))
        }
        _ => None,
    }
}

/// What the grafts' option was given.
fn grafts(words: &[OsString]) -> impl Iterator<Item = String> {
    let texts: Vec<&str> = words.iter().filter_map(|w| w.to_str()).collect();
    let after = |at: usize| texts.get(at + 1).map(|text| (*text).to_owned());
    let found: Vec<String> = (0..texts.len())
        .filter_map(|at| match texts[at] {
            "-d" | "--graft" => after(at),
            word => word.strip_prefix("-d").map(str::to_owned),
        })
        .collect();
    found.into_iter()
}

/// As a shell takes it back.
fn quoted(word: &OsString) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The command line without what only pocker itself says.
pub fn visible() -> Command {
    let all = Cli::command();
    let mut shown = Command::new("pocker").args(all.get_arguments().cloned());
    for command in all.get_subcommands().filter(|c| !c.is_hide_set()) {
        shown = shown.subcommand(command.clone());
    }
    debug_assert!(shown.get_subcommands().count() < command_names().len());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::expand_short_form;
    use clap::Parser;

    fn say(line: &str) -> String {
        let argv: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let words = expand_short_form(argv.clone());
        let error = Cli::try_parse_from(&words).expect_err(line);
        refused(&error, &argv, &words).render()
    }

    #[test]
    fn detach_as_others_have_it_is_seen_without_a_name() {
        for line in [
            "pocker run -d nginx",
            "pocker -d nginx",
            "pocker run -dnginx",
        ] {
            let said = say(line);
            assert!(
                said.contains("<NAME>") && said.contains("say `--detach nginx`"),
                "{said}"
            );
        }
        assert!(!say("pocker run -d /a:/b").contains("--detach nginx"));
    }

    #[test]
    fn a_word_that_is_no_command_gets_the_one_that_was_meant() {
        for (line, hint) in [
            ("pocker creat x", "did you mean `pocker create`?"),
            ("pocker restrt x", "did you mean `pocker restart`?"),
            (
                "pocker --store /s build -t a .",
                "did you mean `pocker create`?",
            ),
            ("pocker rmi a b", "did you mean `pocker rm`?"),
            ("pocker start x", "did you mean `pocker restart`, "),
            (
                "pocker run nginx ls /",
                "put `--` before the command: pocker run nginx -- ls /",
            ),
            (
                "pocker nginx sh -c a;b",
                "pocker run nginx -- sh -c 'a;b'; `pocker help` lists",
            ),
            ("pocker run --detch nginx", "'--detach'"),
            ("pocker stop", "`pocker stop --help`"),
        ] {
            let said = say(line);
            assert!(
                said.lines().last().is_some_and(|l| l.starts_with("hint: ")),
                "{said}"
            );
            assert!(said.contains(hint), "{line}: {said}");
        }
    }

    #[test]
    fn a_pocker_that_is_not_there_may_have_been_meant_as_a_command() {
        let said = |line: &str| {
            let argv: Vec<OsString> = line.split(' ').map(Into::into).collect();
            let words = expand_short_form(argv.clone());
            unknown(crate::cli::ls::unknown("images"), &argv, &words).render()
        };
        insta::assert_snapshot!(said("pocker images"), @r"
        error: there is no command and no pocker named images
        hint: did you mean `pocker ls`?
        ");
        assert!(said("pocker run images").starts_with("error: there is no pocker named images"));
        assert!(said("pocker -d /a:/b images").starts_with("error: there is no pocker named"));
        assert!(said("pocker website").contains("`pocker ls` lists them"));
    }

    #[test]
    fn usage_is_plain_and_hides_what_is_hidden() {
        insta::assert_snapshot!(say("pocker --store /s stop"), @r"
        error: the following required arguments were not provided:
          <RUN>...

        Usage: pocker stop [OPTIONS] [RUN]...

        hint: `pocker stop --help` says what it takes
        ");
        for line in ["pocker -q", "pocker volume"] {
            assert!(!say(line).contains("mount-helper"), "{}", say(line));
        }
    }

    #[test]
    fn shells_complete_what_is_shown_and_modes() {
        let mut script = Vec::new();
        clap_complete::generate(
            clap_complete::Shell::Bash,
            &mut visible(),
            "pocker",
            &mut script,
        );
        let script = String::from_utf8(script).unwrap();
        for hidden in ["supervise", "pocker__mount__helper", "pocker,mount-helper"] {
            assert!(!script.contains(hidden), "{hidden}");
        }
        assert!(script.contains("\"host none private\"") && script.contains("--socket-dir"));
    }

    #[test]
    fn each_family_of_a_runs_options_has_its_heading() {
        let mut all = Cli::command();
        all.build();
        let run = all.find_subcommand("run").unwrap();
        let heading = |long: &str| {
            let arg = run.get_arguments().find(|a| a.get_long() == Some(long));
            arg.unwrap().get_help_heading()
        };
        for (long, want) in [
            ("graft", None),
            ("cap-add", Some("Confinement")),
            ("memory", Some("Limits")),
            ("net", Some("Network")),
            ("detach", Some("Life")),
            ("store", Some("Global options")),
        ] {
            assert_eq!(heading(long), want, "{long}");
        }
        assert!(
            run.get_positionals()
                .all(|a| a.get_help_heading().is_none())
        );
    }
}
