//! From a run that the server prepared to the sandbox that it is. Pure, but for the look at
//! the host's directories in [`graft::check_hosts`].

pub mod direct;
mod env;
pub mod env_file;
pub mod graft;
mod spec;
mod tmpfs;
mod volume;

pub use graft::{GraftError, parse_all};
pub use spec::{Confinement, Options, RunError, debug, run};
pub use tmpfs::{Tmpfs, TmpfsError, parse_all as parse_tmpfs};
pub use volume::{VolumeError, parse_all as parse_volumes};
