//! The command line: what can be said, and nothing of what it does.

use super::defaults;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
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
    Run(Run),
    /// List pockers, their steps, age and size
    Ls(Ls),
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
    /// Write a pocker's tree as a tar archive
    Export(Export),
    /// Make a pocker of a tar archive
    Import(Import),
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
    /// Say what this host can do and what is missing
    Doctor(Json),
    /// Print the version
    Version(Json),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages to a directory
    Man { dir: PathBuf },
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

#[derive(Debug, Args)]
pub struct Create {
    /// The Pockerfile [default: CONTEXT/Pockerfile, else ./Pockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The pocker's name
    pub name: String,
    /// The directory that COPY takes files from
    #[arg(default_value = ".")]
    pub context: PathBuf,
    /// Give an ARG its value
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub build_args: Vec<String>,
    /// A file that EXEC --secret id=ID may read; never kept
    #[arg(long = "secret", value_name = "id=ID,src=FILE")]
    pub secrets: Vec<String>,
    /// Build every step again
    #[arg(long)]
    pub no_cache: bool,
    /// Build PROOT and PKG again when the mirror has something newer
    #[arg(long)]
    pub pull: bool,
    /// Say why each step was taken from the cache or built
    #[arg(long)]
    pub explain: bool,
    /// A CA certificate (PEM) for package downloads while building; never kept
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Clamp every file time to at most this, in seconds since the epoch
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub source_date_epoch: Option<i64>,
    /// Do not mount the browse view
    #[arg(long)]
    pub no_browse: bool,
    /// Where the browse view is mounted [default: /var/pocker/chroot]
    #[arg(long, value_name = "DIR", env = "POCKER_BROWSE")]
    pub browse_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Run {
    /// Graft a host directory into the tree
    #[arg(short = 'd', long = "graft", value_name = "HOSTDIR:PATH[:ro]")]
    pub grafts: Vec<String>,
    /// Mount a volume in the tree
    #[arg(short = 'v', long = "volume", value_name = "NAME:PATH[:ro]")]
    pub volumes: Vec<String>,
    /// Set an environment variable
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Run as this user of the tree
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Start in this directory of the tree
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The pocker's name
    pub name: String,
    /// A command in place of RUN's
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub struct Ls {
    /// Only this pocker
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Rm {
    /// The pocker's name
    pub name: String,
    /// Stop its runs first
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Mount {
    /// Mount a writable clone; it is dropped when unmounted
    #[arg(long)]
    pub rw: bool,
    /// Print the export and the mount command for each system instead
    #[arg(long)]
    pub print: bool,
    /// Mount a volume: only the place comes after it
    #[arg(long, value_name = "NAME[:ro]", conflicts_with_all = ["rw", "dir"])]
    pub volume: Option<String>,
    /// A pocker, or one of its steps: NAME@2, NAME@step2, NAME@run, NAME@<key>
    #[arg(value_name = "NAME[@STEP]", required_unless_present = "volume")]
    pub what: Option<String>,
    /// Where to mount
    #[arg(required_unless_present_any = ["print", "volume"])]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Volume {
    /// Make a volume: empty, or as a pocker's step is
    Create(VolumeCreate),
    /// List volumes: what they hold and who has them
    Ls(Json),
    /// Remove a volume and all it holds
    Rm(Name),
}

#[derive(Debug, Args)]
pub struct VolumeCreate {
    /// The volume's name
    pub name: String,
    /// A pocker, or one of its steps, whose tree it begins as
    #[arg(long, value_name = "NAME[@STEP]")]
    pub from: Option<String>,
}

#[derive(Debug, Args)]
pub struct Umount {
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct Debug {
    pub name: String,
    /// A command in place of a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub struct Export {
    /// A pocker, or one of its steps
    #[arg(value_name = "NAME[@STEP]")]
    pub what: String,
    /// The archive to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Import {
    /// The archive, plain or gzip; - for standard input
    pub archive: PathBuf,
    /// The new pocker's name
    pub name: String,
    /// What starts it
    #[arg(long, value_name = "COMMAND", default_value = "/bin/sh")]
    pub run: String,
}

#[derive(Debug, Args)]
pub struct Pin {
    /// A pocker's step (its last one if none is said), or a step's key or its beginning
    #[arg(value_name = "NAME[@STEP]|KEY", required_unless_present = "list")]
    pub what: Option<String>,
    /// List what is pinned
    #[arg(long, conflicts_with = "what")]
    pub list: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Unpin {
    /// As it was pinned: NAME[@STEP], or the step's key or its beginning
    #[arg(value_name = "NAME[@STEP]|KEY")]
    pub what: String,
}

#[derive(Debug, Args)]
pub struct Gc {
    /// Say what would go, by name, and leave it
    #[arg(long)]
    pub dry_run: bool,
    /// Keep the steps of each pocker's N newest builds [default: 1, the present one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub keep: Option<u64>,
    /// Drop only steps that were unused for longer than this: 90s, 30m, 12h, 7d, 2w
    #[arg(long, value_name = "SPAN", value_parser = super::text::span)]
    pub older: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Fsck {
    /// Set aside what rotted, mend what can be mended, drop what nothing refers to
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Copy the store, in use as it is, to a folder; again copies what is new
    Backup(StoreBackup),
    /// Make the store (--store), which is not there yet, of the last backup in a folder
    Restore(StoreRestore),
    /// Bring a store of an older pocker to this one's format
    Upgrade(StoreUpgrade),
}

#[derive(Debug, Args)]
pub struct StoreBackup {
    /// New, empty, or with backups already
    pub dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct StoreRestore {
    /// What `pocker store backup` was given
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct StoreUpgrade {
    /// Say what the store is in and what would be done, and leave it
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Serve other hosts too, on TCP [port: 2049]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub listen: Option<String>,
    /// Tell clients where NFS and MOUNT are
    #[arg(long, value_enum, default_value = "off")]
    pub portmap: Portmap,
    /// Answer Prometheus: GET /metrics, to whoever reaches this address
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Let nothing change: no builds, no runs, no writes
    #[arg(long)]
    pub read_only: bool,
    /// Check each blob against its digest when it is first read
    #[arg(long)]
    pub verify_reads: bool,
    /// Stop the running server: its runs first, then its mounts
    #[arg(long, conflicts_with_all = ["listen", "auto", "read_only", "verify_reads", "stats"])]
    pub stop: bool,
    /// Show the running server's calls, by procedure
    #[arg(long, conflicts_with_all = ["listen", "auto", "read_only", "verify_reads"])]
    pub stats: bool,
    /// With --stats: print JSON
    #[arg(long, requires = "stats")]
    pub json: bool,
    /// Started by another command: leave when idle
    #[arg(long, hide = true)]
    pub auto: bool,
    /// Seconds of idleness after which an auto-started server leaves
    #[arg(long, hide = true, default_value_t = defaults::IDLE_TIMEOUT)]
    pub idle_timeout: u64,
    /// Log format
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Portmap {
    /// Clients know the port
    Off,
    /// Answer as the portmapper, on port 111
    Builtin,
    /// Register with this host's portmapper
    Register,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Inserts `run` where the seed's short form leaves it out: the first word
/// that is no global option and no command begins a run.
pub fn expand_short_form(mut argv: Vec<std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    use clap::CommandFactory;
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
                None if name == "help" || name == "version" => return argv,
                None => break,
            }
        } else if matches!(word.as_str(), "-q") {
            at += 1;
        } else if matches!(word.as_str(), "-h" | "-V") {
            return argv;
        } else {
            break;
        }
    }
    let Some(word) = argv.get(at).map(|w| w.to_string_lossy().into_owned()) else {
        return argv;
    };
    if !command_names().contains(&word) {
        argv.insert(at, "run".into());
    }
    argv
}

/// Every command's name, which no pocker may have.
pub fn command_names() -> Vec<String> {
    use clap::CommandFactory;
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
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
