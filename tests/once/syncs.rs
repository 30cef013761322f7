//! A disk that fails a sync: the call says so, clients are told to send again what was not
//! committed, and what is there is what was before the call, or after it.

use crate::list::syncs;
use crate::ops::{ALL, Op, Ready};
use crate::points::{Place, socket};
use crate::replies::runtime;
use crate::tree::{Kind, Tree, root};
use crate::verifier::{commit, file};
use pocker_nfs::client::ClientError;
use pocker_nfs::proto::nfsstat3;

fn is_io<T>(done: &Result<T, ClientError>) -> bool {
    let io = nfsstat3::NFS3ERR_IO as u32;
    matches!(done, Err(ClientError::Status(status)) if *status as u32 == io)
}

/// A change of the tree's top, which the model is told of where it is made.
async fn change(tree: &Tree, n: usize) -> Result<(), ClientError> {
    let name = format!("change{n}");
    let attr = crate::ops::mode(0o755);
    let client = &tree.client;
    client
        .mkdir(&root(), &tree.top, name.as_bytes(), &attr)
        .await?;
    let path = tree.model.join(&name);
    std::fs::create_dir(&path).expect("mkdir");
    crate::tree::set_mode(&path, 0o755);
    Ok(())
}

/// After a refusal: the model is what the server has, and whether that is after the call.
async fn settle(place: &Place, ready: &Ready, when: &str) -> bool {
    let done = !place.tree.same().await;
    if done {
        ready.done();
    }
    place.tree.check(when).await;
    done
}

#[test]
fn a_failed_sync_of_a_volume_is_told() {
    runtime().block_on(async {
        let mut place = Place::new(Kind::Volume).await;
        let server = place.server.clone();
        // Whose verifier can be asked for whatever becomes of volumes.
        let graft = Tree::new(&server, Kind::Graft, &place.base, socket(&server)).await;
        let asked = file(&graft).await;
        let points = syncs(Kind::Volume);
        assert_eq!(points.len(), 3, "{points:?}");
        for point in points {
            let mut under = Vec::new();
            // The exclusive one is two calls.
            for op in ALL.into_iter().filter(|op| *op != Op::CreateExclusive) {
                let when = format!("{op:?} with EIO at {point}");
                let ready = place.ready(op).await;
                let before = commit(&graft, &asked).await;
                server.arm(&format!("{point} 1 EIO\n"));
                let made = ready.make().await;
                let refused = !server.disarm();
                assert_eq!(is_io(&made), refused, "{when}: {made:?}");
                if !refused {
                    made.unwrap_or_else(|e| panic!("{when}: {e}"));
                    ready.done();
                    continue;
                }
                under.push(op);
                let after = commit(&graft, &asked).await;
                assert_ne!(after, before, "{when}: what was unstable may be gone");
                let mut done = settle(&place, &ready, &when).await;
                let n = place.number();
                let change_now = change(&place.tree, n).await;
                // Nobody knows what the journal's file has now.
                let ended = point.starts_with("journal.");
                assert_eq!(is_io(&change_now), ended, "{when}: {change_now:?}");
                server.kill();
                let when = format!("{when}, and a new start");
                done |= settle(&place, &ready, &when).await;
                assert_eq!(commit(&graft, &asked).await, after, "{when}");
                if !done {
                    let again = ready.make().await;
                    again.unwrap_or_else(|e| panic!("{when}: {e}"));
                    ready.done();
                }
                let n = place.number();
                let changed = change(&place.tree, n).await;
                changed.unwrap_or_else(|e| panic!("{when}: {e}"));
            }
            assert!(!under.is_empty(), "{point} is never passed");
            place.tree.check(&point).await;
            server.fsck(&point);
            eprintln!("{point}: failed under {}", under.len());
        }
    });
}
