//! Each reply is lost once.

use crate::ops::{ALL, Ready};
use crate::proxy::Proxy;
use crate::server::Server;
use crate::tree::{Kind, Tree, base};
use pocker_nfs::client::UnixConnect;
use std::sync::Arc;

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Every operation on one tree, one after the other or all at once.
async fn lose_replies(server: &Server, kind: Kind, together: bool) {
    let base = base(server, Arc::new(UnixConnect(server.nfs_socket()))).await;
    let kept = Arc::default();
    let connect = Arc::new(Proxy {
        socket: server.nfs_socket(),
        kept: Arc::clone(&kept),
    });
    let tree = Tree::new(server, kind, &base, connect).await;
    let mut ready = Vec::new();
    for (n, op) in ALL.into_iter().enumerate() {
        ready.push(Ready::new(&tree, op, n, n).await);
    }
    let before = kept.lock().back();
    if together {
        let calls = ready.iter().map(|r| async { (r.op, r.make().await) });
        for (op, made) in futures_util::future::join_all(calls).await {
            made.unwrap_or_else(|e| panic!("{op:?}: {e}"));
        }
    } else {
        for r in &ready {
            r.make().await.unwrap_or_else(|e| panic!("{:?}: {e}", r.op));
        }
    }
    ready.iter().for_each(Ready::done);
    {
        let kept = kept.lock();
        assert!(kept.wrong.is_empty(), "{kind:?}: {}", kept.wrong.join("\n"));
        let back = kept.back() - before;
        // All but those that write, and EXCLUSIVE's SETATTR beside.
        assert!(back > ALL.len() - 6, "{kind:?}: {back} kept back");
        assert!(
            kept.same >= back,
            "{kind:?}: {} of {back} came again",
            kept.same
        );
        eprintln!("{kind:?}: {} replies lost and given again", kept.same);
    }
    kept.lock().off = true;
    tree.check("after all replies were lost").await;
}

#[test]
fn each_reply_lost_once_is_given_again() {
    let server = Server::new();
    runtime().block_on(async {
        for kind in [Kind::Build, Kind::Run, Kind::Graft, Kind::Volume] {
            lose_replies(&server, kind, false).await;
            lose_replies(&server, kind, true).await;
        }
    });
    server.fsck("after lost replies");
}

#[test]
fn each_reply_lost_once_is_given_again_of_a_graft_by_path() {
    let server = Server::with(&[("POCKER_GRAFTS", "portable")]);
    runtime().block_on(async {
        lose_replies(&server, Kind::Graft, false).await;
        lose_replies(&server, Kind::Graft, true).await;
    });
}
