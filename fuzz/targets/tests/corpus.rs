//! Every target, with its kept inputs and a fixed number of new ones made of them. What is
//! random comes from one seed, which is printed: POCKER_FUZZ_SEED runs the same again,
//! POCKER_FUZZ_TIMES so many times as many inputs.

use pocker_fuzz_targets::mutate::{Random, mutate};
use pocker_fuzz_targets::{TARGETS, Target, target};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Bytes shown of an input that fails.
const SHOWN: usize = 256;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(e) => panic!("{name}={text}: {e}"),
    }
}

fn seed() -> u64 {
    number("POCKER_FUZZ_SEED").unwrap_or_else(|| u64::from(getrandom::u32().expect("random bytes")))
}

/// Runs one input; one that fails is printed, so that it can be kept.
fn one(target: &Target, data: &[u8], what: &str) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| target.run(data))) else {
        return;
    };
    let kept = std::env::temp_dir().join(format!("fuzz-{}-{}", target.name, std::process::id()));
    let _ = std::fs::write(&kept, data);
    eprintln!(
        "{}: {what} fails, {} bytes, kept in {}: {}",
        target.name,
        data.len(),
        kept.display(),
        data[..data.len().min(SHOWN)].escape_ascii()
    );
    resume_unwind(panic);
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = target.corpus();
    let list = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<_> = list.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    let read = |path| std::fs::read(path).expect("an input");
    files.iter().map(read).collect()
}

fn fuzz(name: &str) {
    let target = target(name);
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{name} has no inputs");
    for data in &corpus {
        one(target, data, "a kept input");
    }
    one(target, b"", "the empty input");
    let seed = seed();
    let runs = target.runs * number("POCKER_FUZZ_TIMES").unwrap_or(1);
    println!(
        "{name}: {} kept inputs, {runs} new ones, POCKER_FUZZ_SEED={seed}",
        corpus.len()
    );
    let mut random = Random::new(seed);
    for nth in 0..runs {
        let data = mutate(&corpus, &mut random, target.longest);
        one(
            target,
            &data,
            &format!("input {nth} of POCKER_FUZZ_SEED={seed}"),
        );
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name));
            }
        )*
    };
}

targets!(records call replies handles exports objects rows journal);

#[test]
fn every_target_is_run_here_and_by_libfuzzer() {
    let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
    assert_eq!(names, TESTED);
    let fuzz = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let manifest = std::fs::read_to_string(format!("{fuzz}/Cargo.toml")).expect("fuzz/Cargo.toml");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let glue = std::fs::read_to_string(format!("{fuzz}/fuzz_targets/{name}.rs"));
        assert!(
            glue.is_ok_and(|text| text.contains(&format!("\"{name}\""))),
            "{name}"
        );
    }
}
