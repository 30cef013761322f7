//! What a run finds in its tree where a system has no mounts of a sandbox's own: files are copied in, directories
//! made, and mount points looked up. All of it is taken back, the last first, once the command is gone, which may
//! have changed any of it: so each thing is found again by a descriptor of its directory, opened before the command
//! was, and a name in it that is never followed.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many links as a path may lead through (SYMLOOP_MAX has 32 on OpenBSD).
const LINKS_MAX: usize = 32;
const DIR_MODE: u32 = 0o755;
/// As many directories are held open while a tree is removed; what lies deeper is moved up first.
const DEPTH_MAX: usize = 64;

/// A name in a directory.
#[derive(Debug)]
struct At {
    dir: OwnedFd,
    name: OsString,
    /// For whoever mounts there, while no command runs.
    path: PathBuf,
}

/// What was laid, and so how it is taken back.
#[derive(Debug)]
enum Kind {
    /// Goes where nothing came into it.
    Dir,
    /// Goes with all in it, and what was there before comes back.
    Tree { before: Option<OsString> },
    /// So does this; its bytes go wherever it was moved to.
    File {
        copy: Option<File>,
        before: Option<OsString>,
    },
    /// A mount of this device.
    Mount { device: u64 },
}

#[derive(Debug)]
pub struct Laid {
    root: OwnedFd,
    path: PathBuf,
    made: Vec<(At, Kind)>,
}

