//! The points at which a server can be killed: found in the source, and when each is passed.

use crate::tree::Kind;
use std::collections::BTreeSet;
use std::path::Path;

/// Every point that the source names: one that is added and never passed fails the test.
pub fn points() -> BTreeSet<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut dirs = vec![top.join("store/src"), top.join("nfs/src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("read");
                for call in ["failpoint::hit(\"", "failpoint::pass(\""] {
                    for rest in text.split(call).skip(1) {
                        let name = rest.split('"').next().expect("a name");
                        assert!(found.insert(name.into()), "two points are named {name}");
                    }
                }
            }
        }
    }
    // Half a write: the way to what comes after it.
    found.retain(|name| !name.ends_with(".tear"));
    assert!(found.len() > 40, "{found:?}");
    found
}

/// The lines that have the server die at a point.
pub fn lines(point: &str) -> String {
    match point.strip_suffix(".torn") {
        Some(of) => format!("{of}.tear 1 EIO\n{point} 1 kill\n"),
        None => format!("{point} 1 kill\n"),
    }
}

/// When a point is passed.
#[derive(Debug, PartialEq)]
pub enum When {
    /// When the database of trees is opened, by a server that starts or by the first volume.
    Open,
    /// In a call, or right after it.
    Call,
    /// By the first call on a new store.
    First,
    /// A moment after a call, by the thread that carries rows to `work.db`.
    Carry,
    /// The same, once much was written.
    Much,
    New,
    Seal,
    /// When a tree is loaded whose seal was cut short.
    Load,
    /// When a volume is loaded whose file is longer than was recorded.
    Cut,
    Drop,
}

pub fn when(point: &str) -> When {
    match point.split('.').collect::<Vec<_>>()[..] {
        ["journal", "enlarge", _] => When::First,
        ["journal", "turn", _] => When::Much,
        ["carry", ..] => When::Carry,
        ["tree", ..] => When::New,
        ["seal" | "batch" | "blobs" | "index", ..] => When::Seal,
        ["unshare", ..] => When::Load,
        ["staged", "cut", _] => When::Cut,
        ["works", _] => When::Open,
        ["drop", ..] => When::Drop,
        _ => When::Call,
    }
}

/// Whether a point is one of a tree of this kind.
pub fn passed(point: &str, kind: Kind) -> bool {
    let volume = kind == Kind::Volume;
    match (
        point.split('.').collect::<Vec<_>>()[..].as_ref(),
        when(point),
    ) {
        // A volume's file has its times in its row alone.
        (["staged", "time", _], _) => !volume,
        // A work tree's data is as safe in the page cache.
        (["journal" | "staged", "sync", _] | ["staged", "name", _], _) => volume,
        (_, When::Cut) => volume,
        // Nobody seals a volume.
        (_, When::Seal | When::Load) => !volume,
        _ => true,
    }
}

/// Points before an I/O in a call.
fn before_io(kind: Kind) -> BTreeSet<String> {
    let io = |p: &str| p.ends_with(".before") && !p.starts_with("reply") && when(p) == When::Call;
    let mut found = points();
    // A file that cannot be unlinked stays for the next start. A file's time is set when its
    // bytes are: that is in memory, and no file system refuses it after the bytes.
    found.retain(|p| io(p) && !p.starts_with("staged.unlink") && !p.starts_with("staged.time"));
    found.retain(|p| passed(p, kind));
    found
}

/// Those whose refusal leaves everything as it was.
pub fn refusable(kind: Kind) -> BTreeSet<String> {
    let mut found = before_io(kind);
    found.retain(|p| !is_sync(p));
    found
}

/// Those whose failure leaves it open what is on the disk.
pub fn syncs(kind: Kind) -> BTreeSet<String> {
    let mut found = before_io(kind);
    found.retain(|p| is_sync(p));
    found
}

fn is_sync(point: &str) -> bool {
    point.contains(".sync.") || point.contains(".name.")
}
