//! What fuzzing runs of the exports (`fuzz/`): handles, and calls to real trees. Only with
//! the feature `fuzz`.

use super::handle::{Codec, HOST_MAX, HostFile, May, Name};
use super::*;
use pocker_nfs::fuzz::Engine;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::Caller;
use pocker_store::OpenOptions;
use pocker_store::object::Meta;
use pocker_store::types::Time;
use pocker_store::work::WorkClass;
use std::path::PathBuf;

/// A handle and what it names are small.
pub fn handles_bound(data: &[u8]) -> usize {
    (16 << 10) + 8 * data.len()
}

/// * Bytes that were not made with the key are no handle; and a handle has one encoding.
/// * One bit more or less, another length, another store's key: no handle.
pub fn handles(data: &[u8]) {
    let codec = Codec::new(&[0x5a; 32]);
    let other = Codec::new(&[0xa5; 32]);
    if let Some(fh) = Fh::new(data) {
        // No seed is a handle of this key, and the MAC has 128 bits.
        assert!(codec.decode(&fh).is_err(), "a forged handle was taken");
    }
    let Some(([kind, flip], rest)) = data.split_first_chunk() else {
        return;
    };
    let Some(name) = name(*kind, rest) else {
        return;
    };
    let fh = codec.encode(&name);
    assert_eq!(codec.decode(&fh).ok(), Some(name), "what it was made of");
    assert!(other.decode(&fh).is_err(), "of another store");
    let mut bytes = fh.as_bytes().to_vec();
    let at = usize::from(*flip) % bytes.len();
    bytes[at] ^= 1 << (kind >> 5);
    let refused = |bytes: &[u8]| Fh::new(bytes).is_none_or(|fh| codec.decode(&fh).is_err());
    assert!(refused(&bytes), "a changed bit");
    bytes[at] ^= 1 << (kind >> 5);
    assert!(refused(&bytes[..at]), "cut off");
    assert!(refused(&bytes[1..]), "without its head");
    bytes.push(*flip);
    assert!(refused(&bytes), "longer");
}

fn name(kind: u8, rest: &[u8]) -> Option<Name> {
    let (id, rest) = rest.split_first_chunk()?;
    let id = u64::from_be_bytes(*id);
    let word = |bytes: Option<&[u8]>| Some(u64::from_be_bytes(*bytes?.first_chunk()?));
    let node = || word(Some(rest));
    Some(match kind % 8 {
        0 => Name::Work {
            tree: id,
            node: node()?,
        },
        4 | 5 => Name::Volume {
            tree: id,
            node: node()?,
            may: match kind % 8 {
                5 => May::Read,
                // What comes behind the node is the generation to write in; the first where nothing does.
                _ => May::Write {
                    generation: word(rest.get(8..)).unwrap_or_default(),
                },
            },
        },
        1 => Name::Browse {
            row: id,
            node: node()?,
        },
        2 | 6 => Name::Synthetic { id },
        _ => {
            let (kind, bytes) = rest.split_first_chunk()?;
            let most = bytes.len().min(HOST_MAX - 4);
            Name::Host {
                graft: id,
                file: HostFile::new(i32::from_be_bytes(*kind), &bytes[..most])?,
            }
        }
    })
}

/// Calls of one input; more would only make it slow.
const CALLS_MAX: usize = 24;

/// Heap that an input's calls may take: one READ's or READDIR's reply at its longest, twice
/// while it is made, the tree's own tables, and what SQLite keeps in its cache.
pub fn exports_bound(data: &[u8]) -> usize {
    (12 << 20) + 64 * data.len()
}

struct World {
    dir: tempfile::TempDir,
    exports: Arc<Exports>,
    snapshot: Digest,
}

thread_local! {
    static WORLD: std::cell::OnceCell<World> = const { std::cell::OnceCell::new() };
}

fn world() -> Result<World, Box<dyn std::error::Error>> {
    // In memory where there is such a place: an input is a few files there.
    let shm = PathBuf::from("/dev/shm");
    let dir = match shm.is_dir() {
        true => tempfile::tempdir_in(shm)?,
        false => tempfile::tempdir()?,
    };
    let options = OpenOptions {
        create: true,
        boot_id: b"fuzz".to_vec(),
    };
    let store = Store::open(&dir.path().join("store"), options)?;
    let works = Arc::new(Works::open_or_create(store.clone()).map_err(|e| format!("{e:?}"))?);
    let exports = Arc::new(Exports::open(store.clone(), works, None)?);
    let meta = |mode| Meta {
        mode,
        uid: 0,
        gid: 0,
        mtime: Time { secs: 5, nanos: 6 },
        xattrs: vec![(b"user.x".to_vec(), b"y".to_vec())],
    };
    let mut ingest = store.ingest();
    let large = vec![3; 40 << 10];
    ingest.dir(b"d", meta(0o1777))?;
    ingest.file(b"d/small", meta(0o644), 5, &mut &b"hello"[..])?;
    ingest.file(b"large", meta(0o4755), large.len() as u64, &mut &large[..])?;
    ingest.symlink(b"link", meta(0o777), b"d/small")?;
    let snapshot = ingest.finish(None)?.snapshot;
    exports
        .browse_set("web", &[("step1-aa".to_string(), snapshot)])
        .map_err(|_| "the browse view")?;
    Ok(World {
        dir,
        exports,
        snapshot,
    })
}

