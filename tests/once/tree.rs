//! The trees under test, each with a directory of this host that is changed in the same way,
//! and the comparison of the two.

use crate::server::Server;
use pocker::control::api::*;
use pocker_nfs::client::{Client, ClientLimits, Connect, Creds};
use pocker_nfs::proto::ftype3;
use pocker_nfs::vfs::Fh;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is served and changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A build's tree over a sealed one.
    Build,
    /// A run's.
    Run,
    /// A directory of the host.
    Graft,
    /// A volume over a sealed tree.
    Volume,
}

/// Large files below every tree, and the bytes of each.
pub const LARGE: usize = 120;
pub const LARGE_BYTES: usize = 40_000;

pub fn large(n: usize) -> Vec<u8> {
    (0..LARGE_BYTES).map(|i| (i * 7 + n) as u8).collect()
}

pub fn root() -> Creds {
    Creds {
        uid: 0,
        gid: 0,
        gids: Vec::new(),
    }
}

#[derive(Clone)]
pub struct Tree {
    pub kind: Kind,
    pub client: Client,
    pub top: Fh,
    /// A work tree's id, or a graft's run; 0 for a volume, which has a name.
    pub id: u64,
    /// A volume's.
    pub name: String,
    /// The directory that does the same.
    pub model: PathBuf,
}

/// A sealed tree with the large files, and its step.
pub async fn base(server: &Server, connect: Arc<dyn Connect>) -> StepInfo {
    let new = NewTree {
        base: None,
        purpose: Purpose::Build,
        label: "base".into(),
        pid: std::process::id(),
    };
    let tree = server.ask("a tree", |c| c.new_tree(&new));
    let client = Client::new(connect, [1; 16], ClientLimits::default());
    let path = tree.export.path.as_bytes();
    let top = client.mount(path).await.expect("mounted");
    fill(&client, &top).await;
    server.ask("seal", |c| c.seal(tree.id, &seal(1)))
}

pub fn seal(key: u8) -> SealRequest {
    SealRequest {
        key: hex::encode([key; 32]),
        claim: None,
        parent: None,
        instruction: "a test".into(),
        upstream: None,
        source_date_epoch: None,
    }
}

async fn fill(client: &Client, top: &Fh) {
    use pocker_nfs::vfs::{CreateHow, Stable};
    let me = root();
    let attr = crate::ops::mode(0o755);
    let dir = client.mkdir(&me, top, b"large", &attr).await;
    let dir = dir.expect("MKDIR").fh.expect("a handle");
    for n in 0..LARGE {
        let how = CreateHow::Guarded(crate::ops::mode(0o644));
        let (name, bytes) = (n.to_string(), large(n));
        let made = client.create(&me, &dir, name.as_bytes(), &how).await;
        let fh = made.expect("CREATE").fh.expect("a handle");
        let wrote = client.write(&me, &fh, 0, &bytes, Stable::FileSync).await;
        assert_eq!(wrote.expect("WRITE").count as usize, LARGE_BYTES);
    }
}

