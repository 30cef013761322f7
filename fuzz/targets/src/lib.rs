//! The fuzz targets. Their bodies live in the crates whose insides they see; here each has its
//! name and the heap that it may take, for libFuzzer (`fuzz/fuzz_targets`) and for the driver
//! of every test run (`tests/`).

pub mod mutate;
mod sys;

use std::path::PathBuf;

/// One target.
pub struct Target {
    pub name: &'static str,
    /// Panics where something does not hold.
    body: fn(&[u8]),
    /// Bytes of heap that an input may take at once.
    bound: fn(&[u8]) -> usize,
    /// Inputs in a test run: about three seconds of them.
    pub runs: u64,
    /// Longest input that the driver makes.
    pub longest: usize,
}

macro_rules! target {
    ($name:literal, $body:path, $bound:path, $runs:literal, $longest:expr) => {
        Target {
            name: $name,
            body: $body,
            bound: $bound,
            runs: $runs,
            longest: $longest,
        }
    };
}

use pocker::daemon::export::fuzz as exports;
use pocker_nfs::fuzz as nfs;
use pocker_store::fuzz as store;

pub const TARGETS: [Target; 8] = [
    target!("records", nfs::records, nfs::records_bound, 10_000, 8 << 10),
    target!("call", nfs::call, nfs::call_bound, 40_000, 2 << 10),
    target!(
        "replies",
        nfs::replies,
        nfs::replies_bound,
        100_000,
        4 << 10
    ),
    target!(
        "handles",
        exports::handles,
        exports::handles_bound,
        100_000,
        128
    ),
    target!(
        "exports",
        exports::exports,
        exports::exports_bound,
        4_000,
        2 << 10
    ),
    target!(
        "objects",
        store::objects,
        store::objects_bound,
        40_000,
        8 << 10
    ),
    target!("rows", store::rows, store::rows_bound, 100_000, 2 << 10),
    target!(
        "journal",
        store::journal,
        store::journal_bound,
        10_000,
        2 << 10
    ),
];

/// The target of that name.
pub fn target(name: &str) -> &'static Target {
    match TARGETS.iter().find(|t| t.name == name) {
        Some(target) => target,
        None => panic!("there is no fuzz target {name}"),
    }
}

impl Target {
    /// Runs one input, and holds the heap it took against its bound.
    pub fn run(&self, data: &[u8]) {
        let bound = (self.bound)(data);
        let peak = sys::peak_of(|| (self.body)(data));
        assert!(
            peak <= bound,
            "{}: {} bytes of input took {peak} bytes of heap, and may take {bound}",
            self.name,
            data.len()
        );
    }

    /// Where its kept inputs are.
    pub fn corpus(&self) -> PathBuf {
        let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        fuzz.join("corpus").join(self.name)
    }
}
