//! Calls that must not run twice, while they run. A client whose connection broke sends them
//! again on the next one, where the first may still be at work on a thread, or lie unread in
//! the old socket. The file system records what succeeded; what failed changed nothing and is
//! remembered here, so that a late duplicate does not do what its client was told had failed.

use crate::vfs::OnceKey;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};

/// Failed calls whose replies are kept: more than are under way at a time.
const FAILED: usize = 4096;
/// Longest reply that is kept: RENAME's status and the attributes of two directories.
const REPLY_MAX: usize = 4 + 2 * (4 + 4 + 84);

#[derive(Default)]
struct Inner {
    /// Each with its connection.
    running: HashMap<OnceKey, u64>,
    failed: HashMap<OnceKey, Box<[u8]>>,
    /// In the order in which they failed.
    order: VecDeque<OnceKey>,
    waiting: usize,
}

#[derive(Default)]
pub struct Once {
    inner: Mutex<Inner>,
    /// A call ended for which another waits.
    ended: Condvar,
}

/// What is to be done with a call.
pub enum Claim<'a> {
    Run(Running<'a>),
    /// The same call runs for another connection, and nobody may wait here.
    Wait,
    /// It runs for this connection, which will carry its reply.
    Drop,
    /// What it was answered.
    Failed(Box<[u8]>),
}

/// A call that runs; its duplicates wait until this is dropped.
pub struct Running<'a> {
    once: &'a Once,
    key: OnceKey,
}

impl Once {
    pub fn claim(&self, key: OnceKey, connection: u64, may_wait: bool) -> Claim<'_> {
        let mut inner = self.inner.lock();
        loop {
            if let Some(reply) = inner.failed.get(&key) {
                return Claim::Failed(reply.clone());
            }
            match inner.running.get(&key) {
                None => {
                    inner.running.insert(key, connection);
                    return Claim::Run(Running { once: self, key });
                }
                Some(running) if *running == connection => return Claim::Drop,
                Some(_) if !may_wait => return Claim::Wait,
                Some(_) => {
                    inner.waiting += 1;
                    self.ended.wait(&mut inner);
                    inner.waiting -= 1;
                }
            }
        }
    }

    /// Calls that wait for the same one on another connection.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.inner.lock().waiting
    }
}

impl Running<'_> {
    /// The call ended with an error: `reply` are its results.
    pub fn failed(&self, reply: &[u8]) {
        if reply.len() > REPLY_MAX {
            return;
        }
        let mut inner = self.once.inner.lock();
        if inner.order.len() == FAILED
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.failed.remove(&oldest);
        }
        if inner.failed.insert(self.key, reply.into()).is_none() {
            inner.order.push_back(self.key);
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut inner = self.once.inner.lock();
        inner.running.remove(&self.key);
        if inner.waiting > 0 {
            self.once.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> OnceKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        OnceKey(key)
    }

    #[test]
    fn a_call_runs_once_at_a_time() {
        let once = Once::default();
        let Claim::Run(running) = once.claim(key(1), 1, false) else {
            panic!("nobody runs it");
        };
        assert!(matches!(once.claim(key(1), 1, false), Claim::Drop));
        assert!(matches!(once.claim(key(1), 2, false), Claim::Wait));
        assert!(matches!(once.claim(key(2), 1, false), Claim::Run(_)));
        drop(running);
        assert!(matches!(once.claim(key(1), 2, false), Claim::Run(_)));
    }

    #[test]
    fn the_newest_failures_are_known() {
        let once = Once::default();
        for n in 0..FAILED + 3 {
            let Claim::Run(running) = once.claim(key(n), 1, false) else {
                panic!("{n} never ran");
            };
            running.failed(&n.to_be_bytes());
        }
        let known = |n: usize| match once.claim(key(n), 2, false) {
            Claim::Failed(reply) => *reply == n.to_be_bytes(),
            _ => false,
        };
        assert!(!known(2) && known(3) && known(FAILED + 2));
        let inner = once.inner.lock();
        assert_eq!((inner.failed.len(), inner.order.len()), (FAILED, FAILED));
    }
}
