//! An object store as a server's upstream.

use super::super::upstream::{FAILED, MISSED, MISSES_MAX, Misses};
use super::super::{Fetcher, PACKED_MAX};
use super::*;

/// A large file that comes a byte at a time is not waited for: its reader has a thread of a server's.
#[test]
fn an_upstream_that_trickles_fails_and_is_down() {
    let (_a, mut a) = store();
    let bytes = noise(1, PACKED_MAX as usize + 1);
    let want = Want::blob(pocker_store::object::digest_of(&bytes), bytes.len() as u64);
    let step = tree(&a, 1, &[("large".to_owned(), bytes)]);
    let memory = Arc::new(InMemory::new());
    push(&mut a, memory.clone(), &named(&[step])).expect("sent");
    let slow = Arc::new(Fails {
        memory: memory.clone(),
        left: AtomicU64::new(100),
        asked: AtomicU64::new(0),
        trickles: true,
    });
    let mut remote = remote(slow.clone());
    remote.deadline = Some(Duration::from_millis(50));
    remote.bounds.slowest = u64::MAX;
    let fetcher = Fetcher::over(remote);
    let take = |fetcher: &Fetcher| {
        pocker_store::Upstream::fetch(fetcher, &want, &mut |_, bytes| {
            let read = std::io::copy(bytes, &mut std::io::sink());
            read.map(drop).map_err(pocker_store::StoreError::Input)
        })
    };
    let why = take(&fetcher).expect_err("too slow").to_string();
    assert!(why.contains("too slowly"), "{why}");
    let asked = slow.used(100);
    let why = take(&fetcher).expect_err("down").to_string();
    assert!(why.contains("too slowly"), "{why}");
    assert_eq!(slow.used(100), asked, "it is not asked at once again");
}

/// One object that is gone or damaged says nothing of the others, and is not asked for again and again; a
/// place that does not answer is.
#[test]
fn an_object_that_fails_takes_nothing_else_with_it() {
    let (_a, mut a) = store();
    let size = PACKED_MAX as usize + 1;
    let files = [("one", noise(1, size)), ("two", noise(2, size))];
    let wants: Vec<Want> = files
        .iter()
        .map(|(_, bytes)| Want::blob(pocker_store::object::digest_of(bytes), size as u64))
        .collect();
    let step = tree(&a, 1, &files.map(|(name, bytes)| (name.to_owned(), bytes)));
    let memory = Arc::new(InMemory::new());
    push(&mut a, memory.clone(), &named(&[step])).expect("sent");
    const MANY: u64 = 1 << 40;
    let answers = Fails::over(&memory, MANY);
    let fetcher = Fetcher::over(remote(answers.clone()));
    let (_b, mut b) = store();
    let mut take = |fetcher: &Fetcher, want: &Want| {
        pocker_store::Upstream::fetch(fetcher, want, &mut |want, bytes| b.receipt.put(want, bytes))
            .map_err(|e| e.to_string())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let large = |want: &Want| {
        let digits = want.digest.to_string();
        Path::from(format!("some/where/large/{}/{digits}", &digits[..2]))
    };
    // Gone: asked for once.
    let whole = runtime.block_on(async {
        let whole = memory.get(&large(&wants[0])).await.expect("there");
        let whole = whole.bytes().await.expect("read");
        memory.delete(&large(&wants[0])).await.expect("deleted");
        whole
    });
    take(&fetcher, &wants[0]).expect_err("gone");
    let asked = answers.used(MANY);
    let why = take(&fetcher, &wants[0]).expect_err("gone");
    assert!(why.contains("it does not have it"), "{why}");
    assert_eq!(answers.used(MANY), asked, "it is not asked at once again");
    // Nor one that it never had.
    let never = Want::blob(Digest([7; 32]), 10);
    take(&fetcher, &never).expect_err("unknown");
    let asked = answers.used(MANY);
    take(&fetcher, &never).expect_err("unknown");
    assert_eq!(answers.used(MANY), asked, "it is not asked at once again");
    // Damaged: its own fault, and asked for again after a while.
    let mut bad = whole.to_vec();
    bad[0] ^= 1;
    runtime
        .block_on(memory.put(&large(&wants[0]), bad.into()))
        .expect("put");
    let other = Fetcher::over(remote(answers.clone()));
    let why = take(&other, &wants[0]).expect_err("damaged");
    let asked = answers.used(MANY);
    let again = take(&other, &wants[0]).expect_err("damaged");
    assert!(again.contains(&why), "{again}");
    assert_eq!(answers.used(MANY), asked, "it is not asked at once again");
    for fetcher in [&fetcher, &other] {
        take(fetcher, &wants[1]).expect("the other one is there");
    }
    runtime
        .block_on(memory.put(&large(&wants[0]), whole.into()))
        .expect("put");
    std::thread::sleep(FAILED);
    take(&other, &wants[0]).expect("mended");
    // A place that fails is left alone for a while.
    let silent = Fails::over(&memory, 0);
    let down = Fetcher::over(remote(silent.clone()));
    take(&down, &wants[0]).expect_err("down");
    let asked = silent.asked.load(Ordering::SeqCst);
    assert!(asked > 0);
    let why = take(&down, &wants[1]).expect_err("down");
    assert!(why.contains("cut"), "{why}");
    let again = silent.asked.load(Ordering::SeqCst);
    assert_eq!(again, asked, "it is not asked at once again");
}

/// What is remembered of what it does not have is bounded, in number and time.
#[test]
fn misses_are_remembered_within_bounds() {
    let began = std::time::Instant::now();
    let mut misses = Misses::default();
    let digest = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        Digest(bytes)
    };
    for n in 0..MISSES_MAX + 10 {
        misses.add(digest(n), began, MISSED, "gone");
    }
    assert_eq!(misses.why(&digest(0), began), Some("gone"));
    assert_eq!(misses.why(&digest(MISSES_MAX + 1), began), None);
    assert_eq!(misses.why(&digest(0), began + MISSED), None);
    let long = "é".repeat(2000);
    misses.add(digest(MISSES_MAX + 1), began + MISSED, FAILED, &long);
    let why = |now| misses.why(&digest(MISSES_MAX + 1), now);
    assert_eq!(why(began + MISSED), Some(&long[..2000]));
    assert_eq!(why(began + MISSED + FAILED), None);
}