/// Statuses that a sound store and disk give to no call, whatever it asks.
const NEVER: [nfsstat3; 5] = [
    nfsstat3::NFS3ERR_IO,
    nfsstat3::NFS3ERR_NXIO,
    nfsstat3::NFS3ERR_SERVERFAULT,
    nfsstat3::NFS3ERR_JUKEBOX,
    nfsstat3::NFS3ERR_REMOTE,
];

/// Calls, one after the other, to a fresh work tree and volume, the browse view and a host directory:
/// each gets its own kind of reply and none an error that blames the server; and afterwards
/// the tree still answers.
pub fn exports(data: &[u8]) {
    WORLD.with(|cell| {
        let w = cell.get_or_init(|| match world() {
            Ok(world) => world,
            Err(e) => panic!("no world: {e}"),
        });
        let tree = w
            .exports
            .works
            .create(Some(w.snapshot), WorkClass::Build, b"t", clock::now());
        let Ok(tree) = tree else { panic!("no tree") };
        let Ok(host) = tempfile::tempdir_in(w.dir.path()) else {
            panic!("no directory")
        };
        let graft = tree.id();
        let added = w.exports.grafts.add(graft, host.path(), false);
        assert!(added.is_ok(), "no graft");
        let volumes = &w.exports.volumes;
        let Ok(volume) = volumes.create("v", "", false, Some(w.snapshot), clock::now()) else {
            panic!("no volume")
        };
        calls(w, graft, volume.id(), data);
        assert!(volumes.remove(volume.id()).is_ok(), "it cannot go");
        w.exports.grafts.remove(&[graft]);
        assert!(w.exports.works.drop_tree(tree.id()).is_ok(), "it cannot go");
    });
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn calls(w: &World, tree: u64, volume: u64, data: &[u8]) {
    let engine = Engine::new(w.exports.clone());
    let root = Caller {
        uid: 0,
        gid: 0,
        gids: Vec::new(),
    };
    let user = Caller {
        uid: 1000,
        gid: 1000,
        gids: vec![50],
    };
    let top = w.exports.codec.encode(&Name::Work { tree, node: ROOT });
    let mut handles = vec![top, w.exports.root_handle()];
    handles.extend(w.exports.grafts.root(tree));
    assert_eq!(handles.len(), 3, "every export has a root");
    let write = May::Write { generation: 0 };
    let lasting = [write, May::Read].map(|may| {
        w.exports.codec.encode(&Name::Volume {
            tree: volume,
            node: ROOT,
            may,
        })
    });
    handles.extend(lasting);
    handles.extend(w.exports.resolve(b"/chroot/web/step1-aa"));
    let mut rest = data;
    let mut asked = 0;
    while let Some(([what, first, second, len], after)) = rest.split_first_chunk()
        && asked < CALLS_MAX
    {
        asked += 1;
        let (bytes, after) = after.split_at(usize::from(*len).min(after.len()));
        rest = after;
        let handle = |at: u8| handles[usize::from(at) % handles.len()];
        let mut args = Vec::new();
        padded(&mut args, handle(*first).as_bytes());
        let call = match what % 26 {
            n @ 0..=21 => (NFS_PROGRAM, NFS_V3, u32::from(n)),
            n => (POCKER_PROGRAM, POCKER_V1, u32::from(n) - 20),
        };
        // RENAME's second handle stands behind a name, LINK's behind the first.
        let at = match call {
            (NFS_PROGRAM, _, 14) => bytes.len() / 2 / 4 * 4,
            (NFS_PROGRAM, _, 15) => 0,
            _ => bytes.len(),
        };
        args.extend_from_slice(&bytes[..at]);
        if at < bytes.len() || call.2 == 15 {
            padded(&mut args, handle(*second).as_bytes());
        }
        args.extend_from_slice(&bytes[at..]);
        let caller = if *what >= 208 { &user } else { &root };
        let Some(ended) = engine.ask(call, caller, asked as u32, &args) else {
            continue;
        };
        let never = NEVER.iter().find(|s| **s as u32 == ended.status);
        assert!(never.is_none(), "{call:?}: {never:?}");
        // LOOKUP's handle, and that of what was made.
        let found = match call {
            (NFS_PROGRAM, _, 3) => handle_at(&ended.results, 0),
            (NFS_PROGRAM, _, 8..=11) => handle_at(&ended.results, 4),
            _ => None,
        };
        if let Some(fh) = found {
            assert!(w.exports.codec.decode(&fh).is_ok(), "a handle not ours");
            handles.push(fh);
        }
    }
    let getattr = |fh: &Fh| {
        let mut args = Vec::new();
        padded(&mut args, fh.as_bytes());
        let ended = engine.ask((NFS_PROGRAM, NFS_V3, 1), &root, 0, &args);
        ended.map(|e| e.status)
    };
    assert_eq!(getattr(&top), Some(0), "the tree answers");
    assert_eq!(getattr(&lasting[0]), Some(0), "the volume answers");
    assert_eq!(getattr(&w.exports.root_handle()), Some(0));
}

fn handle_at(results: &[u8], at: usize) -> Option<Fh> {
    let (len, bytes) = results.get(at..)?.split_first_chunk()?;
    Fh::new(bytes.get(..u32::from_be_bytes(*len) as usize)?)
}
