//! What is written into which file, in the words of each version. Pure.

use super::Wanted;
use super::host::{Controller, Version};

/// Processor time is given out in periods of so many microseconds.
const PERIOD: u64 = 100_000;

/// A file of a group and its value. One that some kernels lack (swap may be off) is skipped
/// where it is not there.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    pub file: &'static str,
    pub value: String,
    pub needed: bool,
}

fn setting(file: &'static str, value: impl ToString) -> Setting {
    Setting {
        file,
        value: value.to_string(),
        needed: true,
    }
}

fn optional(file: &'static str, value: impl ToString) -> Setting {
    Setting {
        needed: false,
        ..setting(file, value)
    }
}

/// In order: swap's limit follows memory's. A run does not swap: it would only take longer to
/// reach its limit, at the expense of others' disk.
pub fn of(wanted: &Wanted, controller: Controller, version: Version) -> Vec<Setting> {
    let bound =
        |limit: Option<u64>, make: &dyn Fn(u64) -> Vec<Setting>| limit.map_or(Vec::new(), make);
    match (controller, version) {
        (Controller::Memory, Version::V1) => bound(wanted.memory, &|bytes| {
            vec![
                setting("memory.limit_in_bytes", bytes),
                optional("memory.memsw.limit_in_bytes", bytes),
            ]
        }),
        (Controller::Memory, Version::V2) => bound(wanted.memory, &|bytes| {
            vec![setting("memory.max", bytes), optional("memory.swap.max", 0)]
        }),
        // One more, for the run's first process, which is ours.
        (Controller::Pids, _) => bound(wanted.pids, &|n| vec![setting("pids.max", n + 1)]),
        (Controller::Cpu, Version::V1) => bound(quota(wanted), &|quota| {
            vec![
                setting("cpu.cfs_period_us", PERIOD),
                setting("cpu.cfs_quota_us", quota),
            ]
        }),
        (Controller::Cpu, Version::V2) => bound(quota(wanted), &|quota| {
            vec![setting("cpu.max", format!("{quota} {PERIOD}"))]
        }),
    }
}

fn quota(wanted: &Wanted) -> Option<u64> {
    wanted.cpus.map(|cpus| cpus.hundredths() * PERIOD / 100)
}

/// How many processes the kernel has killed for want of memory, from the file that says it.
pub fn oom_kills(version: Version) -> &'static str {
    match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    }
}

pub fn count(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_words() {
        let wanted = Wanted {
            memory: Some(64 << 20),
            pids: Some(10),
            cpus: Some("1.5".parse().unwrap()),
            ..Wanted::default()
        };
        let words = |version| {
            let all = Controller::ALL.iter();
            let all = all.flat_map(|c| of(&wanted, *c, version));
            all.map(|s| format!("{}={}", s.file, s.value))
                .collect::<Vec<_>>()
        };
        let v1 = [
            "memory.limit_in_bytes=67108864",
            "memory.memsw.limit_in_bytes=67108864",
            "pids.max=11",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=150000",
        ];
        assert_eq!(words(Version::V1), v1);
        let v2 = [
            "memory.max=67108864",
            "memory.swap.max=0",
            "pids.max=11",
            "cpu.max=150000 100000",
        ];
        assert_eq!(words(Version::V2), v2);
        assert!(of(&Wanted::default(), Controller::Memory, Version::V1).is_empty());
    }

    #[test]
    fn kills_are_counted() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(
            count("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"),
            1
        );
        assert_eq!(count(""), 0);
    }
}
