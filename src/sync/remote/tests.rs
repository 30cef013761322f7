//! To an object store and back, which fails at every request, and whose objects rot.

mod upstream;

use super::Remote;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use pocker_store::object::Meta;
use pocker_store::sync::{Each, Named, Receipt, Sent, Sink, Source, SyncError, Want, transfer};
use pocker_store::types::{Digest, Time};
use pocker_store::{OpenOptions, Pocker, Step, Store};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Answers so many requests; those after them fail, every second one after it was carried out.
#[derive(Debug)]
struct Fails {
    memory: Arc<InMemory>,
    left: AtomicU64,
    /// How often it was asked, whether it answered or not.
    asked: AtomicU64,
    /// Gives a byte at a time, and goes on for ever.
    trickles: bool,
}

impl std::fmt::Display for Fails {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("fails")
    }
}

impl Fails {
    fn over(memory: &Arc<InMemory>, left: u64) -> Arc<Fails> {
        Arc::new(Fails {
            memory: memory.clone(),
            left: AtomicU64::new(left),
            asked: AtomicU64::new(0),
            trickles: false,
        })
    }

    fn used(&self, of: u64) -> u64 {
        of - self.left.load(Ordering::SeqCst)
    }

    /// Whether it is carried out, and whether that is said.
    fn go(&self) -> (bool, Result<()>) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let went = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        let cut = || object_store::Error::Generic {
            store: "test",
            source: "cut".into(),
        };
        match went {
            Ok(1) => (true, Err(cut())),
            Ok(_) => (true, Ok(())),
            Err(_) => (false, Err(cut())),
        }
    }
}