impl Tree {
    /// A fresh one over `base`.
    pub async fn new(
        server: &Server,
        kind: Kind,
        base: &StepInfo,
        connect: Arc<dyn Connect>,
    ) -> Tree {
        static NTH: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let nth = NTH.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let at = |what| server.world.path(&format!("{what}{nth}"));
        let name = format!("volume{nth}");
        let (id, path) = match kind {
            Kind::Build => {
                let new = NewTree {
                    base: Some(base.snapshot.clone()),
                    purpose: Purpose::Build,
                    label: format!("tree {nth}"),
                    pid: std::process::id(),
                };
                let tree = server.ask("a tree", |c| c.new_tree(&new));
                (tree.id, tree.export.path)
            }
            Kind::Run | Kind::Graft => {
                let run = run(server, base, &at("host"));
                match kind {
                    Kind::Run => (run.id, run.tree.export.path),
                    _ => (run.id, run.grafts[0].path.clone()),
                }
            }
            Kind::Volume => (0, volume(server, base, &name).path),
        };
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).expect("random bytes");
        let client = Client::new(connect, instance, ClientLimits::default());
        let top = client.mount(path.as_bytes()).await.expect("mounted");
        let model = at("model");
        std::fs::create_dir(&model).expect("mkdir");
        large_files(&model);
        Tree {
            kind,
            client,
            top,
            id,
            name,
            model,
        }
    }

    /// What the server has, beside what it should have.
    pub async fn check(&self, when: &str) {
        let (is, ought) = self.both().await;
        for (path, node) in &ought {
            assert_eq!(is.get(path), Some(node), "{when}: {path}");
        }
        for path in is.keys() {
            assert!(ought.contains_key(path), "{when}: {path} should not be");
        }
    }

    /// Whether the server has what it should have.
    pub async fn same(&self) -> bool {
        let (is, ought) = self.both().await;
        is == ought
    }

    async fn both(&self) -> (BTreeMap<String, Seen>, BTreeMap<String, Seen>) {
        let (mut is, mut ought) = (BTreeMap::new(), BTreeMap::new());
        remote(&self.client, self.top, &mut is).await;
        local(&self.model, &self.model, &mut ought);
        (is, ought)
    }
}

/// A new volume over `base`, as one who mounts it for writing gets it.
pub fn volume(server: &Server, base: &StepInfo, name: &str) -> Export {
    let new = NewVolume {
        base: Some(base.snapshot.clone()),
        token: name.into(),
        shared: false,
    };
    server.ask("a volume", |c| c.new_volume(name, &new));
    let how = MountVolume {
        target: None,
        pid: std::process::id(),
        read_only: false,
    };
    server.ask("the volume's export", |c| c.mount_volume(name, &how))
}

/// A run of a pocker whose tree is `base`, with a directory of the host that holds the same.
fn run(server: &Server, base: &StepInfo, host: &Path) -> RunInfo {
    std::fs::create_dir(host).expect("mkdir");
    large_files(host);
    let put = PutPocker {
        steps: vec![base.key.clone()],
        config: RunConfig::default(),
    };
    let name = host.file_name().expect("a name").to_str().expect("text");
    server.ask("a pocker", |c| c.put_pocker(name, &put));
    let new = NewRun {
        name: name.into(),
        pid: std::process::id(),
        grafts: vec![Graft {
            host: host.to_str().expect("text").into(),
            target: "/g".into(),
            read_only: false,
            suid: false,
            dev: false,
        }],
        ..NewRun::default()
    };
    server.ask("a run", |c| c.new_run(&new))
}

