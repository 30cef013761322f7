//! What ACCESS grants.

use pocker_nfs::proto::*;
use pocker_nfs::vfs::Caller;

/// ACCESS from the mode bits (RFC 1813 §3.3.4): what the same call would be allowed.
pub fn granted(caller: &Caller, attr: &fattr3, writable: bool) -> u32 {
    let dir = matches!(attr.ftype, ftype3::NF3DIR);
    let class = if caller.uid == attr.uid {
        attr.mode >> 6
    } else if caller.gid == attr.gid || caller.gids.contains(&attr.gid) {
        attr.mode >> 3
    } else {
        attr.mode
    };
    let root = caller.uid == 0;
    let mut granted = 0;
    if root || class & 4 != 0 {
        granted |= access::READ;
    }
    if writable && (root || class & 2 != 0) {
        granted |= access::MODIFY | access::EXTEND;
        if dir {
            granted |= access::DELETE;
        }
    }
    let executable = if dir {
        root || class & 1 != 0
    } else if root {
        attr.mode & 0o111 != 0
    } else {
        class & 1 != 0
    };
    if executable {
        granted |= if dir { access::LOOKUP } else { access::EXECUTE };
    }
    granted
}
