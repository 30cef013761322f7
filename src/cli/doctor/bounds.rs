//! What this host can bound, and whether a run can have a network of its own.

use super::{Finding, Verdict, finding};
use crate::{limits, net};
use std::path::Path;

const TUN: &str = "/dev/net/tun";

pub fn look() -> Vec<Finding> {
    let mut out: Vec<Finding> = limits::cgroup::look()
        .into_iter()
        .map(|(controller, version)| limit(controller, version))
        .collect();
    out.extend(reach());
    out.push(private(net::engine(), Path::new(TUN).exists()));
    out
}

fn limit(controller: &str, version: Option<&str>) -> Finding {
    let what = format!("limits: {controller}");
    match (version, controller) {
        (Some(version), _) => finding(
            &what,
            Verdict::Ok,
            format!("control groups of {version} bound a run's {controller}"),
        ),
        (None, "memory") => finding(&what, Verdict::Note, "no control group bounds memory here: --memory is refused")
            .mend("boot with cgroup_enable=memory, and mount a cgroup file system"),
        (None, "pids") => finding(
            &what,
            Verdict::Note,
            "no control group bounds processes here: --pids is refused, and nothing stops a fork bomb",
        )
        .mend("mount a cgroup file system: mount -t cgroup2 none /sys/fs/cgroup"),
        (None, _) => finding(&what, Verdict::Note, "no control group bounds processor time here: --cpus is refused")
            .mend("mount a cgroup file system: mount -t cgroup2 none /sys/fs/cgroup"),
    }
}

/// Whether a server can be kept from the host's files.
fn reach() -> Option<Finding> {
    if crate::sys::bsd::CONFINES {
        return None;
    }
    Some(landlock(crate::sys::os::landlock()))
}

fn landlock(version: Option<i32>) -> Finding {
    let what = "landlock";
    match version {
        Some(version) => finding(
            what,
            Verdict::Ok,
            format!("version {version}: a server with --graft-below reaches no other files of the host"),
        ),
        None => finding(
            what,
            Verdict::Note,
            "none that is new enough: --graft-below keeps grafts to its directories, but a server that was taken over is refused no file",
        )
        .mend("a kernel from 5.19 on, with landlock among the names of lsm= at its start (/sys/kernel/security/lsm)"),
    }
}

fn private(engine: Option<&str>, tun: bool) -> Finding {
    let what = "network: private";
    match (engine, tun) {
        (Some(engine), true) => finding(
            what,
            Verdict::Ok,
            format!("{engine} ties a run's own network to this host's"),
        ),
        (Some(engine), false) => finding(
            what,
            Verdict::Note,
            format!("{engine} is here, but not {TUN}: --net private is refused"),
        )
        .mend("modprobe tun"),
        (None, _) => finding(
            what,
            Verdict::Note,
            "neither slirp4netns nor pasta: --net private is refused",
        )
        .mend("apt-get install slirp4netns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_a_note_with_its_remedy() {
        for found in [
            limit("memory", None),
            limit("pids", None),
            limit("cpu", None),
            landlock(None),
            private(None, true),
            private(Some("pasta"), false),
        ] {
            assert_eq!(found.verdict, Verdict::Note);
            assert!(found.mend.is_some() && found.detail.contains("refused"));
        }
        for found in [
            limit("cpu", Some("version 1")),
            private(Some("pasta"), true),
        ] {
            assert_eq!((found.verdict, found.mend), (Verdict::Ok, None));
        }
    }
}
