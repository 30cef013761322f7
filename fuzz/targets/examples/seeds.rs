//! Writes the first inputs of the corpus (`fuzz/corpus`): what this client and this server say
//! to each other, what they leave in a store, and objects of every kind.
//!
//! cargo run -p pocker-fuzz-targets --example seeds

use pocker::daemon::clock;
use pocker::daemon::export::Exports;
use pocker_fuzz_targets::target;
use pocker_nfs::client::{Client, ClientLimits, Connect, Creds, Stream};
use pocker_nfs::proto::*;
use pocker_nfs::server::{Service, serve_connection};
use pocker_nfs::vfs::{CreateHow, NodeKind, Peer, Stable, XattrHow};
use pocker_store::work::{WorkClass, Works};
use pocker_store::{OpenOptions, Store};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What was said, in both directions.
#[derive(Default)]
struct Said {
    calls: Vec<u8>,
    replies: Vec<u8>,
}

struct Tapped(Arc<Exports>, Arc<Mutex<Said>>);

#[async_trait::async_trait]
impl Connect for Tapped {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (mine, theirs) = tokio::io::duplex(1 << 16);
        let (keep, stop) = tokio::sync::watch::channel(false);
        let service = Service::new(self.0.clone());
        tokio::spawn(async move {
            let _keep = keep;
            let _ = serve_connection(service, far, Peer::Memory, stop).await;
        });
        let (from_server, to_server) = tokio::io::split(near);
        let (from_client, to_client) = tokio::io::split(theirs);
        tokio::spawn(pass(from_client, to_server, self.1.clone(), true));
        tokio::spawn(pass(from_server, to_client, self.1.clone(), false));
        Ok(Box::new(mine))
    }
}

