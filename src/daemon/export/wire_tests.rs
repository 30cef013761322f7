//! The NFS engine and its client over an in-memory stream, with the store behind:
//! every procedure, every truncation, hostile records, and connections that break.

use super::tests::{World, snapshot, world};
use super::*;
use pocker_nfs::client::{Client, ClientError, ClientLimits, Connect, Creds, Stream};
use pocker_nfs::proto::*;
use pocker_nfs::server::{Service, serve_connection};
use pocker_nfs::vfs::{CreateHow, NodeKind, Peer, Stable, XattrHow};
use pocker_store::work::WorkClass;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

/// A pipe this wide holds any single record of these tests.
const PIPE: usize = 1 << 16;

/// Serves the exports on each connection; every `cut`th one is dropped after some bytes of reply.
struct InMemory {
    exports: Arc<Exports>,
    made: AtomicUsize,
    /// Replies' bytes that pass before the connection is cut, for the first so many connections.
    cuts: Vec<usize>,
}

#[async_trait::async_trait]
impl Connect for InMemory {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let nth = self.made.fetch_add(1, Ordering::SeqCst);
        let (near, far) = tokio::io::duplex(PIPE);
        serve(self.exports.clone(), far, Peer::Memory);
        let Some(cut) = self.cuts.get(nth).copied() else {
            return Ok(Box::new(near));
        };
        let (mine, theirs) = tokio::io::duplex(PIPE);
        tokio::spawn(cut_after(near, theirs, cut));
        Ok(Box::new(mine))
    }
}

fn serve(exports: Arc<Exports>, stream: DuplexStream, peer: Peer) {
    let (keep, stop) = watch::channel(false);
    tokio::spawn(async move {
        let _keep = keep;
        let _ = serve_connection(Service::new(exports), stream, peer, stop).await;
    });
}

/// Passes everything on until `cut` bytes of replies went by, then drops both ends: the
/// calls ran, their replies are lost.
async fn cut_after(server: DuplexStream, client: DuplexStream, cut: usize) {
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let forward = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    let mut left = cut;
    let mut buffer = vec![0; 4096];
    while left > 0 {
        match from_server.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                let pass = n.min(left);
                left -= pass;
                if to_client.write_all(&buffer[..pass]).await.is_err() {
                    break;
                }
            }
        }
    }
    // What arrived meanwhile has run; its replies go nowhere.
    let _ = from_server.read(&mut buffer).await;
    forward.abort();
}

pub fn root() -> Creds {
    Creds {
        uid: 0,
        gid: 0,
        gids: Vec::new(),
    }
}

pub fn status<T>(result: Result<T, ClientError>) -> u32 {
    match result {
        Ok(_) => 0,
        Err(ClientError::Status(status)) => status as u32,
        Err(other) => panic!("{other}"),
    }
}

pub fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let patience = std::time::Duration::from_secs(60);
        tokio::time::timeout(patience, test).await.expect("hung");
    });
}

/// A client of these exports, on nothing yet.
pub fn connection(exports: &Arc<Exports>) -> Client {
    let connect = InMemory {
        exports: exports.clone(),
        made: AtomicUsize::new(0),
        cuts: Vec::new(),
    };
    Client::new(Arc::new(connect), [9; 16], ClientLimits::default())
}

/// A client on a build tree cloned from the small snapshot, and the tree's root.
async fn client(w: World, cuts: Vec<usize>) -> (Client, Fh, World, Arc<Exports>) {
    let tree = w
        .works
        .create(Some(snapshot(&w)), WorkClass::Build, b"t", clock::now())
        .expect("a clone");
    let path = w.exports.tree_path("build", tree.id());
    let exports = w.exports.clone();
    let connect = InMemory {
        exports: exports.clone(),
        made: AtomicUsize::new(0),
        cuts,
    };
    let client = Client::new(Arc::new(connect), [9; 16], ClientLimits::default());
    let top = client.mount(path.as_bytes()).await.expect("mounted");
    (client, top, w, exports)
}

