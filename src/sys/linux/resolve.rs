//! Places inside a mounted root, found without ever leaving it.
//!
//! openat2(2) with RESOLVE_IN_ROOT finds what exists. Where something is missing, or
//! the kernel lacks the call (before 5.6), a walk does the same by hand: each component is
//! opened without following it, symlinks are expanded here, and `..` goes back to a
//! descriptor already held, at most to the root's.

use crate::sys::fault::{Attempt, Fault};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Component, Path, PathBuf};

/// As many as Linux itself follows (path_resolution(7)).
const MAX_SYMLINKS: usize = 40;
/// More components than PATH_MAX allows in one path, symlinks expanded.
const MAX_COMPONENTS: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Directory => "a directory",
            Kind::File => "a file",
        }
    }

    /// Any non-directory takes a file's mount.
    fn fits(self, stat: &FileStat) -> bool {
        (file_type(stat) == SFlag::S_IFDIR) == (self == Kind::Directory)
    }
}

/// Something made in the tree only to be mounted on.
pub struct Created {
    parent: OwnedFd,
    name: OsString,
    kind: Kind,
    /// From the root, without symlinks.
    path: PathBuf,
    /// The parent's before, and as this creation left it.
    mtimes: (TimeSpec, TimeSpec),
}

impl Created {
    pub fn descriptor(&self) -> RawFd {
        self.parent.as_raw_fd()
    }

    /// Unmounts what is on it and removes it; `root` is where the tree is mounted now.
    /// A directory that has got something inside stays, and so does the parent's
    /// mtime if anything else changed there.
    pub fn remove(self, root: &Path) {
        let at = root.join(&self.path);
        let _ = umount2(&at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        let flag = match self.kind {
            Kind::Directory => UnlinkatFlags::RemoveDir,
            Kind::File => UnlinkatFlags::NoRemoveDir,
        };
        let untouched = fstat(&self.parent).is_ok_and(|s| mtime(&s) == self.mtimes.1);
        if unlinkat(&self.parent, self.name.as_os_str(), flag).is_ok() && untouched {
            let _ = futimens(&self.parent, &TimeSpec::UTIME_OMIT, &self.mtimes.0);
        }
    }
}

fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn mtime(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}

/// `target`, an absolute path in `root`'s tree, as an O_PATH descriptor. What is
/// missing is made, and noted in `created`.
pub fn locate(
    root: &OwnedFd,
    target: &Path,
    kind: Kind,
    created: &mut Vec<Created>,
) -> Result<OwnedFd, Fault> {
    let found = match existing(root, target) {
        Ok(fd) => fd,
        Err(Errno::ENOENT | Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => {
            Walk::new(root, target, kind, created)?.finish()?
        }
        Err(errno) => return Err(errno).attempt(find(target)),
    };
    let (stat, top) = (
        fstat(&found).attempt(find(target))?,
        fstat(root).attempt(find(target))?,
    );
    if (stat.st_dev, stat.st_ino) == (top.st_dev, top.st_ino) {
        return Err(Fault::new(format!(
            "{} is the root itself",
            target.display()
        )));
    }
    if !kind.fits(&stat) {
        let what = kind.name();
        return Err(Fault::new(format!(
            "{} is not {what} in the tree",
            target.display()
        )));
    }
    Ok(found)
}

fn find(target: &Path) -> String {
    format!("find {} in the tree", target.display())
}

fn existing(root: &OwnedFd, target: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, target, how)
}

/// What is still to be walked, and the way back.
struct Walk<'a> {
    target: &'a Path,
    kind: Kind,
    created: &'a mut Vec<Created>,
    /// The root first; each with its name.
    trail: Vec<(OwnedFd, OsString)>,
    pending: VecDeque<OsString>,
    symlinks: usize,
    /// A last component that is no directory.
    file: Option<OwnedFd>,
}

