//! What differs between operating systems.

use crate::vfs::Span;
use std::io;
use std::os::fd::AsFd;

/// Whether [`send_file`] works here.
pub const SENDS_FILES: bool = cfg!(target_os = "linux");

/// sendfile(2): from the page cache to the socket, without a copy in between.
#[cfg(target_os = "linux")]
pub fn send_file(to: &impl AsFd, span: &Span) -> io::Result<usize> {
    let mut offset = i64::try_from(span.offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let sent = nix::sys::sendfile::sendfile64(to, &*span.file, Some(&mut offset), span.len)?;
    if sent == 0 {
        // Shorter than the reply has said already: the peer must not wait for the rest.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(sent)
}

#[cfg(not(target_os = "linux"))]
pub fn send_file(_to: &impl AsFd, _span: &Span) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
