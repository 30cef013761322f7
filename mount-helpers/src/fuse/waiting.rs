//! Requests that wait for the server, and processes that are killed meanwhile.
//!
//! To the kernel a request that was read from the device is answered by its server or
//! never: who waits for one is not even killed. A hard NFS mount lets go of those who are
//! about to die, and so does this one: while a request waits, its process is looked at, and
//! once a signal that ends it is pending, the request is answered with EINTR. Whatever the
//! server says later, the kernel then has no request for.
//!
//! The kernel's own INTERRUPT is of no use here: it comes for every signal, of which
//! most must not be seen by who reads a file, and once only; and `fuser` answers it itself.

use crate::sys::PidNamespace;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// How often waiting processes are looked at; one that is killed waits this long, or twice.
const LOOK: Duration = Duration::from_millis(100);

/// Processes looked at in one round; a thousand threads may wait on one mount.
const LOOK_MAX: usize = 256;

/// linux/fuse.h, struct fuse_out_header: length, negative errno, the request's number.
const OUT_HEADER: u32 = 16;

pub(crate) struct Waiting {
    device: OwnedFd,
    /// The one in whose numbers the kernel names the processes of this mount.
    pids: PidNamespace,
    requests: Mutex<HashMap<u64, Request>>,
    /// Nobody waited when it was last looked.
    asleep: AtomicBool,
    wake: Arc<Notify>,
}

struct Request {
    pid: u32,
    since: Instant,
}

/// A request under way; dropped once it is answered.
pub(crate) struct Waits {
    waiting: Arc<Waiting>,
    unique: u64,
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.waiting.requests.lock().remove(&self.unique);
    }
}

impl Waiting {
    /// `device` is the mount's own. Looks after its requests until it is dropped.
    pub(crate) fn new(device: OwnedFd, pids: PidNamespace, runtime: &Handle) -> Arc<Waiting> {
        let waiting = Arc::new(Waiting {
            device,
            pids,
            requests: Mutex::default(),
            asleep: AtomicBool::new(true),
            wake: Arc::default(),
        });
        runtime.spawn(look_after(Arc::downgrade(&waiting), waiting.wake.clone()));
        waiting
    }

    pub(crate) fn begin(self: &Arc<Waiting>, unique: u64, pid: u32) -> Waits {
        let since = Instant::now();
        self.requests.lock().insert(unique, Request { pid, since });
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.wake.notify_one();
        }
        Waits {
            waiting: self.clone(),
            unique,
        }
    }

    /// Those that wait for longer than a look takes to come.
    fn overdue(&self) -> Option<Vec<(u64, u32)>> {
        let requests = self.requests.lock();
        if requests.is_empty() {
            return None;
        }
        let overdue = requests
            .iter()
            .filter(|(_, r)| r.pid != 0 && r.since.elapsed() >= LOOK)
            .map(|(unique, r)| (*unique, r.pid));
        Some(overdue.take(LOOK_MAX).collect())
    }

    fn let_go(&self, overdue: &[(u64, u32)]) {
        for &(unique, pid) in overdue {
            if !self.pids.is_ending(pid) || !self.requests.lock().contains_key(&unique) {
                continue;
            }
            let mut reply = [0; OUT_HEADER as usize];
            reply[..4].copy_from_slice(&OUT_HEADER.to_ne_bytes());
            reply[4..8].copy_from_slice(&(-libc::EINTR).to_ne_bytes());
            reply[8..].copy_from_slice(&unique.to_ne_bytes());
            // Refused where the answer has just come.
            if let Err(cause) = nix::unistd::write(&self.device, &reply) {
                tracing::debug!(unique, %cause, "a killed process's request was not ended");
            }
            if let Some(request) = self.requests.lock().get_mut(&unique) {
                // Ended: no process waits for it any more.
                request.pid = 0;
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

async fn look_after(waiting: Weak<Waiting>, wake: Arc<Notify>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(here) = waiting.upgrade() else {
            return;
        };
        match here.overdue() {
            Some(overdue) if overdue.is_empty() => {}
            Some(overdue) => {
                // Reading /proc may take its time.
                let looked = tokio::task::spawn_blocking(move || here.let_go(&overdue));
                let _ = looked.await;
            }
            None => {
                here.asleep.store(true, Ordering::SeqCst);
                // Looked at again, for one that began before that.
                if here.requests.lock().is_empty() {
                    drop(here);
                    wake.notified().await;
                }
            }
        }
    }
}
