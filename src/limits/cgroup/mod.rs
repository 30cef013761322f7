//! A run's control groups: made before it, joined by its first process, gone after it.

mod error;
mod host;
mod record;
mod settings;

pub use error::CgroupError;
pub use record::Records;

use crate::limits::{Count, Cpus};
use host::{Controller, Host, Place, Version};
use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Less memory than this is not enough to start a process in.
pub const MEMORY_LEAST: u64 = 8 << 20;
/// Processes of a run where nothing else is said.
pub const PIDS_DEFAULT: u64 = 4096;
/// Groups of ours are named so, and below it on version 2.
const NAME: &str = "pocker";
/// How long a group may stay busy whose processes have ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a run may take; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub memory: Option<u64>,
    pub pids: Option<u64>,
    pub cpus: Option<Cpus>,
    /// The limit of processes was not asked for: it holds where it can.
    pub pids_if_possible: bool,
}

impl Wanted {
    pub fn new(memory: Option<u64>, pids: Option<Count>, cpus: Option<Cpus>) -> Wanted {
        Wanted {
            memory,
            pids: pids.map_or(Some(PIDS_DEFAULT), Count::limit),
            cpus,
            pids_if_possible: pids.is_none(),
        }
    }

    fn asks(&self, controller: Controller) -> bool {
        match controller {
            Controller::Memory => self.memory.is_some(),
            Controller::Pids => self.pids.is_some(),
            Controller::Cpu => self.cpus.is_some(),
        }
    }

    fn needs(&self, controller: Controller) -> bool {
        self.asks(controller) && !(controller == Controller::Pids && self.pids_if_possible)
    }
}

/// One run's groups, of one or more hierarchies. Dropping it removes them.
#[derive(Debug, Default)]
pub struct Groups {
    dirs: Vec<PathBuf>,
    /// Where the kernel says whom it killed for memory.
    oom: Option<PathBuf>,
    record: Option<PathBuf>,
}

impl Groups {
    /// Checks what is asked for, and makes the groups that have it.
    pub fn make(wanted: &Wanted, records: &Records) -> Result<Groups, CgroupError> {
        check(wanted)?;
        let host = Host::look();
        let mut groups = Groups::default();
        let mut planned = Vec::new();
        for controller in Controller::ALL.into_iter().filter(|c| wanted.asks(*c)) {
            match host.place(controller) {
                Some(place) => planned.push((controller, place)),
                None if wanted.needs(controller) => return Err(CgroupError::Absent(controller)),
                None => {}
            }
        }
        let name = format!("{NAME}-{}", std::process::id());
        let dir = |place: &Place| match place.version {
            Version::V1 => place.dir.join(&name),
            Version::V2 => place.dir.join(NAME).join(&name),
        };
        // Known before they are there, so that none can be forgotten.
        let dirs: Vec<PathBuf> = planned.iter().map(|(_, place)| dir(place)).collect();
        groups.record = records.write(&dirs)?;
        for (controller, place) in &planned {
            let dir = dir(place);
            match make(wanted, *controller, place, &dir) {
                Ok(()) => groups.made(dir, *controller, place.version),
                Err(e) if wanted.needs(*controller) => return Err(e),
                Err(_) => drop(std::fs::remove_dir(&dir)),
            }
        }
        Ok(groups)
    }

    fn made(&mut self, dir: PathBuf, controller: Controller, version: Version) {
        if controller == Controller::Memory {
            self.oom = Some(dir.join(settings::oom_kills(version)));
        }
        // Version 2 has one for all, version 1 may.
        if !self.dirs.contains(&dir) {
            self.dirs.push(dir);
        }
    }

    /// Whoever writes 0 to these joins.
    pub fn doors(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        self.dirs.iter().map(|dir| door(dir)).collect()
    }

    /// How many processes the kernel killed as the run had no more memory.
    pub fn oom_kills(&self) -> u64 {
        let text = self.oom.as_ref().map(std::fs::read_to_string);
        text.and_then(Result::ok)
            .map_or(0, |text| settings::count(&text))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let removed = self.dirs.iter().all(|dir| remove(dir));
        // What is left is for the next command.
        if let Some(record) = self.record.as_ref().filter(|_| removed) {
            let _ = std::fs::remove_file(record);
        }
    }
}

/// Which of the controllers are there, for `pocker doctor`: a name, and the version of each.
pub fn look() -> Vec<(&'static str, Option<&'static str>)> {
    let host = Host::look();
    let version = |place: Place| match place.version {
        Version::V1 => "version 1",
        Version::V2 => "version 2",
    };
    let all = Controller::ALL.into_iter();
    all.map(|c| (c.name(), host.place(c).map(version)))
        .collect()
}

fn door(dir: &Path) -> Result<OwnedFd, CgroupError> {
    let path = dir.join("cgroup.procs");
    let opened = OpenOptions::new().write(true).open(&path);
    opened
        .map(OwnedFd::from)
        .map_err(CgroupError::io("open", &path))
}

fn check(wanted: &Wanted) -> Result<(), CgroupError> {
    if let Some(bytes) = wanted.memory.filter(|bytes| *bytes < MEMORY_LEAST) {
        return Err(CgroupError::LittleMemory(bytes));
    }
    let have = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    match wanted.cpus {
        Some(cpus) if cpus.hundredths() > have * 100 => Err(CgroupError::ManyCpus { cpus, have }),
        _ => Ok(()),
    }
}

fn make(
    wanted: &Wanted,
    controller: Controller,
    place: &Place,
    dir: &Path,
) -> Result<(), CgroupError> {
    if place.version == Version::V2 {
        // Top first: a group has the controllers that the one above it hands down.
        let ours = place.dir.join(NAME);
        hand_down(&place.dir, controller)?;
        create(&ours)?;
        hand_down(&ours, controller)?;
    }
    create(dir)?;
    for setting in settings::of(wanted, controller, place.version) {
        let path = dir.join(setting.file);
        if setting.needed || path.exists() {
            write(&path, &setting.value)?;
        }
    }
    Ok(())
}

fn create(dir: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(CgroupError::io("make the group", dir)(e))
        }
        _ => Ok(()),
    }
}

fn hand_down(dir: &Path, controller: Controller) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.subtree_control");
    let has = std::fs::read_to_string(&path).unwrap_or_default();
    if has.split_whitespace().any(|c| c == controller.name()) {
        return Ok(());
    }
    write(&path, &format!("+{}", controller.name()))
}

/// One write(2), as these files want it.
fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    use std::io::Write;
    let opened = OpenOptions::new().write(true).open(path);
    opened
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(CgroupError::io("write to", path))
}

/// Ends what is left in a group of ours, and removes it; false where it would not go.
fn remove(dir: &Path) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match std::fs::remove_dir(dir) {
            Ok(()) => return true,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return true,
            Err(_) if Instant::now() > deadline => return false,
            Err(_) => {}
        }
        let left = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in left.lines().filter_map(|pid| pid.parse::<i32>().ok()) {
            // 0 is one of another pid namespace, and no process to signal.
            if pid > 1 {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
