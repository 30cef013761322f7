//! Calls that must not run twice, sent twice: over one connection, over two, and calls that
//! only look like others.

use super::elsewhere::served;
use super::*;
use crate::server::call::Session;
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;

/// REMOVE that takes until the test says so, and keeps a record as file systems must.
#[derive(Default)]
pub struct Slow {
    open: Mutex<bool>,
    opened: Condvar,
    ran: AtomicUsize,
    recorded: Mutex<HashSet<OnceKey>>,
    verifier: AtomicU64,
}

impl Slow {
    pub fn remove(&self, cx: &Cx) -> Result<Wcc> {
        if cx.nowait {
            return Err(WOULD_BLOCK);
        }
        let key = cx.once.expect("a key");
        let wcc = Wcc {
            before: wcc_attr::default(),
            after: fattr3::default(),
        };
        if self.recorded.lock().contains(&key) {
            return Ok(wcc);
        }
        self.ran.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock();
        while !*open {
            self.opened.wait(&mut open);
        }
        self.recorded.lock().insert(key);
        Ok(wcc)
    }

    /// RMDIR fails the first time and would not the second.
    pub fn rmdir(&self) -> Result<Wcc> {
        match self.ran.fetch_add(1, Ordering::SeqCst) {
            0 => Err(nfsstat3::NFS3ERR_NOENT),
            _ => panic!("it ran twice"),
        }
    }

    /// While it runs, another call's failure moves the verifier.
    pub fn write(&self, data: &[u8]) -> Result<Written> {
        self.verifier.fetch_add(1, Ordering::SeqCst);
        Ok(Written {
            count: data.len() as u32,
            committed: Stable::Unstable,
            wcc: Wcc {
                before: wcc_attr::default(),
                after: fattr3::default(),
            },
        })
    }

    pub fn verifier(&self) -> [u8; 8] {
        self.verifier.load(Ordering::SeqCst).to_be_bytes()
    }

    fn let_go(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }
}

/// REMOVE or RMDIR of a name in a handle whose attributes cannot be had.
fn call(xid: u32, procedure: u32, name: u8, who: &Creds) -> Vec<u8> {
    let mut call = Vec::new();
    let start = start_record(&mut call);
    put_call(&mut call, xid, NFS_PROGRAM, NFS_V3, procedure, who);
    call.extend_from_slice(&[0, 0, 0, 1, 2, 0, 0, 0]);
    call.extend_from_slice(&[0, 0, 0, 1, name, 0, 0, 0]);
    finish_record(&mut call, start);
    call
}

fn hello(instance: u8) -> Vec<u8> {
    let mut call = Vec::new();
    let start = start_record(&mut call);
    put_call(&mut call, 0, POCKER_PROGRAM, POCKER_V1, 1, &creds());
    call.extend_from_slice(&[instance; 16]);
    finish_record(&mut call, start);
    call
}

async fn until(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < end, "it never came to that");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn client(service: &Service, instance: u8) -> (DuplexStream, Served) {
    let (mut near, served) = connect(service, 1 << 16);
    near.write_all(&hello(instance)).await.expect("sent");
    reply(&mut near).await;
    (near, served)
}

#[tokio::test]
async fn a_call_that_runs_drops_its_duplicates() {
    for apart in [false, true] {
        drops_duplicates(apart).await;
    }
}

async fn drops_duplicates(apart: bool) {
    const REMOVE: u32 = 12;
    let stand = Arc::new(Stand::default());
    let service = served(&stand, apart);
    let ran = || stand.1.ran.load(Ordering::SeqCst);
    let remove = call(7, REMOVE, b'a', &creds());
    let (mut first, _a) = client(&service, 1).await;
    first.write_all(&remove).await.expect("sent");
    until(|| ran() == 1).await;
    // Again on the connection that waits for its reply, and on the one after it.
    first.write_all(&remove).await.expect("sent");
    first.write_all(&read_call(8, 0)).await.expect("sent");
    assert_eq!(reply(&mut first).await[..4], 8_u32.to_be_bytes());
    let (mut second, _b) = client(&service, 1).await;
    second.write_all(&remove).await.expect("sent");
    until(|| service.once.waiting() == 1).await;
    stand.1.let_go();
    let answer = reply(&mut first).await;
    assert_eq!(answer[..4], 7_u32.to_be_bytes());
    assert_eq!(reply(&mut second).await, answer);
    assert_eq!(ran(), 1, "it ran once");
    first.write_all(&read_call(9, 0)).await.expect("sent");
    let next = reply(&mut first).await;
    assert_eq!(next[..4], 9_u32.to_be_bytes(), "one reply to a connection");
}

