//! Cases spelled out: what random ones found once, and each line of the kernel's table, which
//! must all be met here.

use crate::kernel;
use pocker_store::types::{Creds, Kind};
use pocker_testing::call::{Call, What};
use pocker_testing::language::people;
use pocker_testing::model::Id;
use pocker_testing::side::Together;
use std::collections::BTreeSet;

/// Makes calls on a tree that `populate` made.
struct Script<'a, 'b>(&'a mut Together<'b>);

impl Script<'_, '_> {
    fn at(&self, path: &str) -> Id {
        self.0.model.paths()[path.as_bytes()]
    }

    fn call(&mut self, who: usize, what: What) {
        let who: Creds = people()[who].clone();
        let _ = self.0.call(&Call { who, what });
    }

    fn make(&mut self, who: usize, kind: Kind, dir: &str, name: &str, mode: u32) {
        let what = What::Make {
            kind,
            dir: self.at(dir),
            name: name.into(),
            mode,
            guarded: false,
        };
        self.call(who, what);
    }

    fn chmod(&mut self, path: &str, mode: u32) {
        let node = self.at(path);
        self.call(0, What::Chmod { node, mode });
    }

    fn chown(&mut self, who: usize, path: &str, uid: Option<u32>, gid: Option<u32>) {
        let node = self.at(path);
        self.call(who, What::Chown { node, uid, gid });
    }

    fn write(&mut self, who: usize, path: &str) {
        let what = What::Write {
            file: self.at(path),
            offset: 5,
            len: 20,
            seed: 9,
        };
        self.call(who, what);
    }

    fn rename(&mut self, who: usize, (from, name): (&str, &str), (to, new): (&str, &str)) {
        let what = What::Rename {
            from: self.at(from),
            name: name.into(),
            to: self.at(to),
            new: new.into(),
        };
        self.call(who, what);
    }
}

/// `/a` is everybody's and `/big` sticky; users are 1 and 2.
pub fn run(w: &mut Together<'_>) {
    let mut s = Script(w);
    // A mode that only the model's clock noticed, as Linux has no such call.
    s.chmod("/a/a", 0o700);
    // Setgid without group execute, written to by one who is not of the group.
    s.chmod("/big/f0903", 0o3662);
    s.write(2, "/big/f0903");
    let file = s.at("/big/f0903");
    s.call(2, What::Truncate { file, size: 3 });
    s.0.same("setgid");
    // An owner who may not write, by the mode.
    s.make(1, Kind::File, "/a/", "mine", 0o6444);
    s.write(1, "/a/mine");
    let file = s.at("/a/mine");
    s.call(1, What::Truncate { file, size: 3 });
    s.0.same("an owner");
    // What there is already, and what open(2) does not open.
    s.make(1, Kind::File, "/a/", "mine", 0o644);
    s.write(1, "/a/a");
    s.write(1, "/a/big");
    s.chown(2, "/a/mine", None, None);
    // Set-id bits in a mode.
    s.make(1, Kind::Dir, "/a/", "bits", 0o7755);
    s.chown(0, "/a/bits/", None, Some(50));
    s.chmod("/a/bits/", 0o2777);
    s.make(2, Kind::File, "/a/bits/", "strange", 0o2644);
    s.make(2, Kind::Dir, "/a/bits/", "handed down", 0o755);
    s.0.same("set-id bits");
    // Links to others' files.
    let (file, dir) = (s.at("/big/f0003"), s.at("/a/"));
    let name = b"theirs".to_vec();
    s.call(2, What::Link { file, dir, name });
    // Renames in the kernel's order: of one file's two names, onto an ancestor, of a
    // directory that cannot be written to onto one that is not empty.
    s.chmod("/big/", 0o1755);
    s.rename(1, ("/big/", "f0003"), ("/a/", "theirs"));
    s.make(0, Kind::Dir, "/a/bits/", "root's", 0o755);
    s.make(0, Kind::Dir, "/a/", "full", 0o777);
    s.make(0, Kind::File, "/a/full/", "file", 0o644);
    s.rename(1, ("/a/bits/", "root's"), ("/a/", "bits"));
    s.rename(1, ("/a/bits/", "root's"), ("/a/", "full"));
    s.chmod("/big/", 0o1777);
    let (node, name) = (s.at("/big/"), &b"user.one"[..]);
    let value = b"v".to_vec();
    s.call(1, What::SetXattr { node, name, value });
    s.0.same("a sticky directory's attributes");
    s.call(1, What::RemoveXattr { node, name });
    s.call(1, What::RemoveXattr { node, name });
    // What is gone.
    let gone = s.at("/a/full/file");
    let (dir, name) = (s.at("/a/full/"), b"file".to_vec());
    s.call(0, What::Remove { dir, name });
    s.call(
        0,
        What::Chmod {
            node: gone,
            mode: 0o600,
        },
    );
    s.0.same("at the end of the script");
    let met: BTreeSet<&str> = w.departed.keys().copied().collect();
    for line in kernel::ALL {
        assert!(met.contains(line), "never met: {line}");
    }
}