#[test]
fn every_procedure_answers_over_the_wire() {
    run(async {
        let (c, top, _w, _) = client(world(), vec![]).await;
        let me = root();
        c.null().await.expect("NULL");
        let etc = c.lookup(&me, &top, b"etc").await.expect("LOOKUP").fh;
        let guarded = CreateHow::Guarded(sattr3::default());
        let file = c
            .create(&me, &etc, b"new", &guarded)
            .await
            .expect("CREATE")
            .fh
            .expect("a handle");
        assert_eq!(
            status(c.create(&me, &etc, b"new", &guarded).await),
            nfsstat3::NFS3ERR_EXIST as u32
        );
        let wrote = c
            .write(&me, &file, 0, b"hello world", Stable::Unstable)
            .await
            .expect("WRITE");
        assert_eq!(wrote.count, 11);
        assert_eq!(
            c.commit(&me, &file, 0, 0).await.expect("COMMIT"),
            wrote.verifier
        );
        let read = c.read(&me, &file, 6, 100).await.expect("READ");
        assert!(read.eof && read.data == b"world");
        let new = sattr3 {
            mode: set_mode3::mode(0o4711),
            ..sattr3::default()
        };
        let after = c
            .setattr(&me, &file, &new, None)
            .await
            .expect("SETATTR")
            .expect("attributes");
        assert_eq!(after.mode, 0o4711);
        let stale = nfstime3 {
            seconds: 1,
            nseconds: 1,
        };
        assert_eq!(
            status(c.setattr(&me, &file, &new, Some(stale)).await),
            nfsstat3::NFS3ERR_NOT_SYNC as u32
        );
        let (granted, _) = c.access(&me, &file, 0x3f).await.expect("ACCESS");
        assert_eq!(granted & access::READ, access::READ);
        let dir = c
            .mkdir(&me, &top, b"d", &sattr3::default())
            .await
            .expect("MKDIR")
            .fh
            .expect("a handle");
        c.symlink(&me, &dir, b"l", b"../etc", &sattr3::default())
            .await
            .expect("SYMLINK");
        let link = c.lookup(&me, &dir, b"l").await.expect("LOOKUP").fh;
        assert_eq!(c.readlink(&me, &link).await.expect("READLINK").0, b"../etc");
        let device = NodeKind::Char(specdata3 {
            specdata1: 1,
            specdata2: 3,
        });
        c.mknod(&me, &dir, b"null", device, &sattr3::default())
            .await
            .expect("MKNOD");
        c.link(&me, &file, &dir, b"hard").await.expect("LINK");
        assert_eq!(c.getattr(&me, &file).await.expect("GETATTR").nlink, 2);
        c.rename(&me, &dir, b"hard", &etc, b"soft")
            .await
            .expect("RENAME");
        assert_eq!(
            status(c.rmdir(&me, &top, b"d").await),
            nfsstat3::NFS3ERR_NOTEMPTY as u32
        );
        assert_eq!(
            status(c.remove(&me, &top, b"d").await),
            nfsstat3::NFS3ERR_ISDIR as u32
        );
        for name in [&b"l"[..], b"null"] {
            c.remove(&me, &dir, name).await.expect("REMOVE");
        }
        c.rmdir(&me, &top, b"d").await.expect("RMDIR");
        assert_eq!(
            status(c.getattr(&me, &dir).await),
            nfsstat3::NFS3ERR_STALE as u32
        );
        assert!(c.fsstat(&me, &top).await.expect("FSSTAT").total_bytes > 0);
        assert!(
            c.fsinfo(&me, &top)
                .await
                .expect("FSINFO")
                .io_max
                .is_power_of_two()
        );
        assert!(c.pathconf(&me, &top).await.expect("PATHCONF").link_max > 1000);
        c.setxattr(&me, &file, b"user.k", b"v", XattrHow::Create)
            .await
            .expect("set");
        assert_eq!(
            c.listxattr(&me, &file).await.expect("list"),
            vec![b"user.k".to_vec()]
        );
        assert_eq!(c.getxattr(&me, &file, b"user.k").await.expect("get"), b"v");
        c.removexattr(&me, &file, b"user.k").await.expect("remove");
        assert_eq!(
            status(c.getxattr(&me, &file, b"user.k").await),
            nfsstat3::NFS3ERR_NOENT as u32
        );
    });
}

#[test]
fn names_that_no_file_system_may_see_are_refused() {
    run(async {
        let (c, top, _w, _) = client(world(), vec![]).await;
        let me = root();
        let how = CreateHow::Unchecked(sattr3::default());
        let long = vec![b'n'; 256];
        for (name, expected) in [
            (&long[..], nfsstat3::NFS3ERR_NAMETOOLONG),
            (b"a/b", nfsstat3::NFS3ERR_ACCES),
            (b"a\0b", nfsstat3::NFS3ERR_ACCES),
            (b"", nfsstat3::NFS3ERR_ACCES),
            (b".", nfsstat3::NFS3ERR_EXIST),
            (b"..", nfsstat3::NFS3ERR_EXIST),
        ] {
            assert_eq!(
                status(c.create(&me, &top, name, &how).await),
                expected as u32
            );
        }
        c.create(&me, &top, &long[..255], &how)
            .await
            .expect("255 bytes are a name");
    });
}

