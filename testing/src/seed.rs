//! How property tests are run: a seed that is said, and cases that were once wrong first.

use proptest::test_runner::{Config, FileFailurePersistence, RngSeed};
use std::hash::{BuildHasher, RandomState};

/// `cases` unless PROPTEST_CASES says otherwise; what fails is kept in `kept`, a file
/// below the package's own directory. The same PROPTEST_RNG_SEED draws the same cases.
pub fn config(cases: u32, kept: &'static str) -> Config {
    let mut config = Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..Config::default()
    };
    // Shrinking runs a case anew each time, and a case takes a second.
    if std::env::var_os("PROPTEST_MAX_SHRINK_ITERS").is_none() {
        config.max_shrink_iters = 100;
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(RandomState::new().hash_one(0));
    }
    if let RngSeed::Fixed(seed) = config.rng_seed {
        println!("PROPTEST_RNG_SEED={seed}");
    }
    config
}