fn open_dir(dir: impl AsFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

fn look(dir: impl AsFd, name: &OsStr) -> nix::Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

// Other systems have other types there.
#[allow(clippy::useless_conversion)]
fn kind(stat: &FileStat) -> u32 {
    u32::from(stat.st_mode) & 0o170_000
}

fn is_dir(stat: &FileStat) -> bool {
    kind(stat) == 0o040_000
}

// Other systems have other types there.
#[allow(clippy::unnecessary_cast)]
fn device(stat: &FileStat) -> u64 {
    stat.st_dev as u64
}

impl Laid {
    pub fn new(root: &Path) -> io::Result<Laid> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Laid {
            root: nix::fcntl::open(root, flags, Mode::empty())?,
            path: root.to_owned(),
            made: Vec::new(),
        })
    }

    /// Those that whoever calls `clear` must keep.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut all = vec![self.root.as_raw_fd()];
        for (at, kind) in &self.made {
            all.push(at.dir.as_raw_fd());
            if let Kind::File {
                copy: Some(copy), ..
            } = kind
            {
                all.push(copy.as_raw_fd());
            }
        }
        all
    }

    /// Where a path of the tree is: its links are followed inside the root only, its directories made.
    fn find(&mut self, target: &Path) -> io::Result<At> {
        let names = |path: &Path| -> Vec<Option<OsString>> {
            let parts = path.components().filter_map(|part| match part {
                Component::Normal(name) => Some(Some(name.to_owned())),
                Component::ParentDir => Some(None),
                _ => None,
            });
            parts.collect()
        };
        let mut left: VecDeque<Option<OsString>> = names(target).into();
        let mut above: Vec<(OwnedFd, OsString)> = Vec::new();
        let (mut dir, mut links) = (self.root.try_clone()?, 0);
        while let Some(name) = left.pop_front() {
            let Some(name) = name else {
                if let Some((up, _)) = above.pop() {
                    dir = up;
                }
                continue;
            };
            let found = look(&dir, &name)?;
            if found.as_ref().is_some_and(|stat| kind(stat) == 0o120_000) {
                links += 1;
                if links > LINKS_MAX {
                    return Err(io::Error::other("too many symlinks"));
                }
                let to = PathBuf::from(readlinkat(&dir, name.as_os_str())?);
                if to.is_absolute() {
                    above.clear();
                    dir = self.root.try_clone()?;
                }
                for name in names(&to).into_iter().rev() {
                    left.push_front(name);
                }
                continue;
            }
            let mut path = self.path.clone();
            path.extend(above.iter().map(|(_, name)| name));
            path.push(&name);
            if left.is_empty() {
                return Ok(At { dir, name, path });
            }
            if found.is_none() {
                let at = At {
                    dir: dir.try_clone()?,
                    name: name.clone(),
                    path,
                };
                self.make(at)?;
            }
            let next = open_dir(&dir, &name)?;
            above.push((std::mem::replace(&mut dir, next), name));
        }
        // It ends in `..`: of what is open now.
        match above.pop() {
            Some((dir, name)) => {
                let mut path = self.path.clone();
                path.extend(above.iter().map(|(_, name)| name));
                path.push(&name);
                Ok(At { dir, name, path })
            }
            None => Err(io::Error::other("it is the root itself")),
        }
    }

    fn make(&mut self, at: At) -> io::Result<()> {
        mkdirat(
            &at.dir,
            at.name.as_os_str(),
            Mode::from_bits_truncate(DIR_MODE as _),
        )?;
        self.made.push((at, Kind::Dir));
        Ok(())
    }

    /// A directory, made where it is missing.
    pub fn mount_point(&mut self, target: &Path) -> io::Result<PathBuf> {
        let at = self.find(target)?;
        let path = at.path.clone();
        match look(&at.dir, &at.name)? {
            Some(stat) if is_dir(&stat) => {}
            Some(_) => return Err(Errno::ENOTDIR.into()),
            None => self.make(at)?,
        }
        Ok(path)
    }

    /// What was mounted on a mount point.
    pub fn mounted(&mut self, target: &Path) -> io::Result<()> {
        let at = self.find(target)?;
        let stat = look(&at.dir, &at.name)?.ok_or(Errno::ENOENT)?;
        let device = device(&stat);
        self.made.push((at, Kind::Mount { device }));
        Ok(())
    }

    /// A directory that begins empty and of which nothing stays.
    pub fn empty(&mut self, target: &Path, mode: u32) -> io::Result<()> {
        let at = self.find(target)?;
        // What is there is the tree's own: it is hidden, as a mount would.
        let before = match look(&at.dir, &at.name)? {
            Some(stat) if is_dir(&stat) => Some(self.aside(&at)?),
            Some(_) => return Err(Errno::ENOTDIR.into()),
            None => None,
        };
        let (dir, name) = (at.dir.try_clone()?, at.name.clone());
        self.made.push((at, Kind::Tree { before }));
        mkdirat(&dir, name.as_os_str(), Mode::S_IRWXU)?;
        let made = open_dir(&dir, &name)?;
        Ok(fchmod(&made, Mode::from_bits_truncate(mode as _))?)
    }

    /// A copy of a host's file, which the command cannot change the host's by.
    pub fn file(&mut self, host: &Path, target: &Path) -> io::Result<()> {
        let at = self.find(target)?;
        let mut from = File::open(host)?;
        let own = from.metadata()?;
        let before = match look(&at.dir, &at.name)? {
            Some(_) => Some(self.aside(&at)?),
            None => None,
        };
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let opened = openat(
            &at.dir,
            at.name.as_os_str(),
            flags | OFlag::O_CLOEXEC,
            Mode::S_IRUSR | Mode::S_IWUSR,
        );
        let (copy, failed) = match opened {
            Ok(fd) => (Some(File::from(fd)), None),
            Err(e) => (None, Some(e)),
        };
        let to = copy.as_ref().map(File::try_clone).transpose()?;
        self.made.push((at, Kind::File { copy, before }));
        if let Some(e) = failed {
            return Err(e.into());
        }
        if let Some(mut to) = to {
            io::copy(&mut from, &mut to)?;
            let (uid, gid) = (Uid::from_raw(own.uid()), Gid::from_raw(own.gid()));
            fchown(&to, Some(uid), Some(gid))?;
            fchmod(&to, Mode::from_bits_truncate((own.mode() & 0o777) as _))?;
        }
        Ok(())
    }

    /// Another name beside it, which no program looks for.
    fn aside(&self, at: &At) -> io::Result<OsString> {
        let name = format!(".pocker-{}-{}", std::process::id(), self.made.len());
        if look(&at.dir, OsStr::new(&name))?.is_some() {
            return Err(Errno::EEXIST.into());
        }
        renameat(&at.dir, at.name.as_os_str(), &at.dir, name.as_str())?;
        Ok(name.into())
    }

    /// Takes all of it back, the last first; what cannot be is left. `unmount` is for mounts that still are where
    /// they were made, and must not force them: a process that is left may change what a path leads to.
    pub fn clear(&mut self, unmount: &mut dyn FnMut(&Path)) {
        while let Some((at, kind)) = self.made.pop() {
            let name = at.name.as_os_str();
            let before = match kind {
                Kind::Dir => {
                    let _ = unlinkat(&at.dir, name, UnlinkatFlags::RemoveDir);
                    None
                }
                Kind::Tree { before } => {
                    let _ = remove(&at.dir, name);
                    before
                }
                Kind::File { copy, before } => {
                    let _ = copy.map(|copy| copy.set_len(0));
                    let _ = remove(&at.dir, name);
                    before
                }
                Kind::Mount { device } => {
                    let path = at.path.clone();
                    // Nothing may be open in what is unmounted, nor on the way there.
                    if self.leads_to(&at, device) {
                        drop(at);
                        unmount(&path);
                    }
                    continue;
                }
            };
            if let Some(before) = before {
                let _ = renameat(&at.dir, before.as_os_str(), &at.dir, name);
            }
        }
    }

    /// Whether the path still is of plain directories, down to that one and the mount in it.
    fn leads_to(&self, at: &At, mounted: u64) -> bool {
        let walk = || -> io::Result<bool> {
            let below = at.path.strip_prefix(&self.path).map_err(io::Error::other)?;
            let mut dir = self.root.try_clone()?;
            for name in below.parent().unwrap_or(Path::new("")) {
                dir = open_dir(&dir, name)?;
            }
            let (here, held) = (fstat(&dir)?, fstat(&at.dir)?);
            let found = look(&at.dir, &at.name)?;
            Ok((here.st_dev, here.st_ino) == (held.st_dev, held.st_ino)
                && found.is_some_and(|stat| is_dir(&stat) && device(&stat) == mounted)
                && device(&here) != mounted)
        };
        walk().unwrap_or(false)
    }
}

