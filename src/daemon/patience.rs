//! What waits for a disk that may never answer, and who does not wait as long: the directories that are grafted may be
//! another machine's.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// For a directory to be found. Meanwhile no run begins or ends.
pub const FINDING: Duration = Duration::from_secs(10);

/// For what a run left hidden in one to be removed, which goes on by itself then.
pub const REMOVING: Duration = Duration::from_secs(5);

/// How many may be waiting yet, after their asker has gone on.
const MOST: usize = 32;

/// Counts those that wait yet.
struct Patience(AtomicUsize);

static ALL: Patience = Patience(AtomicUsize::new(0));

struct Waits<'a>(&'a Patience);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What `ask` says, or that it has not within `most`; it goes on by itself then.
pub fn within<T: Send + 'static>(
    most: Duration,
    ask: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    ALL.within(most, ask)
}

impl Patience {
    fn within<T: Send + 'static>(
        &'static self,
        most: Duration,
        ask: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let waits = Waits(self);
        if self.0.fetch_add(1, Ordering::Relaxed) >= MOST {
            return Err(io::Error::other(format!(
                "{MOST} others wait for disks that do not answer"
            )));
        }
        let (tell, told) = channel();
        let thread = std::thread::Builder::new().name("disk".into());
        thread.spawn(move || {
            let said = ask();
            drop(waits);
            let _ = tell.send(said);
        })?;
        told.recv_timeout(most).unwrap_or_else(|e| {
            Err(match e {
                RecvTimeoutError::Timeout => io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer within {} s", most.as_secs()),
                ),
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

    static OURS: Patience = Patience(AtomicUsize::new(0));

    #[test]
    fn nobody_waits_longer_than_they_want_to() {
        let soon = || Ok::<_, io::Error>(7);
        assert_eq!(OURS.within(FINDING, soon).expect("at once"), 7);
        let no = || Err::<(), _>(io::Error::from_raw_os_error(libc::ENOENT));
        let no = OURS.within(FINDING, no).expect_err("as it is said");
        assert_eq!(no.raw_os_error(), Some(libc::ENOENT));

        let answers = Arc::new(Barrier::new(MOST + 1));
        let ask = || {
            let answers = answers.clone();
            let waits = move || {
                answers.wait();
                Ok(())
            };
            OURS.within(Duration::from_millis(1), waits)
                .expect_err("it does not answer")
        };
        for _ in 0..MOST {
            assert_eq!(ask().kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(ask().kind(), io::ErrorKind::Other, "{MOST} wait");
        answers.wait();
        // They have gone when their disks answer.
        while OURS.0.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(OURS.within(FINDING, soon).expect("at once"), 7);
    }
}
