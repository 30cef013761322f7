//! What differs between systems in finding the server and judging its clients.

/// Where sockets live.
#[cfg(target_os = "linux")]
pub const RUN_DIR: &str = "/run";
/// Where sockets live.
#[cfg(not(target_os = "linux"))]
pub const RUN_DIR: &str = "/var/run";

/// Who is asked of processes that are there and that /proc does not show (proc(5), hidepid).
static ASKED: std::sync::OnceLock<fn(u32) -> Option<u64>> = std::sync::OnceLock::new();

/// Whom this process asks from here on, as it may not look itself.
pub fn ask_of_hidden(ask: fn(u32) -> Option<u64>) {
    let _ = ASKED.set(ask);
}

/// When process `pid` started, in the system's own units; `None` when it is gone.
/// With the pid it names a process even after the pid is used again.
#[cfg(target_os = "linux")]
pub fn process_start(pid: u32) -> Option<u64> {
    match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => start_in(&stat),
        Err(_) => hidden_start(pid, *ASKED.get()?),
    }
}

#[cfg(target_os = "linux")]
fn hidden_start(pid: u32, ask: fn(u32) -> Option<u64>) -> Option<u64> {
    let number = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    match nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), None) {
        Err(nix::errno::Errno::ESRCH) => None,
        _ => ask(pid),
    }
}

#[cfg(target_os = "linux")]
fn start_in(stat: &[u8]) -> Option<u64> {
    // The command in parentheses may hold spaces and parentheses (proc(5)).
    let after = stat.iter().rposition(|b| *b == b')')? + 2;
    let text = std::str::from_utf8(stat.get(after..)?).ok()?;
    let mut fields = text.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// When process `pid` started; only whether it lives can be told here.
#[cfg(not(target_os = "linux"))]
pub fn process_start(pid: u32) -> Option<u64> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).ok()?);
    match nix::sys::signal::kill(pid, None) {
        Ok(()) | Err(nix::errno::Errno::EPERM) => Some(0),
        Err(_) => None,
    }
}

/// Changes with each boot of this machine.
#[cfg(target_os = "linux")]
pub fn boot_id() -> Vec<u8> {
    std::fs::read("/proc/sys/kernel/random/boot_id")
        .map(|b| b.trim_ascii().to_vec())
        .unwrap_or_default()
}

/// Changes with each boot of this machine: the time of boot.
#[cfg(not(target_os = "linux"))]
pub fn boot_id() -> Vec<u8> {
    match nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC) {
        Ok(up) => {
            let now = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map(|d| d.as_secs())
                .unwrap_or(0);
            // Both clocks tick between the two reads: round to what outlasts that.
            let boot = now.saturating_sub(u64::try_from(up.tv_sec()).unwrap_or(0));
            (boot / 60).to_be_bytes().to_vec()
        }
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_lives_and_has_a_start() {
        let me = std::process::id();
        assert!(super::process_start(me).is_some());
        assert_eq!(super::process_start(me), super::process_start(me));
        assert_eq!(super::process_start(u32::MAX), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_is_hidden_is_asked_for_and_who_is_gone_is_not() {
        let mut child = std::process::Command::new("true").spawn().expect("started");
        child.wait().expect("ended");
        let of = |pid| super::hidden_start(pid, |_| Some(7));
        assert_eq!(of(std::process::id()), Some(7));
        assert_eq!((of(child.id()), of(0), of(u32::MAX)), (None, None, None));
    }
}
