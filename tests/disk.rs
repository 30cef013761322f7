//! Stores on disks that refuse: read-only, full, of a newer format. Each is said with what to
//! do, nothing is lost, and nothing half-made is seen.

mod support;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::{Path, PathBuf};
use support::{World, wait};

/// A small disk of its own under the world's store; unmounted with the value.
struct Disk {
    at: PathBuf,
    world: World,
}

impl Disk {
    fn new(options: &str) -> Disk {
        let world = World::new();
        let at = world.path("store");
        std::fs::create_dir(&at).expect("mkdir");
        let none = None::<&str>;
        mount(none, &at, Some("tmpfs"), MsFlags::empty(), Some(options)).expect("mount a tmpfs");
        Disk { at, world }
    }

    fn read_only(&self) {
        let again = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &self.at, None::<&str>, again, None::<&str>).expect("remount");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = wait(self.world.start(&["serve", "--stop"]));
        // The server's last descriptor may close a moment later.
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

fn free(at: &Path) -> u64 {
    let fs = nix::sys::statvfs::statvfs(at).expect("statvfs");
    fs.blocks_available() * fs.fragment_size()
}

#[test]
fn a_read_only_disk_is_named() {
    let disk = Disk::new("size=16m");
    disk.read_only();
    let done = disk.world.pocker(&["ls"]);
    done.fails(&["store", "the file system is read-only", "hint:"]);
}

#[test]
fn a_full_disk_fails_the_step_and_is_well_again_after_gc() {
    let disk = Disk::new("size=24m");
    let w = &disk.world;
    w.create("small", "EXEC echo kept >/kept\nRUN cat /kept\n")
        .ok();
    // The tree fills the disk while the step runs.
    let done = w.create(
        "big",
        "EXEC dd if=/dev/urandom of=/big bs=1M count=64\nRUN true\n",
    );
    done.fails(&["EXEC dd", "No space left on device"]);
    let listed = w.pocker(&["ls", "--json"]).ok().out;
    assert!(!listed.contains("\"big\""), "{listed}");
    // There was no room to keep the failed step's tree, so it goes and its room comes back.
    support::until("there is room again", || {
        w.pocker(&["run", "small"]).status == 0
    });
    assert_eq!(w.pocker(&["run", "small"]).ok().out, "kept\n");
    w.pocker(&["gc"]).ok();
    assert!(free(&disk.at) > 8 << 20, "{} bytes free", free(&disk.at));
    w.create(
        "again",
        "EXEC dd if=/dev/urandom of=/mid bs=1M count=2\nRUN stat -c %s /mid\n",
    )
    .ok();
    assert_eq!(w.pocker(&["run", "again"]).ok().out, "2097152\n");
}

#[test]
fn a_disk_too_small_for_an_archive_takes_none_of_it() {
    let disk = Disk::new("size=12m");
    let w = &disk.world;
    w.pocker(&["ls"]).ok();
    let blob: Vec<u8> = (0..32u64 << 17)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect();
    std::fs::create_dir(w.path("src")).expect("mkdir");
    std::fs::write(w.path("src/blob"), blob).expect("write");
    let tar = std::process::Command::new("tar")
        .args(["-cf", "a.tar", "-C", "src", "."])
        .current_dir(w.dir.path())
        .status();
    assert!(tar.expect("tar").success());
    let before = free(&disk.at);
    w.pocker(&["import", "a.tar", "a"])
        .fails(&["no space left", "hint:", "pocker gc"]);
    w.pocker(&["gc"]).ok();
    let slack = 1 << 20;
    assert!(
        free(&disk.at) + slack > before,
        "{} of {before}",
        free(&disk.at)
    );
    w.pocker(&["run", "a"]).fails(&["no pocker named a"]);
    w.create("fits", "RUN echo fits\n").ok();
    assert_eq!(w.pocker(&["run", "fits"]).ok().out, "fits\n");
}

#[test]
fn a_store_of_a_newer_format_is_left_alone() {
    let w = World::new();
    w.pocker(&["ls"]).ok();
    w.pocker(&["serve", "--stop"]).ok();
    // It writes to its store until it has closed it.
    let lock = w.path("store/lock");
    support::until("the store is closed", || {
        std::fs::read(&lock).is_ok_and(|pid| pid.is_empty())
    });
    let index = w.path("store/index.db");
    let db = rusqlite::Connection::open(&index).expect("open");
    db.pragma_update(None, "user_version", 99).expect("raise");
    drop(db);
    let before = std::fs::read(&index).expect("read");
    let done = w.pocker(&["ls"]);
    done.fails(&["format 99", "hint:"]);
    assert!(std::fs::read(&index).expect("read") == before, "touched");
}
