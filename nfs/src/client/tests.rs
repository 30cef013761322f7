//! The connection's life, with time under the test's hand.

use super::*;
use crate::rpc::{RECORD_MAX, read_record};
use std::io;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader, DuplexStream};

/// Hands the server's ends to the test.
struct Pipes(mpsc::UnboundedSender<DuplexStream>);

#[async_trait::async_trait]
impl Connect for Pipes {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let (near, far) = tokio::io::duplex(1 << 16);
        self.0.send(far).map_err(io::Error::other)?;
        Ok(Box::new(near))
    }
}

struct Closing(AtomicUsize);

#[async_trait::async_trait]
impl Connect for Closing {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(tokio::io::duplex(64).0))
    }
}

fn root() -> Creds {
    Creds {
        uid: 0,
        gid: 0,
        gids: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_closes_is_not_hammered() {
    let closing = Arc::new(Closing(AtomicUsize::new(0)));
    let client = Client::new(closing.clone(), [1; 16], ClientLimits::default());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let made = closing.0.load(Ordering::SeqCst);
    // 10 ms doubled up to one second, then one a second.
    assert!((50..80).contains(&made), "{made} connections in a minute");
    drop(client);
}

async fn record(read: &mut BufReader<DuplexStream>) -> Vec<u8> {
    let mut record = Vec::new();
    let whole = read_record(read, &mut record, RECORD_MAX).await;
    assert!(whole.expect("a record"), "the client hung up");
    record
}

/// NULL's reply: accepted, success, nothing.
async fn answer(stream: &mut BufReader<DuplexStream>, call: &[u8]) {
    let mut out = Vec::new();
    let start = start_record(&mut out);
    let xid = call.first_chunk().map(|b| u32::from_be_bytes(*b));
    crate::rpc::put_accepted(&mut out, xid.expect("an xid"), crate::rpc::Accept::Success);
    finish_record(&mut out, start);
    stream.get_mut().write_all(&out).await.expect("written");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gave_up_keeps_its_slot_until_the_reply() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let limits = ClientLimits {
        in_flight: 1,
        ..ClientLimits::default()
    };
    let client = Client::new(Arc::new(Pipes(tell)), [1; 16], limits);
    let null = (crate::proto::NFS_PROGRAM, crate::proto::NFS_V3, 0);
    let who = root();
    let first = client.call(&who, null, |_| ());
    tokio::time::timeout(Duration::from_secs(1), first)
        .await
        .expect_err("nobody answered");
    let mut server = BufReader::new(told.recv().await.expect("a connection"));
    let hello = record(&mut server).await;
    assert_eq!(hello[..4], link::HELLO_XID.to_be_bytes());
    let given_up = record(&mut server).await;
    let second = client.call(&who, null, |_| ());
    tokio::pin!(second);
    tokio::time::timeout(Duration::from_secs(1), &mut second)
        .await
        .expect_err("it went out beside the one that is not answered");
    answer(&mut server, &given_up).await;
    let serve = async {
        let call = record(&mut server).await;
        assert_ne!(call[..4], given_up[..4], "a new xid");
        answer(&mut server, &call).await;
    };
    let (done, ()) = tokio::join!(second, serve);
    done.expect("answered");
}

#[tokio::test]
async fn the_xid_of_hello_is_never_a_calls() {
    let closing = Arc::new(Closing(AtomicUsize::new(0)));
    let client = Client::new(closing, [1; 16], ClientLimits::default());
    client.shared.xid.store(u32::MAX, Ordering::Relaxed);
    assert_eq!(client.next_xid(), u32::MAX);
    assert_eq!(client.next_xid(), 1);
}
