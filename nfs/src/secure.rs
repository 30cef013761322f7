//! Where a connection between hosts becomes private: RPC-with-TLS (RFC 9289) but for TLS itself, of
//! which this crate knows nothing.

use std::io;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection's two directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A handshake under way.
pub type Securing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Does the handshake of one side on a connection that both have agreed to make private.
pub trait Secure: Send + Sync + 'static {
    fn secure(&self, stream: TcpStream) -> Securing<'_>;

    /// What went wrong on such a connection, as [`refused`] where trying again will not mend it.
    fn judge(&self, error: io::Error) -> io::Error {
        error
    }
}

/// An error that lasts until somebody changes something.
pub fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.into())
}

/// Why, where an error is one of those.
pub(crate) fn why_refused(error: &io::Error) -> Option<String> {
    // The system's own word is no refusal of ours.
    let ours = error.kind() == io::ErrorKind::PermissionDenied && error.get_ref().is_some();
    ours.then(|| error.to_string())
}