#[test]
fn a_directory_is_listed_once_each_whatever_the_buffer() {
    run(async {
        let (c, top, _w, _) = client(world(), vec![]).await;
        let me = root();
        let dir = c
            .mkdir(&me, &top, b"many", &sattr3::default())
            .await
            .expect("MKDIR")
            .fh
            .expect("fh");
        let how = CreateHow::Unchecked(sattr3::default());
        for i in 0..500 {
            c.create(&me, &dir, format!("name-{i}").as_bytes(), &how)
                .await
                .expect("CREATE");
        }
        for (dircount, maxcount) in [(512, 600), (4096, 4096), (1 << 16, 1 << 20)] {
            let (mut cookie, mut seen) = (0, Vec::new());
            loop {
                let reply = c
                    .readdirplus(&me, &dir, cookie, [0; 8], dircount, maxcount)
                    .await
                    .expect("READDIRPLUS");
                assert!(reply.eof || !reply.entries.is_empty(), "no progress");
                seen.extend(reply.entries.iter().map(|e| e.name.clone()));
                let Some(last) = reply.entries.last() else {
                    break;
                };
                cookie = last.cookie;
                if reply.eof {
                    break;
                }
            }
            assert_eq!(seen.len(), 502, "{dircount} {maxcount}");
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), 502, "a name came twice");
        }
        let tiny = c.readdir(&me, &dir, 0, [0; 8], 100).await;
        assert_eq!(status(tiny), nfsstat3::NFS3ERR_TOOSMALL as u32);
    });
}

#[test]
fn calls_whose_replies_were_lost_are_done_once() {
    run(async {
        // Every connection but the last is cut somewhere in its replies.
        let cuts: Vec<usize> = (0..40).map(|i| 150 + i * 37).collect();
        let (c, top, _w, _) = client(world(), cuts).await;
        let me = root();
        let how = CreateHow::Guarded(sattr3::default());
        let mut calls = Vec::new();
        for i in 0..60 {
            let (c, me, how) = (c.clone(), me.clone(), how);
            calls.push(tokio::spawn(async move {
                let name = format!("f{i}");
                let fh = c
                    .create(&me, &top, name.as_bytes(), &how)
                    .await
                    .expect("no EXIST")
                    .fh
                    .expect("fh");
                c.link(&me, &fh, &top, format!("l{i}").as_bytes())
                    .await
                    .expect("no EXIST");
                c.rename(&me, &top, name.as_bytes(), &top, format!("r{i}").as_bytes())
                    .await
                    .expect("no NOENT");
                c.remove(&me, &top, format!("l{i}").as_bytes())
                    .await
                    .expect("no NOENT");
            }));
        }
        for call in calls {
            call.await.expect("a call failed");
        }
        let reply = c
            .readdirplus(&me, &top, 0, [0; 8], 1 << 16, 1 << 20)
            .await
            .expect("list");
        // Sixty renamed files, "etc", "." and "..".
        assert_eq!(reply.entries.len(), 63);
    });
}

