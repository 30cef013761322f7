//! From a run that the server prepared to the sandbox that it is. Pure, but for the look at
//! the host's directories in [`graft::check_hosts`].

pub mod env;
pub mod graft;
mod spec;
mod volume;

pub use graft::{GraftError, parse_all};
pub use spec::{Options, RunError, debug, run};
pub use volume::{VolumeError, parse_all as parse_volumes};