/// A file, a link, or a directory with all in it; never what is behind a link, nor into what is mounted there: that
/// is the host's.
fn remove(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let Some(stat) = look(dir, name)? else {
        return Ok(());
    };
    if !is_dir(&stat) {
        return Ok(unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?);
    }
    let top = open_dir(dir, name)?;
    let device = device(&fstat(dir)?);
    let mut moved = 0;
    // Each round takes what the last one moved up.
    loop {
        let before = moved;
        empty_out(&top, &top, device, 0, &mut moved)?;
        if moved == before {
            break;
        }
    }
    Ok(unlinkat(dir, name, UnlinkatFlags::RemoveDir)?)
}

fn empty_out(
    dir: &OwnedFd,
    top: &OwnedFd,
    on: u64,
    depth: usize,
    moved: &mut u64,
) -> io::Result<()> {
    if device(&fstat(dir)?) != on {
        return Ok(());
    }
    let mut names: Vec<OsString> = Vec::new();
    for entry in nix::dir::Dir::from_fd(open_dir(dir, OsStr::new("."))?)?.iter() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    for name in &names {
        let Some(stat) = look(dir, name)? else {
            continue;
        };
        if !is_dir(&stat) {
            unlinkat(dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        } else if depth < DEPTH_MAX {
            let below = open_dir(dir, name)?;
            empty_out(&below, top, on, depth + 1, moved)?;
            // It stays where something is mounted in it.
            let _ = unlinkat(dir, name.as_os_str(), UnlinkatFlags::RemoveDir);
        } else {
            *moved += 1;
            let to = format!(".pocker-deep-{}-{moved}", std::process::id());
            renameat(dir, name.as_os_str(), top, to.as_str())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::fs::symlink;

    fn tree(dir: &Path) -> Vec<String> {
        let mut out = Vec::new();
        for entry in fs::read_dir(dir).expect("listed") {
            let path = entry.expect("an entry").path();
            let kind = fs::symlink_metadata(&path).expect("there");
            let text = match kind.is_file() {
                true => fs::read_to_string(&path).expect("read"),
                false => String::new(),
            };
            out.push(format!("{} {text}", path.display()));
            if kind.is_dir() {
                out.extend(tree(&path));
            }
        }
        out.sort();
        out
    }

    #[test]
    fn what_is_laid_is_seen_and_taken_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).expect("made");
        fs::create_dir_all(root.join("tmp")).expect("made");
        fs::write(root.join("tmp/own"), "the tree's").expect("written");
        fs::write(root.join("etc/resolv.conf"), "the tree's").expect("written");
        let host = dir.path().join("resolv.conf");
        fs::write(&host, "the host's").expect("written");
        let before = tree(&root);

        let mut laid = Laid::new(&root).expect("opened");
        laid.file(&host, Path::new("/etc/resolv.conf"))
            .expect("laid");
        laid.file(&host, Path::new("/run/secrets/a")).expect("laid");
        laid.empty(Path::new("/tmp"), 0o1777).expect("laid");
        let point = laid.mount_point(Path::new("/var/www")).expect("laid");
        assert_eq!(point, root.join("var/www"));
        let read = |name: &str| fs::read_to_string(root.join(name)).expect("read");
        assert_eq!(read("etc/resolv.conf"), "the host's");
        assert_eq!(read("run/secrets/a"), "the host's");
        assert!(
            fs::read_dir(root.join("tmp"))
                .expect("listed")
                .next()
                .is_none()
        );
        fs::write(root.join("tmp/new"), "x").expect("written");
        fs::write(root.join("etc/resolv.conf"), "changed").expect("written");
        laid.clear(&mut |_| ());
        assert_eq!(tree(&root), before);
        assert_eq!(fs::read_to_string(&host).expect("read"), "the host's");
    }

    #[test]
    fn no_link_leads_out_of_the_root() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("made");
        fs::create_dir(dir.path().join("outside")).expect("made");
        for (link, to) in [
            ("abs", "/srv"),
            ("up", "../../../outside"),
            ("deep", "abs/../up/x"),
            ("loop", "loop"),
        ] {
            symlink(to, root.join(link)).expect("a link");
        }
        let mut laid = Laid::new(&root).expect("opened");
        for (target, at) in [
            ("/abs/a", "srv/a"),
            ("/up/b", "outside/b"),
            ("/deep", "outside/x"),
            ("/../c", "c"),
        ] {
            let got = laid.mount_point(Path::new(target)).expect(target);
            assert_eq!(got, root.join(at), "{target}");
        }
        laid.mount_point(Path::new("/loop/x"))
            .expect_err("for ever");
        fs::write(root.join("file"), "").expect("written");
        laid.mount_point(Path::new("/file")).expect_err("a file");
        laid.clear(&mut |_| ());
        assert!(!root.join("srv").exists());
        let outside = fs::read_dir(dir.path().join("outside")).expect("listed");
        assert_eq!(outside.count(), 0);
    }

    /// A run's laid things and a directory that is not its, with a witness.
    fn laid_and_outside() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(&root).expect("made");
        fs::create_dir_all(outside.join("cache")).expect("made");
        for name in ["cache/witness", "witness", "secret"] {
            fs::write(outside.join(name), "the host's").expect("written");
        }
        (dir, root, outside)
    }

    #[test]
    fn links_put_in_place_of_what_was_laid_are_not_followed() {
        let (dir, root, outside) = laid_and_outside();
        let before = tree(&outside);
        let host = dir.path().join("host");
        fs::write(&host, "x").expect("written");
        let mut laid = Laid::new(&root).expect("opened");
        laid.empty(Path::new("/cache"), 0o755).expect("laid");
        laid.empty(Path::new("/a/cache"), 0o755).expect("laid");
        laid.file(&host, Path::new("/b/secret")).expect("laid");
        laid.mount_point(Path::new("/c/point")).expect("laid");
        // In place of the directory itself, of its parent, and of directories inside it.
        fs::write(root.join("a/cache/x"), "x").expect("written");
        symlink(&outside, root.join("a/cache/in")).expect("a link");
        fs::remove_dir(root.join("cache")).expect("removed");
        symlink(&outside, root.join("cache")).expect("a link");
        for parent in ["a", "b", "c"] {
            fs::rename(root.join(parent), root.join(format!("{parent}-moved"))).expect("moved");
            symlink(&outside, root.join(parent)).expect("a link");
        }
        laid.clear(&mut |_| ());
        assert_eq!(tree(&outside), before);
        assert!(!root.join("cache").is_symlink());
        assert!(!root.join("b-moved/secret").exists());
        assert!(!root.join("a-moved/cache").exists());
    }

    #[test]
    fn only_a_mount_that_is_where_it_was_made_is_unmounted() {
        let (_dir, root, outside) = laid_and_outside();
        let mut laid = Laid::new(&root).expect("opened");
        for at in ["/here", "/up/gone"] {
            let at = Path::new(at);
            laid.mount_point(at).expect("laid");
            laid.mounted(at).expect("looked at");
        }
        // As if each were of a device of its own, which it is not here.
        fs::rename(root.join("up"), root.join("up-moved")).expect("moved");
        symlink(&outside, root.join("up")).expect("a link");
        let mut unmounted = Vec::new();
        laid.clear(&mut |at| unmounted.push(at.to_owned()));
        assert!(unmounted.is_empty(), "{unmounted:?}");
    }

    #[test]
    fn an_empty_directory_of_the_trees_comes_back_as_it_was() {
        let (_dir, root, _) = laid_and_outside();
        let own = root.join("var");
        fs::create_dir(&own).expect("made");
        fs::set_permissions(&own, fs::Permissions::from_mode(0o2750)).expect("set");
        let mut laid = Laid::new(&root).expect("opened");
        laid.empty(Path::new("/var"), 0o1777).expect("laid");
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o7777;
        assert_eq!(mode(&own), 0o1777);
        fs::write(own.join("of-the-run"), "x").expect("written");
        laid.clear(&mut |_| ());
        assert_eq!(mode(&own), 0o2750);
        assert_eq!(tree(&own), Vec::<String>::new());
    }

    #[test]
    fn a_file_has_its_hosts_owner_and_leaves_no_bytes_where_it_is_moved() {
        let (dir, root, _) = laid_and_outside();
        let host = dir.path().join("host");
        fs::write(&host, "hush").expect("written");
        fs::set_permissions(&host, fs::Permissions::from_mode(0o440)).expect("set");
        // As who is not root the test still sees its own owner.
        let _ = std::os::unix::fs::chown(&host, Some(77), Some(78));
        let own = fs::metadata(&host).expect("there");
        let mut laid = Laid::new(&root).expect("opened");
        laid.file(&host, Path::new("/run/secret")).expect("laid");
        let at = fs::metadata(root.join("run/secret")).expect("there");
        assert_eq!((at.uid(), at.gid()), (own.uid(), own.gid()));
        assert_eq!(at.mode() & 0o777, 0o440);
        fs::rename(root.join("run/secret"), root.join("kept")).expect("moved");
        laid.clear(&mut |_| ());
        assert_eq!(fs::read(root.join("kept")).expect("read"), b"");
    }

    #[test]
    fn a_tree_deeper_than_descriptors_goes_too() {
        let (_dir, root, _) = laid_and_outside();
        let mut laid = Laid::new(&root).expect("opened");
        laid.empty(Path::new("/deep"), 0o755).expect("laid");
        let at: PathBuf = std::iter::repeat_n("d", 3 * DEPTH_MAX).collect();
        fs::create_dir_all(root.join("deep").join(at)).expect("made");
        laid.clear(&mut |_| ());
        assert_eq!(tree(&root), Vec::<String>::new());
    }
}
