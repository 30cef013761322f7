//! Watches the server for as long as something depends on it: starts one that died again,
//! and says when it stays away too long.

use super::connect::{Endpoint, ensure_server};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the server is looked for. A connection to a unix socket costs microseconds.
const EVERY: Duration = Duration::from_millis(250);
/// One to another host is a few packets, and a line in nobody's log.
const EVERY_AFAR: Duration = Duration::from_secs(2);

/// What is done when the server stays away.
pub type OnGone = Box<dyn Fn() + Send>;

/// A watch on the server; it ends with the value.
pub struct Keeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    gone: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// `restart`: a server that died is started again (one that a command started). `on_gone`
    /// is called once when there was none for the endpoint's timeout.
    pub fn watch(endpoint: Endpoint, restart: bool, on_gone: Option<OnGone>) -> Keeper {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let gone = Arc::new(AtomicBool::new(false));
        let (told, flag) = (stop.clone(), gone.clone());
        let watch = move || {
            let mut away: Option<Instant> = None;
            let every = match endpoint.remote {
                None => EVERY,
                Some(_) => EVERY_AFAR,
            };
            while !stopped(&told, every) {
                if endpoint.answers() {
                    away = None;
                    continue;
                }
                let since = *away.get_or_insert_with(Instant::now);
                if restart && let Err(e) = ensure_server(&endpoint) {
                    tracing::warn!("cannot start the server again: {e}");
                }
                if since.elapsed() >= endpoint.timeout
                    && let Some(on_gone) = &on_gone
                {
                    flag.store(true, Ordering::SeqCst);
                    return on_gone();
                }
            }
        };
        // Without a thread to be had nothing is watched, and the mounts wait as they do anyway.
        let thread = std::thread::Builder::new()
            .name("keeper".into())
            .spawn(watch)
            .ok();
        Keeper { stop, gone, thread }
    }

    /// The server stayed away too long.
    pub fn gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

/// Waits for the next look; true when there is none.
fn stopped((stop, changed): &(Mutex<bool>, Condvar), every: Duration) -> bool {
    let guard = stop.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = changed.wait_timeout_while(guard, every, |stop| !*stop);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_server_that_stays_away_is_told_once_and_one_that_is_there_never() {
        let dir = tempfile::tempdir().expect("a directory");
        let endpoint = Endpoint {
            socket_dir: dir.path().to_path_buf(),
            store: PathBuf::from("/nonexistent"),
            start: false,
            timeout: Duration::from_millis(1),
            remote: None,
        };
        let there =
            std::os::unix::net::UnixListener::bind(endpoint.control_socket()).expect("bind");
        let (tell, told) = std::sync::mpsc::channel();
        let on_gone = |tell: std::sync::mpsc::Sender<()>| -> OnGone {
            Box::new(move || tell.send(()).expect("heard"))
        };
        let keeper = Keeper::watch(endpoint.clone(), false, Some(on_gone(tell.clone())));
        for _ in 0..2 {
            there.accept().expect("looked for");
        }
        assert!(!keeper.gone());
        drop(keeper);
        drop(there);
        std::fs::remove_file(endpoint.control_socket()).expect("removed");
        let keeper = Keeper::watch(endpoint, false, Some(on_gone(tell)));
        told.recv_timeout(Duration::from_secs(30)).expect("told");
        assert!(keeper.gone());
    }
}
