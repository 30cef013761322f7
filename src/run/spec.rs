//! What `pocker run` and `pocker debug` start, as a sandbox's description.

use super::direct::{direct, service};
use super::env::environment;
use super::tmpfs::{TMP_MODE, Tmpfs};
use crate::control::api::{Export, Graft, RunConfig, RunInfo, TreeInfo, VolumeMount};
use crate::sandbox::{
    Bounds, HostFlags, Isolation, NfsMount, Place, Privileges, Profile, Spec, Stdio, What,
};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// New and empty in each run.
const TMP: &str = "/tmp";
/// Whichever shell the tree has.
const DEBUG_SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash -i; exec sh -i";

/// What the command line adds to what the server said.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// In place of RUN's; empty = RUN's.
    pub command: Vec<OsString>,
    /// Over the Pockerfile's ENV.
    pub env: Vec<(String, String)>,
    /// In place of USER's and WORKDIR's.
    pub user: Option<String>,
    pub workdir: Option<String>,
    /// The caller's TERM, where its standard input is a terminal.
    pub terminal: Option<OsString>,
    pub confine: Confinement,
    /// The host's resolv.conf, which goes with the host's network; none leaves the tree's.
    pub resolv_conf: Option<PathBuf>,
    /// Grafts are bound as they are: the server is on another host.
    pub bind_grafts: bool,
    /// Other names in /etc, and the host's files that are seen there.
    pub etc: Vec<(&'static str, PathBuf)>,
}

/// What the command may do, and what is around it.
#[derive(Clone, Debug)]
pub struct Confinement {
    pub privileges: Privileges,
    pub isolation: Isolation,
    /// A run in a chroot may be user 0.
    pub as_root: bool,
    /// The tree takes no writes.
    pub read_only: bool,
    pub tmpfs: Vec<Tmpfs>,
    /// In place of the pocker's name.
    pub hostname: Option<String>,
}

