//! The command line: one file a command. Only this module prints.

pub mod args;
mod bounds;
mod certs;
mod config;
mod confine;
mod create;
pub mod defaults;
mod diff;
mod doctor;
mod error;
mod export;
mod fsck;
mod gc;
mod history;
mod hold;
mod hosts;
mod image;
mod import;
mod life;
mod looking;
mod ls;
mod manage;
mod mounting;
mod open;
mod pin;
mod progress;
mod refused;
mod registry;
mod remote;
mod run;
mod serve;
mod server_user;
mod shell;
mod stats;
mod store;
mod sync;
mod sys;
mod text;
mod token;
mod transfer;
mod unpack;
mod volume;
mod watched;
mod workshop;

pub use mounting::listeners;

use args::{Cli, Command};
use clap::Parser;
use config::Settings;
use error::CliError;
use pocker_mount_helpers::HostTls;
use pocker_nfs::secure::Secure;
use std::ffi::OsString;
use std::sync::Arc;

/// Runs one command; returns the exit status.
pub fn main(argv: Vec<OsString>) -> i32 {
    if let Some(done) = beside(&argv) {
        return done.unwrap_or_else(|error| {
            eprint!("{}", error.render());
            error.status
        });
    }
    let words = args::expand_short_form(argv.clone());
    // These end as the command that they start does: their own failures have a status apart.
    let apart = args::command_of(&words)
        .and_then(|word| word.to_str())
        .is_some_and(|word| ["run", "exec", "wait", "supervise"].contains(&word));
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => {
            let _ = e.print();
            return e.exit_code();
        }
        // All of the help, as nothing at all was said.
        Err(e) if e.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = e.print();
            return error::USAGE;
        }
        Err(e) => {
            let error = refused::refused(&e, &argv, &words);
            eprint!("{}", error.render());
            return match apart {
                true => error.own_status(),
                false => error.status,
            };
        }
    };
    match dispatch(cli, &words).map_err(|e| refused::unknown(e, &argv, &words)) {
        Ok(status) => status,
        Err(error) => {
            eprint!("{}", error.render());
            match apart {
                true => error.own_status(),
                false => error.status,
            }
        }
    }
}

/// The processes of ours that stand beside a run have no command line to speak of. Each start would wait for all commands
/// and options to be made ready, which is half of what such a process does before it is at work.
fn beside(argv: &[OsString]) -> Option<Result<i32, CliError>> {
    let words: Vec<&str> = argv
        .iter()
        .skip(1)
        .map_while(|word| word.to_str())
        .collect();
    match words[..] {
        ["hold"] => Some(hold::run()),
        ["mount-helper", "fuse"] => Some(Ok(mount_helper())),
        _ => None,
    }
}

fn mount_helper() -> i32 {
    // It holds nothing open that who started it left open: a lock, a pipe.
    crate::sys::process::close_except(&[]);
    pocker_mount_helpers::fuse::fuse_helper_main(Some(secure))
}

/// TLS for the mount helper's connections to another host.
fn secure(host: &str, tls: &HostTls) -> std::io::Result<Arc<dyn Secure>> {
    let shown = tls.shown.as_ref();
    let shown = shown.map(|(cert, key)| (cert.as_path(), key.as_path()));
    crate::tls::rpc_client(host, &tls.ca, shown).map_err(std::io::Error::other)
}

fn dispatch(cli: Cli, words: &[OsString]) -> Result<i32, CliError> {
    if cli.command.enters_trees()
        && nix::unistd::geteuid().is_root()
        && let Err(fault) = crate::sys::os::shield()
    {
        return Err(CliError::new(format!(
            "what runs could change the mode and owner of pocker's own file: {fault}"
        ))
        .hint("Linux 5.12 protects it by a mount, and older ones by a copy in memory, for which there has to be room"));
    }
    if matches!(cli.command, Command::Hold) {
        return hold::run();
    }
    // What stays behind holds nothing open that who started it left open: a lock, a pipe.
    if cli.command.stays() {
        crate::sys::process::close_except(&[]);
    }
    let settings = Settings::load(&cli.global)?;
    let done = |result: Result<(), CliError>| result.map(|()| 0);
    match cli.command {
        Command::Create(args) => done(create::run(&settings, &args)),
        Command::Run(args) => life::run(&settings, &args, words),
        Command::Supervise { id } => life::supervise(&settings, &id),
        Command::Ps(args) => done(life::ps(&settings, &args)),
        Command::Logs(args) => done(life::logs(&settings, &args)),
        Command::Exec(args) => life::exec(&settings, &args),
        Command::Stop(args) => done(life::stop(&settings, &args)),
        Command::Kill(args) => done(life::kill(&settings, &args)),
        Command::Restart(args) => done(life::restart(&settings, &args)),
        Command::Wait(args) => life::wait(&settings, &args),
        Command::Rename(args) => done(life::rename(&settings, &args)),
        Command::Inspect(args) => done(life::inspect(&settings, &args)),
        Command::Top(args) => done(life::top(&settings, &args)),
        Command::Stats(args) => done(life::stats(&settings, &args)),
        Command::Prune(args) => done(life::prune(&settings, &args)),
        Command::Boot(args) => life::boot(&settings, &args),
        Command::Debug(args) => run::debug(&settings, &args),
        Command::Mount(args) => done(mounting::mount(&settings, &args)),
        Command::Umount(args) => done(mounting::umount(&settings, &args)),
        Command::MountHelper { kind } if kind == "fuse" => Ok(mount_helper()),
        Command::Ls(args) => done(ls::run(&settings, &args)),
        Command::History(args) => done(history::run(&settings, &args)),
        Command::Diff(args) => done(diff::run(&settings, &args)),
        Command::Du(args) => done(looking::du(&settings, &args)),
        Command::Tree(args) => done(looking::tree(&settings, &args)),
        Command::Cat(args) => done(looking::cat(&settings, &args)),
        Command::Cp(args) => done(looking::cp(&settings, &args)),
        Command::Rm(args) => done(manage::rm(&settings, &args)),
        Command::Reset(args) => done(manage::reset(&settings, &args)),
        Command::Volume(command) => done(volume::run(&settings, &command)),
        Command::Pin(args) => done(pin::pin(&settings, &args)),
        Command::Unpin(args) => done(pin::unpin(&settings, &args)),
        Command::Gc(args) => done(gc::run(&settings, &args)),
        Command::Fsck(args) => fsck::run(&settings, &args),
        Command::Store(command) => store::run(&settings, &command),
        Command::Export(args) => done(export::export(&settings, &args)),
        Command::Import(args) => done(import::import(&settings, &args)),
        Command::Push(args) => done(registry::push(&settings, &args)),
        Command::Pull(args) => done(registry::pull(&settings, &args)),
        Command::Sync(args) => done(sync::run(&settings, &args)),
        Command::Hosts(args) => done(hosts::run(&settings, &args)),
        Command::Token(command) => done(token::run(&settings, &command)),
        Command::Hold => hold::run(),
        Command::Serve(args) => serve::run(&settings, &args),
        Command::Doctor(args) => doctor::run(&settings, &args),
        Command::Version(args) => done(text::version(&args)),
        Command::Completions { shell } => done(text::completions(shell)),
        Command::Man { dir } => done(text::man(&dir)),
        Command::MountHelper { kind } => Err(CliError::usage(format!(
            "there is no mount helper process of kind {kind}"
        ))),
    }
}
