//! Calls that another process answers: here, threads with another service.

use super::*;
use crate::server::{Channels, serve_elsewhere};
use std::os::unix::net::UnixStream;

/// A service of which `stand` answers all calls on handles: itself, or behind eight sockets.
pub fn served(stand: &Arc<Stand>, apart: bool) -> Service {
    let back = Service::new(stand.clone());
    if !apart {
        return back;
    }
    let pairs = [(); 8].map(|()| UnixStream::pair().expect("sockets"));
    let ends = pairs.map(|(near, far)| {
        let back = back.clone();
        std::thread::spawn(move || serve_elsewhere(&back, far));
        near
    });
    let front = Stand::default();
    let _ = front.2.set(Channels::new(ends.into()));
    Service::new(Arc::new(front))
}

#[tokio::test]
async fn whole_calls_and_replies_go_between_processes() {
    let stand = Arc::new(Stand::default());
    let service = served(&stand, true).transferring(8192);
    let (mut near, _served) = connect(&service, 1 << 16);
    for (xid, count, expected) in [(1, 12, 12), (2, 5000, 5000), (3, 1 << 20, 8192)] {
        let call = read_call(xid, count);
        near.write_all(&call).await.expect("sent");
        let reply = reply(&mut near).await;
        assert_eq!(reply[..4], xid.to_be_bytes());
        let data = &reply[reply.len() - expected..];
        assert!(data.iter().all(|byte| *byte == 7), "the data, and no more");
        assert_eq!(
            reply[reply.len() - expected - 4..][..4],
            (expected as u32).to_be_bytes()
        );
    }
    assert_eq!(stand.0.load(Ordering::SeqCst), 3);
    // Garbage for arguments is told there, and what panics.
    let (near, _served) = connect(&service, 1 << 16);
    let connect = Arc::new(Once(parking_lot::Mutex::new(Some(near))));
    let client = Client::new(connect, [1; 16], ClientLimits::default());
    let e = client.getattr(&creds(), &fh()).await.expect_err("panicked");
    assert!(matches!(e, ClientError::Rpc(_)), "{e}");
    client.null().await.expect("there is no handle in it");
    let reply = client.read(&creds(), &fh(), 0, 10).await.expect("data");
    assert_eq!(reply.data, [7; 10]);
    let counted = service.counters.snapshot();
    let ok = counted.iter().filter(|count| count.procedure == 6);
    assert_eq!(ok.map(|count| count.calls).sum::<u64>(), 4);
}

#[tokio::test]
async fn a_process_that_is_gone_answers_nothing() {
    let (near, far) = UnixStream::pair().expect("sockets");
    let front = Stand::default();
    let _ = front.2.set(Channels::new(vec![near]));
    let service = Service::new(Arc::new(front));
    drop(far);
    let (mut near, _served) = connect(&service, 1 << 16);
    for xid in [1, 2] {
        near.write_all(&read_call(xid, 10)).await.expect("sent");
    }
    let quiet = tokio::time::timeout(Duration::from_millis(200), reply(&mut near));
    assert!(quiet.await.is_err(), "who asks again finds the next server");
}

#[test]
fn what_is_too_long_is_not_believed() {
    let service = Service::new(Arc::new(Stand::default()));
    let (mut near, far) = UnixStream::pair().expect("sockets");
    let mut head = [0; 24];
    head[..4].copy_from_slice(&(RECORD_MAX as u32 + 1).to_be_bytes());
    io::Write::write_all(&mut near, &head).expect("sent");
    let e = serve_elsewhere(&service, far).expect_err("too long");
    assert_eq!(e.kind(), io::ErrorKind::InvalidData);

    let (near, mut far) = UnixStream::pair().expect("sockets");
    io::Write::write_all(&mut far, &u32::MAX.to_be_bytes()).expect("sent");
    let mut out = Vec::new();
    let asked = Channels::new(vec![near]).ask(1, &[0; 16], 4096, b"a call", &mut out);
    assert_eq!(
        asked.expect_err("too long").kind(),
        io::ErrorKind::InvalidData
    );
}