impl Default for Confinement {
    fn default() -> Confinement {
        Confinement {
            privileges: Privileges::RUN,
            isolation: Isolation::Full,
            as_root: false,
            read_only: false,
            tmpfs: Vec::new(),
            hostname: None,
        }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    #[error("{name} has no RUN, and no command is given")]
    NoCommand { name: String },
    #[error("the server answered with {got} exports for {asked} grafts and volumes")]
    Exports { asked: usize, got: usize },
}

/// A run that the server prepared. `grafts` and `volumes` are those of the request.
pub fn run(
    info: &RunInfo,
    grafts: &[Graft],
    volumes: &[VolumeMount],
    options: &Options,
) -> Result<Spec, RunError> {
    for (asked, got) in [
        (
            grafts.len(),
            if options.bind_grafts {
                grafts.len()
            } else {
                info.grafts.len()
            },
        ),
        (volumes.len(), info.volumes.len()),
    ] {
        if asked != got {
            return Err(RunError::Exports { asked, got });
        }
    }
    let own = &info.config.argv;
    let starts = match own.is_empty() && options.command.is_empty() {
        true => service(&info.config.command),
        false => None,
    };
    let argv = match (&options.command[..], info.config.command.trim()) {
        ([], _) if !own.is_empty() => own.iter().map(OsString::from).collect(),
        ([], "") => {
            return Err(RunError::NoCommand {
                name: info.name.clone(),
            });
        }
        ([], _) => match &starts {
            Some(argv) => argv.iter().map(OsString::from).collect(),
            None => shell(&direct(&info.config.command)),
        },
        (command, _) => command.to_vec(),
    };
    let confine = &options.confine;
    let mut mounts = Vec::new();
    if !confine.tmpfs.iter().any(|given| given.target == TMP) {
        mounts.push(tmpfs(&Tmpfs {
            target: TMP.to_owned(),
            mode: TMP_MODE,
            size: None,
        }));
    }
    mounts.extend(etc(options));
    let mut places = places(info, grafts, volumes);
    if options.bind_grafts {
        places.extend(grafts.iter().map(bound));
    }
    places.extend(confine.tmpfs.iter().map(tmpfs));
    // Outer places first, so that none hides another.
    places.sort_by_key(|place| place.target.components().count());
    mounts.extend(places);
    let config = &info.config;
    Ok(Spec {
        argv,
        follow: starts.is_some(),
        mounts,
        hostname: confine.hostname.clone().or_else(|| Some(info.name.clone())),
        privileges: confine.privileges,
        isolation: confine.isolation,
        as_root: confine.as_root,
        read_only: confine.read_only,
        profile: Profile::Run,
        ..base(&info.name, &info.tree, config, options)
    })
}

/// A shell, or `options.command`, in a kept tree, as its build or run had it.
pub fn debug(name: &str, tree: &TreeInfo, config: &RunConfig, options: &Options) -> Spec {
    let argv = match &options.command[..] {
        [] => shell(DEBUG_SHELL),
        command => command.to_vec(),
    };
    Spec {
        argv,
        mounts: etc(options).collect(),
        profile: Profile::Build,
        privileges: Privileges::BUILD,
        isolation: Isolation::Full,
        as_root: true,
        read_only: false,
        ..base(name, tree, config, options)
    }
}

fn base(name: &str, tree: &TreeInfo, config: &RunConfig, options: &Options) -> Spec {
    let workdir = options.workdir.as_ref().or(config.workdir.as_ref());
    Spec {
        root: mount(&tree.export),
        mounts: Vec::new(),
        argv: Vec::new(),
        follow: false,
        env: environment(options.terminal.as_deref(), &[&config.env, &options.env]),
        user: options.user.clone().or_else(|| config.user.clone()),
        workdir: workdir.map(PathBuf::from),
        hostname: Some(name.to_owned()),
        stdio: Stdio::Inherit,
        profile: Profile::Run,
        privileges: Privileges::RUN,
        isolation: Isolation::Full,
        as_root: true,
        read_only: false,
        bounds: Bounds::default(),
    }
}

fn places(info: &RunInfo, grafts: &[Graft], volumes: &[VolumeMount]) -> Vec<Place> {
    let grafts = grafts.iter().zip(&info.grafts).map(|(graft, export)| {
        let what = format!("graft {}:{}", graft.host, graft.target);
        let mut place = place(&graft.target, graft.read_only, export, what);
        if let What::Nfs(mount) = &mut place.what {
            (mount.suid, mount.dev) = (graft.suid, graft.dev);
        }
        place
    });
    let volumes = volumes.iter().zip(&info.volumes).map(|(volume, export)| {
        let what = format!("volume {}:{}", volume.name, volume.target);
        place(&volume.target, volume.read_only, export, what)
    });
    grafts.chain(volumes).collect()
}

fn bound(graft: &Graft) -> Place {
    let ro = if graft.read_only { ":ro" } else { "" };
    Place {
        target: PathBuf::from(&graft.target),
        what: What::HostDir {
            host: PathBuf::from(&graft.host),
            flags: HostFlags {
                read_only: graft.read_only,
                suid: graft.suid,
                dev: graft.dev,
            },
        },
        label: format!("graft {}:{}{ro}", graft.host, graft.target),
    }
}

fn tmpfs(tmpfs: &Tmpfs) -> Place {
    Place {
        target: PathBuf::from(&tmpfs.target),
        what: What::Tmpfs {
            mode: tmpfs.mode,
            size: tmpfs.size,
        },
        label: tmpfs.target.clone(),
    }
}

fn place(target: &str, read_only: bool, export: &Export, what: String) -> Place {
    let ro = if read_only { ":ro" } else { "" };
    Place {
        target: PathBuf::from(target),
        what: What::Nfs(NfsMount {
            read_only: read_only || export.read_only,
            ..mount(export)
        }),
        label: format!("{what}{ro}"),
    }
}

fn etc(options: &Options) -> impl Iterator<Item = Place> {
    let resolver = options.resolv_conf.clone();
    let resolver = resolver.map(|host| ("resolv.conf", host));
    let files = resolver.into_iter().chain(options.etc.iter().cloned());
    files.map(|(name, host)| Place {
        target: Path::new("/etc").join(name),
        what: What::BindFile { host },
        label: format!("/etc/{name}"),
    })
}

fn mount(export: &Export) -> NfsMount {
    NfsMount {
        export: export.path.clone(),
        read_only: export.read_only,
        suid: false,
        dev: false,
    }
}

fn shell(script: &str) -> Vec<OsString> {
    ["/bin/sh", "-c", script].map(OsString::from).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(path: &str) -> Export {
        Export {
            path: path.to_owned(),
            read_only: false,
        }
    }

    fn graft(host: &str, target: &str, read_only: bool) -> Graft {
        Graft {
            host: host.to_owned(),
            target: target.to_owned(),
            read_only,
            suid: false,
            dev: false,
        }
    }

    fn info(grafts: usize) -> RunInfo {
        RunInfo {
            id: 7,
            name: "web".to_owned(),
            key: "k".repeat(64),
            tree: TreeInfo {
                id: 9,
                export: export("/run/9/secret"),
            },
            grafts: (0..grafts)
                .map(|i| export(&format!("/graft/{i}/secret")))
                .collect(),
            volumes: Vec::new(),
            base: String::new(),
            config: RunConfig {
                command: "nginx -g 'daemon off;'".to_owned(),
                env: vec![("A".to_owned(), "pockerfile".to_owned())],
                user: Some("www-data".to_owned()),
                workdir: Some("/srv".to_owned()),
                ..RunConfig::default()
            },
        }
    }

    #[test]
    fn a_run_is_the_pockerfiles_command_over_a_fresh_tree() {
        let grafts = [
            graft("/deep", "/a/b/c", true),
            graft("/srv/www", "/a", false),
        ];
        let options = Options {
            bind_grafts: false,
            resolv_conf: Some("/etc/resolv.conf".into()),
            etc: vec![("hosts", "/run/pocker/hosts-7".into())],
            ..Options::default()
        };
        insta::assert_debug_snapshot!(run(&info(2), &grafts, &[], &options).unwrap());
    }

    #[test]
    fn the_command_line_has_the_last_word() {
        let options = Options {
            command: vec!["id".into(), "-u".into()],
            env: vec![("A".to_owned(), "line".to_owned())],
            user: Some("root".to_owned()),
            workdir: Some("/".to_owned()),
            terminal: Some("xterm".into()),
            confine: Confinement::default(),
            resolv_conf: None,
            bind_grafts: false,
            etc: Vec::new(),
        };
        let spec = run(&info(0), &[], &[], &options).unwrap();
        assert_eq!(spec.argv, ["id", "-u"]);
        assert_eq!(spec.env[1], ("TERM".into(), "xterm".into()));
        assert_eq!(spec.env[2], ("A".into(), "line".into()));
        assert_eq!(spec.user.as_deref(), Some("root"));
        assert_eq!(spec.workdir, Some("/".into()));
        assert_eq!(spec.mounts.len(), 1);
    }

    #[test]
    fn a_run_needs_a_command_and_its_exports() {
        let mut bare = info(0);
        bare.config.command = " ".to_owned();
        let error = run(&bare, &[], &[], &Options::default()).unwrap_err();
        assert_eq!(error.to_string(), "web has no RUN, and no command is given");
        let error = run(&info(1), &[], &[], &Options::default()).unwrap_err();
        assert_eq!(error, RunError::Exports { asked: 0, got: 1 });
    }

    #[test]
    fn a_volume_in_a_graft_is_mounted_after_it() {
        let mut info = info(1);
        info.volumes = vec![Export {
            path: "/volume/data/secret".to_owned(),
            read_only: true,
        }];
        let volume = VolumeMount {
            name: "data".to_owned(),
            target: "/a/b".to_owned(),
            read_only: true,
        };
        let grafts = [graft("/srv", "/a", false)];
        let spec = run(&info, &grafts, &[volume], &Options::default()).unwrap();
        let places: Vec<_> = spec.mounts.iter().map(|p| p.label.as_str()).collect();
        assert_eq!(places, ["/tmp", "graft /srv:/a", "volume data:/a/b:ro"]);
        let What::Nfs(mount) = &spec.mounts[2].what else {
            panic!("a mount");
        };
        assert!(mount.read_only && mount.export == "/volume/data/secret");
    }

    #[test]
    fn debug_is_a_shell_in_the_same_surroundings() {
        let info = info(0);
        let spec = debug(&info.name, &info.tree, &info.config, &Options::default());
        assert_eq!(spec.argv[2], DEBUG_SHELL);
        assert_eq!(spec.profile, Profile::Build);
        assert_eq!(spec.user.as_deref(), Some("www-data"));
        assert!(spec.mounts.is_empty());
    }
}
