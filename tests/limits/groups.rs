//! AUTH_SYS carries 16 groups (RFC 5531 appendix A). Over the wire the 17th does not count; in a
//! FUSE mount the kernel judges, and all count.

use crate::support::server::Server;
use crate::support::sys::become_user;
use crate::wire::{ROOT, Wire, fuse, user};
use pocker_nfs::client::ClientError;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::Stable;

const FIRST: u32 = 3000;

#[test]
fn sixteen_groups_count_over_the_wire_and_all_in_a_fuse_mount() {
    let server = Server::start();
    let tree = server.clone_of(None);
    let wire = Wire::to(&server);
    let top = wire.mount(&tree.export.path);
    let gids: Vec<u32> = (FIRST..FIRST + 20).collect();
    for gid in &gids {
        let f = wire.create(&top, &gid.to_string()).expect("CREATE");
        let new = sattr3 {
            mode: set_mode3::mode(0o060),
            gid: set_gid3::gid(*gid),
            ..sattr3::default()
        };
        wire.run(wire.client.setattr(&ROOT, &f, &new, None))
            .expect("SETATTR");
        let wrote = wire
            .client
            .write(&ROOT, &f, 0, b"members", Stable::Unstable);
        wire.run(wrote).expect("WRITE");
    }
    let me = user(2000, &gids);
    for (i, gid) in gids.iter().enumerate() {
        let f = wire.find(&top, &gid.to_string());
        let read = wire.run(wire.client.read(&me, &f, 0, 100));
        match (i < 16, read) {
            (true, Ok(read)) => assert_eq!(read.data, b"members"),
            (false, Err(ClientError::Status(status))) => {
                assert_eq!(status as u32, nfsstat3::NFS3ERR_ACCES as u32);
            }
            (_, other) => panic!("group {}: {other:?}", i + 1),
        }
    }
    let at = server.world.path("mnt");
    let mounted = fuse(&server, &tree, &at);
    let readers = std::thread::spawn({
        let at = at.clone();
        move || {
            become_user(&pocker_store::types::Creds {
                uid: 2000,
                gid: 2000,
                gids: gids.clone(),
            });
            for gid in gids {
                let read = std::fs::read(at.join(gid.to_string()));
                assert_eq!(read.expect("a member reads"), b"members");
            }
        }
    });
    readers.join().expect("all groups count");
    mounted.unmount().expect("unmounted");
}
