//! A server, a sandbox and a host in memory, which write down what they were asked.

use crate::build::proot::ports::{self, Kernel};
use crate::build::proot::{Bootstrap, Ports, Release};
use crate::build::*;
use crate::control::api::*;
use crate::image::source::{Blobs, Image};
use crate::image::types::Config;
use crate::image::{ImageError, check};
use crate::pockerfile;
use crate::sandbox::{Exit, Spec, What};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::sync::atomic::AtomicBool;

#[derive(Default)]
pub struct FakeWorkshop {
    pub log: RefCell<Vec<String>>,
    pub steps: RefCell<BTreeMap<String, StepInfo>>,
    pub pockers: RefCell<BTreeMap<String, PockerInfo>>,
    /// A finished step that the next claim of its key answers with: another build was faster.
    pub faster: RefCell<BTreeMap<String, StepInfo>>,
    pub dirs: RefCell<Vec<String>>,
    pub files: RefCell<BTreeMap<String, Vec<u8>>>,
    /// Entries of the archives taken, by snapshot or tree.
    pub archives: RefCell<Vec<String>>,
    pub open_trees: RefCell<Vec<u64>>,
    pub open_claims: RefCell<Vec<u64>>,
    /// The layers of the last image taken.
    pub layers: RefCell<Vec<Vec<u8>>>,
    /// Takes archives without reading to their end.
    pub lazy: Cell<bool>,
    next: Cell<u64>,
}

impl FakeWorkshop {
    fn number(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    fn say(&self, text: String) {
        self.log.borrow_mut().push(text);
    }

    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.borrow_mut())
    }

    fn finish(&self, key: &str, snapshot: String, seal: SealRequest) -> StepInfo {
        let info = StepInfo {
            key: key.to_owned(),
            snapshot,
            parent: seal.parent,
            instruction: seal.instruction,
            created: 0,
            nodes: 1,
            bytes: 1,
            upstream: seal.upstream,
        };
        if let Some(claim) = seal.claim {
            self.open_claims.borrow_mut().retain(|c| *c != claim);
        }
        self.steps.borrow_mut().insert(key.to_owned(), info.clone());
        info
    }

    fn read_tar(&self, tar: &mut dyn Read) -> Result<u64, BuildError> {
        let broken = |e: std::io::Error| BuildError::Server {
            message: format!("the archive broke: {e}"),
            hint: None,
        };
        let mut bytes = Vec::new();
        if self.lazy.get() {
            tar.read_exact(&mut [0; 512]).map_err(broken)?;
            return Ok(0);
        }
        tar.read_to_end(&mut bytes).map_err(broken)?;
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut count = 0;
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let mut text = String::new();
            let header = entry.header().clone();
            let _ = write!(
                text,
                "{:?} {:o} {}:{} {}",
                header.entry_type(),
                header.mode().map_err(broken)?,
                header.uid().map_err(broken)?,
                header.gid().map_err(broken)?,
                String::from_utf8_lossy(&entry.path_bytes()),
            );
            if let Some(link) = entry.link_name_bytes() {
                let _ = write!(text, " -> {}", String::from_utf8_lossy(&link));
            }
            if header.entry_type().is_file() {
                let mut contents = String::new();
                entry.read_to_string(&mut contents).map_err(broken)?;
                let shown: String = contents.chars().take(20).collect();
                let _ = write!(text, " {} {shown:?}", contents.len());
            }
            self.archives.borrow_mut().push(text);
            count += 1;
        }
        Ok(count)
    }

    fn archive_done(&self, snapshot: Option<String>, entries: u64) -> ArchiveDone {
        ArchiveDone {
            snapshot,
            entries,
            bytes: 0,
            sha256: String::new(),
        }
    }
}

impl Workshop for FakeWorkshop {
    fn step(&self, key: &str) -> Result<Option<StepInfo>, BuildError> {
        Ok(self.steps.borrow().get(key).cloned())
    }

    fn claim(&self, key: &str, rebuild: bool) -> Result<Claim, BuildError> {
        if let Some(info) = self.faster.borrow_mut().remove(key) {
            self.steps.borrow_mut().insert(key.to_owned(), info.clone());
            return Ok(Claim::Done(info));
        }
        if let Some(info) = self.step(key)?.filter(|_| !rebuild) {
            return Ok(Claim::Done(info));
        }
        let claim = self.number();
        self.say(format!("claim rebuild={rebuild}"));
        self.open_claims.borrow_mut().push(claim);
        Ok(Claim::Yours(claim))
    }

    fn release(&self, claim: u64) {
        self.say("release".to_owned());
        self.open_claims.borrow_mut().retain(|c| *c != claim);
    }

