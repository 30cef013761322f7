//! Large buffers that are used again: a fresh one costs a page fault for each of its pages.

use parking_lot::Mutex;

/// Buffers kept, of a bit over 1 MiB at most.
const KEPT: usize = 16;
/// A smaller one is not worth its place.
const WORTH: usize = 64 << 10;

#[derive(Default)]
pub struct Spares(Mutex<Vec<Vec<u8>>>);

impl Spares {
    /// An empty buffer for `need` bytes, perhaps with room: never for more than twice as
    /// many, as who takes it holds `need` only.
    pub fn take(&self, need: usize) -> Vec<u8> {
        let mut kept = self.0.lock();
        let fits = kept.last().is_some_and(|last| last.capacity() / 2 <= need);
        if fits { kept.pop() } else { None }.unwrap_or_default()
    }

    pub fn give(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() < WORTH {
            return;
        }
        buffer.clear();
        let mut kept = self.0.lock();
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}
