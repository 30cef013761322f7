//! Into the namespaces and control groups of processes that are there: setns(2), cgroups(7).

use super::handle::Handle;
use crate::sys::fault::{Attempt, Fault};
use crate::sys::process::Started;
use nix::sched::{CloneFlags, setns};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A running sandbox, seen from outside.
pub struct Target {
    init: Handle,
    cgroups: Vec<PathBuf>,
}

impl Target {
    /// `init` is the sandbox's first process in its namespaces, `command` the one that has its limits.
    pub fn open(init: Started, command: Started) -> Result<Target, Fault> {
        let gone = || Fault::new("it has just ended");
        let handle = Handle::open(init.pid).map_err(|_| gone())?;
        let cgroups = cgroups_of(command.pid);
        // Both were meant if they are there still.
        if !init.lives() || !command.lives() {
            return Err(gone());
        }
        Ok(Target {
            init: handle,
            cgroups: cgroups.unwrap_or_default(),
        })
    }

    /// This process and its later children; of the pid namespace the children alone.
    pub fn join(&self) -> Result<(), Fault> {
        // Processes are there already, and may not look into what is not confined yet. It is
        // undone by exec.
        nix::sys::prctl::set_dumpable(false).attempt("hide this process's memory")?;
        for dir in &self.cgroups {
            let list = dir.join("cgroup.procs");
            std::fs::write(&list, b"0").attempt(format!("write {}", list.display()))?;
        }
        let all = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWCGROUP;
        setns(self.init.fd(), all).attempt("setns (Linux 5.8 or later)")
    }
}

/// The directories of the control groups that a process is in and this one is not.
pub fn cgroups_of(pid: u32) -> Option<Vec<PathBuf>> {
    let theirs = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    let ours = std::fs::read("/proc/self/cgroup").ok()?;
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    let ours = hierarchies(&ours);
    let found = hierarchies(&theirs)
        .into_iter()
        .filter(|one| !ours.contains(one))
        .filter_map(|(controllers, path)| {
            let root = mounted(&mounts, controllers)?;
            Some(root.join(path.strip_prefix("/").unwrap_or(path)))
        });
    Some(found.collect())
}

/// cgroups(7): `ID:CONTROLLERS:PATH`; version 2 has no controllers.
fn hierarchies(text: &[u8]) -> Vec<(&[u8], &Path)> {
    text.split(|b| *b == b'\n')
        .filter_map(|line| {
            let mut fields = line.splitn(3, |b| *b == b':').skip(1);
            let controllers = fields.next()?;
            let path = Path::new(std::ffi::OsStr::from_bytes(fields.next()?));
            let up = path
                .components()
                .any(|part| part == std::path::Component::ParentDir);
            (!up).then_some((controllers, path))
        })
        .collect()
}

/// proc_pid_mountinfo(5): where a hierarchy's root is mounted.
fn mounted(mounts: &[u8], controllers: &[u8]) -> Option<PathBuf> {
    let kind = if controllers.is_empty() {
        &b"cgroup2"[..]
    } else {
        b"cgroup"
    };
    let name = controllers.strip_prefix(b"name=").map(|_| controllers);
    let wanted: Vec<&[u8]> = match name {
        Some(name) => vec![name],
        None => controllers.split(|b| *b == b',').collect(),
    };
    mounts.split(|b| *b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        let dash = fields.iter().position(|f| *f == b"-")?;
        let options = fields.get(dash + 3)?.split(|b| *b == b',');
        let all = || wanted.iter().all(|w| options.clone().any(|o| o == *w));
        let right = *fields.get(dash + 1)? == kind && *fields.get(3)? == b"/";
        (right && (controllers.is_empty() || all()))
            .then(|| PathBuf::from(std::ffi::OsStr::from_bytes(fields[4])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hierarchy_is_found_where_it_is_mounted() {
        let mounts = b"24 30 0:22 / /sys/fs/cgroup/memory rw,nosuid - cgroup none rw,memory\n\
            25 30 0:23 /part /sys/fs/cgroup/part rw - cgroup none rw,pids\n\
            26 30 0:24 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup none rw,cpu,cpuacct\n\
            27 30 0:25 / /sys/fs/cgroup/systemd rw - cgroup none rw,xattr,name=systemd\n\
            28 30 0:26 / /sys/fs/cgroup/unified rw - cgroup2 none rw,nsdelegate\n";
        let at = |controllers: &str| mounted(mounts, controllers.as_bytes());
        let dir = |name: &str| Some(PathBuf::from(format!("/sys/fs/cgroup/{name}")));
        assert_eq!(at("memory"), dir("memory"));
        assert_eq!(at("cpu,cpuacct"), dir("cpu,cpuacct"));
        assert_eq!(at("name=systemd"), dir("systemd"));
        assert_eq!(at(""), dir("unified"));
        assert_eq!(at("pids"), None);
        assert_eq!(at("blkio"), None);
    }

    #[test]
    fn a_path_that_leads_up_is_none() {
        let found = hierarchies(b"3:pids:/a/b\n2:memory:/../x\n0::/c:d\nbroken\n");
        assert_eq!(
            found,
            [
                (&b"pids"[..], Path::new("/a/b")),
                (&b""[..], Path::new("/c:d"))
            ]
        );
    }
}