    fn ingest(&self, tar: &mut dyn Read, _clamp: Option<i64>) -> Result<ArchiveDone, BuildError> {
        let entries = self.read_tar(tar)?;
        self.say(format!("ingest {entries} entries"));
        let snapshot = format!("snapshot{}", self.number());
        Ok(self.archive_done(Some(snapshot), entries))
    }

    fn ingest_layers(
        &self,
        layers: &mut dyn Read,
        _clamp: Option<i64>,
        _trusted: bool,
    ) -> Result<ArchiveDone, BuildError> {
        let mut frames = crate::control::layers::Frames::new(layers);
        let mut taken = Vec::new();
        let broken = |e: std::io::Error| BuildError::Server {
            message: format!("a layer broke: {e}"),
            hint: None,
        };
        while frames.next_layer().map_err(broken)? {
            let mut layer = Vec::new();
            frames.read_to_end(&mut layer).map_err(broken)?;
            taken.push(layer);
        }
        let count = taken.len() as u64;
        *self.layers.borrow_mut() = taken;
        self.say(format!("ingest {count} layers"));
        let snapshot = format!("snapshot{}", self.number());
        Ok(self.archive_done(Some(snapshot), count))
    }

    fn put_step(
        &self,
        key: &str,
        snapshot: &str,
        seal: SealRequest,
    ) -> Result<StepInfo, BuildError> {
        self.say(format!("put {}", seal.instruction));
        Ok(self.finish(key, snapshot.to_owned(), seal))
    }

    fn new_tree(&self, base: Option<&str>, label: &str) -> Result<TreeInfo, BuildError> {
        self.say(format!("tree of {} for {label}", base.unwrap_or("nothing")));
        let id = self.number();
        self.open_trees.borrow_mut().push(id);
        Ok(TreeInfo {
            id,
            export: Export {
                path: format!("/build/{id}/s3cret"),
                read_only: false,
            },
        })
    }

    fn apply_archive(
        &self,
        _tree: u64,
        dest: &str,
        tar: &mut dyn Read,
    ) -> Result<ArchiveDone, BuildError> {
        let entries = self.read_tar(tar)?;
        self.say(format!("apply {entries} entries to {dest}"));
        Ok(self.archive_done(None, entries))
    }

    fn seal(&self, tree: u64, seal: SealRequest) -> Result<StepInfo, BuildError> {
        self.say(format!("seal {}", seal.instruction));
        self.open_trees.borrow_mut().retain(|t| *t != tree);
        let key = seal.key.clone();
        let snapshot = format!("snapshot{}", self.number());
        Ok(self.finish(&key, snapshot, seal))
    }

    fn drop_tree(&self, tree: u64) {
        self.say("drop".to_owned());
        self.open_trees.borrow_mut().retain(|t| *t != tree);
    }

    fn keep_tree(&self, tree: u64, name: &str) -> Result<(), BuildError> {
        self.say(format!("keep for {name}"));
        self.open_trees.borrow_mut().retain(|t| *t != tree);
        Ok(())
    }

    fn file(&self, _snapshot: &str, path: &str) -> Result<Option<Vec<u8>>, BuildError> {
        Ok(self.files.borrow().get(path).cloned())
    }

    fn is_dir(&self, _snapshot: &str, path: &str) -> Result<bool, BuildError> {
        Ok(self.dirs.borrow().iter().any(|dir| dir == path))
    }

    fn pocker(&self, name: &str) -> Result<Option<PockerInfo>, BuildError> {
        Ok(self.pockers.borrow().get(name).cloned())
    }

    fn put_pocker(
        &self,
        name: &str,
        steps: &[String],
        config: &RunConfig,
    ) -> Result<(), BuildError> {
        self.say(format!("point {name} at {} steps", steps.len()));
        let known = self.steps.borrow();
        let steps = steps.iter().map(|key| known[key].clone()).collect();
        let info = PockerInfo {
            name: name.to_owned(),
            steps,
            config: config.clone(),
            created: 0,
            running: Vec::new(),
            pinned: Vec::new(),
        };
        self.pockers.borrow_mut().insert(name.to_owned(), info);
        Ok(())
    }
}

pub struct FakeShell {
    pub specs: RefCell<Vec<String>>,
    pub output: RefCell<Vec<u8>>,
    pub exit: Cell<Exit>,
    /// Set while the command runs: an interrupt.
    pub interrupt: Option<&'static AtomicBool>,
}

impl Default for FakeShell {
    fn default() -> FakeShell {
        FakeShell {
            specs: RefCell::default(),
            output: RefCell::default(),
            exit: Cell::new(Exit::Code(0)),
            interrupt: None,
        }
    }
}

