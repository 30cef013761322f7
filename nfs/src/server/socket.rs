//! What a connection runs over.

use super::sys;
use crate::vfs::Span;
use std::io;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest};
use tokio::net::{TcpStream, UnixStream};

/// A stream that may be able to take a file's bytes without their passing through here.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// False where READ must bring its data along.
    fn sends_files(&self) -> bool {
        false
    }

    /// Sends some of `span`, which is not empty. Called only where files can be sent.
    fn poll_send_file(&mut self, cx: &mut Context<'_>, span: &Span) -> Poll<io::Result<usize>> {
        let _ = (cx, span);
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

impl Socket for DuplexStream {}

impl Socket for TcpStream {
    fn sends_files(&self) -> bool {
        sys::SENDS_FILES
    }

    fn poll_send_file(&mut self, cx: &mut Context<'_>, span: &Span) -> Poll<io::Result<usize>> {
        loop {
            std::task::ready!(self.poll_write_ready(cx))?;
            match self.try_io(Interest::WRITABLE, || sys::send_file(&*self, span)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl Socket for UnixStream {
    fn sends_files(&self) -> bool {
        sys::SENDS_FILES
    }

    fn poll_send_file(&mut self, cx: &mut Context<'_>, span: &Span) -> Poll<io::Result<usize>> {
        loop {
            std::task::ready!(self.poll_write_ready(cx))?;
            match self.try_io(Interest::WRITABLE, || sys::send_file(&*self, span)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}
