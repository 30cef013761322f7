//! Directories read ahead. Who walks a tree, as find(1) and tar(1) do, reads a directory's
//! directories in the order in which it was listed; each of them asked for only when it is
//! wanted is four threads woken in turn, and all that they do is little beside that.

use super::export::Export;
use parking_lot::Mutex;
use pocker_nfs::client::DirEntry;
use pocker_nfs::proto::ftype3;
use std::collections::VecDeque;

/// Listings remembered: the directories above those in which a few walkers are.
const LISTINGS: usize = 16;

/// Directories remembered of one, more than anybody is ahead; the latest.
const DIRS_MAX: usize = 1024;

/// Directories that a walker is ahead, at first and at most.
const WINDOW: (usize, usize) = (2, 16);

/// A walker may leave out as many and is one still.
const SKIP: usize = 4;

/// The directories in one that was listed.
struct Listing {
    dir: u64,
    dirs: Vec<u64>,
    /// The next one that a walker would read.
    next: usize,
    /// Those before were asked for.
    asked: usize,
    window: usize,
}

/// What one mount knows of those who walk in it.
#[derive(Default)]
pub(crate) struct Walk {
    /// The least recently used first.
    listings: Mutex<VecDeque<Listing>>,
}

impl Walk {
    /// Somebody gets the names of `dir`, from the first on or those after the last ones.
    fn listed(&self, dir: u64, first: bool, dirs: impl Iterator<Item = u64>) {
        let mut listings = self.listings.lock();
        let known = listings.iter().position(|l| l.dir == dir);
        let known = known.and_then(|at| listings.remove(at));
        let mut listing = known.filter(|_| !first).unwrap_or(Listing {
            dir,
            dirs: Vec::new(),
            next: 0,
            asked: 0,
            window: 0,
        });
        listing.dirs.extend(dirs);
        let many = listing.dirs.len().saturating_sub(DIRS_MAX);
        listing.dirs.drain(..many);
        listing.next = listing.next.saturating_sub(many);
        listing.asked = listing.asked.saturating_sub(many);
        if listing.dirs.is_empty() {
            return;
        }
        if listings.len() >= LISTINGS {
            listings.pop_front();
        }
        listings.push_back(listing);
    }

    /// `dir` is being read: those to read ahead.
    fn follow(&self, dir: u64) -> Vec<u64> {
        let mut listings = self.listings.lock();
        let place = |l: &Listing| l.dirs.iter().position(|d| *d == dir);
        let found = listings.iter().enumerate().rev();
        let Some((at, here)) = found.filter_map(|(at, l)| Some((at, place(l)?))).next() else {
            return Vec::new();
        };
        let Some(mut l) = listings.remove(at) else {
            return Vec::new();
        };
        let in_turn = (l.next..=l.next + SKIP).contains(&here);
        l.next = here + 1;
        let mut wanted = Vec::new();
        if in_turn {
            l.window = (l.window * 2).clamp(WINDOW.0, WINDOW.1);
            let (from, to) = (l.asked.max(l.next), l.next + l.window);
            // Several at a time: the server answers them together.
            if to >= from + l.window.div_ceil(2) {
                wanted.extend(l.dirs.iter().skip(from).take(to - from));
                l.asked = from + wanted.len();
            }
        } else {
            (l.window, l.asked) = (0, l.next);
        }
        listings.push_back(l);
        wanted
    }
}

impl Export {
    /// Where this mount's names change by nobody: asks for the directories that the one who
    /// begins to read `ino` will read next, and remembers those in `entries`.
    pub(crate) fn walks(&self, ino: u64, first: bool, entries: &[DirEntry]) -> Vec<u64> {
        if !self.policy.sealed() || !self.settled(ino) {
            return Vec::new();
        }
        let is_dir = |e: &&DirEntry| {
            let dots = matches!(e.name.as_slice(), b"." | b"..");
            !dots && e.attr.is_some_and(|a| matches!(a.ftype, ftype3::NF3DIR))
        };
        let dirs = entries.iter().filter(is_dir);
        self.walk
            .listed(ino, first, dirs.map(|e| self.table.id(e.fileid)));
        match first {
            true => self.walk.follow(ino),
            false => Vec::new(),
        }
    }

    /// Reads one directory ahead, as far as one call goes.
    pub(crate) async fn list_ahead(&self, ino: u64) {
        let reading = self.dirs.unopened(ino);
        // Who has it fills it.
        if let Ok(mut reading) = reading.try_lock()
            && !reading.filled
        {
            // Whoever wants it asks again, and is told what is wrong.
            let _ = self.fill(ino, 0, &mut reading).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_walks_is_read_ahead_of_and_nobody_else() {
        let walk = Walk::default();
        walk.listed(1, true, 100..150);
        walk.listed(1, false, 150..200);
        assert!(walk.follow(170).is_empty() && walk.follow(130).is_empty());
        walk.listed(1, true, 100..200);
        let mut asked = Vec::new();
        for dir in 100..200 {
            asked.extend(walk.follow(dir));
            assert!(
                asked.iter().all(|a| *a <= dir + WINDOW.1 as u64),
                "{asked:?}"
            );
            // What lies below takes nothing away from what lies above.
            walk.listed(dir, true, [dir * 1000, dir * 1000 + 1].into_iter());
            assert_eq!(walk.follow(dir * 1000), [dir * 1000 + 1]);
        }
        assert_eq!(asked, (101..200).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_goes_on() {
        let walk = Walk::default();
        let dirs = 10 * DIRS_MAX as u64;
        walk.listed(1, true, 100..200);
        assert!(walk.follow(100).len() == WINDOW.0);
        walk.listed(1, false, 200..100 + dirs);
        assert!(walk.follow(101).is_empty());
        let late = 100 + dirs - 100;
        walk.follow(late);
        assert!(!walk.follow(late + 1).is_empty());
        for dir in 0..1000 {
            walk.listed(dir, true, [dir + 1_000_000].into_iter());
        }
        let listings = walk.listings.lock();
        assert!(listings.len() <= LISTINGS);
        assert!(listings.iter().all(|l| l.dirs.len() <= DIRS_MAX));
    }
}
