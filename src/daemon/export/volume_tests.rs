//! Volumes over the wire: what is stable when, who may change what, and what holds on the
//! machine's next boot.

use super::wire_tests::{connection, root, run, status};
use super::*;
use pocker_nfs::client::Client;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{CreateHow, Stable};
use pocker_store::OpenOptions;
use pocker_store::work::WorkClass;

struct Host {
    exports: Arc<Exports>,
    works: Arc<Works>,
}

fn booted(dir: &std::path::Path, boot: &str) -> Host {
    let options = OpenOptions {
        create: true,
        boot_id: boot.as_bytes().to_vec(),
    };
    let store = Store::open(dir, options).expect("a store");
    let works = Arc::new(Works::open_or_create(store.clone()).expect("work trees"));
    let exports = Arc::new(Exports::open(store, works.clone(), None).expect("exports"));
    Host { exports, works }
}

fn volume(host: &Host) -> Volume {
    let volumes = &host.exports.volumes;
    volumes
        .create("data", "token", false, None, clock::now())
        .expect("a volume");
    volumes.find("data").expect("it is there")
}

const NEW: CreateHow = CreateHow::Guarded(sattr3 {
    mode: set_mode3::mode(0o644),
    uid: set_uid3::Void,
    gid: set_gid3::Void,
    size: set_size3::Void,
    atime: set_atime::DONT_CHANGE,
    mtime: set_mtime::DONT_CHANGE,
});

async fn make(c: &Client, dir: &Fh, name: &str) -> Fh {
    let made = c.create(&root(), dir, name.as_bytes(), &NEW).await;
    made.expect("CREATE").fh.expect("a handle")
}

#[test]
fn writes_are_as_stable_as_they_are_asked_to_be() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let host = booted(dir.path(), "one");
        let data = volume(&host);
        let c = connection(&host.exports);
        let path = host.exports.volume_path(&data, false);
        let top = c.mount(path.as_bytes()).await.expect("mounted");
        let syncs = || {
            let stats = host.exports.volumes.sync_stats();
            (stats.journal, stats.files)
        };
        // The volume's folder of large files is made, and synced, with the first of them.
        let first = make(&c, &top, "first").await;
        c.write(&root(), &first, 0, &[1; 50_000], Stable::Unstable)
            .await
            .expect("WRITE");
        for size in [4096, 200_000] {
            let file = make(&c, &top, &format!("f{size}")).await;
            let bytes = vec![7; size];
            let before = syncs();
            let wrote = c.write(&root(), &file, 0, &bytes, Stable::Unstable).await;
            let wrote = wrote.expect("WRITE");
            assert_eq!(wrote.committed, Stable::Unstable);
            assert_eq!(syncs(), before, "nothing was synced");
            let verifier = c.commit(&root(), &file, 0, 0).await.expect("COMMIT");
            assert_eq!(verifier, wrote.verifier);
            assert!(syncs().0 > before.0);
            for stable in [Stable::DataSync, Stable::FileSync] {
                let before = syncs();
                let wrote = c.write(&root(), &file, 0, &bytes, stable).await;
                assert_eq!(wrote.expect("WRITE").committed, Stable::FileSync);
                let (journal, files) = syncs();
                assert!(journal > before.0 && (size < 20_000 || files > before.1));
            }
        }
    });
}

