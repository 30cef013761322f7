//! The README says what is true: its example, its commands, its defaults.

use clap::CommandFactory;
use pocker::cli::args::Cli;
use pocker::cli::defaults;

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md")
}

#[test]
fn it_shows_the_two_commands_that_set_everything_up() {
    let text = readme();
    for command in ["    scripts/demo ", "    scripts/test "] {
        assert!(text.contains(command), "{command}");
    }
}

#[test]
fn its_example_is_the_file() {
    let file = include_str!("../examples/nginx/Pockerfile");
    let indented: String = file.lines().map(|l| format!("    {l}\n")).collect();
    assert!(
        readme().contains(&indented),
        "not in the README:\n{indented}"
    );
}

#[test]
fn every_command_and_option_is_in_its_table() {
    let text = readme();
    let missing = |what: &str| !text.contains(what);
    for command in Cli::command()
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
    {
        let name = command.get_name();
        assert!(
            !missing(&format!("`pocker {name}")) || !missing(&format!("`{name} ")),
            "the README has no `pocker {name}`"
        );
        for option in command.get_arguments().filter(|a| !a.is_hide_set()) {
            let Some(long) = option.get_long() else {
                continue;
            };
            let short = option.get_short().map(|c| format!("`-{c}`"));
            let shown = text.contains(&format!("--{long}"))
                || short.is_some_and(|s| text.contains(&s))
                || option
                    .get_short()
                    .is_some_and(|c| text.contains(&format!("[-{c} ")));
            assert!(shown, "the README has no --{long} of {name}");
        }
    }
}

#[test]
fn its_defaults_are_the_programs() {
    let text = readme();
    for default in [
        defaults::STORE.to_string(),
        defaults::BROWSE.to_string(),
        defaults::CONFIG.to_string(),
        format!("port {}", defaults::NFS_PORT),
        format!("{} s", defaults::SERVER_TIMEOUT),
        format!(
            "`{}/{{control,nfs}}.sock`",
            defaults::socket_dir().display()
        ),
    ] {
        assert!(text.contains(&default), "the README does not say {default}");
    }
}
