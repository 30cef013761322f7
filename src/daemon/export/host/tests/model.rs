//! Handles, held against a model of a tree that everybody changes.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// What there is, by path: the number of each thing; that of a directory is below 0.
type Model = BTreeMap<PathBuf, i64>;

fn pick(all: &[PathBuf], n: u8) -> Option<&PathBuf> {
    all.get(usize::from(n) % all.len().max(1))
}

/// Through the graft or by the host itself; what, to which of the things there, where to, by which name.
#[derive(Clone, Copy, Debug)]
struct Step {
    inside: bool,
    what: u8,
    which: u8,
    to: u8,
    name: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<bool>(), 0..12u8, any::<u8>(), any::<u8>(), 0..6u8);
    let step = step.prop_map(|(inside, what, which, to, name)| Step {
        inside,
        what,
        which,
        to,
        name,
    });
    proptest::collection::vec(step, 1..40)
}

struct Held {
    world: World,
    model: Model,
    /// Every handle that was ever given.
    handles: BTreeMap<i64, Fh>,
    next: i64,
}

impl Held {
    fn take(&mut self, step: Step) {
        let root = user(0, 0);
        let w = &self.world;
        let is_dir = |n: &i64| *n < 0;
        let mut dirs: Vec<PathBuf> = vec![PathBuf::new()];
        dirs.extend(
            self.model
                .iter()
                .filter(|(_, n)| is_dir(n))
                .map(|(p, _)| p.clone()),
        );
        let all: Vec<PathBuf> = self.model.keys().cloned().collect();
        let to = pick(&dirs, step.to).expect("the root").clone();
        let name = format!("n{}", step.name);
        let target = to.join(&name);
        let there = self.model.get(&target).copied();
        let host = |path: &Path| w.host.path().join(path);
        let parent = |path: &Path| path.parent().expect("below the root").to_owned();
        let last = |path: &Path| {
            let name = path.file_name().expect("a name");
            name.to_str().expect("text").to_owned()
        };
        let which = pick(&all, step.which).cloned();
        let empty = |path: &Path| {
            let below = self.model.keys().filter(|p| p.starts_with(path));
            below.count() == 1
        };
        match (step.what, which) {
            (0..=2, _) if there.is_none() => {
                self.next += 1;
                let n = if step.what == 2 {
                    -self.next
                } else {
                    self.next
                };
                match (step.inside, n < 0) {
                    (true, true) => {
                        let made = w.mkdir(&root, &w.lookup(&to), &name, mode(0o755));
                        self.handles.insert(n, made.expect("made").fh);
                    }
                    (true, false) => {
                        let made = w.create(&root, &w.lookup(&to), &name, mode(0o644));
                        let fh = made.expect("made").fh;
                        let text = n.to_string();
                        w.write(&root, &fh, text.as_bytes()).expect("written");
                        self.handles.insert(n, fh);
                    }
                    (false, true) => fs::create_dir(host(&target)).expect("made"),
                    (false, false) => fs::write(host(&target), n.to_string()).expect("made"),
                }
                self.model.insert(target, n);
            }
            (3 | 4, Some(path)) => {
                let n = self.model[&path];
                if is_dir(&n) && !empty(&path) {
                    return;
                }
                // Unseen by the server, where nothing else tells what comes after.
                if step.inside || w.untagged {
                    let what = match is_dir(&n) {
                        true => UnlinkatFlags::RemoveDir,
                        false => UnlinkatFlags::NoRemoveDir,
                    };
                    let dir = w.lookup(&parent(&path));
                    w.remove(&root, &dir, &last(&path), what).expect("removed");
                } else if is_dir(&n) {
                    fs::remove_dir(host(&path)).expect("removed");
                } else {
                    fs::remove_file(host(&path)).expect("removed");
                }
                self.model.remove(&path);
            }
            (5, Some(path)) if there.is_none() && self.model[&path] > 0 => {
                if step.inside {
                    let (file, dir) = (w.lookup(&path), w.lookup(&to));
                    w.link(&root, &file, &dir, &name).expect("linked");
                } else {
                    fs::hard_link(host(&path), host(&target)).expect("linked");
                }
                self.model.insert(target, self.model[&path]);
            }
            (6..=9, Some(path)) => {
                let n = self.model[&path];
                let over = match there {
                    None => true,
                    Some(m) => {
                        m != n && is_dir(&m) == is_dir(&n) && (!is_dir(&m) || empty(&target))
                    }
                };
                let unseen = !step.inside && there.is_some() && w.untagged;
                if !over || unseen || to.starts_with(&path) || path.starts_with(&target) {
                    return;
                }
                if step.inside {
                    let (from, to) = (w.lookup(&parent(&path)), w.lookup(&to));
                    let moved = w.rename(&root, (&from, &last(&path)), (&to, &name));
                    moved.expect("moved");
                } else {
                    fs::rename(host(&path), host(&target)).expect("moved");
                }
                let below: Vec<PathBuf> = self
                    .model
                    .keys()
                    .filter(|p| p.starts_with(&path))
                    .cloned()
                    .collect();
                for old in below {
                    let n = self.model.remove(&old).expect("it");
                    let rest = old.strip_prefix(&path).expect("below");
                    let new = match rest.as_os_str().is_empty() {
                        true => target.clone(),
                        false => target.join(rest),
                    };
                    self.model.insert(new, n);
                }
            }
            (10, Some(path)) => {
                let fh = w.lookup(&path);
                self.handles.insert(self.model[&path], fh);
            }
            (11, _) => {
                if step.inside && !w.untagged {
                    let _ = fs::remove_dir_all(w.kept.path().join("grafts"));
                }
                self.world.start();
            }
            _ => {}
        }
    }

    fn check(&self) {
        for (n, fh) in &self.handles {
            let path = self.model.iter().find(|(_, m)| *m == n).map(|(p, _)| p);
            let found = |fh: &Fh| match *n < 0 {
                true => self.world.getattr(fh).map(|attr| attr.fileid.to_string()),
                false => {
                    let text = self.world.read(fh);
                    text.map(|text| String::from_utf8(text).expect("text"))
                }
            };
            let Some(path) = path else {
                assert_eq!(code(&found(fh)), STALE, "{n} is gone");
                continue;
            };
            let ought = match *n < 0 {
                true => {
                    let meta = fs::metadata(self.world.host.path().join(path));
                    meta.expect("it").ino().to_string()
                }
                false => n.to_string(),
            };
            // Right after a search in vain nobody searches again.
            let mut is = found(fh);
            let began = std::time::Instant::now();
            while code(&is) == STALE && began.elapsed().as_secs() < 60 {
                std::thread::sleep(std::time::Duration::from_millis(2));
                is = found(fh);
            }
            assert_eq!(is.ok(), Some(ought), "{n} at {path:?}");
        }
    }
}

/// A fifth: each looks at every handle after every step.
fn fewer() -> ProptestConfig {
    let all = ProptestConfig::default();
    ProptestConfig {
        cases: all.cases.div_ceil(5),
        ..all
    }
}

proptest! {
    #![proptest_config(fewer())]

    /// Names are made, moved, linked and removed, through the graft and behind its back, and servers come
    /// and go: a handle always leads to the file that it was given for, and to none where that is gone.
    #[test]
    fn a_handle_is_always_its_files(steps in steps(), untagged in any::<bool>()) {
        let mut held = Held {
            world: world_of(untagged),
            model: Model::new(),
            handles: BTreeMap::new(),
            next: 0,
        };
        for step in steps {
            held.take(step);
            held.check();
        }
    }
}
