//! Changes to one file or directory come one after the other, whichever graft they come by: what a reply says
//! was before a change and is after it (wcc_data, RFC 1813 §2.6) has then nobody else's change in between, which a
//! client would take for its own, keeping what it had read before.

use super::Node;
use nix::sys::time::TimeSpec;
use parking_lot::{Mutex, MutexGuard};
use pocker_nfs::proto::wcc_attr;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

/// Files of as many numbers may change at once at the most; two may share one.
const TURNS: usize = 256;

static ALL: [Mutex<()>; TURNS] = [const { Mutex::new(()) }; TURNS];

pub(super) type Turn = MutexGuard<'static, ()>;

// The widths of device numbers differ.
#[allow(clippy::unnecessary_cast)]
fn place(node: &Node) -> usize {
    let (ino, device) = (node.stat.st_ino as u64, node.stat.st_dev as u64);
    ((ino ^ device.rotate_left(32)) % TURNS as u64) as usize
}

/// Taken after what holds names still, and before the thread acts as anybody.
pub(super) fn of(node: &Node) -> Turn {
    ALL[place(node)].lock()
}

/// Of two directories, in an order that is always the same.
pub(super) fn of_both(a: &Node, b: &Node) -> (Turn, Option<Turn>) {
    let (a, b) = (place(a), place(b));
    let first = ALL[a.min(b)].lock();
    (first, (a != b).then(|| ALL[a.max(b)].lock()))
}

/// The time of a write whose clock has not ticked since the last one. Kernels take the tick for the time of a change (Linux
/// before 6.13), so two writes in one tick look like one, and who made the first would not see the second. True where it was set.
pub(super) fn tell_apart(before: &wcc_attr, node: &Node, data: &OwnedFd) -> bool {
    let was = (
        i64::from(before.mtime.seconds),
        i64::from(before.mtime.nseconds),
    );
    let is = (node.stat.st_mtime & 0xffff_ffff, node.stat.st_mtime_nsec);
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else {
        return false;
    };
    let now = TimeSpec::from_duration(now);
    // A file that may only be appended to keeps its times; so does one whose time is ahead.
    is <= was
        && (now.tv_sec() & 0xffff_ffff, now.tv_nsec()) > was
        && nix::sys::stat::futimens(data, &TimeSpec::UTIME_OMIT, &now).is_ok()
}