#[test]
fn who_may_only_read_changes_nothing() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let host = booted(dir.path(), "one");
        let data = volume(&host);
        let (rw, ro) = (
            host.exports.volume_path(&data, false),
            host.exports.volume_path(&data, true),
        );
        assert_ne!(rw, ro);
        let c = connection(&host.exports);
        let top = c.mount(rw.as_bytes()).await.expect("mounted");
        make(&c, &top, "f").await;
        let top = c.mount(ro.as_bytes()).await.expect("mounted");
        let me = root();
        let file = c.lookup(&me, &top, b"f").await.expect("LOOKUP").fh;
        let rofs = nfsstat3::NFS3ERR_ROFS as u32;
        assert_eq!(status(c.create(&me, &top, b"g", &NEW).await), rofs);
        assert_eq!(
            status(c.write(&me, &file, 0, b"x", Stable::FileSync).await),
            rofs
        );
        assert_eq!(status(c.remove(&me, &top, b"f").await), rofs);
        assert_eq!(status(c.rename(&me, &top, b"f", &top, b"g").await), rofs);
        assert_eq!(status(c.link(&me, &file, &top, b"g").await), rofs);
        let (granted, _) = c.access(&me, &file, 0x3f).await.expect("ACCESS");
        assert_eq!(granted, access::READ);
        let listed = c.readdirplus(&me, &top, 0, [0; 8], 4096, 4096).await;
        let listed = listed.expect("READDIRPLUS").entries;
        let fh = listed.iter().find(|e| e.name == b"f").and_then(|e| e.fh);
        let fh = fh.expect("a handle");
        assert_eq!(
            status(c.write(&me, &fh, 0, b"x", Stable::Unstable).await),
            rofs
        );
        // Neither a secret of another kind nor a name that is none opens it.
        let other = host.exports.tree_path("volume", data.id);
        for path in [
            other.as_str(),
            "/volume/data/x",
            "/volume/data",
            "/volume/none/x",
        ] {
            assert!(c.mount(path.as_bytes()).await.is_err(), "{path}");
        }
    });
}

#[test]
fn the_next_boot_knows_a_volumes_handles_and_has_another_verifier() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let host = booted(dir.path(), "one");
        let data = volume(&host);
        let path = host.exports.volume_path(&data, false);
        let tree = host
            .works
            .create(None, WorkClass::Run, b"run", clock::now())
            .expect("a tree");
        let run = host.exports.tree_path("run", tree.id());
        drop(tree);
        let c = connection(&host.exports);
        let top = c.mount(path.as_bytes()).await.expect("mounted");
        let file = make(&c, &top, "f").await;
        let wrote = c
            .write(&root(), &file, 0, b"stable", Stable::FileSync)
            .await
            .expect("WRITE");
        let run_top = c.mount(run.as_bytes()).await.expect("mounted");
        drop((c, host));
        let host = loop {
            // Its connection's task lets go of the store soon.
            let options = OpenOptions {
                create: false,
                boot_id: b"probe".to_vec(),
            };
            match Store::open(dir.path(), options) {
                Ok(store) => {
                    drop(store);
                    break booted(dir.path(), "two");
                }
                Err(StoreError::InUse { .. }) => tokio::task::yield_now().await,
                Err(e) => panic!("{e}"),
            }
        };
        let c = connection(&host.exports);
        let read = c.read(&root(), &file, 0, 100).await.expect("READ");
        assert_eq!(read.data, b"stable");
        assert_eq!(host.exports.volume_path(&data, false), path);
        make(&c, &top, "g").await;
        let verifier = c.commit(&root(), &file, 0, 0).await.expect("COMMIT");
        assert_ne!(verifier, wrote.verifier, "clients send again");
        let stale = nfsstat3::NFS3ERR_STALE as u32;
        assert_eq!(status(c.getattr(&root(), &run_top).await), stale);
        host.exports.volumes.remove(data.id).expect("removed");
        assert_eq!(status(c.getattr(&root(), &file).await), stale);
    });
}

/// Eight connections with sixteen calls each: all are answered, and syncs are fewer than calls
/// wherever a sync takes its time.
#[test]
fn many_connections_share_syncs() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let host = booted(dir.path(), "one");
        let data = volume(&host);
        let path = host.exports.volume_path(&data, false);
        let mut calls = Vec::new();
        for connection_of in 0..8 {
            let c = Arc::new(connection(&host.exports));
            let top = c.mount(path.as_bytes()).await.expect("mounted");
            for call in 0..16 {
                let c = c.clone();
                calls.push(tokio::spawn(async move {
                    for i in 0..4 {
                        make(&c, &top, &format!("{connection_of}-{call}-{i}")).await;
                    }
                }));
            }
        }
        for call in calls {
            call.await.expect("answered");
        }
        let stats = host.exports.volumes.sync_stats();
        assert_eq!(stats.calls, 8 * 16 * 4);
        assert!(stats.journal <= stats.calls);
    });
}
