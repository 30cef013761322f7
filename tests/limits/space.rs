//! FSSTAT, FSINFO and PATHCONF tell the truth of the store's disk and of a graft's.

use crate::support::World;
use crate::support::server::Server;
use crate::wire::{ROOT, Wire};
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use nix::unistd::{PathconfVar, pathconf};
use pocker::control::api::{Graft, NewRun};
use pocker_nfs::client::PathConf;
use pocker_nfs::vfs::{Fh, FsStat, Stable};
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// A tmpfs on a directory of the world, of a known size.
pub fn disk(world: &World, name: &str, options: &str) -> PathBuf {
    let at = world.path(name);
    std::fs::create_dir_all(&at).expect("mkdir");
    let none = None::<&str>;
    mount(none, &at, Some("tmpfs"), MsFlags::empty(), Some(options)).expect("mount a tmpfs");
    at
}

fn fsstat(wire: &Wire, fh: &Fh) -> FsStat {
    let stat = wire.run(wire.client.fsstat(&ROOT, fh)).expect("FSSTAT");
    assert!(stat.avail_bytes <= stat.free_bytes && stat.free_bytes <= stat.total_bytes);
    assert!(stat.avail_files <= stat.free_files && stat.free_files <= stat.total_files);
    stat
}

/// The disk itself says the same.
fn same(stat: &FsStat, at: &Path) {
    let fs = statvfs(at).expect("statvfs");
    let unit = fs.fragment_size();
    let ours = (stat.total_bytes, stat.total_files, stat.free_files);
    let theirs = (fs.blocks() * unit, fs.files(), fs.files_free());
    assert_eq!(ours, theirs);
    // The server's own upkeep may write a few pages between the two looks.
    assert!(stat.free_bytes.abs_diff(fs.blocks_free() * unit) < MIB);
}

#[test]
fn the_space_is_the_stores_and_a_grafts_is_its_own() {
    let world = World::new();
    let store = disk(&world, "store", "size=64m,nr_inodes=5000");
    let host = disk(&world, "host", "size=32m,nr_inodes=300");
    let server = Server::of(world, vec![store.clone(), host.clone()]);
    let tree = server.clone_of(None);
    let wire = Wire::to(&server);
    let top = wire.mount(&tree.export.path);
    let before = fsstat(&wire, &top);
    assert_eq!((before.total_bytes, before.total_files), (64 * MIB, 5000));
    same(&before, &store);
    let f = wire.create(&top, "f").expect("CREATE");
    for i in 0..8 {
        let data = vec![7; MIB as usize];
        let wrote = wire
            .client
            .write(&ROOT, &f, i * MIB, &data, Stable::Unstable);
        wire.run(wrote).expect("WRITE");
    }
    let after = fsstat(&wire, &top);
    let taken = before.free_bytes - after.free_bytes;
    assert!((8 * MIB..12 * MIB).contains(&taken), "{taken} bytes taken");
    assert!(after.free_files < before.free_files);
    same(&after, &store);
    let conf = wire.run(wire.client.pathconf(&ROOT, &top));
    let expected = PathConf {
        link_max: pocker_store::work::LINK_MAX,
        name_max: 255,
        no_trunc: true,
        chown_restricted: true,
        case_insensitive: false,
        case_preserving: true,
    };
    assert_eq!(conf.expect("PATHCONF"), expected);
    // The browse view is of the same disk.
    let view = fsstat(&wire, &wire.mount("/chroot"));
    assert_eq!(view.total_bytes, 64 * MIB);

    server.world.create("box", "RUN true\n").ok();
    // Whoever stops the server ends the runs: this one is not the test's own process.
    let holder = std::process::Command::new("sleep").arg("600").spawn();
    let mut holder = holder.expect("sleep starts");
    let run = server.ask(|client| {
        client.new_run(&NewRun {
            name: "box".to_owned(),
            pid: holder.id(),
            grafts: vec![Graft {
                host: host.to_string_lossy().into_owned(),
                target: "/tmp".to_owned(),
                read_only: false,
                suid: false,
                dev: false,
            }],
            ..NewRun::default()
        })
    });
    let run = run.expect("a run");
    let top = wire.mount(&run.grafts[0].path);
    let stat = fsstat(&wire, &top);
    assert_eq!((stat.total_bytes, stat.total_files), (32 * MIB, 300));
    same(&stat, &host);
    let conf = wire.run(wire.client.pathconf(&ROOT, &top));
    let links = pathconf(&host, PathconfVar::LINK_MAX).expect("pathconf");
    let link_max = links.map_or(u32::MAX, |n| n as u32);
    assert_eq!(
        conf.expect("PATHCONF"),
        PathConf {
            link_max,
            ..expected
        }
    );
    server.ask(|client| client.end_run(run.id)).expect("ended");
    let _ = holder.kill();
    let _ = holder.wait();
}
