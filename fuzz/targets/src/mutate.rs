//! Inputs made of kept ones, from a seed: the same seed, the same inputs.

/// xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // Zero would stay zero.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`; 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.word() >> 16) as usize % end.max(1)
    }
}

/// Words that are limits somewhere, or one beside them.
const WORDS: [u32; 24] = [
    0,
    1,
    2,
    3,
    4,
    7,
    16,
    17,
    32,
    64,
    65,
    255,
    256,
    400,
    401,
    1024,
    4096,
    4097,
    65_536,
    1 << 20,
    (1 << 20) + 4096,
    i32::MAX as u32,
    1 << 31,
    u32::MAX,
];

/// One of `corpus`, changed in a few ways, `longest` bytes at most.
pub fn mutate(corpus: &[Vec<u8>], random: &mut Random, longest: usize) -> Vec<u8> {
    let mut data = match corpus.is_empty() {
        true => Vec::new(),
        false => corpus[random.below(corpus.len())].clone(),
    };
    for _ in 0..1 + random.below(4) {
        change(&mut data, corpus, random);
    }
    data.truncate(longest);
    data
}

fn change(data: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(data.len());
    let word = match random.below(3) {
        0 => data.len() as u32,
        _ => WORDS[random.below(WORDS.len())],
    };
    match random.below(10) {
        0 if !data.is_empty() => data[at] ^= 1 << random.below(8),
        1 if !data.is_empty() => data[at] = random.word() as u8,
        // A length, an enum, half a cookie: XDR's words lie at multiples of four.
        2 | 3 => put(data, at & !3, &word.to_be_bytes()),
        4 => put(data, at, &word.to_le_bytes()),
        5 => data.truncate(at),
        6 => {
            let more = random.below(64);
            data.extend(std::iter::repeat_with(|| random.word() as u8).take(more));
        }
        7 => {
            // A part comes twice, or goes.
            let end = at + random.below(64).min(data.len() - at);
            let part = data[at..end].to_vec();
            match random.below(2) {
                0 => drop(data.splice(at..at, part)),
                _ => drop(data.drain(at..end)),
            }
        }
        8 if !corpus.is_empty() => {
            // Another one's end.
            let other = &corpus[random.below(corpus.len())];
            data.truncate(at);
            data.extend_from_slice(&other[random.below(other.len())..]);
        }
        _ => put(data, at & !3, &random.word().to_be_bytes()),
    }
}

fn put(data: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = data.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