impl Shell for FakeShell {
    fn exec(&self, spec: Spec, on_output: &mut dyn FnMut(&[u8])) -> Result<Exit, BuildError> {
        self.specs.borrow_mut().push(show_spec(&spec));
        for part in self.output.borrow().chunks(7) {
            on_output(part);
        }
        if let Some(flag) = self.interrupt {
            flag.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(self.exit.get())
    }
}

/// A spec in lines, the PKG script left out.
pub fn show_spec(spec: &Spec) -> String {
    let mut out = format!("{:?} {:?} {:?}\n", spec.root, spec.profile, spec.stdio);
    let _ = writeln!(out, "user {:?} in {:?}", spec.user, spec.workdir);
    for arg in &spec.argv {
        let text = arg.to_string_lossy();
        let shown = if text.len() > 200 {
            "SCRIPT".into()
        } else {
            text
        };
        let _ = writeln!(out, "  arg {shown}");
    }
    for (name, value) in &spec.env {
        let _ = writeln!(out, "  env {}={}", name.display(), value.display());
    }
    for place in &spec.mounts {
        let what = match &place.what {
            What::BindFile { host } => format!("file {}", host.display()),
            What::HostDir { host, .. } => format!("graft {}", host.display()),
            What::BindDir { host } => format!("dir {}", host.display()),
            What::Tmpfs { mode, .. } => format!("tmpfs {mode:o}"),
            What::Nfs(_) => "nfs".to_owned(),
        };
        let _ = writeln!(out, "  at {} {what}", place.target.display());
    }
    out
}

pub struct FakeHost {
    pub model: RefCell<Model>,
    /// Where an OpenBSD's files lie, and its kernel's version.
    pub root: RefCell<std::path::PathBuf>,
    pub version: RefCell<String>,
    pub release: RefCell<Release>,
    pub upstream: RefCell<String>,
    pub made: Cell<u32>,
}

impl Default for FakeHost {
    fn default() -> FakeHost {
        FakeHost {
            model: RefCell::new(Model::Distribution),
            root: RefCell::default(),
            version: RefCell::new("GENERIC.MP#1".to_owned()),
            release: RefCell::new(Release {
                id: "debian".to_owned(),
                codename: "bookworm".to_owned(),
                arch: "amd64".to_owned(),
                sources: Vec::new(),
                keyring: None,
            }),
            upstream: RefCell::new("monday".to_owned()),
            made: Cell::new(0),
        }
    }
}

impl Host for FakeHost {
    fn model(&self) -> Model {
        self.model.borrow().clone()
    }

    fn ports(&self, release: &str, program: &std::path::Path) -> Result<Ports, BuildError> {
        let kernel = Kernel {
            release: release.to_owned(),
            version: self.version.borrow().clone(),
        };
        Ports::read(&self.root.borrow(), kernel, program)
    }

    fn populate(
        &self,
        ports: &Ports,
        options: &Bootstrap<'_>,
        progress: &mut dyn Progress,
        cancelled: &AtomicBool,
        sink: Sink<'_>,
    ) -> Result<ArchiveDone, BuildError> {
        ports::populate(ports, options, progress, cancelled, sink)
    }

    fn release(&self) -> Result<Release, BuildError> {
        Ok(self.release.borrow().clone())
    }

    fn upstream(&self, _release: &Release) -> Result<String, BuildError> {
        Ok(self.upstream.borrow().clone())
    }

    fn bootstrap(
        &self,
        _release: &Release,
        _options: &Bootstrap<'_>,
        _progress: &mut dyn Progress,
        _cancelled: &AtomicBool,
        sink: Sink<'_>,
    ) -> Result<ArchiveDone, BuildError> {
        self.made.set(self.made.get() + 1);
        sink(&mut [0u8; 1024].as_slice())
    }
}

#[derive(Default)]
pub struct Events(pub Vec<String>, Option<&'static AtomicBool>);

impl Progress for Events {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Step { number, of, step } => {
                self.0.push(format!("{number}/{of} {}", step.canonical));
            }
            Event::Why { why, .. } => self.0.push(format!("  why: {why}")),
            Event::Output(line) => {
                self.0.push(format!("  | {line}"));
                if let Some(flag) = self.1 {
                    flag.store(true, std::sync::atomic::Ordering::Relaxed);
                }
            }
            Event::Note(note) => self.0.push(format!("  note: {note}")),
            Event::Bytes { .. } => {}
            Event::Done { outcome, .. } => self.0.push(format!("  {outcome:?}")),
        }
    }
}