impl<'a> Walk<'a> {
    fn new(
        root: &OwnedFd,
        target: &'a Path,
        kind: Kind,
        created: &'a mut Vec<Created>,
    ) -> Result<Walk<'a>, Fault> {
        let root = root.try_clone().attempt(find(target))?;
        let mut walk = Walk {
            target,
            kind,
            created,
            trail: vec![(root, OsString::new())],
            pending: VecDeque::new(),
            symlinks: 0,
            file: None,
        };
        walk.push_front(target)?;
        Ok(walk)
    }

    fn finish(mut self) -> Result<OwnedFd, Fault> {
        while let Some(name) = self.pending.pop_front() {
            if self.file.is_some() {
                return Err(Errno::ENOTDIR).attempt(find(self.target));
            }
            if name == ".." {
                if self.trail.len() > 1 {
                    self.trail.pop();
                }
                continue;
            }
            self.step(name)?;
        }
        match self.file.or_else(|| self.trail.pop().map(|(fd, _)| fd)) {
            Some(fd) => Ok(fd),
            None => Err(Errno::ENOENT).attempt(find(self.target)),
        }
    }

    fn push_front(&mut self, path: &Path) -> Result<(), Fault> {
        let mut parts: VecDeque<OsString> = path
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            })
            .collect();
        parts.append(&mut self.pending);
        self.pending = parts;
        if self.pending.len() > MAX_COMPONENTS {
            return Err(Errno::ENAMETOOLONG).attempt(find(self.target));
        }
        Ok(())
    }

    fn top(&self) -> &OwnedFd {
        // The root is never popped.
        &self.trail[self.trail.len() - 1].0
    }

    fn step(&mut self, name: OsString) -> Result<(), Fault> {
        let fd = match self.open(&name) {
            Err(Errno::ENOENT) => {
                self.create(&name)?;
                self.open(&name)
            }
            other => other,
        }
        .attempt(find(self.target))?;
        match file_type(&fstat(&fd).attempt(find(self.target))?) {
            SFlag::S_IFLNK => return self.follow(&fd),
            SFlag::S_IFDIR => self.trail.push((fd, name)),
            _ => self.file = Some(fd),
        }
        Ok(())
    }

    fn open(&self, name: &OsStr) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.top(), name, flags, Mode::empty())
    }

    fn follow(&mut self, link: &OwnedFd) -> Result<(), Fault> {
        self.symlinks += 1;
        if self.symlinks > MAX_SYMLINKS {
            return Err(Errno::ELOOP).attempt(find(self.target));
        }
        let to = PathBuf::from(readlinkat(link, "").attempt(find(self.target))?);
        if to.is_absolute() {
            self.trail.truncate(1);
        }
        self.push_front(&to)
    }

    fn create(&mut self, name: &OsStr) -> Result<(), Fault> {
        let doing = || format!("create {} for {}", name.display(), self.target.display());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = openat(self.top(), ".", flags, Mode::empty()).attempt(doing())?;
        let before = mtime(&fstat(&parent).attempt(doing())?);
        let kind = match self.pending.is_empty() {
            true => self.kind,
            false => Kind::Directory,
        };
        match kind {
            Kind::Directory => mkdirat(&parent, name, Mode::from_bits_truncate(0o755)),
            Kind::File => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                openat(&parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
            }
        }
        .attempt(doing())?;
        let after = mtime(&fstat(&parent).attempt(doing())?);
        let mut path: PathBuf = self.trail.iter().map(|(_, name)| name).collect();
        path.push(name);
        self.created.push(Created {
            parent,
            name: name.to_owned(),
            kind,
            path,
            mtimes: (before, after),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn root(dir: &Path) -> OwnedFd {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open(dir, flags, Mode::empty()).unwrap()
    }

    /// Both ways to find `target`; the walk's answer where they agree.
    fn both(dir: &Path, target: &str) -> Result<u64, Errno> {
        let root = root(dir);
        let quick = existing(&root, Path::new(target)).map(|fd| fstat(&fd).unwrap().st_ino);
        let mut created = Vec::new();
        let walked = Walk::new(&root, Path::new(target), Kind::Directory, &mut created)
            .unwrap()
            .finish();
        let walked = walked
            .map(|fd| fstat(&fd).unwrap().st_ino)
            .map_err(|f| Errno::from_raw(f.errno.unwrap()));
        assert!(created.is_empty());
        assert_eq!(quick, walked, "{target}");
        walked
    }

    #[test]
    fn the_walk_finds_what_openat2_finds() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        fs::create_dir_all(d.join("a/b/etc")).unwrap();
        fs::create_dir(d.join("etc")).unwrap();
        fs::write(d.join("etc/file"), "").unwrap();
        symlink("/etc", d.join("a/abs")).unwrap();
        symlink("../../../../../../etc", d.join("a/up")).unwrap();
        symlink("b/../b", d.join("a/rel")).unwrap();
        symlink("loop", d.join("loop")).unwrap();
        let ino = |p: &str| Ok(fs::symlink_metadata(d.join(p)).unwrap().ino());
        for (target, want) in [
            ("/a/b", ino("a/b")),
            ("/a/abs", ino("etc")),
            ("/a/abs/file", ino("etc/file")),
            ("/a/up", ino("etc")),
            ("/a/up/..", ino("")),
            ("/a/rel/etc", ino("a/b/etc")),
            ("/../../etc", ino("etc")),
            ("/loop", Err(Errno::ELOOP)),
            ("/etc/file/x", Err(Errno::ENOTDIR)),
        ] {
            assert_eq!(both(d, target), want, "{target}");
        }
    }

    #[test]
    fn what_is_missing_is_made_inside_and_removed_again_with_its_mtime() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        fs::create_dir(d.join("etc")).unwrap();
        symlink("../run/x/resolv", d.join("etc/resolv.conf")).unwrap();
        symlink("/../../outside", d.join("out")).unwrap();
        let before = (fs::metadata(d).unwrap().mtime_nsec(), d.metadata().unwrap());
        let root = root(d);
        let mut created = Vec::new();
        let target = Path::new("/etc/resolv.conf");
        locate(&root, target, Kind::File, &mut created)
            .map_err(|f| f.to_string())
            .unwrap();
        locate(&root, Path::new("/out/deep"), Kind::Directory, &mut created)
            .map_err(|f| f.to_string())
            .unwrap();
        assert!(d.join("run/x/resolv").is_file());
        assert!(d.join("outside/deep").is_dir());
        while let Some(last) = created.pop() {
            last.remove(d);
        }
        assert!(!d.join("run").exists() && !d.join("outside").exists());
        let after = d.metadata().unwrap();
        assert_eq!(
            (after.mtime(), after.mtime_nsec()),
            (before.1.mtime(), before.0)
        );
    }

    #[test]
    fn the_wrong_kind_and_the_root_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        symlink("..", dir.path().join("top")).unwrap();
        let root = root(dir.path());
        let refuse = |target: &str, kind| {
            locate(&root, Path::new(target), kind, &mut Vec::new())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refuse("/f", Kind::Directory),
            "/f is not a directory in the tree"
        );
        assert_eq!(refuse("/d", Kind::File), "/d is not a file in the tree");
        assert_eq!(refuse("/top", Kind::Directory), "/top is the root itself");
        assert_eq!(
            refuse("/f/x", Kind::Directory),
            "find /f/x in the tree: Not a directory"
        );
    }
}
