//! Group commit: of those who wait for a sync one makes it, for all.

use crate::types::Errno;
use parking_lot::{Condvar, Mutex};

/// Changes are numbered from 1, in the order in which they were made.
#[derive(Default)]
pub(super) struct Group {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Changes up to this one are on disk.
    synced: u64,
    running: bool,
    /// Syncs that failed. Whoever waited for one is told, as nobody knows what it lost.
    failures: u64,
}

impl Group {
    /// Returns when change number `upto` is on disk. `sync` makes durable all changes that
    /// there are when it begins, and tells how many.
    pub fn wait(&self, upto: u64, sync: impl FnOnce() -> Result<u64, Errno>) -> Result<(), Errno> {
        let mut state = self.state.lock();
        let failures = state.failures;
        while state.running && state.synced < upto && state.failures == failures {
            self.ended.wait(&mut state);
        }
        if state.synced >= upto {
            return Ok(());
        }
        if state.failures != failures {
            return Err(Errno::Io);
        }
        state.running = true;
        drop(state);
        let mut run = Run {
            group: self,
            synced: None,
        };
        run.synced = Some(sync()?);
        Ok(())
    }
}

/// A sync under way: it ends also where it fails or panics.
struct Run<'a> {
    group: &'a Group,
    synced: Option<u64>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let mut state = self.group.state.lock();
        state.running = false;
        match self.synced {
            Some(synced) => state.synced = state.synced.max(synced),
            None => state.failures += 1,
        }
        drop(state);
        self.group.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Sixteen who wait while one sync runs share the next one.
    #[test]
    fn those_who_wait_share_a_sync() {
        let group = Arc::new(Group::default());
        let (made, syncs) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
        let (enter, entered) = std::sync::mpsc::channel();
        let (leave, left) = std::sync::mpsc::channel::<()>();
        let first = {
            let group = Arc::clone(&group);
            std::thread::spawn(move || {
                group.wait(1, || {
                    enter.send(()).unwrap();
                    left.recv().unwrap();
                    Ok(1)
                })
            })
        };
        entered.recv().unwrap();
        let ready = Arc::new(std::sync::Barrier::new(17));
        let others: Vec<_> = (0..16)
            .map(|_| {
                let (group, made, syncs) = (group.clone(), made.clone(), syncs.clone());
                let ready = Arc::clone(&ready);
                std::thread::spawn(move || {
                    let mine = made.fetch_add(1, Ordering::SeqCst) + 1;
                    ready.wait();
                    group.wait(mine, || {
                        syncs.fetch_add(1, Ordering::SeqCst);
                        Ok(made.load(Ordering::SeqCst))
                    })
                })
            })
            .collect();
        ready.wait();
        leave.send(()).unwrap();
        assert_eq!(first.join().unwrap(), Ok(()));
        for other in others {
            assert_eq!(other.join().unwrap(), Ok(()));
        }
        assert_eq!(syncs.load(Ordering::SeqCst), 1);
        // All of it is on disk: nobody syncs again.
        assert_eq!(group.wait(17, || panic!("nothing to sync")), Ok(()));
    }

    #[test]
    fn a_failure_is_told_and_the_next_one_tries() {
        let group = Group::default();
        assert_eq!(group.wait(1, || Err(Errno::Io)), Err(Errno::Io));
        assert_eq!(group.wait(1, || Ok(1)), Ok(()));
    }
}
