//! The write verifier (RFC 1813 §3.3.7): another one exactly when unstable data may be gone.

use crate::points::{socket, survive};
use crate::replies::runtime;
use crate::server::Server;
use crate::tree::{Kind, Tree, base, root};
use pocker_nfs::client::ClientError;
use pocker_nfs::proto::nfsstat3;
use pocker_nfs::vfs::{CreateHow, Fh, Stable};

pub async fn file(tree: &Tree) -> Fh {
    let how = CreateHow::Guarded(crate::ops::mode(0o600));
    let made = tree.client.create(&root(), &tree.top, b"v", &how).await;
    made.expect("CREATE").fh.expect("a handle")
}

/// UNSTABLE, so that nobody has synced anything: the verifier of the WRITE.
async fn write(tree: &Tree, fh: &Fh, text: &[u8]) -> [u8; 8] {
    let me = root();
    let wrote = tree.client.write(&me, fh, 0, text, Stable::Unstable).await;
    wrote.expect("WRITE").verifier
}

pub async fn commit(tree: &Tree, fh: &Fh) -> [u8; 8] {
    let committed = tree.client.commit(&root(), fh, 0, 0).await;
    committed.expect("COMMIT")
}

#[test]
fn the_verifier_moves_with_the_machine_and_after_failures_only() {
    let server = Server::new();
    runtime().block_on(async {
        let base = base(&server, socket(&server)).await;
        let graft = Tree::new(&server, Kind::Graft, &base, socket(&server)).await;
        let build = Tree::new(&server, Kind::Build, &base, socket(&server)).await;
        let volume = Tree::new(&server, Kind::Volume, &base, socket(&server)).await;
        let (in_graft, in_build) = (file(&graft).await, file(&build).await);
        let in_volume = file(&volume).await;
        let first = write(&graft, &in_graft, b"before").await;
        assert_eq!(write(&build, &in_build, b"before").await, first);
        assert_eq!(write(&volume, &in_volume, b"before").await, first);
        let all = [
            (&graft, &in_graft),
            (&build, &in_build),
            (&volume, &in_volume),
        ];
        for tree in all {
            assert_eq!(
                commit(tree.0, tree.1).await,
                first,
                "one for WRITE and COMMIT"
            );
        }
        // A server that dies loses nothing that it answered.
        write(&graft, &in_graft, b"after!").await;
        write(&build, &in_build, b"after!").await;
        write(&volume, &in_volume, b"after!").await;
        server.kill();
        for (tree, fh) in all {
            assert_eq!(commit(tree, fh).await, first, "{:?}", tree.kind);
            let read = tree.client.read(&root(), fh, 0, 100).await.expect("READ");
            assert_eq!(read.data, b"after!", "{:?}", tree.kind);
        }
        // A write that fails, where a server that dies must not forget it.
        let large = vec![1; 20_000];
        let all = build
            .client
            .write(&root(), &in_build, 0, &large, Stable::Unstable)
            .await;
        assert_eq!(all.expect("WRITE").count, 20_000);
        server.arm("staged.write.before 1 EIO\n");
        let failed = build
            .client
            .write(&root(), &in_build, 0, &large, Stable::Unstable)
            .await;
        let io = nfsstat3::NFS3ERR_IO as u32;
        assert!(matches!(failed, Err(ClientError::Status(s)) if s as u32 == io));
        let second = commit(&graft, &in_graft).await;
        assert_ne!(second, first);
        server.kill();
        assert_eq!(commit(&graft, &in_graft).await, second);
        assert_eq!(write(&build, &in_build, b"x").await, second);
        // Another boot: the graft's and the volume's unstable data may be gone, the build's tree is.
        server.reboot();
        let (third, _) = survive(&server, "COMMIT", commit(&graft, &in_graft)).await;
        assert!(third != second && third != first);
        assert_eq!(commit(&volume, &in_volume).await, third);
        let kept = volume.client.read(&root(), &in_volume, 0, 100).await;
        assert_eq!(kept.expect("READ").data, b"after!");
        let gone = build.client.getattr(&root(), &in_build).await;
        let stale = nfsstat3::NFS3ERR_STALE as u32;
        assert!(matches!(gone, Err(ClientError::Status(s)) if s as u32 == stale));
    });
    server.fsck("after another boot");
}

/// What is sold has no points: only a test's build has the feature.
#[test]
fn a_build_that_is_no_tests_has_no_points() {
    let tree = |edges: &str| {
        let output = std::process::Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--locked", "--prefix", "none"])
            .args([
                "--package",
                "pocker",
                "--format",
                "{p} {f}",
                "--edges",
                edges,
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    };
    let (sold, tested) = (tree("normal,build"), tree("normal,build,dev"));
    assert!(sold.contains("pocker-store"));
    assert!(!sold.contains("failpoints"), "{sold}");
    assert!(tested.contains("failpoints"));
}
