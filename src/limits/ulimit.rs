//! What setrlimit(2) bounds: `--ulimit NAME=SOFT[:HARD]`, and what a run has otherwise.

use crate::sandbox::Rlimit;
use crate::sys::os::RLIMITS;
use nix::sys::resource::{RLIM_INFINITY, Resource, rlim_t};
use std::str::FromStr;

/// Open files of a process: what programs that still use select(2) can bear, and as many as
/// any server asks for.
const NOFILE: (rlim_t, rlim_t) = (1024, 524_288);

/// One `--ulimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit(Rlimit);

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Ulimit, String> {
        let form = || "of the form NAME=SOFT[:HARD], as nofile=1024:4096".to_owned();
        let (name, limits) = text.split_once('=').ok_or_else(form)?;
        let Some((_, resource)) = RLIMITS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = RLIMITS.iter().map(|(name, _)| *name).collect();
            return Err(format!("no limit {name:?}: there are {}", names.join(", ")));
        };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (value(soft).ok_or_else(form)?, value(hard).ok_or_else(form)?);
        if soft > hard {
            return Err("the soft limit is above the hard one".to_owned());
        }
        Ok(Ulimit(Rlimit {
            resource: *resource,
            name: name_of(*resource),
            soft,
            hard,
        }))
    }
}

fn value(text: &str) -> Option<rlim_t> {
    match text {
        "unlimited" | "-1" => Some(RLIM_INFINITY),
        _ => text.parse().ok(),
    }
}

fn name_of(resource: Resource) -> &'static str {
    let known = RLIMITS.iter().find(|(_, r)| *r == resource);
    known.map_or("?", |(name, _)| name)
}

/// What a run's processes begin with: no core dumps, as these fill a tree and tell secrets;
/// [`NOFILE`], as far as this process may have it; what is asked for, the last of a kind.
pub fn all(asked: &[Ulimit]) -> Vec<Rlimit> {
    let (_, most) = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).unwrap_or(NOFILE);
    let (soft, hard) = (NOFILE.0.min(most), NOFILE.1.min(most));
    let default = |resource, soft, hard| Rlimit {
        resource,
        name: name_of(resource),
        soft,
        hard,
    };
    let mut all = vec![
        default(Resource::RLIMIT_CORE, 0, 0),
        default(Resource::RLIMIT_NOFILE, soft, hard),
    ];
    for Ulimit(limit) in asked {
        all.retain(|known| known.resource != limit.resource);
        all.push(*limit);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str) -> Result<(rlim_t, rlim_t), String> {
        text.parse().map(|Ulimit(l)| (l.soft, l.hard))
    }

    #[test]
    fn a_limit_is_a_name_and_one_or_two_numbers() {
        assert_eq!(pair("nofile=7"), Ok((7, 7)));
        assert_eq!(pair("nofile=7:9"), Ok((7, 9)));
        assert_eq!(pair("core=0:unlimited"), Ok((0, RLIM_INFINITY)));
        for wrong in [
            "nofile",
            "nofile=",
            "nofile=a",
            "nofile=1:b",
            "=1",
            "nofile=9:7",
            "files=1",
        ] {
            assert!(pair(wrong).is_err(), "{wrong}");
        }
        assert!(pair("files=1").unwrap_err().contains("nofile"));
    }

    #[test]
    fn what_is_asked_for_replaces_what_is_given() {
        let all = all(&[
            "core=5".parse().unwrap(),
            "cpu=3".parse().unwrap(),
            "core=6".parse().unwrap(),
        ]);
        let named = |name| {
            all.iter()
                .filter(|l| l.name == name)
                .map(|l| l.soft)
                .collect::<Vec<_>>()
        };
        assert_eq!((named("core"), named("cpu")), (vec![6], vec![3]));
        assert_eq!(named("nofile").len(), 1);
    }
}
