//! Writes that the server took and may still lose. They are kept until a COMMIT under the
//! verifier they were answered with (RFC 1813 §3.3.21); under another one they are sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes that a mount keeps; who writes more makes its file stable first.
pub(crate) const KEPT_MAX: usize = 16 << 20;

/// What one mount keeps: its bytes, and how many writes there ever were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Arc<AtomicUsize>, Arc<AtomicU64>);

impl Kept {
    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= KEPT_MAX
    }

    /// Writes from here on are later ones.
    pub(crate) fn now(&self) -> u64 {
        self.1.load(Ordering::SeqCst)
    }

    pub(crate) fn keep(&self, offset: u64, data: &[u8], verifier: [u8; 8]) -> Write {
        self.0.fetch_add(data.len(), Ordering::Relaxed);
        Write {
            offset,
            verifier,
            nth: self.1.fetch_add(1, Ordering::SeqCst),
            held: Held(self.clone(), data.len()),
            data: data.into(),
        }
    }
}

#[derive(Debug)]
struct Held(Kept, usize);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// One write as it was answered.
#[derive(Debug)]
pub(crate) struct Write {
    pub offset: u64,
    pub data: Box<[u8]>,
    verifier: [u8; 8],
    nth: u64,
    held: Held,
}

/// A file's writes that are not known to be stable.
#[derive(Debug, Default)]
pub(crate) struct Unstable {
    /// There may be more, from before the kernel last learnt of the file.
    pub unknown: bool,
    /// In the order in which they were made.
    writes: Vec<Write>,
}

impl Unstable {
    /// Of a file that the kernel did not know and that `fresh`ly made is empty.
    pub(crate) fn new(fresh: bool) -> Unstable {
        Unstable {
            unknown: !fresh,
            writes: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.writes.iter().map(|w| w.data.len()).sum()
    }

    /// A COMMIT that was sent at `now` was answered with `verifier`.
    pub(crate) fn settle(&mut self, now: u64, verifier: [u8; 8]) {
        self.writes
            .retain(|w| w.nth >= now || w.verifier != verifier);
    }

    pub(crate) fn is_clean(&self) -> bool {
        !self.unknown && self.writes.is_empty()
    }

    pub(crate) fn wrote(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// What a COMMIT that was answered with `verifier` leaves to be sent again: the first
    /// write that may be lost, and those after it, which may lie over it.
    pub(crate) fn lost(&self, verifier: [u8; 8]) -> &[Write] {
        let first = self.writes.iter().position(|w| w.verifier != verifier);
        first.map_or(&[], |at| &self.writes[at..])
    }

    /// Puts back what could not be made stable, before what was written since.
    pub(crate) fn put_back(&mut self, mut older: Unstable) {
        older.unknown |= self.unknown;
        older.writes.append(&mut self.writes);
        *self = older;
    }

    /// The file was cut to `size`: nothing beyond may come back.
    pub(crate) fn cut(&mut self, size: u64) {
        self.writes.retain_mut(|write| {
            let left = size.saturating_sub(write.offset);
            if left < write.data.len() as u64 {
                write.data = write.data[..left as usize].into();
                let Held(kept, held) = &mut write.held;
                kept.0.fetch_sub(*held - left as usize, Ordering::Relaxed);
                *held = left as usize;
            }
            left > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(unstable: &Unstable, verifier: u8) -> Vec<(u64, usize)> {
        let lost = unstable.lost([verifier; 8]).iter();
        lost.map(|w| (w.offset, w.data.len())).collect()
    }

    #[test]
    fn what_another_verifier_answered_is_sent_again_with_what_came_after() {
        let (kept, mut u) = (Kept::default(), Unstable::default());
        for (offset, verifier) in [(0, 2), (10, 1), (5, 2)] {
            u.wrote(kept.keep(offset, b"abc", [verifier; 8]));
        }
        assert_eq!(state(&u, 2), [(10, 3), (5, 3)]);
        assert_eq!(state(&u, 1), [(0, 3), (10, 3), (5, 3)]);
        let older = std::mem::take(&mut u);
        assert!(u.is_clean() && u.lost([9; 8]).is_empty());
        u.wrote(kept.keep(1, b"x", [1; 8]));
        u.put_back(older);
        assert_eq!(state(&u, 1), [(0, 3), (10, 3), (5, 3), (1, 1)]);
    }

    #[test]
    fn a_commit_is_for_what_was_written_before_it() {
        let (kept, mut u) = (Kept::default(), Unstable::new(true));
        u.wrote(kept.keep(0, b"a", [1; 8]));
        u.wrote(kept.keep(1, b"b", [2; 8]));
        let now = kept.now();
        u.wrote(kept.keep(2, b"c", [1; 8]));
        u.settle(now, [1; 8]);
        assert_eq!((state(&u, 9), u.bytes()), (vec![(1, 1), (2, 1)], 2));
    }

    #[test]
    fn what_is_cut_off_stays_off_and_room_is_given_back() {
        let (kept, mut u) = (Kept::default(), Unstable::default());
        u.wrote(kept.keep(0, &[1; 100], [1; 8]));
        u.wrote(kept.keep(50, &[2; 100], [1; 8]));
        u.wrote(kept.keep(60, &[3; 100], [1; 8]));
        u.cut(60);
        assert_eq!(state(&u, 2), [(0, 60), (50, 10)]);
        assert_eq!(kept.0.load(Ordering::Relaxed), 70);
        assert!(!kept.is_full());
        u.wrote(kept.keep(0, &vec![0; KEPT_MAX], [1; 8]));
        assert!(kept.is_full());
        drop(u);
        assert_eq!(kept.0.load(Ordering::Relaxed), 0);
    }
}
