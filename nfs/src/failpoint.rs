//! Named points between the steps of a call: a test has the process die there,
//! or the connection break. Compiled in with the feature `failpoints` only, which no
//! build but a test's switches on.

use std::io;

/// Whether this build has points.
pub const COMPILED: bool = cfg!(feature = "failpoints");

/// Told each point that is passed; an error breaks the connection.
pub type Hook = fn(&str) -> io::Result<()>;

#[cfg(feature = "failpoints")]
static HOOK: std::sync::OnceLock<Hook> = std::sync::OnceLock::new();

/// The first one stays. Nothing happens in a build without points.
pub fn set(hook: Hook) {
    #[cfg(feature = "failpoints")]
    let _ = HOOK.set(hook);
    #[cfg(not(feature = "failpoints"))]
    let _ = hook;
}

#[cfg(feature = "failpoints")]
pub(crate) fn hit(name: &str) -> io::Result<()> {
    HOOK.get().map_or(Ok(()), |hook| hook(name))
}

#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn hit(_name: &str) -> io::Result<()> {
    Ok(())
}

/// A point where nothing could be refused.
#[inline(always)]
pub(crate) fn pass(name: &str) {
    let _ = hit(name);
}