pub fn large_files(dir: &Path) {
    let dir = dir.join("large");
    std::fs::create_dir(&dir).expect("mkdir");
    set_mode(&dir, 0o755);
    for n in 0..LARGE {
        let file = dir.join(n.to_string());
        std::fs::write(&file, large(n)).expect("written");
        set_mode(&file, 0o644);
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

/// A file's bytes, or a link's target; shown by its length and beginning.
#[derive(PartialEq)]
struct Content(Vec<u8>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let begin = &self.0[..self.0.len().min(24)];
        write!(f, "{} bytes, {}", self.0.len(), begin.escape_ascii())
    }
}

/// What of a node the comparison looks at.
#[derive(Debug, PartialEq)]
pub struct Seen {
    kind: char,
    mode: u32,
    /// Of anything but a directory.
    links: u32,
    content: Content,
    /// user.* attributes, by name.
    xattrs: Vec<String>,
}

/// What two directories of this host do not agree on.
pub fn differences(a: &Path, b: &Path) -> Vec<String> {
    let (mut is, mut ought) = (BTreeMap::new(), BTreeMap::new());
    local(a, a, &mut is);
    local(b, b, &mut ought);
    let names: std::collections::BTreeSet<_> = is.keys().chain(ought.keys()).collect();
    let differ = names.into_iter().filter(|n| is.get(*n) != ought.get(*n));
    differ.cloned().collect()
}

fn local(top: &Path, dir: &Path, out: &mut BTreeMap<String, Seen>) {
    for entry in std::fs::read_dir(dir).expect("listed") {
        let path = entry.expect("an entry").path();
        let meta = std::fs::symlink_metadata(&path).expect("stat");
        let (kind, content) = match meta.file_type() {
            t if t.is_dir() => ('d', Vec::new()),
            t if t.is_symlink() => {
                let target = std::fs::read_link(&path).expect("readlink");
                ('l', target.as_os_str().as_bytes().to_vec())
            }
            t if t.is_fifo() => ('p', Vec::new()),
            _ => ('f', std::fs::read(&path).expect("read")),
        };
        let xattrs = match kind {
            'f' | 'd' => xattr::list(&path)
                .expect("listed")
                .map(|n| n.to_string_lossy().into_owned())
                .filter(|n| n.starts_with("user."))
                .collect(),
            _ => Vec::new(),
        };
        let seen = Seen {
            kind,
            mode: if kind == 'l' { 0 } else { meta.mode() & 0o7777 },
            links: if kind == 'd' { 0 } else { meta.nlink() as u32 },
            content: Content(content),
            xattrs,
        };
        let name = path.strip_prefix(top).expect("below").display().to_string();
        out.insert(name, seen);
        if kind == 'd' {
            local(top, &path, out);
        }
    }
}

async fn remote(client: &Client, top: Fh, out: &mut BTreeMap<String, Seen>) {
    let me = root();
    let mut dirs = vec![(String::new(), top)];
    while let Some((at, dir)) = dirs.pop() {
        let mut cookie = 0;
        loop {
            let reply = client.readdirplus(&me, &dir, cookie, [0; 8], 1 << 16, 1 << 19);
            let reply = reply.await.expect("READDIRPLUS");
            for entry in &reply.entries {
                cookie = entry.cookie;
                if entry.name == b"." || entry.name == b".." {
                    continue;
                }
                let path = format!("{at}{}", String::from_utf8_lossy(&entry.name));
                let found = client.lookup(&me, &dir, &entry.name).await.expect("LOOKUP");
                let seen = look(client, &found.fh).await;
                if seen.kind == 'd' {
                    dirs.push((format!("{path}/"), found.fh));
                }
                assert!(
                    out.insert(path.clone(), seen).is_none(),
                    "{path} is there twice"
                );
            }
            if reply.eof {
                break;
            }
        }
    }
}

async fn look(client: &Client, fh: &Fh) -> Seen {
    let me = root();
    let attr = client.getattr(&me, fh).await.expect("GETATTR");
    let (kind, content) = match attr.ftype {
        ftype3::NF3DIR => ('d', Vec::new()),
        ftype3::NF3LNK => ('l', client.readlink(&me, fh).await.expect("READLINK").0),
        ftype3::NF3FIFO => ('p', Vec::new()),
        ftype3::NF3REG => {
            let read = client.read(&me, fh, 0, 1 << 20).await.expect("READ");
            assert!(read.eof && read.data.len() as u64 == attr.size);
            ('f', read.data)
        }
        other => panic!("a {other:?}"),
    };
    let mut xattrs = Vec::new();
    if kind == 'f' || kind == 'd' {
        for name in client.listxattr(&me, fh).await.expect("LISTXATTR") {
            let name = String::from_utf8_lossy(&name).into_owned();
            if name.starts_with("user.") {
                xattrs.push(name);
            }
        }
    }
    Seen {
        kind,
        mode: if kind == 'l' { 0 } else { attr.mode },
        links: if kind == 'd' { 0 } else { attr.nlink },
        content: Content(content),
        xattrs,
    }
}
