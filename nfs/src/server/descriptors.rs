//! The listener that gives descriptors ([`crate::descriptors`]).

use super::Service;
use super::counters::DESCRIPTOR;
use crate::descriptors::{ANSWER, REQUEST, asked};
use crate::proto::{POCKER_PROGRAM, nfsstat3};
use crate::vfs::{Caller, Cx, Peer, Result};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;

/// Answers one peer until it hangs up. It is who the kernel says it is.
pub async fn serve(service: Service, mut stream: UnixStream, peer: Peer) -> io::Result<()> {
    let Peer::Unix { uid, gid, .. } = peer else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut request = [0; REQUEST];
    loop {
        match stream.read_exact(&mut request).await {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        };
        let (service, peer) = (service.clone(), peer.clone());
        // Opening a file may wait for a disk.
        let opened = tokio::task::spawn_blocking(move || open(&service, &peer, uid, gid, &request));
        send(&stream, opened.await?).await?;
    }
}

fn open(
    service: &Service,
    peer: &Peer,
    uid: u32,
    gid: u32,
    request: &[u8; REQUEST],
) -> Result<OwnedFd> {
    let began = Instant::now();
    let caller = Caller {
        uid,
        gid,
        gids: Vec::new(),
    };
    let cx = Cx {
        caller: &caller,
        peer,
        client: [0; 16],
        once: None,
        nowait: false,
    };
    let opened = match asked(request) {
        Some(fh) => service.vfs.descriptor(&cx, &fh),
        None => Err(nfsstat3::NFS3ERR_BADHANDLE),
    };
    let (ok, took) = (opened.is_ok(), began.elapsed());
    let counters = &service.counters;
    counters.count(POCKER_PROGRAM, DESCRIPTOR, ok, took, REQUEST, ANSWER);
    opened
}

async fn send(stream: &UnixStream, opened: Result<OwnedFd>) -> io::Result<()> {
    let (status, fds) = match &opened {
        Ok(fd) => (nfsstat3::NFS3_OK, vec![fd.as_raw_fd()]),
        Err(status) => (*status, Vec::new()),
    };
    let bytes = (status as u32).to_be_bytes();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights };
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let iov = [IoSlice::new(&bytes)];
            let flags = MsgFlags::MSG_NOSIGNAL;
            Ok(sendmsg::<()>(
                stream.as_raw_fd(),
                &iov,
                rights,
                flags,
                None,
            )?)
        })
        .await?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}
