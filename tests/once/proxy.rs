//! Between client and server: each reply to a call that must not run twice is kept back once,
//! and its connection closed. The reply that comes for the call when it is sent again must be
//! the one that was kept back, byte for byte.

use parking_lot::Mutex;
use pocker_nfs::client::{Connect, Stream};
use pocker_nfs::proto::{NFS_PROGRAM, POCKER_PROGRAM};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::UnixStream;

/// No record of these tests is longer.
const RECORD: usize = 2 << 20;

#[derive(Default)]
pub struct Kept {
    /// Calls that must not run twice, by their xid.
    calls: HashMap<u32, Vec<u8>>,
    /// Replies that were kept back.
    replies: HashMap<u32, Vec<u8>>,
    /// Calls that were sent again and got the reply that was kept back.
    pub same: usize,
    /// Others.
    pub wrong: Vec<String>,
    /// Pass everything on.
    pub off: bool,
}

pub struct Proxy {
    pub socket: PathBuf,
    pub kept: Arc<Mutex<Kept>>,
}

#[async_trait::async_trait]
impl Connect for Proxy {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let server = UnixStream::connect(&self.socket).await?;
        let (mine, theirs) = tokio::io::duplex(RECORD);
        let kept = self.kept.clone();
        tokio::spawn(async move {
            let (from_client, to_client) = tokio::io::split(theirs);
            let (from_server, to_server) = tokio::io::split(server);
            let calls = pass_calls(from_client, to_server, kept.clone());
            let replies = pass_replies(from_server, to_client, kept);
            // Whichever ends takes both directions with it.
            tokio::select! {
                _ = calls => {}
                _ = replies => {}
            }
        });
        Ok(Box::new(mine))
    }
}

/// One record; ours are of one fragment.
async fn record(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mark = from.read_u32().await?;
    let mut body = vec![0; (mark & 0x7fff_ffff) as usize];
    from.read_exact(&mut body).await?;
    Ok(body)
}

async fn put(to: &mut (impl AsyncWriteExt + Unpin), body: &[u8]) -> io::Result<()> {
    let mut out = (body.len() as u32 | 1 << 31).to_be_bytes().to_vec();
    out.extend_from_slice(body);
    to.write_all(&out).await
}

fn word(body: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(body[at * 4..at * 4 + 4].try_into().expect("four bytes"))
}

async fn pass_calls(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<UnixStream>,
    kept: Arc<Mutex<Kept>>,
) -> io::Result<()> {
    loop {
        let call = record(&mut from).await?;
        let once = match word(&call, 3) {
            NFS_PROGRAM => matches!(word(&call, 5), 2 | 8..=15),
            POCKER_PROGRAM => matches!(word(&call, 5), 4 | 5),
            _ => false,
        };
        if once {
            let mut kept = kept.lock();
            let xid = word(&call, 0);
            match kept.calls.get(&xid) {
                Some(before) if *before != call => {
                    kept.wrong.push(format!("xid {xid} is two calls"))
                }
                _ => drop(kept.calls.insert(xid, call.clone())),
            }
        }
        put(&mut to, &call).await?;
    }
}

async fn pass_replies(
    mut from: ReadHalf<UnixStream>,
    mut to: WriteHalf<DuplexStream>,
    kept: Arc<Mutex<Kept>>,
) -> io::Result<()> {
    loop {
        let reply = record(&mut from).await?;
        let pass = kept.lock().reply(&reply);
        if !pass {
            return Ok(());
        }
        put(&mut to, &reply).await?;
    }
}

impl Kept {
    fn reply(&mut self, reply: &[u8]) -> bool {
        let xid = word(reply, 0);
        if !self.calls.contains_key(&xid) || self.off {
            return true;
        }
        let Some(before) = self.replies.get(&xid) else {
            self.replies.insert(xid, reply.to_vec());
            return false;
        };
        if before == reply {
            self.same += 1;
        } else {
            let call = &self.calls[&xid];
            self.wrong.push(format!(
                "procedure {}: first {} then {}",
                word(call, 5),
                hex::encode(before),
                hex::encode(reply)
            ));
        }
        true
    }

    /// How many replies were kept back.
    pub fn back(&self) -> usize {
        self.replies.len()
    }
}
