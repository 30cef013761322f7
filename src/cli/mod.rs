//! The command line: one file a command. Only this module prints.

pub mod args;
mod bounds;
mod config;
mod create;
pub mod defaults;
mod doctor;
mod error;
mod fsck;
mod gc;
mod ls;
mod manage;
mod mounting;
mod open;
mod pin;
mod progress;
mod run;
mod serve;
mod shell;
mod stats;
mod store;
mod sys;
mod text;
mod transfer;
mod volume;
mod workshop;

pub use mounting::listeners;

use args::{Cli, Command};
use clap::Parser;
use config::Settings;
use error::CliError;
use std::ffi::OsString;

/// Runs one command; returns the exit status.
pub fn main(argv: Vec<OsString>) -> i32 {
    let cli = match Cli::try_parse_from(args::expand_short_form(argv)) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return e.exit_code();
        }
    };
    match dispatch(cli) {
        Ok(status) => status,
        Err(error) => {
            eprint!("{}", error.render());
            error.status
        }
    }
}

fn dispatch(cli: Cli) -> Result<i32, CliError> {
    let settings = Settings::load(&cli.global)?;
    let done = |result: Result<(), CliError>| result.map(|()| 0);
    match cli.command {
        Command::Create(args) => done(create::run(&settings, &args)),
        Command::Run(args) => run::run(&settings, &args),
        Command::Debug(args) => run::debug(&settings, &args),
        Command::Mount(args) => done(mounting::mount(&settings, &args)),
        Command::Umount(args) => done(mounting::umount(&settings, &args)),
        Command::MountHelper { kind } if kind == "fuse" => {
            Ok(pocker_mount_helpers::fuse::fuse_helper_main())
        }
        Command::Ls(args) => done(ls::run(&settings, &args)),
        Command::Rm(args) => done(manage::rm(&settings, &args)),
        Command::Reset(args) => done(manage::reset(&settings, &args)),
        Command::Volume(command) => done(volume::run(&settings, &command)),
        Command::Pin(args) => done(pin::pin(&settings, &args)),
        Command::Unpin(args) => done(pin::unpin(&settings, &args)),
        Command::Gc(args) => done(gc::run(&settings, &args)),
        Command::Fsck(args) => fsck::run(&settings, &args),
        Command::Store(command) => store::run(&settings, &command),
        Command::Export(args) => done(transfer::export(&settings, &args)),
        Command::Import(args) => done(transfer::import(&settings, &args)),
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
