//! The BSDs' clients on systems that are none of them.

use crate::bsd::plan::{Plan, System};
use std::io;

pub(crate) const BSD: Option<System> = None;

pub(crate) fn bsd_mount(_plan: &Plan) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "not available on this operating system",
    ))
}
