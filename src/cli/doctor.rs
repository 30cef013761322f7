//! `pocker doctor`: what this host can do, and the command that mends what it can't.

mod bounds;

use super::args::Json;
use super::config::Settings;
use super::error::CliError;
use super::text;
use crate::build::{Host, Model, ThisHost};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Works without it, less well.
    Note,
    Missing,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

fn finding(what: &str, verdict: Verdict, detail: impl Into<String>) -> Finding {
    Finding {
        what: what.to_string(),
        verdict,
        detail: detail.into(),
        mend: None,
    }
}

impl Finding {
    fn mend(mut self, command: &str) -> Finding {
        self.mend = Some(command.to_string());
        self
    }
}

/// Exit status 0 where pockers can be built and run here.
pub fn run(settings: &Settings, args: &Json) -> Result<i32, CliError> {
    let findings = look(settings);
    let usable = findings.iter().all(|f| f.verdict != Verdict::Missing);
    if args.json {
        text::out(&text::json(&findings)?)?;
    } else {
        text::out(&render(&findings))?;
    }
    Ok(if usable { 0 } else { super::error::FAILED })
}

fn look(settings: &Settings) -> Vec<Finding> {
    let mut out = vec![root()];
    out.extend(mounting());
    out.extend(bounds::look());
    let host = ThisHost {
        proot: settings.proot.clone(),
    };
    out.push(base(&host.model()));
    out.push(store(&settings.store));
    out.push(server(settings));
    out.push(finding(
        "xattrs",
        Verdict::Note,
        "NFSv3 carries none: the fuse helper does by its own program, kernel clients do not, so setcap in a build needs fuse",
    ));
    out
}

fn root() -> Finding {
    if nix::unistd::geteuid().is_root() {
        finding("root", Verdict::Ok, "this is root")
    } else {
        finding(
            "root",
            Verdict::Missing,
            "mounting and changing root directories take root",
        )
        .mend("run pocker with doas or sudo")
    }
}

/// One way to mount is enough; the others are told as notes.
fn mounting() -> Vec<Finding> {
    let probes: Vec<_> = pocker_mount_helpers::helpers()
        .iter()
        .map(|h| (h.name(), h.probe()))
        .collect();
    let any = probes.iter().any(|(_, p)| p.usable);
    let mut out: Vec<Finding> = probes
        .into_iter()
        .map(|(name, probe)| {
            let verdict = match (probe.usable, any) {
                (true, _) => Verdict::Ok,
                (false, true) => Verdict::Note,
                (false, false) => Verdict::Missing,
            };
            let mut found = finding(&format!("mount: {name}"), verdict, probe.why);
            found.mend = probe.mend;
            found
        })
        .collect();
    if crate::daemon::io_flusher() {
        out.push(finding(
            "io flusher",
            Verdict::Ok,
            "the server may ask not to be throttled by its own clients",
        ));
    } else {
        out.push(finding(
            "io flusher",
            Verdict::Note,
            "PR_SET_IO_FLUSHER is not allowed here (CAP_SYS_RESOURCE): a writer that fills memory over kernel NFS may slow its own server down",
        ));
    }
    out
}

fn base(host: &Model) -> Finding {
    match host {
        Model::Distribution => {}
        Model::Sets(release) => {
            let detail = format!("the base set of OpenBSD {release}, from a mirror");
            return finding("PROOT", Verdict::Ok, detail);
        }
        Model::Ports { release, program } => {
            let detail = format!("{} copies this OpenBSD {release}", program.display());
            return finding("PROOT", Verdict::Ok, detail);
        }
    }
    let found = |program: &str| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
    };
    for program in ["mmdebstrap", "debootstrap"] {
        if found(program) {
            return finding("PROOT", Verdict::Ok, format!("{program} makes base trees"));
        }
    }
    finding(
        "PROOT",
        Verdict::Note,
        "neither mmdebstrap nor debootstrap: only FROM works",
    )
    .mend("apt-get install mmdebstrap")
}

fn store(path: &Path) -> Finding {
    let there = path
        .ancestors()
        .find(|p| p.exists())
        .unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(there) {
        Ok(fs) if fs.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY) => finding(
            "store",
            Verdict::Missing,
            format!("{} is on a read-only file system", path.display()),
        )
        .mend("choose another place with --store"),
        Ok(fs) => {
            let free = text::bytes(fs.blocks_available() * fs.fragment_size());
            finding(
                "store",
                Verdict::Ok,
                format!("{}, {free} free", path.display()),
            )
        }
        Err(e) => finding(
            "store",
            Verdict::Missing,
            format!("{}: {}", path.display(), e.desc()),
        ),
    }
}

fn server(settings: &Settings) -> Finding {
    if let Some(remote) = &settings.remote {
        let asked = super::open::running_server(settings).and_then(|c| Ok(c.status()?));
        return match asked {
            Ok(s) => finding(
                "server",
                Verdict::Ok,
                format!("{remote}: version {}, {} runs", s.version, s.runs),
            ),
            Err(e) => finding(
                "server",
                Verdict::Missing,
                format!("{remote}: {}", e.line()),
            )
            .mend(e.hint.as_deref().unwrap_or_default()),
        };
    }
    let own = settings.own_endpoint(false);
    match crate::control::Client::open(own).and_then(|c| c.status()) {
        Ok(s) => finding(
            "server",
            Verdict::Ok,
            format!(
                "pid {}, version {}, {} runs, {} mounts",
                s.pid, s.version, s.runs, s.mounts
            ),
        ),
        Err(_) => finding("server", Verdict::Ok, "none runs; create and run start one"),
    }
}

fn render(findings: &[Finding]) -> String {
    let mut out = String::new();
    for f in findings {
        let mark = match f.verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Missing => "MISSING",
        };
        let _ = writeln!(out, "{mark:7}  {:20}  {}", f.what, f.detail);
        if let Some(mend) = &f.mend {
            let _ = writeln!(out, "{:7}  {:20}  mend: {mend}", "", "");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_stands_out_with_its_remedy() {
        let findings = [
            finding("root", Verdict::Ok, "this is root"),
            finding("PROOT", Verdict::Missing, "no mmdebstrap").mend("apt-get install mmdebstrap"),
        ];
        insta::assert_snapshot!(render(&findings), @r"
        ok       root                  this is root
        MISSING  PROOT                 no mmdebstrap
                                       mend: apt-get install mmdebstrap
        ");
    }

    #[test]
    fn what_proot_models_on_openbsd_is_said() {
        let release = || "7.8".to_owned();
        let findings = [
            base(&Model::Sets(release())),
            base(&Model::Ports {
                release: release(),
                program: "/usr/ports/infrastructure/bin/proot".into(),
            }),
        ];
        insta::assert_snapshot!(render(&findings), @r"
        ok       PROOT                 the base set of OpenBSD 7.8, from a mirror
        ok       PROOT                 /usr/ports/infrastructure/bin/proot copies this OpenBSD 7.8
        ");
    }
}
