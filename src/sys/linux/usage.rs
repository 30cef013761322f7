//! The processes of a pid namespace and what they take: from their control group where they
//! have one of their own (cgroups(7)), else added up from /proc.

use crate::sys::process::Started;
use crate::sys::usage::{Process, Usage};
use std::path::{Path, PathBuf};

/// Of the namespace whose first process is `init`, in control groups that it has to itself. None
/// where it has ended.
pub fn usage(init: Started, cgroups: &[PathBuf]) -> Option<Usage> {
    let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", init.pid)).ok()?;
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // The first one is ours: it waits for the others.
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/pid"));
        if pid != init.pid && theirs.is_ok_and(|ns| ns == namespace) {
            processes.extend(process(pid));
        }
    }
    processes.sort_by_key(|p| p.inner);
    if !init.lives() {
        return None;
    }
    let mut usage = Usage {
        cpu_ms: processes.iter().map(|p| p.cpu_ms).sum(),
        memory: processes.iter().map(|p| p.memory).sum(),
        memory_max: None,
        cgroup: false,
        processes,
    };
    for dir in cgroups {
        count(dir, &mut usage);
    }
    Some(usage)
}

/// What the files of a control group say, of either version.
fn count(dir: &Path, usage: &mut Usage) {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    if let Some(bytes) = number("memory.current").or_else(|| number("memory.usage_in_bytes")) {
        usage.memory = bytes;
        usage.cgroup = true;
        // Version 1 says "no limit" by a number next to 2^63.
        let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"));
        usage.memory_max = limit.filter(|limit| *limit < 1 << 62);
    }
    let field = |text: String| {
        let line = text.lines().find_map(|l| l.strip_prefix("usage_usec "))?;
        line.trim().parse::<u64>().ok().map(|us| us / 1000)
    };
    let nanos = number("cpuacct.usage").map(|ns| ns / 1_000_000);
    if let Some(ms) = read("cpu.stat").and_then(field).or(nanos) {
        usage.cpu_ms = ms;
        usage.cgroup = true;
    }
}

fn process(pid: u32) -> Option<Process> {
    let file = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
    let stat = file("stat")?;
    let after = stat.iter().rposition(|b| *b == b')')? + 2;
    let name_at = stat.iter().position(|b| *b == b'(')? + 1;
    let name = String::from_utf8_lossy(&stat[name_at..after - 2]).into_owned();
    let fields: Vec<&str> = std::str::from_utf8(&stat[after..])
        .ok()?
        .split(' ')
        .collect();
    // proc_pid_stat(5): utime and stime are the 14th and 15th, rss the 24th; the third is first here.
    let number = |at: usize| fields.get(at - 3)?.trim().parse::<u64>().ok();
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    let ticks = u64::try_from(ticks).ok().filter(|t| *t > 0)?;
    let status = String::from_utf8_lossy(&file("status")?).into_owned();
    let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name));
    let last = |text: &str| text.split_whitespace().last()?.parse().ok();
    let first = |text: &str| text.split_whitespace().next()?.parse().ok();
    let words = file("cmdline").unwrap_or_default();
    let words = words.strip_suffix(b"\0").unwrap_or(&words);
    let command = match words.is_empty() {
        true => format!("[{name}]"),
        false => String::from_utf8_lossy(words).replace('\0', " "),
    };
    let shown = command
        .chars()
        .map(|c| if c.is_control() { '?' } else { c });
    Some(Process {
        pid,
        inner: line("NSpid:").and_then(last)?,
        uid: line("Uid:").and_then(first)?,
        state: (*fields.first()?).to_owned(),
        cpu_ms: (number(14)? + number(15)?) * 1000 / ticks,
        memory: number(24)? * u64::try_from(page).ok()?,
        command: shown.take(4096).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_with_its_words() {
        let me = process(std::process::id()).expect("this one");
        assert!(me.memory > 1 << 16 && me.pid == std::process::id());
        assert!(me.command.contains("pocker"), "{}", me.command);
    }

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("written");
        };
        let none = || Usage {
            processes: Vec::new(),
            cpu_ms: 1,
            memory: 1,
            memory_max: None,
            cgroup: false,
        };
        let mut usage = none();
        count(dir.path(), &mut usage);
        assert!(!usage.cgroup && usage.memory == 1);
        write("memory.usage_in_bytes", "4096\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("cpuacct.usage", "5000000\n");
        count(dir.path(), &mut usage);
        assert_eq!(
            (usage.memory, usage.memory_max, usage.cpu_ms),
            (4096, None, 5)
        );
        write("memory.current", "8192\n");
        write("memory.max", "1048576\n");
        write("cpu.stat", "usage_usec 7000\nuser_usec 1\n");
        let mut usage = none();
        count(dir.path(), &mut usage);
        assert_eq!(
            (usage.memory, usage.memory_max, usage.cpu_ms),
            (8192, Some(1 << 20), 7)
        );
        assert!(usage.cgroup);
    }
}
