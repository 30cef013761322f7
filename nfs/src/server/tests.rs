//! One connection under stress: a file system that panics, peers that stall. The file
//! system is a stand-in: only READ and GETATTR do something, as no more is needed here.

mod elsewhere;
mod kernels;
mod once;
mod privacy;

use super::*;
use crate::client::{Client, ClientError, ClientLimits, Connect, Creds, Stream};
use crate::proto::*;
use crate::rpc::{RECORD_MAX, finish_record, put_call, read_record, start_record};
use crate::vfs::*;
use std::future::poll_fn;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// GETATTR of [`fh`] panics; READ gives what was asked for, and counts; REMOVE and RMDIR are
/// the file system's that is slow. Or others answer for it.
#[derive(Default)]
struct Stand(AtomicUsize, once::Slow, OnceLock<Channels>);

const NO: nfsstat3 = nfsstat3::NFS3ERR_NOTSUPP;

impl Vfs for Stand {
    fn mount(&self, _: &Cx, _: &[u8]) -> Result<Fh> {
        Err(NO)
    }
    fn umount(&self, _: &Cx, _: &[u8]) {}
    fn shown(&self, path: &[u8]) -> Vec<u8> {
        path.to_vec()
    }
    fn exports(&self) -> Vec<ExportLine> {
        Vec::new()
    }
    fn getattr(&self, _: &Cx, of: &Fh) -> Result<fattr3> {
        match *of == fh() {
            true => panic!("a bug in the file system"),
            false => Err(NO),
        }
    }
    fn setattr(&self, _: &Cx, _: &Fh, _: &sattr3, _: Option<nfstime3>) -> Result<Wcc> {
        Err(NO)
    }
    fn lookup(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<Found> {
        Err(NO)
    }
    fn access(&self, _: &Cx, _: &Fh, _: u32) -> Result<(u32, fattr3)> {
        Err(NO)
    }
    fn readlink(&self, _: &Cx, _: &Fh) -> Result<(Vec<u8>, fattr3)> {
        Err(NO)
    }
    fn read(&self, cx: &Cx, _: &Fh, _: u64, count: u32, out: &mut Vec<u8>) -> Result<ReadDone> {
        // More than a little is for a thread.
        if cx.nowait && count > 100 {
            return Err(WOULD_BLOCK);
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        out.resize(out.len() + count as usize, 7);
        Ok(ReadDone {
            attr: fattr3::default(),
            eof: false,
        })
    }
    fn write(&self, _: &Cx, _: &Fh, _: u64, data: &[u8], _: Stable) -> Result<Written> {
        self.1.write(data)
    }
    fn create(&self, _: &Cx, _: &Fh, _: &[u8], _: &CreateHow) -> Result<Made> {
        Err(NO)
    }
    fn mkdir(&self, _: &Cx, _: &Fh, _: &[u8], _: &sattr3) -> Result<Made> {
        Err(NO)
    }
    fn symlink(&self, _: &Cx, _: &Fh, _: &[u8], _: &[u8], _: &sattr3) -> Result<Made> {
        Err(NO)
    }
    fn mknod(&self, _: &Cx, _: &Fh, _: &[u8], _: NodeKind, _: &sattr3) -> Result<Made> {
        Err(NO)
    }
    fn remove(&self, cx: &Cx, _: &Fh, _: &[u8]) -> Result<Wcc> {
        self.1.remove(cx)
    }
    fn rmdir(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<Wcc> {
        self.1.rmdir()
    }
    fn rename(&self, _: &Cx, _: &Fh, _: &[u8], _: &Fh, _: &[u8]) -> Result<(Wcc, Wcc)> {
        Err(NO)
    }
    fn link(&self, _: &Cx, _: &Fh, _: &Fh, _: &[u8]) -> Result<(fattr3, Wcc)> {
        Err(NO)
    }
    fn readdir(
        &self,
        _: &Cx,
        _: &Fh,
        _: u64,
        _: bool,
        _: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<DirDone> {
        Err(NO)
    }
    fn fsstat(&self, _: &Cx, _: &Fh) -> Result<(FsStat, fattr3)> {
        Err(NO)
    }
    fn fsinfo(&self, _: &Cx, _: &Fh) -> Result<(FsInfo, fattr3)> {
        Err(NO)
    }
    fn commit(&self, _: &Cx, _: &Fh, _: u64, _: u32) -> Result<Wcc> {
        Err(NO)
    }
    fn write_verifier(&self) -> [u8; 8] {
        self.1.verifier()
    }
    fn getxattr(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<Vec<u8>> {
        Err(NO)
    }
    fn listxattr(&self, _: &Cx, _: &Fh) -> Result<Vec<Vec<u8>>> {
        Err(NO)
    }
    fn setxattr(&self, _: &Cx, _: &Fh, _: &[u8], _: &[u8], _: XattrHow) -> Result<()> {
        Err(NO)
    }
    fn removexattr(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<()> {
        Err(NO)
    }
    fn elsewhere(&self, _: &Fh) -> Option<(&dyn Elsewhere, u64)> {
        self.2.get().map(|channels| (channels as &dyn Elsewhere, 1))
    }
}

fn fh() -> Fh {
    Fh::new(&[1]).expect("a handle")
}

fn creds() -> Creds {
    Creds {
        uid: 0,
        gid: 0,
        gids: Vec::new(),
    }
}

struct Once(parking_lot::Mutex<Option<DuplexStream>>);

#[async_trait::async_trait]
impl Connect for Once {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self.0.lock().take() {
            Some(stream) => Ok(Box::new(stream)),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

type Served = tokio::task::JoinHandle<io::Result<()>>;

/// A connection of `pipe` bytes each way to a server with those limits; its end is told.
fn serve(limits: Limits, pipe: usize) -> (Arc<Stand>, DuplexStream, Served) {
    let stand = Arc::new(Stand::default());
    let service = Service {
        limits,
        ..Service::new(stand.clone())
    };
    let (near, served) = connect(&service, pipe);
    (stand, near, served)
}

fn connect(service: &Service, pipe: usize) -> (DuplexStream, Served) {
    let (near, far) = tokio::io::duplex(pipe);
    let (keep, stop) = watch::channel(false);
    let service = service.clone();
    let served = tokio::spawn(async move {
        let _keep = keep;
        serve_connection(service, far, Peer::Memory, stop).await
    });
    (near, served)
}

fn read_call(xid: u32, count: u32) -> Vec<u8> {
    let mut call = Vec::new();
    let start = start_record(&mut call);
    put_call(&mut call, xid, NFS_PROGRAM, NFS_V3, 6, &creds());
    // The handle with its padding, the offset, the count.
    call.extend_from_slice(&[0, 0, 0, 1, 1, 0, 0, 0]);
    call.extend_from_slice(&[0; 8]);
    call.extend_from_slice(&count.to_be_bytes());
    finish_record(&mut call, start);
    call
}

/// Bytes that are no record, behind calls and half a call: the calls are answered, and then
/// the connection ends.
#[tokio::test]
async fn what_was_asked_before_an_error_is_answered() {
    let too_long = u32::MAX.to_be_bytes().to_vec();
    let half = read_call(3, 10)[..30].to_vec();
    for (tail, why) in [
        (too_long, io::ErrorKind::InvalidData),
        (half, io::ErrorKind::UnexpectedEof),
    ] {
        let (_, mut near, served) = serve(Limits::default(), 1 << 16);
        let stream = [read_call(1, 10), read_call(2, 5000), tail].concat();
        near.write_all(&stream).await.expect("sent");
        near.shutdown().await.expect("shut");
        let mut seen = [reply(&mut near).await, reply(&mut near).await].map(|r| r[3]);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
        let e = served.await.expect("ends").expect_err("as an error");
        assert_eq!(e.kind(), why);
    }
}

#[tokio::test]
async fn a_panic_costs_its_call_an_error_and_nothing_else() {
    let (_, near, _served) = serve(Limits::default(), 1 << 16);
    let connect = Arc::new(Once(parking_lot::Mutex::new(Some(near))));
    let client = Client::new(connect, [1; 16], ClientLimits::default());
    for _ in 0..2 {
        let e = client.getattr(&creds(), &fh()).await.expect_err("panicked");
        assert!(matches!(e, ClientError::Rpc(_)), "{e}");
    }
    let reply = client.read(&creds(), &fh(), 0, 10).await.expect("data");
    assert_eq!(reply.data, [7; 10]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_never_ends_ends_its_connection() {
    let (_, mut near, served) = serve(Limits::default(), 1 << 16);
    near.write_all(&read_call(1, 10)[..20]).await.expect("sent");
    let begun = tokio::time::Instant::now();
    let e = served.await.expect("ends").expect_err("as an error");
    assert_eq!(e.kind(), io::ErrorKind::TimedOut);
    let stalled = Limits::default().stalled;
    assert!((stalled..stalled * 2).contains(&begun.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays() {
    let (_, near, served) = serve(Limits::default(), 1 << 16);
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert!(!served.is_finished());
    drop(near);
    served.await.expect("ends").expect("well");
}

/// A peer that asks for much and reads nothing: what runs for it is bounded by the memory
/// its replies take, and nothing waits on a thread.
#[tokio::test]
async fn a_peer_that_does_not_read_holds_back_its_own_calls_only() {
    const COUNT: u32 = 1 << 20;
    let limits = Limits {
        held: 4 << 20,
        ..Limits::default()
    };
    let (stand, mut near, _served) = serve(limits, 1 << 16);
    for xid in 0..50 {
        near.write_all(&read_call(xid, COUNT)).await.expect("sent");
    }
    let until = Instant::now() + Duration::from_secs(20);
    while stand.0.load(Ordering::SeqCst) < 3 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Nothing more can come: what is held is only given back when it is read.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ran = stand.0.load(Ordering::SeqCst);
    assert!((1..=4).contains(&ran), "{ran} replies of 1 MiB are held");
    let mut near = BufReader::new(near);
    for _ in 0..50 {
        let mut record = Vec::new();
        let whole = read_record(&mut near, &mut record, RECORD_MAX + (1 << 20));
        assert!(whole.await.expect("a reply"));
        assert!(record.len() > COUNT as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_is_cut_off() {
    let (_, mut near, served) = serve(Limits::default(), 1 << 12);
    near.write_all(&read_call(1, 1 << 20)).await.expect("sent");
    served.await.expect("ends").expect_err("cut off");
    // What had been put into the pipe is there, and then the end.
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).await.expect("the end");
    assert!(rest.len() <= 1 << 12);
}

async fn reply(near: &mut DuplexStream) -> Vec<u8> {
    let mut record = Vec::new();
    let whole = read_record(near, &mut record, RECORD_MAX + (1 << 20));
    assert!(whole.await.expect("a reply"), "the connection ended");
    record
}

/// Peers that hold all memory and stand still, by replies not read and by records not
/// ended, are cut off once somebody waits for it; small calls never wait.
#[tokio::test(start_paused = true)]
async fn memory_that_others_wait_for_is_not_held_for_long() {
    const MIB: u32 = 1 << 20;
    let service = Service {
        pool: Arc::new(Pool::new(8 << 20)),
        ..Service::new(Arc::new(Stand::default()))
    };
    let mut greedy = Vec::new();
    for xid in 0..12 {
        let (mut near, served) = connect(&service, 1 << 16);
        let call = if xid % 2 == 0 {
            read_call(xid, MIB)
        } else {
            // A record of 1 MiB announced, and one byte of it.
            vec![0x80, 0x10, 0, 0, 0]
        };
        near.write_all(&call).await.expect("sent");
        greedy.push((near, served));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(service.pool.held() > 7 << 20, "{}", service.pool.held());
    assert!(service.pool.short());
    let (mut near, _served) = connect(&service, 1 << 16);
    let begun = tokio::time::Instant::now();
    near.write_all(&read_call(1, 10)).await.expect("sent");
    assert!(reply(&mut near).await.len() < 200);
    assert_eq!(begun.elapsed().as_secs(), 0, "a small call waited");
    near.write_all(&read_call(2, MIB)).await.expect("sent");
    assert!(reply(&mut near).await.len() > MIB as usize);
    assert!(begun.elapsed() < 4 * service.limits.pressed);
    // Those in line get what the first ones held, and are cut off in their turn only where
    // others wait: at the end what is left may stand still for as long as it likes.
    tokio::time::sleep(service.limits.stalled / 2).await;
    let cut = greedy.iter().filter(|(_, served)| served.is_finished());
    assert!((1..12).contains(&cut.count()));
    drop(greedy);
    drop(near);
    while service.pool.held() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A peer that always leaves something unread does not make the server's buffer grow.
#[tokio::test]
async fn a_reader_that_lags_for_ever_costs_no_more() {
    let (mut near, mut far) = tokio::io::duplex(4 << 10);
    let mut outbox = outbox::Outbox::default();
    let (mut put, mut got) = (0u32, 0u32);
    let mut largest = 0;
    while got < 1 << 20 {
        while outbox.waiting() < 16 << 10 {
            outbox.arena.extend_from_slice(&put.to_be_bytes());
            outbox.queue(None);
            put += 1;
        }
        tokio::task::yield_now().await;
        let written = poll_fn(|cx| Poll::Ready(outbox.poll_write(cx, &mut far)));
        assert!(written.await.expect("written"));
        assert!(!outbox.is_empty());
        largest = largest.max(outbox.arena.capacity());
        for _ in 0..1 << 10 {
            assert_eq!(near.read_u32().await.expect("a reply"), got);
            got += 1;
        }
    }
    assert!(largest <= 1 << 20, "{largest} bytes");
}

/// Calls in a row and their replies in a row, however they are cut.
#[tokio::test]
async fn a_stream_of_calls_is_answered_in_order() {
    const CALLS: u32 = 20_000;
    let (_, near, _served) = serve(Limits::default(), 1 << 16);
    let (mut read, mut write) = tokio::io::split(near);
    let sent = tokio::spawn(async move {
        let calls: Vec<u8> = (0..CALLS).flat_map(|xid| read_call(xid, 100)).collect();
        write.write_all(&calls).await.expect("sent");
        write
    });
    for xid in 0..CALLS {
        let mut record = Vec::new();
        let whole = read_record(&mut read, &mut record, RECORD_MAX);
        assert!(whole.await.expect("a reply"));
        assert_eq!(record[..4], xid.to_be_bytes());
        assert!(record.ends_with(&[7; 100]));
    }
    sent.await.expect("sent");
}
