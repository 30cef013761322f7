//! Where this host has its cgroup controllers: in the one hierarchy of version 2, each in a
//! hierarchy of its own of version 1, or some here and some there.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    pub const ALL: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Cpu];

    pub fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Cpu => "cpu",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// Where a controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub version: Version,
    /// Where groups are made: of version 1 the caller's own group, so that what bounds the
    /// caller bounds them too; of version 2, where a group that has processes can have no
    /// controlled groups below it, the top.
    pub dir: PathBuf,
}

/// All that there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The top of version 2, wherever it is mounted.
    v2: Option<PathBuf>,
    v1: Vec<(Controller, PathBuf)>,
}

impl Host {
    pub fn look() -> Host {
        let read = |path: &str| std::fs::read(path).unwrap_or_default();
        Host::of(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    /// From proc(5)'s mountinfo and cgroup.
    fn of(mountinfo: &[u8], own: &[u8]) -> Host {
        let mut host = Host::default();
        for line in mountinfo.split(|b| *b == b'\n') {
            let Some(mount) = Mount::parse(line) else {
                continue;
            };
            if mount.kind == b"cgroup2" {
                host.v2.get_or_insert(mount.at);
                continue;
            }
            for controller in Controller::ALL {
                let has = mount.options.split(|b| *b == b',');
                if mount.kind == b"cgroup"
                    && has.into_iter().any(|o| o == controller.name().as_bytes())
                    && host.v1(controller).is_none()
                    && let Some(dir) = mount.own(own, controller)
                {
                    host.v1.push((controller, dir));
                }
            }
        }
        host
    }

    fn v1(&self, controller: Controller) -> Option<&PathBuf> {
        let found = self.v1.iter().find(|(c, _)| *c == controller);
        found.map(|(_, dir)| dir)
    }

    /// Where a controller is: version 2 where it is there.
    pub fn place(&self, controller: Controller) -> Option<Place> {
        let there = |top: &&PathBuf| {
            let all = std::fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
            all.split_whitespace().any(|c| c == controller.name())
        };
        let v2 = self.v2.as_ref().filter(there).map(|top| Place {
            version: Version::V2,
            dir: top.clone(),
        });
        v2.or_else(|| {
            Some(Place {
                version: Version::V1,
                dir: self.v1(controller)?.clone(),
            })
        })
    }
}

struct Mount<'a> {
    /// Which part of the hierarchy is mounted.
    root: Vec<u8>,
    at: PathBuf,
    kind: &'a [u8],
    options: &'a [u8],
}

impl<'a> Mount<'a> {
    fn parse(line: &'a [u8]) -> Option<Mount<'a>> {
        let mut fields = line.split(|b| *b == b' ');
        let root = unescape(fields.nth(3)?);
        let at = PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.next()?)));
        // Optional fields end with a dash.
        fields.find(|field| *field == b"-")?;
        let kind = fields.next()?;
        Some(Mount {
            root,
            at,
            kind,
            options: fields.nth(1)?,
        })
    }

    /// The directory of the caller's own group.
    fn own(&self, own: &[u8], controller: Controller) -> Option<PathBuf> {
        let path = own.split(|b| *b == b'\n').find_map(|line| {
            let mut fields = line.splitn(3, |b| *b == b':');
            let mut controllers = fields.nth(1)?.split(|b| *b == b',');
            controllers
                .any(|c| c == controller.name().as_bytes())
                .then(|| fields.next())?
        })?;
        let below = Path::new(OsStr::from_bytes(path))
            .strip_prefix(OsStr::from_bytes(&self.root))
            .ok()?;
        Some(self.at.join(below))
    }
}

/// mountinfo has spaces and their like in octal.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let octal = field[at..].strip_prefix(b"\\").and_then(|rest| {
            let digits = std::str::from_utf8(rest.get(..3)?).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        out.push(octal.unwrap_or(field[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:7 - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /box /sys/fs/cgroup/mem\\040ory rw - cgroup cgroup rw,memory\n\
        39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const OWN: &[u8] = b"8:pids:/\n4:memory:/box/mine\n1:cpuacct,cpu:/user\n0::/x\n";

    #[test]
    fn the_hierarchies_of_version_1_are_those_of_the_caller() {
        let host = Host::of(HYBRID, OWN);
        assert_eq!(
            host.v2.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        let v1 = |c| host.v1(c).map(|p| p.to_str().unwrap());
        assert_eq!(v1(Controller::Memory), Some("/sys/fs/cgroup/mem ory/mine"));
        assert_eq!(v1(Controller::Pids), Some("/sys/fs/cgroup/pids/"));
        assert_eq!(v1(Controller::Cpu), Some("/sys/fs/cgroup/cpu,cpuacct/user"));
    }

    #[test]
    fn what_is_not_mounted_or_out_of_sight_is_not_there() {
        assert_eq!(Host::of(b"", b""), Host::default());
        assert_eq!(Host::of(b"x\n - cgroup\n", OWN), Host::default());
        // The caller's group is not below what is mounted.
        let host = Host::of(HYBRID, b"4:memory:/elsewhere\n");
        assert_eq!(host.v1(Controller::Memory), None);
        assert_eq!(Host::default().place(Controller::Pids), None);
    }

    #[test]
    fn version_2_comes_first_where_it_has_the_controller() {
        let top = tempfile::tempdir().unwrap();
        std::fs::write(top.path().join("cgroup.controllers"), "cpuset pids\n").unwrap();
        let host = Host {
            v2: Some(top.path().to_owned()),
            v1: vec![
                (Controller::Pids, "/v1/pids".into()),
                (Controller::Cpu, "/v1/cpu".into()),
            ],
        };
        let place = |c| host.place(c).map(|p| (p.version, p.dir));
        let v2 = Some((Version::V2, top.path().to_owned()));
        assert_eq!(place(Controller::Pids), v2);
        assert_eq!(
            place(Controller::Cpu),
            Some((Version::V1, "/v1/cpu".into()))
        );
        assert_eq!(place(Controller::Memory), None);
    }
}
