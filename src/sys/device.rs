//! Device numbers, whose halves every system packs in its own way.

// The halves have other types elsewhere.
#![allow(clippy::unnecessary_cast)]

use libc::dev_t;

pub fn make(major: u32, minor: u32) -> dev_t {
    libc::makedev(major as _, minor as _) as dev_t
}

pub fn major(device: dev_t) -> u32 {
    libc::major(device) as u32
}

pub fn minor(device: dev_t) -> u32 {
    libc::minor(device) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_apart_as_it_was_made() {
        for (a, b) in [(1, 3), (22, 2), (0, 0), (255, 0xffff)] {
            assert_eq!((major(make(a, b)), minor(make(a, b))), (a, b));
        }
    }
}
