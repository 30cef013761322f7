//! The life of runs: how one is started to live on, and what is said to it then.

use crate::life::Policy;
use clap::Args;
use std::ffi::OsString;
use std::time::Duration;

/// What `pocker run` takes of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Life")]
pub struct LifeFlags {
    /// Start in the background, and print the run's name once its command runs
    #[arg(long)]
    pub detach: bool,
    /// Call the run this [default: as the pocker, with a number where that is taken]
    #[arg(long = "name", id = "called", value_name = "RUN")]
    pub called: Option<String>,
    /// Start it again: no, on-failure[:TIMES], always (with --detach also after the machine's start)
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub restart: Policy,
    /// Keep its tree in the volume RUN.kept, and start from there the next time
    #[arg(long)]
    pub keep: bool,
    /// Forget the run when it ends (one in the foreground always is)
    #[arg(long)]
    pub rm: bool,
    /// Ask this shell command inside whether all is well
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// How often [500ms, 30s, 5m…]
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = duration, requires = "health_cmd")]
    pub health_interval: Duration,
    /// How long an answer may take
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = duration, requires = "health_cmd")]
    pub health_timeout: Duration,
    /// How many failures in a row make it unhealthy
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..), requires = "health_cmd")]
    pub health_retries: u64,
    /// Keep between one and two times so many bytes of its log: 64K, 16M
    #[arg(long, value_name = "SIZE", default_value_t = crate::life::log::DEFAULT_MAX, value_parser = log_size, requires = "detach")]
    pub log_size: u64,
}

/// A span, or milliseconds; not none at all.
fn duration(text: &str) -> Result<Duration, String> {
    let ms = text.strip_suffix("ms").and_then(|n| n.parse().ok());
    let span = match ms {
        Some(ms) => Duration::from_millis(ms),
        None => Duration::from_secs(crate::cli::text::span(text)?),
    };
    // A day and a half is beyond any use, and no clock overflows.
    match span.is_zero() || span > Duration::from_secs(1 << 17) {
        true => Err("between 1ms and 36h".to_owned()),
        false => Ok(span),
    }
}

fn log_size(text: &str) -> Result<u64, String> {
    let size = crate::limits::size(text)?;
    match (4096..1 << 32).contains(&size) {
        true => Ok(size),
        false => Err("between 4K and 4G".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct Ps {
    /// Ended ones too
    #[arg(short, long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RunName {
    /// A run's name, or its id or the beginning of that
    #[arg(value_name = "RUN")]
    pub run: String,
}

#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    pub of: RunName,
    /// Go on as the run does
    #[arg(short, long)]
    pub follow: bool,
    /// From then on: 90s, 30m, 12h… ago, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "SPAN|TIME")]
    pub since: Option<String>,
    /// Only the last so many lines
    #[arg(short = 'n', long, value_name = "N")]
    pub tail: Option<usize>,
    /// Say when each line came
    #[arg(short, long)]
    pub timestamps: bool,
}

#[derive(Debug, Args)]
pub struct Exec {
    #[command(flatten)]
    pub inside: super::Inside,
    #[command(flatten)]
    pub of: RunName,
    /// The command
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Stop {
    /// Runs' names or ids
    #[arg(value_name = "RUN", required_unless_present = "all")]
    pub runs: Vec<String>,
    /// Every run of this host
    #[arg(short, long, conflicts_with = "runs")]
    pub all: bool,
    /// Seconds to wait for its end before it is killed
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..86_400))]
    pub time: u64,
}

#[derive(Debug, Args)]
pub struct Kill {
    /// Runs' names or ids
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<String>,
    /// By name or number; KILL ends the whole run
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,
}

#[derive(Debug, Args)]
pub struct Restart {
    /// Runs' names or ids, live or ended
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<String>,
    /// Seconds to wait for its end before it is killed
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..86_400))]
    pub time: u64,
}

#[derive(Debug, Args)]
pub struct Wait {
    /// Runs' names or ids
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Rename {
    #[command(flatten)]
    pub of: RunName,
    /// What it is called from now on
    pub name: String,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// A run's name or id, else a pocker's name, or one of its steps
    #[arg(value_name = "RUN|NAME[@STEP]")]
    pub what: String,
    /// What it takes on disk too; not of a run
    #[arg(short, long)]
    pub size: bool,
}

#[derive(Debug, Args)]
pub struct Top {
    #[command(flatten)]
    pub of: RunName,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RunStats {
    /// Runs' names or ids [default: all live ones]
    #[arg(value_name = "RUN")]
    pub runs: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Runs' names or ids [default: all ended ones]
    #[arg(value_name = "RUN")]
    pub runs: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Boot {
    /// Say what would be started
    #[arg(long)]
    pub dry_run: bool,
    /// Stop those runs, as before the machine's end
    #[arg(long, conflicts_with = "dry_run")]
    pub stop: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logs_size_is_said_as_other_sizes_are() {
        assert_eq!(log_size("64K"), Ok(65_536));
        assert_eq!(log_size("4096"), Ok(4096));
        for wrong in ["1K", "4095", "4G", "64Q", ""] {
            assert!(log_size(wrong).is_err(), "{wrong}");
        }
    }
}
