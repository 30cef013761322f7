//! The command line: what can be said, and nothing of what it does.

mod build;
mod confine;
mod hosts;
mod images;
mod life;
mod limits;
mod looking;
mod net;
mod run;
mod serve;
mod short;
mod store;
mod sync;
mod trees;

pub use build::*;
pub use confine::Confine;
pub use hosts::*;
pub use images::*;
pub use life::*;
pub use limits::*;
pub use looking::*;
pub use net::*;
pub use run::*;
pub use serve::*;
pub use short::{command_names, command_of, expand_short_form};
pub use store::*;
pub use sync::Sync;
pub use trees::*;

use crate::control::hosts::RpcTls;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Low-cost sandboxed environments from a Pockerfile.
///
/// `pocker -d HOSTDIR:PATH NAME` is short for `pocker run -d HOSTDIR:PATH NAME`.
#[derive(Debug, Parser)]
#[command(name = "pocker", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The store's directory [default: /var/pocker/store]
    #[arg(long, global = true, env = "POCKER_STORE", value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Where the server's sockets are [default: /run/pocker]
    #[arg(long, global = true, env = "POCKER_SOCKET_DIR", value_name = "DIR")]
    pub socket_dir: Option<PathBuf>,
    /// Settings file [default: /etc/pocker.conf]
    #[arg(long, global = true, env = "POCKER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to mount: linux-kernel or fuse [default: the first that works here]
    #[arg(
        long,
        global = true,
        env = "POCKER_MOUNT_HELPER",
        value_name = "HELPER"
    )]
    pub mount_helper: Option<String>,
    /// Use the store of another host's server: pocker://HOST[:PORT]
    #[arg(long, global = true, env = "POCKER_REMOTE", value_name = "URL")]
    pub remote: Option<String>,
    /// Whom to believe that it is: a PEM file of certificates [default: /etc/pocker/ca.pem]
    #[arg(long, global = true, env = "POCKER_REMOTE_CA", value_name = "FILE")]
    pub remote_ca: Option<PathBuf>,
    /// TLS for NFS with other hosts, on either side: off, offer, require or mutual [default: offer]
    #[arg(
        long,
        global = true,
        env = "POCKER_RPC_TLS",
        value_name = "HOW",
        value_enum,
        hide_possible_values = true
    )]
    pub rpc_tls: Option<RpcTls>,
    /// Seconds to wait for a server that is away [default: 30]
    #[arg(long, global = true, value_name = "SECONDS")]
    pub server_timeout: Option<u64>,
    /// Say only what went wrong
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a pocker from a Pockerfile
    Create(Create),
    /// Start a pocker: a clean tree at each start, host directories grafted in
    Run(Box<Run>),
    /// List runs
    Ps(Ps),
    /// Show what a run in the background said
    Logs(Logs),
    /// Start one more command in a run
    Exec(Exec),
    /// Stop runs: TERM, and KILL for what is still there then
    Stop(Stop),
    /// Send a run's command a signal
    Kill(Kill),
    /// Stop runs and start them again, or start ended ones
    Restart(Restart),
    /// Wait for the end of runs, and print their exit statuses
    Wait(Wait),
    /// Call a run something else
    Rename(Rename),
    /// Print all that is known of a run, or of a pocker, as JSON
    Inspect(Inspect),
    /// List the processes of a run
    Top(Top),
    /// Show what runs take: processor, memory, processes
    Stats(RunStats),
    /// Forget ended runs, with their logs
    Prune(Prune),
    /// Start what was started in the background with --restart always
    Boot(Boot),
    /// The process that a run in the background has
    #[command(hide = true)]
    Supervise { id: String },
    /// List pockers, their steps, age and size
    Ls(Ls),
    /// List a pocker's steps, the newest first, with what each added
    History(History),
    /// Show how one tree differs from another, or a run's from what it began with
    Diff(Diff),
    /// Show what pockers take on disk: all, their own, shared, and by step
    Du(Du),
    /// List what is in a tree
    Tree(Tree),
    /// Write files of a tree to standard output
    Cat(Cat),
    /// Copy files out of a tree, or into a run
    Cp(Cp),
    /// Remove a pocker and free what only it used
    Rm(Rm),
    /// Drop the tree that the last run left
    Reset(Name),
    /// Mount any step read-only, or a writable clone of it
    Mount(Mount),
    /// Unmount what `pocker mount` mounted
    Umount(Umount),
    /// Enter the tree of a failed build, or the one the last run left
    Debug(Debug),
    /// Write a pocker's tree as a tar archive, an OCI image or a directory
    Export(Export),
    /// Make a pocker of an archive or image
    Import(Import),
    /// Put a pocker into a registry, as an image
    Push(Push),
    /// Make a pocker of an image in a registry
    Pull(Pull),
    /// Copy pockers from store to store: what the other lacks
    Sync(Sync),
    /// Make, list and remove volumes: trees that are kept
    #[command(subcommand)]
    Volume(Volume),
    /// Keep a step, whatever else refers to it
    Pin(Pin),
    /// Let a pinned step go
    Unpin(Unpin),
    /// Drop what nothing refers to
    Gc(Gc),
    /// Check the whole store
    Fsck(Fsck),
    /// Back up, restore and upgrade the store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Run the server, or stop it
    Serve(Serve),
    /// List the hosts that use this store, what they hold, and for how long
    Hosts(Json),
    /// Make, list and revoke tokens, with which other hosts use this store
    #[command(subcommand)]
    Token(TokenCommand),
    /// Say what this host can do and what is missing
    Doctor(Json),
    /// Print the version
    Version(Json),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages to a directory
    Man { dir: PathBuf },
    /// The process that keeps a lease with another host's server
    #[command(hide = true)]
    Hold,
    /// The FUSE helper's own process
    #[command(hide = true, name = "mount-helper")]
    MountHelper { kind: String },
}

#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Name {
    pub name: String,
}

impl Command {
    /// It starts what a tree says.
    pub fn enters_trees(&self) -> bool {
        matches!(
            self,
            Command::Create(_)
                | Command::Run(_)
                | Command::Supervise { .. }
                | Command::Exec(_)
                | Command::Debug(_)
        )
    }

    /// A process of ours in the background, with nothing but standard descriptors.
    pub fn stays(&self) -> bool {
        match self {
            Command::Supervise { .. } | Command::MountHelper { .. } => true,
            Command::Serve(args) => args.auto,
            _ => false,
        }
    }
}