/// A world to build in: the fakes, a context directory, and the request's switches.
pub struct World {
    pub workshop: FakeWorkshop,
    pub shell: FakeShell,
    pub host: FakeHost,
    pub images: FakeImages,
    pub dir: tempfile::TempDir,
    pub args: Vec<(String, String)>,
    pub secrets: Vec<(String, std::path::PathBuf)>,
    pub no_cache: bool,
    pub pull: bool,
    pub epoch: Option<i64>,
    pub ca: Option<std::path::PathBuf>,
    pub events: Vec<String>,
    /// Set with the first line of output: an interrupt.
    pub interrupt: Option<&'static AtomicBool>,
}

pub static NOT_CANCELLED: AtomicBool = AtomicBool::new(false);

impl World {
    pub fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        for sub in ["context", "cache", "etc"] {
            std::fs::create_dir(dir.path().join(sub)).expect("made");
        }
        std::fs::write(dir.path().join("etc/resolv.conf"), "").expect("written");
        World {
            workshop: FakeWorkshop::default(),
            shell: FakeShell::default(),
            host: FakeHost::default(),
            images: FakeImages::default(),
            dir,
            args: Vec::new(),
            secrets: Vec::new(),
            no_cache: false,
            pull: false,
            epoch: None,
            ca: None,
            events: Vec::new(),
            interrupt: None,
        }
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join("context").join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    pub fn build(&mut self, name: &str, file: &str) -> Result<Built, BuildError> {
        self.build_until(name, file, &NOT_CANCELLED)
    }

    pub fn build_until(
        &mut self,
        name: &str,
        file: &str,
        cancelled: &AtomicBool,
    ) -> Result<Built, BuildError> {
        let path = |sub: &str| self.dir.path().join(sub);
        let proxies = [("http_proxy".into(), "http://proxy:1".into())];
        let (context, cache, etc) = (path("context"), path("cache"), path("etc"));
        let request = BuildRequest {
            name,
            reserved: &["run".to_owned()],
            file: file.as_bytes(),
            file_path: std::path::Path::new("Pockerfile"),
            context: &context,
            args: &self.args,
            secrets: &self.secrets,
            no_cache: self.no_cache,
            pull: self.pull,
            explain: true,
            source_date_epoch: self.epoch,
            ca: self.ca.as_deref(),
            proxies: &proxies,
            cache_dir: &cache,
            etc: &etc,
            cancelled,
        };
        let tools = Tools {
            workshop: &self.workshop,
            shell: &self.shell,
            host: &self.host,
            images: &self.images,
        };
        let mut events = Events(Vec::new(), self.interrupt);
        let result = build(&request, &tools, &mut events);
        self.events = events.0;
        result
    }

    /// Nothing may be left open, whatever happened.
    pub fn assert_nothing_left(&self) {
        assert!(
            self.workshop.open_trees.borrow().is_empty(),
            "a tree is left"
        );
        assert!(
            self.workshop.open_claims.borrow().is_empty(),
            "a claim is left"
        );
        let left: Vec<_> = std::fs::read_dir(self.dir.path().join("cache"))
            .expect("listed")
            .filter_map(|e| e.ok())
            .filter(|e| e.file_name().to_string_lossy().starts_with("pkg-"))
            .collect();
        assert!(left.is_empty(), "scratch is left: {left:?}");
    }
}

/// A registry whose only tag means an image of one layer, whose bytes are these.
#[derive(Default)]
pub struct FakeImages {
    pub layer: RefCell<Vec<u8>>,
    pub log: RefCell<Vec<&'static str>>,
}

struct Held(Vec<u8>);

impl Blobs for Held {
    fn open(&self, _name: &str) -> std::io::Result<Option<(Box<dyn Read + '_>, u64)>> {
        Ok(Some((Box::new(&self.0[..]), self.0.len() as u64)))
    }
}

impl Images for FakeImages {
    fn resolve(&self, name: &str) -> Result<String, ImageError> {
        if let Some((_, digest)) = name.split_once('@') {
            return Ok(digest.to_owned());
        }
        self.log.borrow_mut().push("resolve");
        Ok(check::of(&self.layer.borrow()))
    }

    fn open(&self, _name: &str, digest: &str) -> Result<Image, ImageError> {
        self.log.borrow_mut().push("open");
        let mut config = Config::default();
        config.rootfs.diff_ids = vec![digest.to_owned()];
        config.config.env = vec!["FROM=image".to_owned()];
        config.config.user = "web".to_owned();
        let layer = self.layer.borrow().clone();
        Image::new(Box::new(Held(layer)), config, vec!["layer".to_owned()])
    }
}

/// Keys of a build of this file, in order.
pub fn keys(world: &mut World, file: &str) -> Vec<String> {
    pockerfile::parse(file.as_bytes()).expect("parses");
    let built = world.build("x", file).expect("builds");
    built.steps.into_iter().map(|(info, _)| info.key).collect()
}
