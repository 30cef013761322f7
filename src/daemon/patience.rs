//! What waits for a disk that may never answer, and who does not wait as long: the directories that are grafted may be
//! another machine's.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// For a directory to be found. Meanwhile no run begins or ends.
pub const FINDING: Duration = Duration::from_secs(10);

/// For what runs left hidden in directories to be removed, which goes on by itself then.
pub const REMOVING: Duration = Duration::from_secs(5);

/// Directories that are looked for.
pub static FINDS: Patience = Patience::new(32);

/// Directories that are swept: no more than there were grafts.
pub static SWEEPS: Patience = Patience::new(4096);

/// What is being asked for, each thing once and on a thread of its own.
pub struct Patience {
    asked: Mutex<BTreeSet<Vec<u8>>>,
    most: usize,
}

/// Somebody asks for it until this is dropped.
struct Asks {
    all: &'static Patience,
    what: Vec<u8>,
}

impl Drop for Asks {
    fn drop(&mut self) {
        self.all.asked.lock().remove(&self.what);
    }
}

pub struct Asked<T>(Receiver<io::Result<T>>);

fn late(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl Patience {
    const fn new(most: usize) -> Patience {
        Patience {
            asked: Mutex::new(BTreeSet::new()),
            most,
        }
    }

    /// What `ask` says of `what`, or that it has not within `patience`; it goes on by itself then.
    pub fn within<T: Send + 'static>(
        &'static self,
        patience: Duration,
        what: &[u8],
        ask: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let until = Instant::now() + patience;
        self.ask(what, ask)?.by(until)
    }

    pub fn ask<T: Send + 'static>(
        &'static self,
        what: &[u8],
        ask: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<Asked<T>> {
        let what = what.to_vec();
        let mut asked = self.asked.lock();
        if asked.contains(&what) {
            return Err(late("its disk has not answered who asked before"));
        }
        if asked.len() >= self.most {
            let most = self.most;
            return Err(late(&format!("{most} other disks do not answer")));
        }
        asked.insert(what.clone());
        drop(asked);
        let asks = Asks { all: self, what };
        let (tell, told) = channel();
        let thread = std::thread::Builder::new().name("disk".into());
        thread.spawn(move || {
            let said = ask();
            drop(asks);
            let _ = tell.send(said);
        })?;
        Ok(Asked(told))
    }
}

impl<T> Asked<T> {
    pub fn by(self, until: Instant) -> io::Result<T> {
        let left = until.saturating_duration_since(Instant::now());
        self.0.recv_timeout(left).unwrap_or_else(|e| {
            Err(match e {
                RecvTimeoutError::Timeout => late("its disk does not answer"),
                // It panicked, which the log has.
                RecvTimeoutError::Disconnected => io::Error::other("it could not be asked"),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    static OURS: Patience = Patience::new(3);

    #[test]
    fn nobody_waits_longer_than_they_want_to() {
        let soon = || Ok::<_, io::Error>(7);
        let at_once = |what: &[u8]| OURS.within(FINDING, what, soon);
        assert_eq!(at_once(b"a").expect("an answer"), 7);
        let no = || Err::<(), _>(io::Error::from_raw_os_error(libc::ENOENT));
        let no = OURS.within(FINDING, b"a", no).expect_err("as it is said");
        assert_eq!(no.raw_os_error(), Some(libc::ENOENT));

        let answers = Arc::new(Barrier::new(4));
        for what in [b"a", b"b", b"c"] {
            // Who asks for the same thing does not wait for it once more.
            for why in ["disk does not answer", "asked before"] {
                let answers = answers.clone();
                let waits = move || {
                    answers.wait();
                    Ok(())
                };
                let patience = Duration::from_millis(1);
                let e = OURS.within(patience, what, waits).expect_err("no answer");
                assert_eq!(e.kind(), io::ErrorKind::TimedOut);
                assert!(e.to_string().ends_with(why), "{e}");
            }
        }
        let e = at_once(b"d").expect_err("three wait");
        assert_eq!(e.to_string(), "3 other disks do not answer");
        answers.wait();
        while !OURS.asked.lock().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(at_once(b"a").expect("an answer"), 7);
    }
}
