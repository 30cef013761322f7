//! A run's network.

use crate::net::{Mode, Publish};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub struct Net {
    /// host: the host's own; none: only a loopback; private: its own, through slirp4netns or pasta
    #[arg(long, value_name = "MODE", default_value = "host", value_parser = modes(), hide_possible_values = true)]
    pub net: Mode,
    /// With --net private: a port of the host leads to one of the run
    #[arg(short, long, value_name = "[HOSTIP:]HOSTPORT:PORT[/tcp|udp]")]
    pub publish: Vec<Publish>,
    /// With --net private: the gateway's address leads to the host's loopback
    #[arg(long)]
    pub host_loopback: bool,
}

/// A list, so that shells can complete it.
fn modes() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new(["host", "none", "private"]).try_map(|text| text.parse::<Mode>())
}