#[async_trait]
impl ObjectStore for Fails {
    async fn put_opts(
        &self,
        at: &Path,
        bytes: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (done, said) = self.go();
        if !done {
            return said.and(Err(object_store::Error::NotImplemented {
                operation: "put".into(),
                implementer: "fails".into(),
            }));
        }
        let put = self.memory.put_opts(at, bytes, options).await;
        said.and(put)
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.go().1?;
        self.memory.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.go().1?;
        let got = self.memory.get_opts(at, options).await?;
        let drip = |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok(Bytes::from_static(b"x")), ()))
        };
        Ok(match self.trickles {
            true => GetResult {
                payload: GetResultPayload::Stream(futures_util::stream::unfold((), drip).boxed()),
                ..got
            },
            false => got,
        })
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.memory.delete_stream(paths)
    }

    fn list(&self, below: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.go().1 {
            Ok(()) => self.memory.list(below),
            Err(e) => futures_util::stream::once(async { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, below: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(below).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}

/// A store, without a server.
struct Plain {
    store: Arc<Store>,
    receipt: Receipt,
}

fn failed(e: impl std::error::Error + Send + Sync + 'static) -> SyncError {
    SyncError::because("failed", e)
}

impl Source for Plain {
    fn fetch(&mut self, wants: &[Want], each: Each<'_>) -> std::result::Result<(), SyncError> {
        for want in wants {
            let (_, mut bytes) = self.store.give(want).map_err(failed)?;
            each(want, &mut bytes)?;
        }
        Ok(())
    }
}

impl Sink for Plain {
    fn begin(&mut self, named: &Named) -> std::result::Result<Vec<bool>, SyncError> {
        let has = |s: &Step| self.receipt.has_step(s.key).map(|has| !has).map_err(failed);
        named.steps.iter().map(has).collect()
    }
    fn lacks(&mut self, wants: &[Want]) -> std::result::Result<Vec<bool>, SyncError> {
        wants
            .iter()
            .map(|w| self.receipt.lacks(w).map_err(failed))
            .collect()
    }
    fn put(&mut self, want: &Want, bytes: &mut dyn Read) -> std::result::Result<(), SyncError> {
        self.receipt.put(want, bytes).map_err(failed)
    }
    fn finish(&mut self, named: &Named) -> std::result::Result<(), SyncError> {
        self.receipt.steps(&named.steps).map_err(failed)?;
        self.store.put_pocker(&named.pocker).map_err(failed)
    }
}

fn store() -> (tempfile::TempDir, Plain) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = OpenOptions {
        create: true,
        boot_id: b"boot".to_vec(),
    };
    let store = Store::open(&dir.path().join("store"), options).expect("opened");
    let receipt = Receipt::new(store.clone());
    (dir, Plain { store, receipt })
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn tree(plain: &Plain, key: u8, files: &[(String, Vec<u8>)]) -> Step {
    let mut ingest = plain.store.ingest();
    let meta = || Meta {
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Time { secs: 5, nanos: 0 },
        xattrs: Vec::new(),
    };
    for (path, bytes) in files {
        let size = bytes.len() as u64;
        ingest
            .file(path.as_bytes(), meta(), size, &mut &bytes[..])
            .expect("file");
    }
    let done = ingest.finish(None).expect("finish");
    let step = Step {
        key: Digest([key; 32]),
        snapshot: done.snapshot,
        parent: None,
        instruction: b"EXEC true".to_vec(),
        inputs: Vec::new(),
        upstream: None,
        created: 5,
    };
    plain.store.put_step(step).expect("step")
}

fn files() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = (0..60)
        .map(|n| (format!("usr/{}/{n}", n % 7), noise(n, 100 + n as usize)))
        .collect();
    all.push(("usr/middle".into(), noise(100, 300_000)));
    all.push(("usr/empty".into(), Vec::new()));
    all.push(("large/one".into(), noise(101, (1 << 20) + 1)));
    all.push(("large/two".into(), noise(102, 9 << 20)));
    all
}

fn named(steps: &[Step]) -> Named {
    let config = crate::control::api::RunConfig::default();
    Named {
        pocker: Pocker {
            name: b"box".to_vec(),
            steps: steps.iter().map(|s| s.key).collect(),
            config: serde_json::to_vec(&config).expect("text"),
            created: 9,
        },
        steps: steps.to_vec(),
    }
}

fn remote(store: Arc<dyn ObjectStore>) -> Remote {
    Remote::over(store, Path::from("some/where"), "test://").expect("a remote")
}

fn push(
    from: &mut Plain,
    to: Arc<dyn ObjectStore>,
    named: &Named,
) -> std::result::Result<Sent, SyncError> {
    transfer(from, &mut remote(to), named)
}

fn pull(
    from: Arc<dyn ObjectStore>,
    to: &mut Plain,
) -> std::result::Result<Option<Sent>, SyncError> {
    let mut from = remote(from);
    let Some(named) = from.named("box")? else {
        return Ok(None);
    };
    transfer(&mut from, to, &named).map(Some)
}

fn all(memory: &Arc<InMemory>) -> Vec<ObjectMeta> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut all: Vec<ObjectMeta> = runtime
        .block_on(memory.list(None).try_collect())
        .expect("listed");
    all.sort_by(|a, b| a.location.cmp(&b.location));
    all
}

/// What is there is as it is elsewhere.
fn same(a: &Plain, b: &Plain, step: &Step) {
    let (a, b) = (&a.store, &b.store);
    assert_eq!(b.step(&step.key).expect("read").as_ref(), Some(step));
    let counts = |s: &Arc<Store>| s.sealed(&step.snapshot).expect("there").counts();
    assert_eq!(counts(a), counts(b));
    let report = b.fsck(&Default::default(), &|_| {}).expect("checked");
    assert!(
        report.worst() <= Some(pocker_store::fsck::Severity::Note),
        "{:?}",
        report.findings
    );
}

#[test]
fn there_and_back_and_only_what_changed() {
    let memory = Arc::new(InMemory::new());
    let (_a, mut a) = store();
    let (_b, mut b) = store();
    let mut files = files();
    let first = tree(&a, 1, &files);
    let sent = push(&mut a, memory.clone(), &named(std::slice::from_ref(&first))).expect("sent");
    assert_eq!(sent.blobs, 64);
    let kinds = |kind: &str| {
        let below = format!("some/where/{kind}/");
        all(&memory)
            .iter()
            .filter(|m| m.location.as_ref().starts_with(&below))
            .count()
    };
    assert_eq!(
        (
            kinds("packs"),
            kinds("tables"),
            kinds("large"),
            kinds("names")
        ),
        (1, 1, 2, 1)
    );
    let got = pull(memory.clone(), &mut b).expect("got").expect("known");
    assert_eq!(got.bytes, sent.bytes);
    same(&a, &b, &first);

    files[3].1 = noise(200, 50_000);
    let second = tree(&a, 2, &files);
    let before: u64 = all(&memory).iter().map(|m| m.size).sum();
    let both = named(&[first.clone(), second.clone()]);
    let sent = push(&mut a, memory.clone(), &both).expect("sent");
    assert_eq!(sent.blobs, 1);
    let after: u64 = all(&memory).iter().map(|m| m.size).sum();
    let (added, changed) = ((after - before) as f64, 50_000.0);
    assert!(added / changed < 1.1, "{added} bytes for {changed}");
    let again = push(&mut a, memory.clone(), &both).expect("sent");
    assert_eq!((again.objects, again.blobs, again.bytes), (0, 0, 0));
    let got = pull(memory.clone(), &mut b).expect("got").expect("known");
    assert_eq!((got.steps, got.had, got.blobs), (1, 1, 1));
    same(&a, &b, &second);
    // Whoever has none of it follows the packs.
    let (_c, mut c) = store();
    pull(memory.clone(), &mut c).expect("got").expect("known");
    same(&a, &c, &first);
    same(&a, &c, &second);
    // Also where only the later tree has a name, and rests on the pack of the earlier one.
    push(
        &mut a,
        memory.clone(),
        &named(std::slice::from_ref(&second)),
    )
    .expect("sent");
    let (_d, mut d) = store();
    pull(memory.clone(), &mut d).expect("got").expect("known");
    same(&a, &d, &second);
    assert_eq!(remote(memory).names().expect("listed"), ["box"]);
}

/// Cut at every request: the name is not there, or is and is whole. The next try goes on, and leaves
/// what was put the first time alone.
#[test]
fn cut_at_every_request_it_is_not_seen_and_the_next_try_goes_on() {
    const MANY: u64 = 1 << 40;
    let (_a, mut a) = store();
    let first = tree(&a, 1, &files());
    let named = named(std::slice::from_ref(&first));
    let counting = Fails::over(&Arc::new(InMemory::new()), MANY);
    push(&mut a, counting.clone(), &named).expect("sent");
    let requests = counting.used(MANY);
    assert!(requests >= 9, "{requests}");
    for left in 0..requests {
        let memory = Arc::new(InMemory::new());
        push(&mut a, Fails::over(&memory, left), &named).expect_err("cut");
        let there = all(&memory);
        let (_b, mut b) = store();
        let said = match pull(memory.clone(), &mut b) {
            // The last request was carried out, and that it was not heard.
            Ok(Some(_)) => left == requests,
            Ok(None) => true,
            Err(e) => e.tried.contains("has no pockers"),
        };
        assert!(said || left + 1 == requests, "at {left} of {requests}");
        push(&mut a, memory.clone(), &named).expect("the next try");
        for was in there
            .iter()
            .filter(|m| !m.location.as_ref().contains("/names/"))
        {
            // A pack without a table may be put again, and is the same.
            let now = all(&memory)
                .into_iter()
                .find(|m| m.location == was.location);
            assert_eq!(now.expect("still there").size, was.size);
        }
        assert_eq!(all(&memory).len(), 6, "nothing is left over");
        pull(memory, &mut b).expect("got").expect("known");
        same(&a, &b, &first);
    }
    // And the other way.
    let memory = Arc::new(InMemory::new());
    push(&mut a, memory.clone(), &named).expect("sent");
    let counting = Fails::over(&memory, MANY);
    let (_b, mut b) = store();
    pull(counting.clone(), &mut b).expect("got");
    for left in 0..counting.used(MANY) {
        let (_b, mut b) = store();
        pull(Fails::over(&memory, left), &mut b).expect_err("cut");
        assert_eq!(b.store.pockers().expect("read"), []);
        b.receipt.settle().expect("durable");
        pull(memory.clone(), &mut b).expect("got");
        same(&a, &b, &first);
    }
}

#[test]
fn an_object_that_rotted_or_is_gone_is_found() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let (_a, mut a) = store();
    let first = tree(&a, 1, &files());
    let named = named(std::slice::from_ref(&first));
    let memory = Arc::new(InMemory::new());
    push(&mut a, memory.clone(), &named).expect("sent");
    for object in all(&memory) {
        let whole = runtime.block_on(async {
            memory
                .get(&object.location)
                .await
                .expect("there")
                .bytes()
                .await
                .expect("read")
        });
        let put = |bytes: Option<Vec<u8>>| {
            runtime.block_on(async {
                match bytes {
                    Some(bytes) => memory.put(&object.location, bytes.into()).await.map(drop),
                    None => memory.delete(&object.location).await,
                }
            })
        };
        let mut flipped = whole.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x40;
        let cut = whole[..middle].to_vec();
        for bad in [Some(flipped), Some(cut), Some(Vec::new()), None] {
            let gone = bad.is_none();
            put(bad).expect("put");
            let (_b, mut b) = store();
            match pull(memory.clone(), &mut b) {
                Err(e) => assert!(e.hint.is_some(), "{e:?}"),
                // Of the name it is as if it had never been sent.
                Ok(None) if gone => {}
                // What is only said of it, such as when it was made, has no digest.
                Ok(Some(_)) if object.location.as_ref().contains("/names/") => continue,
                other => panic!("{}: {other:?}", object.location),
            }
            assert_eq!(b.store.pockers().expect("read"), [], "{}", object.location);
        }
        put(Some(whole.to_vec())).expect("put");
    }
    let (_b, mut b) = store();
    pull(memory, &mut b).expect("got").expect("known");
    same(&a, &b, &first);
}

