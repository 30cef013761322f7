//! TLS on a connection to another host (RFC 9289): asked for, and begun where the server has it.

use crate::proto::{NFS_PROGRAM, NFS_V3};
use crate::rpc::{finish_record, is_starttls, put_call, put_probe, read_record, start_record};
use crate::secure::{Secure, Stream, refused};
use crate::vfs::Caller;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long the question, the handshake and the first call over it may take, all together.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Longest reply to NULL: a header with the longest verifier.
const REPLY_MAX: usize = 512;
/// No other call is under way then.
const XID: u32 = 1;

pub struct StartTls {
    by: Arc<dyn Secure>,
    /// Nothing is said without it: as the caller wants it, and from the first time on that the server had it.
    required: AtomicBool,
}

impl StartTls {
    pub fn new(by: Arc<dyn Secure>, required: bool) -> StartTls {
        StartTls {
            by,
            required: AtomicBool::new(required),
        }
    }

    /// The connection, private where the server says that it can be.
    pub(super) async fn on(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        let started = tokio::time::timeout(ATTEMPT, self.start(stream)).await;
        started.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn start(&self, mut stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        let reply = null(&mut stream, |out| put_probe(out, XID, NFS_PROGRAM, NFS_V3)).await?;
        let offered = is_starttls(&reply, XID);
        if !offered.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))? {
            if self.required.load(Ordering::Relaxed) {
                return Err(refused(
                    "the server has no TLS for NFS, or somebody between here and there hides it",
                ));
            }
            return Ok(Box::new(stream));
        }
        let secured = self.secured(stream).await;
        let secured = secured.map_err(|error| self.by.judge(error))?;
        self.required.store(true, Ordering::Relaxed);
        Ok(secured)
    }

    /// A server says only after the handshake that it wanted another certificate of this side.
    async fn secured(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        let mut stream = self.by.secure(stream).await?;
        let nobody = Caller {
            uid: 65534,
            gid: 65534,
            gids: Vec::new(),
        };
        let call = |out: &mut Vec<u8>| put_call(out, XID, NFS_PROGRAM, NFS_V3, 0, &nobody);
        null(&mut stream, call).await?;
        Ok(stream)
    }
}

/// One call, and its reply: not a byte more is read.
async fn null(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    put: impl FnOnce(&mut Vec<u8>),
) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let start = start_record(&mut out);
    put(&mut out);
    finish_record(&mut out, start);
    stream.write_all(&out).await?;
    stream.flush().await?;
    out.clear();
    match read_record(stream, &mut out, REPLY_MAX).await? {
        true => Ok(out),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
