//! `--health-cmd`: asked by a `pocker exec` of its own, one at a time.

use super::now;
use crate::cli::args::LifeFlags;
use crate::cli::config::Settings;
use crate::life::{Health, Verdict};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What timeout(1) returns.
const TIMED_OUT: i32 = 124;

pub struct Check {
    pub health: Health,
    argv: Vec<std::ffi::OsString>,
    interval: Duration,
    timeout: Duration,
    retries: u64,
    /// When the next one begins, or the one that runs is too late.
    next: Instant,
    asking: Option<Child>,
}

impl Check {
    pub fn new(flags: &LifeFlags, settings: &Settings, id: &str) -> Option<Check> {
        let command = flags.health_cmd.as_ref()?;
        let exe = crate::sys::os::program().unwrap_or_else(|_| "pocker".into());
        let mut argv = vec![exe.into()];
        argv.extend(settings.as_flags());
        for word in ["exec", id, "--", "/bin/sh", "-c", command] {
            argv.push(word.into());
        }
        Some(Check {
            health: Health {
                verdict: Verdict::Starting,
                failures: 0,
                checked: None,
                status: None,
            },
            argv,
            interval: flags.health_interval,
            timeout: flags.health_timeout,
            retries: flags.health_retries,
            next: Instant::now() + flags.health_interval,
            asking: None,
        })
    }

    /// Does what is due; when to come again, and whether there is news.
    pub fn turn(&mut self) -> (Duration, bool) {
        let due = Instant::now() >= self.next;
        let news = match &mut self.asking {
            None if due => match self.ask() {
                Ok(child) => {
                    self.asking = Some(child);
                    self.next = Instant::now() + self.timeout;
                    false
                }
                Err(_) => self.answered(super::OWN_FAILURE),
            },
            None => false,
            Some(child) => match child.try_wait() {
                Ok(None) if due => {
                    // What it started inside ends with it.
                    let _ = child.kill();
                    let _ = child.wait();
                    self.answered(TIMED_OUT)
                }
                Ok(None) => false,
                Ok(Some(status)) => self.answered(status.code().unwrap_or(TIMED_OUT)),
                Err(_) => self.answered(super::OWN_FAILURE),
            },
        };
        (self.next.saturating_duration_since(Instant::now()), news)
    }

    fn ask(&self) -> std::io::Result<Child> {
        Command::new(&self.argv[0])
            .args(&self.argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    }

    fn answered(&mut self, status: i32) -> bool {
        self.asking = None;
        self.next = Instant::now() + self.interval;
        let health = &mut self.health;
        health.checked = Some(now());
        health.status = Some(status);
        if status == 0 {
            health.failures = 0;
            health.verdict = Verdict::Healthy;
        } else {
            health.failures += 1;
            if health.failures >= self.retries {
                health.verdict = Verdict::Unhealthy;
            }
        }
        true
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if let Some(child) = &mut self.asking {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
