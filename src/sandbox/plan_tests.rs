use super::*;
use crate::sandbox::{Bounds, Profile};

fn spec() -> Spec {
    Spec {
        root: NfsMount {
            export: "/run/7/secret".to_owned(),
            read_only: false,
            suid: false,
            dev: false,
        },
        mounts: vec![
            Place {
                target: "/tmp".into(),
                what: What::Tmpfs {
                    mode: 0o1777,
                    size: None,
                },
                label: "/tmp".to_owned(),
            },
            Place {
                target: "/var/www".into(),
                what: What::Nfs(NfsMount {
                    export: "/graft/1/secret".to_owned(),
                    read_only: true,
                    suid: false,
                    dev: false,
                }),
                label: "graft /srv:/var/www:ro".to_owned(),
            },
        ],
        argv: vec!["nginx".into(), "-g".into()],
        env: vec![("http_proxy".into(), "http://user:secret@proxy".into())],
        user: Some("www".to_owned()),
        workdir: Some("/srv".into()),
        hostname: Some("web".to_owned()),
        stdio: Stdio::Inherit,
        profile: Profile::Run,
        privileges: Privileges::RUN,
        isolation: Isolation::Full,
        follow: false,
        as_root: false,
        read_only: false,
        bounds: Bounds::default(),
    }
}

#[test]
fn a_run_in_order() {
    let actions = plan(&spec(), Platform::Namespaces, true).unwrap();
    let text = format!("{actions:#?}");
    assert!(!text.contains("secret"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_bare_chroot_keeps_the_hosts_namespaces_and_every_privilege() {
    let mut spec = spec();
    spec.isolation = Isolation::Plain;
    let actions = plan(&spec, Platform::Namespaces, false).unwrap();
    let phases: Vec<String> = actions.iter().map(Action::to_string).collect();
    insta::assert_snapshot!(phases.join("\n"));
}

#[test]
fn a_read_only_root_is_sealed_once_all_mount_points_are_there() {
    let mut spec = spec();
    spec.read_only = true;
    let actions = plan(&spec, Platform::Namespaces, false).unwrap();
    let at = |wanted: &str| {
        actions
            .iter()
            .position(|a| a.to_string() == wanted)
            .unwrap()
    };
    let seal = at("make the root read-only");
    assert!(at("enter the root") < seal && seal < at("mount /proc"));
}

#[test]
fn phases_read_like_what_is_done() {
    let actions = plan(&spec(), Platform::Namespaces, false).unwrap();
    let phases: Vec<String> = actions.iter().map(Action::to_string).collect();
    insta::assert_snapshot!(phases.join("\n"));
}

#[test]
fn a_build_keeps_setuid_files_and_a_sealed_root_is_cached_as_such() {
    let mut spec = spec();
    spec.privileges = Privileges::BUILD;
    spec.root.read_only = true;
    let actions = plan(&spec, Platform::Namespaces, false).unwrap();
    let flags = actions.iter().find_map(|a| match a {
        Action::MountRoot { flags, .. } => Some(*flags),
        _ => None,
    });
    let want = TreeFlags {
        read_only: true,
        nosuid: false,
        nodev: true,
        noexec: false,
        caching: Caching::Sealed,
    };
    assert_eq!(flags, Some(want));
}

/// OpenBSD's: grafts mounted below the root, then a chroot, a class, a user and promises.
#[test]
fn a_chroot_in_order() {
    let mut spec = spec();
    let actions = plan(&spec, Platform::Chroot, false).unwrap();
    let text = format!("{actions:#?}");
    assert!(!text.contains("secret"), "{text}");
    insta::assert_snapshot!("chroot_run", text);
    spec.profile = Profile::Build;
    spec.as_root = true;
    let actions = plan(&spec, Platform::Chroot, false).unwrap();
    let phases: Vec<String> = actions.iter().map(Action::to_string).collect();
    insta::assert_snapshot!("chroot_build", phases.join("\n"));
}

#[test]
fn what_a_script_starts_is_followed_from_before_the_script() {
    let mut spec = spec();
    spec.follow = true;
    for (platform, before) in [
        (Platform::Namespaces, "mount /proc"),
        (Platform::Chroot, "mount graft /srv:/var/www:ro"),
    ] {
        let actions = plan(&spec, platform, false).unwrap();
        let phases: Vec<String> = actions.iter().map(Action::to_string).collect();
        let at = phases
            .iter()
            .position(|phase| phase == "follow what the command starts");
        let at = at.expect("it is followed");
        assert_eq!(phases[at - 1], before);
        assert!(matches!(actions[at + 1], Action::Fork(Role::Command)));
    }
    spec.isolation = Isolation::Plain;
    let actions = plan(&spec, Platform::Namespaces, false).unwrap();
    assert!(!actions.iter().any(|a| matches!(a, Action::Follow)));
}

#[test]
fn a_chroot_is_no_jail_for_root() {
    let mut spec = spec();
    for user in [
        None,
        Some("root"),
        Some("0"),
        Some("0:0"),
        Some("root:wheel"),
    ] {
        spec.user = user.map(str::to_owned);
        let error = plan(&spec, Platform::Chroot, false).unwrap_err();
        assert_eq!(error, PlanError::Root, "{user:?}");
    }
    assert!(error_text(&spec).contains("mount, signal and trace"));
    spec.as_root = true;
    let actions = plan(&spec, Platform::Chroot, false).unwrap();
    let promised = actions.iter().any(|a| matches!(a, Action::Promise(_)));
    assert!(!promised, "root is promised nothing");
    spec.read_only = true;
    let error = plan(&spec, Platform::Chroot, false).unwrap_err();
    assert_eq!(error, PlanError::ReadOnly);
}

fn error_text(spec: &Spec) -> String {
    plan(spec, Platform::Chroot, false).unwrap_err().to_string()
}

#[test]
fn nonsense_is_refused_before_anything_is_made() {
    let refused = |change: fn(&mut Spec)| {
        let mut spec = spec();
        change(&mut spec);
        plan(&spec, Platform::Namespaces, false)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(refused(|s| s.argv.clear()), "no command is given");
    assert_eq!(refused(|s| s.argv[0] = "".into()), "no command is given");
    assert_eq!(
        refused(|s| s.argv[1] = "a\0b".into()),
        "an argument of the command holds a NUL byte"
    );
    assert_eq!(
        refused(|s| s.env[0].0 = "A=B".into()),
        "\"A=B\" is no name for an environment variable"
    );
    assert_eq!(
        refused(|s| s.env[0].1 = "\0".into()),
        "the environment holds a NUL byte"
    );
    assert_eq!(
        refused(|s| s.workdir = Some("srv".into())),
        "the working directory: \"srv\" is not an absolute path inside the tree"
    );
    assert_eq!(
        refused(|s| s.mounts[0].target = "/a/../..".into()),
        "/tmp: \"/a/../..\" is not an absolute path inside the tree"
    );
}
