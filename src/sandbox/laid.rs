//! What a run finds in its tree where a system has no mounts of a sandbox's own: files are copied in, directories
//! made, and mount points looked up, by paths below the root that no process is in yet. All of it is taken back.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// As many links as a path may lead through (SYMLOOP_MAX has 32 on OpenBSD).
const LINKS_MAX: usize = 32;
const DIR_MODE: u32 = 0o755;

/// How a thing that was laid is taken back.
#[derive(Debug)]
enum Made {
    /// With all that came into it meanwhile.
    Tree(PathBuf),
    /// Where nothing came into it.
    Dir(PathBuf),
    /// And what was there before comes back.
    File {
        at: PathBuf,
        before: Option<PathBuf>,
    },
}

#[derive(Debug)]
pub struct Laid {
    root: PathBuf,
    made: Vec<Made>,
}

impl Laid {
    pub fn new(root: &Path) -> Laid {
        Laid {
            root: root.to_owned(),
            made: Vec::new(),
        }
    }

    /// Where a path of the tree is: its links are followed inside the root only.
    fn find(&self, target: &Path) -> io::Result<PathBuf> {
        let names = |path: &Path| -> Vec<Option<OsString>> {
            let parts = path.components().filter_map(|part| match part {
                Component::Normal(name) => Some(Some(name.to_owned())),
                Component::ParentDir => Some(None),
                _ => None,
            });
            parts.collect()
        };
        let mut left: VecDeque<Option<OsString>> = names(target).into();
        let (mut at, mut links) = (self.root.clone(), 0);
        while let Some(name) = left.pop_front() {
            let Some(name) = name else {
                if at != self.root {
                    at.pop();
                }
                continue;
            };
            let next = at.join(&name);
            match fs::symlink_metadata(&next) {
                Ok(meta) if meta.is_symlink() => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(io::Error::other("too many symlinks"));
                    }
                    let to = fs::read_link(&next)?;
                    if to.is_absolute() {
                        at = self.root.clone();
                    }
                    for name in names(&to).into_iter().rev() {
                        left.push_front(name);
                    }
                }
                Ok(_) => at = next,
                Err(e) if e.kind() == io::ErrorKind::NotFound => at = next,
                Err(e) => return Err(e),
            }
        }
        Ok(at)
    }

    /// A directory, made where it is missing.
    pub fn mount_point(&mut self, target: &Path) -> io::Result<PathBuf> {
        let at = self.find(target)?;
        self.make(&at)?;
        Ok(at)
    }

    fn make(&mut self, at: &Path) -> io::Result<()> {
        if fs::symlink_metadata(at).is_ok_and(|meta| meta.is_dir()) {
            return Ok(());
        }
        if let Some(parent) = at.parent().filter(|p| p.starts_with(&self.root)) {
            self.make(parent)?;
        }
        fs::DirBuilder::new().mode(DIR_MODE).create(at)?;
        self.made.push(Made::Dir(at.to_owned()));
        Ok(())
    }

    /// A directory that begins empty and of which nothing stays.
    pub fn empty(&mut self, target: &Path, mode: u32) -> io::Result<()> {
        let at = self.find(target)?;
        match fs::read_dir(&at).map(|mut names| names.next().is_some()) {
            // What is there is the tree's own: it is hidden, as a mount would.
            Ok(true) => {
                let before = self.aside(&at)?;
                self.made.push(Made::File {
                    at: at.clone(),
                    before: Some(before),
                });
            }
            Ok(false) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        if let Some(parent) = at.parent() {
            self.make(parent)?;
        }
        if !at.exists() {
            fs::create_dir(&at)?;
            self.made.push(Made::Tree(at.clone()));
        }
        fs::set_permissions(&at, fs::Permissions::from_mode(mode))
    }

    /// A copy of a host's file, which the command cannot change the host's by.
    pub fn file(&mut self, host: &Path, target: &Path) -> io::Result<()> {
        let at = self.find(target)?;
        if let Some(parent) = at.parent() {
            self.make(parent)?;
        }
        let before = match fs::symlink_metadata(&at) {
            Ok(_) => Some(self.aside(&at)?),
            Err(_) => None,
        };
        self.made.push(Made::File {
            at: at.clone(),
            before,
        });
        let mode = fs::metadata(host)?.mode() & 0o777;
        fs::copy(host, &at)?;
        fs::set_permissions(&at, fs::Permissions::from_mode(mode))
    }

    /// Another name beside it, which no program looks for.
    fn aside(&self, at: &Path) -> io::Result<PathBuf> {
        let name = format!(".pocker-{}-{}", std::process::id(), self.made.len());
        let before = at.with_file_name(name);
        fs::rename(at, &before)?;
        Ok(before)
    }

    /// Takes all of it back, the last first; what cannot be is left.
    pub fn clear(&mut self) {
        while let Some(made) = self.made.pop() {
            let _ = match made {
                Made::Dir(at) => fs::remove_dir(at),
                Made::Tree(at) => remove_tree(&at),
                Made::File { at, before } => {
                    let _ = fs::remove_file(&at);
                    before.map_or(Ok(()), |before| fs::rename(before, at))
                }
            };
        }
    }
}

/// Never into what is mounted there: that is the host's.
fn remove_tree(dir: &Path) -> io::Result<()> {
    fn below(dir: &Path, device: u64) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            match meta.is_dir() {
                true if meta.dev() != device => continue,
                true => below(&path, device)?,
                false => fs::remove_file(&path)?,
            }
        }
        fs::remove_dir(dir)
    }
    below(dir, fs::symlink_metadata(dir)?.dev())
}

#[cfg(test)]
mod tests {
    use super::*;
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

        let mut laid = Laid::new(&root);
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
        laid.clear();
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
        let mut laid = Laid::new(&root);
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
        laid.clear();
        assert!(!root.join("srv").exists());
        let outside = fs::read_dir(dir.path().join("outside")).expect("listed");
        assert_eq!(outside.count(), 0);
    }
}