/// The first connection is gone by then: the second gets the reply all the same.
#[tokio::test]
async fn a_call_outlives_the_connection_that_sent_it() {
    for apart in [false, true] {
        outlives(apart).await;
    }
}

async fn outlives(apart: bool) {
    let stand = Arc::new(Stand::default());
    let service = served(&stand, apart);
    let remove = call(7, 12, b'a', &creds());
    let (mut first, _a) = client(&service, 1).await;
    first.write_all(&remove).await.expect("sent");
    until(|| stand.1.ran.load(Ordering::SeqCst) == 1).await;
    drop(first);
    let (mut second, _b) = client(&service, 1).await;
    second.write_all(&remove).await.expect("sent");
    until(|| service.once.waiting() == 1).await;
    stand.1.let_go();
    assert_eq!(reply(&mut second).await[..4], 7_u32.to_be_bytes());
    assert_eq!(stand.1.ran.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_that_failed_fails_again_and_does_not_run() {
    for apart in [false, true] {
        fails_again(apart).await;
    }
}

async fn fails_again(apart: bool) {
    const RMDIR: u32 = 13;
    let stand = Arc::new(Stand::default());
    let service = served(&stand, apart);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let (mut near, _served) = client(&service, 1).await;
        near.write_all(&call(7, RMDIR, b'a', &creds()))
            .await
            .expect("sent");
        answers.push(reply(&mut near).await);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0][24..28], 2_u32.to_be_bytes(), "NOENT");
}

#[tokio::test]
async fn a_reused_xid_of_another_call_never_matches() {
    for apart in [false, true] {
        never_matches(apart).await;
    }
}

async fn never_matches(apart: bool) {
    let stand = Arc::new(Stand::default());
    stand.1.let_go();
    let service = served(&stand, apart);
    let ran = || stand.1.ran.load(Ordering::SeqCst);
    let creds = |uid, gid, gids: &[u32]| Creds {
        uid,
        gid,
        gids: gids.to_vec(),
    };
    let calls = [
        (1, call(7, 12, b'a', &creds(0, 0, &[]))),
        (1, call(7, 12, b'b', &creds(0, 0, &[]))),
        (1, call(8, 12, b'a', &creds(0, 0, &[]))),
        (1, call(7, 12, b'a', &creds(1, 0, &[]))),
        (1, call(7, 12, b'a', &creds(0, 1, &[]))),
        (1, call(7, 12, b'a', &creds(0, 0, &[1]))),
        (1, call(7, 12, b'a', &creds(0, 0, &[2]))),
        (1, call(7, 12, b'a', &creds(0, 0, &[1, 2]))),
        (2, call(7, 12, b'a', &creds(0, 0, &[]))),
    ];
    for (n, (instance, call)) in calls.iter().enumerate() {
        for _ in 0..2 {
            let (mut near, _served) = client(&service, *instance).await;
            near.write_all(call).await.expect("sent");
            reply(&mut near).await;
            assert_eq!(ran(), n + 1, "call {n}");
        }
    }
}

/// Data that was written under the old verifier may be what is gone.
#[tokio::test]
async fn a_write_is_answered_with_the_verifier_of_before() {
    let service = Service::new(Arc::new(Stand::default()));
    let (near, _served) = connect(&service, 1 << 16);
    let connect = Arc::new(super::Once(Mutex::new(Some(near))));
    let client = Client::new(connect, [1; 16], ClientLimits::default());
    for n in 0..3_u64 {
        let me = creds();
        let wrote = client.write(&me, &fh(), 0, b"x", Stable::Unstable).await;
        assert_eq!(wrote.expect("WRITE").verifier, n.to_be_bytes());
    }
}

#[test]
fn a_client_is_its_host_until_it_says_more() {
    let at = |ip: [u8; 4], port| Session::new(Peer::Tcp((ip, port).into())).client;
    assert_eq!(at([192, 0, 2, 1], 700), at([192, 0, 2, 1], 999));
    assert_ne!(at([192, 0, 2, 1], 700), at([192, 0, 2, 2], 700));
    let unix = |uid, pid| {
        let peer = Peer::Unix {
            uid,
            gid: 0,
            pid: Some(pid),
        };
        Session::new(peer).client
    };
    assert_eq!(unix(0, 1), unix(0, 2));
    assert_ne!(unix(0, 1), unix(5, 1));
}
