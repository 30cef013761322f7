//! Which blocks of a base file a staged file already holds itself.

use crate::types::Errno;

/// What is copied at least when a write touches a block for the first time, and
/// what one bit stands for: small enough to copy inside a call, large enough that a
/// gigabyte's map is 2 KiB.
pub(super) const BLOCK: u64 = 64 * 1024;
/// Words of the map in one row of `work.db`: 256 MiB of file a row of 512 bytes.
const CHUNK_WORDS: usize = 64;
const WORD_BITS: u64 = 64;

#[derive(Clone, Default)]
pub(super) struct Blocks {
    words: Vec<u64>,
    total: u64,
    set: u64,
}

impl Blocks {
    /// None present, for `bytes` of base.
    pub fn new(bytes: u64) -> Blocks {
        let total = bytes.div_ceil(BLOCK);
        Blocks {
            words: vec![0; total.div_ceil(WORD_BITS) as usize],
            total,
            set: 0,
        }
    }

    pub fn has(&self, block: u64) -> bool {
        match self.words.get((block / WORD_BITS) as usize) {
            Some(word) => word >> (block % WORD_BITS) & 1 == 1,
            // Past the base there is nothing to be absent.
            None => true,
        }
    }

    /// Marks `from..to`; the chunks that changed, for their rows.
    pub fn mark(&mut self, from: u64, to: u64) -> Vec<usize> {
        let mut chunks = Vec::new();
        for block in from..to.min(self.total) {
            let at = (block / WORD_BITS) as usize;
            let bit = 1 << (block % WORD_BITS);
            if self.words[at] & bit == 0 {
                self.words[at] |= bit;
                self.set += 1;
                if chunks.last() != Some(&(at / CHUNK_WORDS)) {
                    chunks.push(at / CHUNK_WORDS);
                }
            }
        }
        chunks
    }

    /// Bytes of base, of the first `limit`, that are not here: rounded up to blocks.
    pub fn absent_bytes(&self, limit: u64) -> u64 {
        ((self.total - self.set) * BLOCK).min(limit)
    }

    pub fn chunk(&self, chunk: usize) -> Vec<u8> {
        let from = chunk * CHUNK_WORDS;
        let to = (from + CHUNK_WORDS).min(self.words.len());
        self.words[from..to]
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect()
    }

    pub fn load_chunk(&mut self, chunk: usize, bytes: &[u8]) -> Result<(), Errno> {
        let from = chunk.checked_mul(CHUNK_WORDS).ok_or(Errno::Io)?;
        for (i, word) in bytes.chunks(8).enumerate() {
            let slot = self.words.get_mut(from + i).ok_or(Errno::Io)?;
            let new = u64::from_le_bytes(word.try_into().map_err(|_| Errno::Io)?);
            self.set = self.set + u64::from(new.count_ones()) - u64::from(slot.count_ones());
            *slot = new;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_survive_their_rows() {
        let mut map = Blocks::new(BLOCK * 10_000 + 1);
        assert!(!map.has(0) && !map.has(10_000) && map.has(10_048));
        assert_eq!(map.mark(4_000, 4_200), vec![0, 1]);
        assert!(map.mark(4_000, 4_200).is_empty());
        assert_eq!(map.mark(10_000, 20_000), vec![2]);
        assert_eq!(map.absent_bytes(u64::MAX), (10_001 - 201) * BLOCK);

        let mut copy = Blocks::new(BLOCK * 10_000 + 1);
        for chunk in 0..3 {
            copy.load_chunk(chunk, &map.chunk(chunk)).unwrap();
        }
        assert_eq!((copy.set, copy.words), (map.set, map.words));
        assert!(copy.total == map.total && Blocks::new(1).load_chunk(1, &[0; 8]).is_err());
    }
}