async fn pass(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    said: Arc<Mutex<Said>>,
    calls: bool,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        {
            let Ok(mut said) = said.lock() else { return };
            let into = if calls {
                &mut said.calls
            } else {
                &mut said.replies
            };
            into.extend_from_slice(&buffer[..n]);
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// A stream's records; both sides send each as one fragment.
fn records(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let Some((mark, rest)) = stream.split_first_chunk() {
        let len = (u32::from_be_bytes(*mark) & !(1 << 31)) as usize;
        let (record, rest) = rest.split_at(len);
        records.push(record);
        stream = rest;
    }
    records
}

fn word(record: &[u8], at: usize) -> u32 {
    let bytes = record.get(at * 4..at * 4 + 4);
    bytes.map_or(0, |b| b.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

fn put(name: &str, file: &str, bytes: &[u8]) -> Result<()> {
    let dir = target(name).corpus();
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join(file), bytes)?;
    Ok(())
}

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = OpenOptions {
        create: true,
        boot_id: b"seeds".to_vec(),
    };
    let store = Store::open(&dir.path().join("store"), options)?;
    let works = Arc::new(Works::open_or_create(store.clone()).map_err(|e| format!("{e:?}"))?);
    let exports = Arc::new(Exports::open(store.clone(), works.clone(), None)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    for (nth, name) in ["files", "names", "more"].into_iter().enumerate() {
        let tree = works
            .create(None, WorkClass::Build, b"t", clock::now())
            .map_err(|e| format!("{e:?}"))?;
        let path = exports.tree_path("build", tree.id());
        let said = Arc::new(Mutex::new(Said::default()));
        let connect = Tapped(exports.clone(), said.clone());
        runtime.block_on(async {
            let client = Client::new(Arc::new(connect), [7; 16], ClientLimits::default());
            session(nth, &client, &path).await
        })?;
        let said = said.lock().map_err(|_| "poisoned")?;
        heard(name, &said)?;
    }
    by_hand()?;
    journal(&dir.path().join("store/work.journal.0"))?;
    for (at, object) in pocker_store::fuzz::object_seeds().iter().enumerate() {
        put("objects", &format!("object-{at}"), object)?;
    }
    for kind in 0..4u8 {
        let name = [&[kind, 9][..], &[1; 8], &[2; 8], &[3; 8]].concat();
        put("handles", &format!("kind-{kind}"), &name)?;
    }
    Ok(())
}

/// Calls of every procedure that the client has.
async fn session(nth: usize, c: &Client, path: &str) -> Result<()> {
    let me = Creds {
        uid: 0,
        gid: 0,
        gids: vec![4, 24],
    };
    let none = sattr3::default();
    let set = sattr3 {
        mode: set_mode3::mode(0o644),
        uid: set_uid3::uid(3),
        gid: set_gid3::gid(4),
        size: set_size3::size(5),
        atime: set_atime::SET_TO_SERVER_TIME,
        mtime: set_mtime::SET_TO_CLIENT_TIME(nfstime3 {
            seconds: 9,
            nseconds: 8,
        }),
    };
    let top = c.mount(path.as_bytes()).await?;
    let how = match nth {
        0 => CreateHow::Unchecked(set),
        1 => CreateHow::Guarded(none),
        _ => CreateHow::Exclusive([6; 8]),
    };
    let file = c.create(&me, &top, b"file", &how).await?;
    let file = file.fh.ok_or("no handle")?;
    if nth == 0 {
        c.null().await?;
        c.write(&me, &file, 3, b"hello, world", Stable::Unstable)
            .await?;
        c.write(&me, &file, 20_000, &[1; 100], Stable::FileSync)
            .await?;
        c.commit(&me, &file, 0, 0).await?;
        c.read(&me, &file, 1, 64).await?;
        let ctime = c.getattr(&me, &file).await?.ctime;
        c.setattr(&me, &file, &set, Some(ctime)).await?;
        c.access(&me, &file, 0x3f).await?;
        c.fsstat(&me, &top).await?;
        c.fsinfo(&me, &top).await?;
        c.pathconf(&me, &top).await?;
    } else if nth == 1 {
        let made = c.mkdir(&me, &top, b"dir", &none).await?;
        let sub = made.fh.ok_or("no handle")?;
        c.link(&me, &file, &sub, b"hard").await?;
        c.rename(&me, &sub, b"hard", &top, b"soft").await?;
        c.lookup(&me, &top, b"soft").await?;
        c.lookup(&me, &sub, b"..").await?;
        c.readdir(&me, &top, 0, [0; 8], 4096).await?;
        c.readdirplus(&me, &top, 0, [0; 8], 512, 4096).await?;
        c.remove(&me, &top, b"soft").await?;
        c.rmdir(&me, &top, b"dir").await?;
        let _ = c.remove(&me, &top, b"gone").await;
    } else {
        let link = c.symlink(&me, &top, b"link", b"../to", &none).await?;
        c.readlink(&me, &link.fh.ok_or("no handle")?).await?;
        let device = specdata3 {
            specdata1: 1,
            specdata2: 3,
        };
        for (name, kind) in [
            (&b"null"[..], NodeKind::Char(device)),
            (b"disk", NodeKind::Block(device)),
            (b"pipe", NodeKind::Fifo),
            (b"sock", NodeKind::Socket),
        ] {
            c.mknod(&me, &top, name, kind, &set).await?;
        }
        let how = XattrHow::Create;
        c.setxattr(&me, &file, b"user.a", b"value", how).await?;
        c.getxattr(&me, &file, b"user.a").await?;
        c.listxattr(&me, &file).await?;
        c.removexattr(&me, &file, b"user.a").await?;
    }
    Ok(())
}

/// What one session said, as inputs.
fn heard(name: &str, said: &Said) -> Result<()> {
    let calls = records(&said.calls);
    let replies: BTreeMap<u32, &[u8]> = records(&said.replies)
        .into_iter()
        .map(|r| (word(r, 0), r))
        .collect();
    let mut ops = Vec::new();
    // As the target has them: the tree's root, and three that are not met here.
    let mut handles: Vec<Vec<u8>> = vec![Vec::new(); 4];
    for call in &calls {
        let (program, procedure) = (word(call, 3), word(call, 5));
        put("call", &format!("{name}-{program:x}-{procedure}"), call)?;
        let Some(reply) = replies.get(&word(call, 0)) else {
            continue;
        };
        // Behind its header, which has no verifier, the status and the results.
        let results = reply.get(28..).unwrap_or_default();
        let how = match procedure {
            16 | 17 => procedure - 16,
            8..=11 => 2,
            _ => 3,
        };
        let kept = [&[how as u8], *reply].concat();
        put("replies", &format!("{name}-{program:x}-{procedure}"), &kept)?;
        let opaque = |bytes: &[u8], at: usize| -> Vec<u8> {
            let len = word(&bytes[at..], 0) as usize;
            bytes[at + 4..at + 4 + len].to_vec()
        };
        // Credentials, verifier, arguments.
        let args = &call[24 + 8 + word(call, 7) as usize + 8..];
        if program == MOUNT_PROGRAM {
            handles[0] = opaque(results, 0);
            continue;
        }
        if args.is_empty() || program == POCKER_PROGRAM && procedure == 1 {
            continue;
        }
        let fh = opaque(args, 0);
        let place = |fh: &[u8]| handles.iter().position(|h| h == fh).unwrap_or(0) as u8;
        let first = place(&fh);
        let mut rest = args[4 + fh.len().next_multiple_of(4)..].to_vec();
        let mut second = 0;
        if matches!(procedure, 14 | 15) && program == NFS_PROGRAM {
            let at = match procedure {
                14 => 4 + (word(&rest, 0) as usize).next_multiple_of(4),
                _ => 0,
            };
            let fh = opaque(&rest, at);
            second = place(&fh);
            rest.drain(at..at + 4 + fh.len().next_multiple_of(4));
        }
        let what = match program {
            POCKER_PROGRAM => procedure + 20,
            _ => procedure,
        };
        if rest.len() < 256 {
            ops.extend([what as u8, first, second, rest.len() as u8]);
            ops.extend(rest);
        }
        match procedure {
            3 if program == NFS_PROGRAM => handles.push(opaque(results, 0)),
            8..=11 => handles.push(opaque(results, 4)),
            _ => {}
        }
    }
    put("exports", name, &ops)?;
    put("handles", name, &handles[0])?;
    let whole = said.calls.get(..2048.min(said.calls.len()));
    let whole = whole.unwrap_or_default();
    put("records", name, &[&[1, 0, 0], whole].concat())?;
    // The first call in fragments of seven bytes.
    let mut pieces = vec![3, 0, 0];
    let first = calls.first().copied().unwrap_or_default();
    let count = first.len().div_ceil(7);
    for (at, piece) in first.chunks(7).enumerate() {
        let last = u32::from(at + 1 == count) << 31;
        pieces.extend(words(&[last | piece.len() as u32]));
        pieces.extend(piece);
    }
    put("records", &format!("{name}-pieces"), &pieces)
}

/// Calls that this client never makes, and streams that no client makes.
fn by_hand() -> Result<()> {
    let call = |program, version, procedure, args: &[u8]| {
        let header = [9, 0, 2, program, version, procedure, 1, 28, 0, 4];
        let cred = [0x686f_7374, 0, 0, 1, 5];
        [&words(&header)[..], &words(&cred), &words(&[0, 0]), args].concat()
    };
    let path = [&words(&[2])[..], b"/e\0\0"].concat();
    let mapping = words(&[NFS_PROGRAM, 3, 6, 0]);
    let none: &[u8] = &[];
    for (name, program, version, procedure, args) in [
        ("mount-dump", MOUNT_PROGRAM, 3, 2, none),
        ("mount-umnt", MOUNT_PROGRAM, 1, 3, &path),
        ("mount-umntall", MOUNT_PROGRAM, 3, 4, none),
        ("mount-export", MOUNT_PROGRAM, 1, 5, none),
        ("portmap-null", 100_000, 2, 0, none),
        ("portmap-set", 100_000, 2, 1, &mapping),
        ("portmap-getport", 100_000, 2, 3, &mapping),
        ("portmap-dump", 100_000, 2, 4, none),
        ("portmap-callit", 100_000, 2, 5, &mapping),
        ("no-program", 4711, 1, 0, none),
        ("no-version", NFS_PROGRAM, 4, 0, none),
        ("no-procedure", NFS_PROGRAM, 3, 22, none),
    ] {
        put("call", name, &call(program, version, procedure, args))?;
    }
    let gss = words(&[9, 0, 2, NFS_PROGRAM, 3, 1, 6, 4, 0, 0, 0]);
    put("call", "rpcsec-gss", &gss)?;
    put("call", "rpc-version-3", &words(&[9, 0, 3, NFS_PROGRAM, 3]))?;
    put(
        "call",
        "auth-none",
        &words(&[9, 0, 2, NFS_PROGRAM, 3, 0, 0, 0, 0, 0]),
    )?;
    // Cut, zero bytes behind it (in eights), and the stream.
    let stream = |cut: u8, tail: u16, stream: &[u32]| {
        let [high, low] = tail.to_be_bytes();
        [&[cut, high, low][..], &words(stream)].concat()
    };
    const LAST: u32 = 1 << 31;
    put(
        "records",
        "a-megabyte",
        &stream(2, 1 << 14, &[LAST | 1 << 17]),
    )?;
    put(
        "records",
        "longest",
        &stream(0, u16::MAX, &[LAST | ((1 << 20) + 4096)]),
    )?;
    put(
        "records",
        "too-long",
        &stream(0, 9, &[LAST | ((1 << 20) + 4097)]),
    )?;
    put("records", "endless-zeros", &stream(2, 4000, &[4, 1]))?;
    put(
        "records",
        "grows",
        &stream(2, 9000, &[20_000, 0, 7, LAST | 40_000]),
    )?;
    // As many as may be, and one more.
    for (name, empty) in [("fragments-most", 4095), ("fragments-too-many", 4096)] {
        let mut words = vec![0; empty];
        words.push(LAST);
        put("records", name, &stream(0, 0, &words))?;
    }
    Ok(())
}

/// A real journal's frames.
fn journal(path: &std::path::Path) -> Result<()> {
    let bytes = std::fs::read(path)?;
    let mut rest = bytes.get(24..).ok_or("no journal")?;
    let mut whole = vec![0, 1, 0, 0];
    let mut seen = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = u32::from_le_bytes(*len) as usize;
        if len == 0 {
            break;
        }
        let rows = &after[4..4 + len];
        rest = &after[4 + len..];
        let shape = (rows[0], len);
        if seen.contains(&shape) || len > 2048 {
            continue;
        }
        seen.push(shape);
        put("rows", &format!("frame-{}", seen.len()), rows)?;
        if whole.len() < 1500 {
            whole.extend([0, (len >> 8) as u8, len as u8]);
            whole.extend_from_slice(rows);
        }
    }
    put("journal", "frames", &whole)?;
    // The second file's turn, and a frame half written.
    whole[1..3].copy_from_slice(&[1, 2]);
    whole[4] = 1;
    whole.extend([5, 0, 2, 1, 1]);
    put("journal", "torn", &whole)
}
