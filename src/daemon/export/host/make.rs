//! Calls that make something in a graft.

// The widths of modes differ.
#![allow(clippy::unnecessary_cast)]

use super::super::handle::HostFile;
use super::change::{after, apply, before};
use super::once::Outcome;
use super::rights::{self, File};
use super::{Graft, Grafts, Name, Node, host_status, sys, turn};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag};
use nix::sys::time::TimeSpec;
use nix::unistd::UnlinkatFlags;
use pocker_nfs::proto::*;
use pocker_nfs::vfs::*;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The times of a file that keeps an EXCLUSIVE create's verifier until the
/// SETATTR that RFC 1813 §3.3.8 asks for: there is no other room in a host's inode.
fn verifier_times(verifier: [u8; 8]) -> (TimeSpec, TimeSpec) {
    let word = |at: usize| {
        let mut w = [0; 4];
        w.copy_from_slice(&verifier[at..at + 4]);
        i64::from(u32::from_be_bytes(w) & 0x7fff_ffff)
    };
    (TimeSpec::new(word(0), 0), TimeSpec::new(word(4), 0))
}

impl Grafts {
    /// The frame of every call that makes a name: `make` acts as the caller.
    fn make(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        attr: Option<&sattr3>,
        make: impl FnOnce(&Making<'_>) -> std::result::Result<Maker, Errno>,
    ) -> Result<Made> {
        let graft = self.get(graft)?;
        let _still = graft.still();
        let mut dir = graft.open(dir)?;
        graft.writable()?;
        let _turn = turn::of(&dir);
        if let Some(Outcome::Made(made)) = graft.once.lock().get(cx.once) {
            return Ok(made);
        }
        dir.refresh()?;
        let old = before(&graft, &dir);
        let may = match graft.checks {
            true => graft.may_make(cx, &dir, name)?,
            false => May::Make,
        };
        let making = Making {
            cx,
            graft: &graft,
            dir: &dir,
            at: dir.dir()?,
            may,
        };
        let acting = graft.act_as(cx)?;
        let maker = make(&making).map_err(host_status)?;
        drop(acting);
        let mut node = graft.child(cx, &dir, name)?;
        if let (true, Maker::Server { kind, mode }) = (graft.checks, maker) {
            // Another's file may have the name by now, which is not given away.
            if !just_made(&node, kind) {
                return Err(nfsstat3::NFS3ERR_STALE);
            }
            if let Err(e) = making.give(&node, mode) {
                // Nobody finds something there that is root's.
                let what = match node.is(libc::S_IFDIR) {
                    true => UnlinkatFlags::RemoveDir,
                    false => UnlinkatFlags::NoRemoveDir,
                };
                let _ = nix::unistd::unlinkat(making.at, name, what);
                return Err(host_status(e));
            }
        }
        if let Some(attr) = attr {
            node.refresh()?;
            let mut attr = *attr;
            // A directory in one that is setgid is so too: it was made with its mode, and setting that again
            // would take this away.
            if node.is(libc::S_IFDIR) && node.stat.st_mode & libc::S_ISGID != 0 {
                attr.mode = set_mode3::Void;
            }
            // It has been given.
            if let (true, Maker::Server { mode: Some(_), .. }) = (graft.checks, maker) {
                attr.mode = set_mode3::Void;
            }
            apply(cx, &graft, &node, &attr)?;
        }
        node.refresh()?;
        let made = Made {
            fh: self.handle(&graft, &node)?,
            attr: graft.attr(&node.stat),
            dir: after(&graft, old, &mut dir)?,
        };
        graft.once.lock().put(cx.once, Outcome::Made(made));
        Ok(made)
    }

    pub fn create(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        how: &CreateHow,
    ) -> Result<Made> {
        // Before what an UNCHECKED one does to the file that it finds.
        let known = self.get(graft)?.once.lock().get(cx.once);
        if let Some(Outcome::Made(made)) = known {
            return Ok(made);
        }
        match how {
            CreateHow::Unchecked(attr) => {
                let mode = mode_of(attr, 0o644);
                let fresh = std::cell::Cell::new(false);
                let made = self.make(cx, graft, dir, name, None, |making| {
                    match making.file(name, mode) {
                        Ok(_) => {
                            fresh.set(true);
                            Ok(Maker::Caller)
                        }
                        Err(Errno::EEXIST) => Ok(Maker::Caller),
                        Err(e) => Err(e),
                    }
                })?;
                self.settle(cx, made, attr, fresh.get())
            }
            CreateHow::Guarded(attr) => {
                let mode = mode_of(attr, 0o644);
                self.make(cx, graft, dir, name, Some(attr), |making| {
                    making.file(name, mode).map(|_| Maker::Caller)
                })
            }
            CreateHow::Exclusive(verifier) => {
                let (atime, mtime) = verifier_times(*verifier);
                self.make(cx, graft, dir, name, None, |making| {
                    match making.file(name, Mode::empty()) {
                        Ok(fd) => nix::sys::stat::futimens(&fd, &atime, &mtime)?,
                        Err(Errno::EEXIST) => {
                            let none = AtFlags::AT_SYMLINK_NOFOLLOW;
                            let found = nix::sys::stat::fstatat(making.at, name, none)?;
                            let ours = found.st_mode & libc::S_IFMT == libc::S_IFREG
                                && found.st_atime == atime.tv_sec()
                                && found.st_mtime == mtime.tv_sec();
                            if !ours {
                                return Err(Errno::EEXIST);
                            }
                        }
                        Err(e) => return Err(e),
                    }
                    Ok(Maker::Caller)
                })
            }
        }
    }

    /// UNCHECKED create of an existing name only sets its size (RFC 1813 §3.3.8).
    fn settle(&self, cx: &Cx, mut made: Made, attr: &sattr3, fresh: bool) -> Result<Made> {
        let Ok(Name::Host { graft, file }) = self.codec.decode(&made.fh) else {
            return Ok(made);
        };
        let graft = self.get(graft)?;
        let _still = graft.still();
        let mut node = graft.open(&file)?;
        let new = if fresh {
            *attr
        } else {
            sattr3 {
                size: attr.size,
                ..sattr3::default()
            }
        };
        apply(cx, &graft, &node, &new)?;
        node.refresh()?;
        made.attr = graft.attr(&node.stat);
        graft.once.lock().put(cx.once, Outcome::Made(made));
        Ok(made)
    }

    pub fn mkdir(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        attr: &sattr3,
    ) -> Result<Made> {
        let mode = mode_of(attr, 0o755);
        self.make(cx, graft, dir, name, Some(attr), |making| {
            let first = making.first(mode)?;
            nix::sys::stat::mkdirat(making.at, name, first)?;
            Ok(Maker::Server {
                kind: SFlag::S_IFDIR,
                mode: Some(mode),
            })
        })
    }

    pub fn symlink(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        target: &[u8],
        attr: &sattr3,
    ) -> Result<Made> {
        // A symlink's mode is the system's own; its owner may be given.
        let attr = sattr3 {
            mode: set_mode3::Void,
            ..*attr
        };
        self.make(cx, graft, dir, name, Some(&attr), |making| {
            making.first(Mode::empty())?;
            nix::unistd::symlinkat(target, making.at, name)?;
            Ok(Maker::Server {
                kind: SFlag::S_IFLNK,
                mode: None,
            })
        })
    }

    pub fn mknod(
        &self,
        cx: &Cx,
        graft: u64,
        dir: &HostFile,
        name: &[u8],
        kind: NodeKind,
        attr: &sattr3,
    ) -> Result<Made> {
        let kind = match kind {
            NodeKind::Fifo => SFlag::S_IFIFO,
            NodeKind::Socket if !sys::SOCKETS => return Err(nfsstat3::NFS3ERR_BADTYPE),
            NodeKind::Socket => SFlag::S_IFSOCK,
            // A device made through a graft would be a device of the host.
            NodeKind::Char(_) | NodeKind::Block(_) => return Err(nfsstat3::NFS3ERR_PERM),
        };
        let mode = mode_of(attr, 0o644);
        self.make(cx, graft, dir, name, Some(attr), |making| {
            let first = making.first(mode)?;
            nix::sys::stat::mknodat(making.at, name, kind, first, 0)?;
            Ok(Maker::Server {
                kind,
                mode: Some(mode),
            })
        })
    }
}

/// Whose what was made is: of whom it should be already, or of the server, which has it given away, with
/// the mode that it should have.
#[derive(Clone, Copy)]
enum Maker {
    Caller,
    Server { kind: SFlag, mode: Option<Mode> },
}

/// What the caller may do with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    Make,
    /// It is there, and he could not make it: nothing may be made of it either, should it be gone by then.
    Meet,
}

