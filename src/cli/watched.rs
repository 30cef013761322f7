//! Writing that Ctrl-C ends in order, so that what is half-made is taken away.

use super::error::CliError;
use super::sys;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Ctrl-C, as shells say it.
const INTERRUPTED: i32 = 130;

pub struct Watched<'a> {
    out: &'a mut dyn Write,
    interrupted: &'static AtomicBool,
}

impl<'a> Watched<'a> {
    pub fn new(out: &'a mut dyn Write) -> Watched<'a> {
        Watched {
            out,
            interrupted: sys::interrupts(),
        }
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.interrupted.load(Ordering::Relaxed) {
            // Not the kind that is tried again.
            true => Err(io::Error::other("interrupted")),
            false => self.out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What was interrupted failed for that reason, whatever else it says.
pub fn reason<T>(outcome: Result<T, CliError>) -> Result<T, CliError> {
    match sys::interrupts().load(Ordering::Relaxed) && outcome.is_err() {
        true => Err(CliError {
            status: INTERRUPTED,
            ..CliError::new("interrupted; nothing was written")
        }),
        false => outcome,
    }
}