/// Two trees that are sent at once to one place.
#[test]
fn who_sends_beside_another_disturbs_nobody() {
    let memory = Arc::new(InMemory::new());
    let (_a, mut a) = store();
    let (_b, mut b) = store();
    let first = tree(&a, 1, &files());
    let mut other = files();
    other.truncate(50);
    let second = tree(&b, 2, &other);
    std::thread::scope(|scope| {
        let memory = &memory;
        let a = &mut a;
        scope.spawn(move || push(a, memory.clone(), &named(&[first])).expect("sent"));
        let b = &mut b;
        scope.spawn(move || {
            let mut named = named(&[second]);
            named.pocker.name = b"other".to_vec();
            push(b, memory.clone(), &named).expect("sent")
        });
    });
    let (_c, mut c) = store();
    for name in ["box", "other"] {
        let mut from = remote(memory.clone());
        let named = from.named(name).expect("read").expect("known");
        transfer(&mut from, &mut c, &named).expect("got");
    }
    assert_eq!(c.store.pockers().expect("read").len(), 2);
}

#[test]
fn a_newer_layout_is_left_alone() {
    let memory = Arc::new(InMemory::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let marker = Bytes::from_static(b"{\"format\":2}");
    runtime
        .block_on(memory.put(&Path::from("some/where/pocker-store"), marker.into()))
        .expect("put");
    let (_a, mut a) = store();
    let first = tree(&a, 1, &files());
    let error = push(&mut a, memory.clone(), &named(&[first])).expect_err("refused");
    assert!(error.tried.contains("layout 2"), "{error:?}");
    assert_eq!(all(&memory).len(), 1);
}

/// What is there is bounded before it is believed.
#[test]
fn more_packs_or_files_than_are_believed_are_refused() {
    let (_a, mut a) = store();
    let memory = Arc::new(InMemory::new());
    let steps: Vec<Step> = (1..=3)
        .map(|key| tree(&a, key, &[(format!("f{key}"), noise(key.into(), 9000))]))
        .collect();
    for step in &steps {
        push(&mut a, memory.clone(), &named(std::slice::from_ref(step))).expect("sent");
    }
    push(&mut a, memory.clone(), &named(&steps)).expect("sent");
    let tables = all(&memory);
    let tables = tables
        .iter()
        .filter(|o| o.location.as_ref().contains("/tables/"));
    let packs = tables.count();
    assert!(packs >= 3, "{packs}");
    let refused = |packs, things| {
        let mut remote = remote(memory.clone());
        (remote.bounds.packs, remote.bounds.things) = (packs, things);
        let listed = remote.all_packs().and_then(|all| remote.learn(all, false));
        let read = match remote.named("box") {
            Ok(_) => None,
            Err(e) => {
                assert!(e.hint.is_some());
                Some(e.to_string())
            }
        };
        assert_eq!(listed.is_err(), read.is_some());
        read
    };
    assert_eq!(refused(packs, 1000), None);
    let why = refused(packs - 1, 1000).expect("too many");
    assert!(
        why.contains(&format!("more than {} packs", packs - 1)),
        "{why}"
    );
    let why = refused(packs, 3).expect("too many");
    assert!(why.contains("more than 3 files"), "{why}");
}