/// What root has made and not given away yet.
pub(super) fn just_made(node: &Node, kind: SFlag) -> bool {
    let (link, dir) = (kind == SFlag::S_IFLNK, kind == SFlag::S_IFDIR);
    node.is(kind.bits())
        && node.stat.st_uid == 0
        && (link || node.stat.st_mode & 0o5777 == 0)
        && (dir || node.stat.st_nlink == 1)
}

/// What makes a name has.
struct Making<'a> {
    cx: &'a Cx<'a>,
    graft: &'a Graft,
    dir: &'a Node,
    at: BorrowedFd<'a>,
    may: May,
}

impl Making<'_> {
    /// The mode that something is made with: what root makes for the caller is nobody's until it is
    /// his, and never a setuid program of root's.
    fn first(&self, mode: Mode) -> nix::Result<Mode> {
        match (self.may, self.graft.checks) {
            (May::Meet, _) => Err(Errno::EEXIST),
            (May::Make, true) => Ok(Mode::empty()),
            (May::Make, false) => Ok(mode),
        }
    }

    fn file(&self, name: &[u8], mode: Mode) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_CREAT
            | OFlag::O_EXCL
            | OFlag::O_WRONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::openat(self.at, name, flags, self.first(mode)?)?;
        if self.graft.checks {
            let (uid, gid) = self.owner();
            let mode = rights::new_mode(self.cx.caller, gid, mode.bits() as u32, 0);
            let given = nix::unistd::fchown(&fd, Some(uid.into()), Some(gid.into()));
            given
                .and_then(|()| nix::sys::stat::fchmod(&fd, Mode::from_bits_truncate(mode as _)))
                .inspect_err(|_| {
                    let _ = nix::unistd::unlinkat(self.at, name, UnlinkatFlags::NoRemoveDir);
                })?;
        }
        Ok(fd)
    }

    fn owner(&self) -> (u32, u32) {
        let dir = File::of(&self.dir.stat);
        rights::owner(self.cx.caller, &dir, sys::GROUP_OF_DIRECTORY)
    }

    /// Gives what was made to the caller.
    fn give(&self, node: &Node, mode: Option<Mode>) -> nix::Result<()> {
        let (uid, gid) = self.owner();
        node.chown(Some(uid.into()), Some(gid.into()))?;
        let Some(mode) = mode else { return Ok(()) };
        let inherited = match node.is(libc::S_IFDIR) {
            true => (node.stat.st_mode & 0o7777) as u32,
            false => 0,
        };
        let bits = mode.bits() as u32;
        let mode = rights::new_mode(self.cx.caller, gid, bits, inherited);
        node.chmod(Mode::from_bits_truncate(mode as _))
    }
}

impl Graft {
    /// Whether the caller may make that name; one that is there he may meet.
    pub(super) fn may_make(&self, cx: &Cx, dir: &Node, name: &[u8]) -> Result<May> {
        let of = File::of(&dir.stat);
        rights::search(cx.caller, &of)?;
        let there = nix::sys::stat::fstatat(dir.dir()?, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        match (rights::make(cx.caller, &of), there) {
            (Ok(()), _) => Ok(May::Make),
            (Err(_), Ok(_)) => Ok(May::Meet),
            (Err(no), Err(_)) => Err(no),
        }
    }
}

fn mode_of(attr: &sattr3, default: u32) -> Mode {
    match attr.mode {
        set_mode3::mode(mode) => Mode::from_bits_truncate((mode & 0o7777) as _),
        set_mode3::Void => Mode::from_bits_truncate(default as _),
    }
}