/// One record with its mark.
fn record(body: &[u8]) -> Vec<u8> {
    let mut out = ((body.len() as u32) | 1 << 31).to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// A call header with AUTH_SYS root.
fn header(xid: u32, program: u32, version: u32, procedure: u32) -> Vec<u8> {
    words(&[
        xid, 0, 2, program, version, procedure, 1, 20, 0, 0, 0, 0, 0, 0, 0,
    ])
}

async fn reply(stream: &mut DuplexStream) -> Option<Vec<u8>> {
    let mark = stream.read_u32().await.ok()?;
    let mut body = vec![0; (mark & 0x7fff_ffff) as usize];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

fn word(body: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(body[at * 4..at * 4 + 4].try_into().expect("four bytes"))
}

#[test]
fn every_truncation_of_every_call_is_refused_and_the_connection_lives() {
    run(async {
        let (c, top, w, exports) = client(world(), vec![]).await;
        drop(c);
        let (mut near, far) = tokio::io::duplex(PIPE);
        serve(exports, far, Peer::Memory);
        let fh = top.as_bytes();
        let mut handle = words(&[fh.len() as u32]);
        handle.extend_from_slice(fh);
        handle.resize(handle.len().div_ceil(4) * 4, 0);
        let mut xid = 0;
        for procedure in 1..=21 {
            // A handle and enough words to satisfy any of them; cut at every length.
            let args: Vec<u8> = [&handle[..], &words(&[0; 4])].concat();
            for len in 0..handle.len() {
                xid += 1;
                let mut call = header(xid, NFS_PROGRAM, NFS_V3, procedure);
                call.extend_from_slice(&args[..len]);
                near.write_all(&record(&call)).await.expect("sent");
                let answer = reply(&mut near).await.expect("the connection lives");
                assert_eq!(word(&answer, 0), xid);
                assert_eq!(
                    (word(&answer, 2), word(&answer, 5)),
                    (0, 4),
                    "procedure {procedure} at {len}"
                );
            }
        }
        near.write_all(&record(&header(7, NFS_PROGRAM, NFS_V3, 0)))
            .await
            .expect("sent");
        assert_eq!(word(&reply(&mut near).await.expect("NULL"), 0), 7);
        drop(w);
    });
}

#[test]
fn records_that_are_no_calls_get_rfc_5531s_errors() {
    run(async {
        let w = world();
        let (mut near, far) = tokio::io::duplex(PIPE);
        serve(
            w.exports.clone(),
            far,
            Peer::Tcp(([127, 0, 0, 1], 700).into()),
        );
        let mut ask = async |call: Vec<u8>| {
            near.write_all(&record(&call)).await.expect("sent");
            reply(&mut near).await.expect("answered")
        };
        let accept = |answer: &[u8]| (word(answer, 2), word(answer, 5));
        assert_eq!(
            accept(&ask(header(1, 4711, 3, 0)).await),
            (0, 1),
            "PROG_UNAVAIL"
        );
        assert_eq!(
            accept(&ask(header(2, NFS_PROGRAM, 4, 0)).await),
            (0, 2),
            "PROG_MISMATCH"
        );
        assert_eq!(
            accept(&ask(header(3, NFS_PROGRAM, 3, 22)).await),
            (0, 3),
            "PROC_UNAVAIL"
        );
        // Our own program is for helpers on this host only.
        assert_eq!(accept(&ask(header(4, POCKER_PROGRAM, 1, 0)).await), (0, 1));
        let rpc3 = ask(words(&[5, 0, 3, NFS_PROGRAM, 3, 0, 0, 0, 0, 0])).await;
        assert_eq!((word(&rpc3, 2), word(&rpc3, 3)), (1, 0), "RPC_MISMATCH");
        let gss = ask(words(&[6, 0, 2, NFS_PROGRAM, 3, 0, 6, 0, 0, 0])).await;
        assert_eq!((word(&gss, 2), word(&gss, 3)), (1, 1), "AUTH_ERROR");
        let gids = ask(words(&[
            7,
            0,
            2,
            NFS_PROGRAM,
            3,
            0,
            1,
            20,
            0,
            0,
            0,
            0,
            1 << 28,
            0,
            0,
        ]))
        .await;
        assert_eq!(
            (word(&gids, 2), word(&gids, 3), word(&gids, 4)),
            (1, 1, 1),
            "AUTH_BADCRED"
        );
        // A length that the record does not hold.
        let mut long = header(8, NFS_PROGRAM, 3, 1);
        long.extend(words(&[u32::MAX]));
        assert_eq!(accept(&ask(long).await), (0, 4), "GARBAGE_ARGS");
        assert_eq!(
            accept(&ask(header(9, NFS_PROGRAM, 3, 0)).await),
            (0, 0),
            "and it lives on"
        );
        // A record over the cap ends the connection; nothing was allocated for it.
        near.write_all(&words(&[0x7fff_ffff | 1 << 31]))
            .await
            .expect("sent");
        assert_eq!(
            near.read_u32().await.err().map(|e| e.kind()),
            Some(io::ErrorKind::UnexpectedEof)
        );
    });
}

#[test]
fn fragments_make_one_record_and_many_calls_in_flight_are_all_answered() {
    run(async {
        let (c, top, w, exports) = client(world(), vec![]).await;
        let (mut near, far) = tokio::io::duplex(PIPE);
        serve(exports, far, Peer::Memory);
        for byte in header(3, NFS_PROGRAM, NFS_V3, 0)
            .chunks(1)
            .rev()
            .enumerate()
            .rev()
            .map(|(i, b)| (i, b[0]))
        {
            let mark = if byte.0 == 0 { 1u32 | 1 << 31 } else { 1 };
            near.write_all(&mark.to_be_bytes()).await.expect("sent");
            near.write_all(&[byte.1]).await.expect("sent");
        }
        assert_eq!(word(&reply(&mut near).await.expect("NULL"), 0), 3);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..400 {
            let c = c.clone();
            calls.spawn(async move { c.getattr(&root(), &top).await.expect("GETATTR").fileid });
        }
        let seen = calls.join_all().await;
        assert_eq!(seen, vec![ROOT; 400]);
        drop(w);
    });
}
