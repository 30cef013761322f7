//! What differs between systems in finding the server and judging its clients.

/// Where sockets live.
#[cfg(target_os = "linux")]
pub const RUN_DIR: &str = "/run";
/// Where sockets live.
#[cfg(not(target_os = "linux"))]
pub const RUN_DIR: &str = "/var/run";

/// When process `pid` started, in the system's own units; `None` when it is gone.
/// With the pid it names a process even after the pid is used again.
#[cfg(target_os = "linux")]
pub fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
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
}
