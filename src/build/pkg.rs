//! PKG: one script finds the tree's package manager, updates its index, and installs.
//!
//! Index and downloads lie in a scratch directory of the host that is bound into the tree while the
//! script runs, so that neither has to be cleaned away, and none is ever sealed.

use std::fmt::Write as _;

/// Where the scratch directory is bound; on a tmpfs of its own.
pub const WORK: &str = "/run/pocker/work";
/// Starts the line that tells the digest of the index. No program prints it by accident.
pub const INDEX_MARK: &str = "\u{1}pocker-index ";

pub const NO_MANAGER: i32 = 120;
pub const UPDATE_FAILED: i32 = 121;
pub const INSTALL_FAILED: i32 = 122;

struct Manager {
    /// Its program: the first of the table that the tree has is used.
    program: &'static str,
    env: &'static [(&'static str, &'static str)],
    /// Shell: brings the index up to date.
    update: &'static str,
    /// Shell: prints the index, so that its digest tells whether the mirror has something newer.
    index: &'static str,
    /// Shell: installs "$@".
    install: &'static str,
}

/// `$work` is the scratch directory, `$ca` a CA bundle or empty.
const MANAGERS: [Manager; 7] = [
    Manager {
        program: "apt-get",
        env: &[
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ],
        update: "apt_dirs && apt update",
        index: r#"cat "$work"/lists/*Release"#,
        install: r#"quiet_services; apt install -y --no-install-recommends "$@"; status=$?; loud_services; return $status"#,
    },
    Manager {
        program: "apk",
        env: &[],
        update: r#"apk --cache-dir "$work/apk" update"#,
        index: r#"cat "$work"/apk/APKINDEX*"#,
        install: r#"apk --cache-dir "$work/apk" add "$@""#,
    },
    Manager {
        program: "dnf",
        env: &[],
        update: r#"dnf -y --setopt=cachedir="$work/dnf" ${ca:+--setopt=sslcacert="$ca"} --refresh makecache"#,
        index: r#"find "$work/dnf" -name repomd.xml -exec cat {} +"#,
        install: r#"dnf -y --setopt=cachedir="$work/dnf" ${ca:+--setopt=sslcacert="$ca"} --setopt=install_weak_deps=False install "$@""#,
    },
    Manager {
        program: "pacman",
        env: &[],
        update: "pacman -Sy --noconfirm",
        index: "cat /var/lib/pacman/sync/*.db",
        // Arch supports no install from a newer index without the upgrade.
        install: r#"pacman -Su --noconfirm --needed --cachedir "$work" "$@" && rm -f /var/lib/pacman/sync/*"#,
    },
    Manager {
        program: "xbps-install",
        env: &[],
        update: "xbps-install -Sy",
        index: "cat /var/db/xbps/*/*-repodata",
        install: r#"xbps-install -y -c "$work/xbps" "$@""#,
    },
    Manager {
        program: "pkg_add",
        env: &[],
        // Its index is the mirror's directory, read at each call: of PKG_PATH, else of /etc/installurl. A
        // version stands behind a dash in the package's own name. -I asks nothing, -x draws no progress.
        update: "true",
        // Nothing of it is kept, so each look finds another one: `--pull` installs anew.
        index: r#"echo "$$ $(date)""#,
        install: r#"for name; do shift; set -- "$@" "$(printf %s "$name" | sed 's/=/-/')"; done; pkg_add -I -x "$@""#,
    },
    Manager {
        program: "pkg",
        env: &[
            ("ASSUME_ALWAYS_YES", "yes"),
            ("PKG_CACHEDIR", "/run/pocker/work/pkg"),
        ],
        update: "pkg update -f",
        index: "cat /var/db/pkg/repos/*/*",
        install: r#"pkg install -y "$@""#,
    },
];

/// What apt needs: its own directories in the scratch place, where it downloads as a user of its own, an update that fails when a source does, and a policy
/// that starts no service (invoke-rc.d(8)); a policy of the tree's own stays.
const APT: &str = r#"apt_dirs() {
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  chown _apt "$work"/*/partial 2>/dev/null || :
}
apt() {
  command=$1; shift
  apt-get -q -o Dir::State::lists="$work/lists" -o Dir::Cache::archives="$work/archives" \
    -o Dir::Cache::pkgcache="$work/pkgcache.bin" -o Dir::Cache::srcpkgcache="$work/srcpkgcache.bin" -o Acquire::Languages=none \
    -o APT::Update::Error-Mode=any -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold \
    ${ca:+-o Acquire::https::CAInfo="$ca"} "$command" "$@"
}
policy=/usr/sbin/policy-rc.d
ours='#!/bin/sh
exit 101 # pocker: no service starts while building'
quiet_services() {
  [ -e "$policy" ] || { printf '%s\n' "$ours" > "$policy" && chmod 755 "$policy"; }
}
loud_services() {
  [ "$(cat "$policy" 2>/dev/null)" != "$ours" ] || rm -f "$policy"
}
"#;

/// POSIX sh; arguments: `install` and packages, or `probe` to update and tell the index only.
pub fn script() -> String {
    let mut out = String::from("work=");
    out.push_str(WORK);
    out.push_str("\nca=${POCKER_CA:-}\n");
    out.push_str("mode=$1; shift\n");
    out.push_str(APT);
    for (at, manager) in MANAGERS.iter().enumerate() {
        let word = if at == 0 { "if" } else { "elif" };
        let _ = writeln!(
            out,
            "{word} command -v {} >/dev/null 2>&1; then",
            manager.program
        );
        for (name, value) in manager.env {
            let _ = writeln!(out, "  export {name}={value}");
        }
        let _ = writeln!(out, "  update() {{ {}; }}", manager.update);
        let _ = writeln!(out, "  index() {{ {}; }}", manager.index);
        let _ = writeln!(out, "  install() {{ {}; }}", manager.install);
    }
    let _ = writeln!(out, "else exit {NO_MANAGER}; fi");
    let _ = writeln!(out, "update || exit {UPDATE_FAILED}");
    out.push_str(DIGEST);
    out.push_str("[ \"$mode\" = install ] || exit 0\n");
    let _ = writeln!(out, "install \"$@\" || exit {INSTALL_FAILED}");
    out
}

/// cksum is POSIX, the others are stronger: the tree's best is used, always the same one in the same tree.
const DIGEST: &str = r#"if command -v sha256sum >/dev/null 2>&1; then sum=sha256sum
elif command -v sha256 >/dev/null 2>&1; then sum='sha256 -q'
else sum=cksum; fi
digest=$(index 2>/dev/null | $sum)
printf '\001pocker-index %s\n' "${digest%% *}"
"#;

/// What a status of the script means, for the error.
pub fn meaning(status: i32) -> Option<&'static str> {
    match status {
        NO_MANAGER => Some(
            "the tree has no package manager that pocker knows (apt-get, apk, dnf, pacman, xbps-install, pkg_add, pkg)",
        ),
        UPDATE_FAILED => Some("the package index could not be updated"),
        INSTALL_FAILED => Some("the package manager could not install this"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Output};

    /// Runs the script with nothing on PATH but `programs`, each a fake.
    fn run(programs: &[(&str, &str)], mode: &str) -> (Output, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        for tool in [
            "sed",
            "sha256sum",
            "cat",
            "rm",
            "chmod",
            "find",
            "mkdir",
            "chown",
        ] {
            let real = ["/usr/bin", "/bin"].map(|d| format!("{d}/{tool}"));
            let real = real
                .iter()
                .find(|p| fs::exists(p).expect("looked"))
                .expect(tool);
            std::os::unix::fs::symlink(real, dir.path().join(tool)).expect("linked");
        }
        for (name, body) in programs {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        let script = script()
            .replace(WORK, &dir.path().join("work").display().to_string())
            .replace(
                "/usr/sbin/policy-rc.d",
                &dir.path().join("policy-rc.d").display().to_string(),
            );
        let output = Command::new("/bin/sh")
            .args(["-c", &script, "pocker-pkg", mode, "nginx", "curl"])
            .env_clear()
            .env("PATH", dir.path())
            .output()
            .expect("sh starts");
        (output, dir)
    }

    #[test]
    fn the_script_is_what_is_documented() {
        insta::assert_snapshot!(script(), @r#"
        work=/run/pocker/work
        ca=${POCKER_CA:-}
        mode=$1; shift
        apt_dirs() {
          mkdir -p "$work/lists/partial" "$work/archives/partial"
          chown _apt "$work"/*/partial 2>/dev/null || :
        }
        apt() {
          command=$1; shift
          apt-get -q -o Dir::State::lists="$work/lists" -o Dir::Cache::archives="$work/archives" \
            -o Dir::Cache::pkgcache="$work/pkgcache.bin" -o Dir::Cache::srcpkgcache="$work/srcpkgcache.bin" -o Acquire::Languages=none \
            -o APT::Update::Error-Mode=any -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold \
            ${ca:+-o Acquire::https::CAInfo="$ca"} "$command" "$@"
        }
        policy=/usr/sbin/policy-rc.d
        ours='#!/bin/sh
        exit 101 # pocker: no service starts while building'
        quiet_services() {
          [ -e "$policy" ] || { printf '%s\n' "$ours" > "$policy" && chmod 755 "$policy"; }
        }
        loud_services() {
          [ "$(cat "$policy" 2>/dev/null)" != "$ours" ] || rm -f "$policy"
        }
        if command -v apt-get >/dev/null 2>&1; then
          export DEBIAN_FRONTEND=noninteractive
          export DEBCONF_NONINTERACTIVE_SEEN=true
          update() { apt_dirs && apt update; }
          index() { cat "$work"/lists/*Release; }
          install() { quiet_services; apt install -y --no-install-recommends "$@"; status=$?; loud_services; return $status; }
        elif command -v apk >/dev/null 2>&1; then
          update() { apk --cache-dir "$work/apk" update; }
          index() { cat "$work"/apk/APKINDEX*; }
          install() { apk --cache-dir "$work/apk" add "$@"; }
        elif command -v dnf >/dev/null 2>&1; then
          update() { dnf -y --setopt=cachedir="$work/dnf" ${ca:+--setopt=sslcacert="$ca"} --refresh makecache; }
          index() { find "$work/dnf" -name repomd.xml -exec cat {} +; }
          install() { dnf -y --setopt=cachedir="$work/dnf" ${ca:+--setopt=sslcacert="$ca"} --setopt=install_weak_deps=False install "$@"; }
        elif command -v pacman >/dev/null 2>&1; then
          update() { pacman -Sy --noconfirm; }
          index() { cat /var/lib/pacman/sync/*.db; }
          install() { pacman -Su --noconfirm --needed --cachedir "$work" "$@" && rm -f /var/lib/pacman/sync/*; }
        elif command -v xbps-install >/dev/null 2>&1; then
          update() { xbps-install -Sy; }
          index() { cat /var/db/xbps/*/*-repodata; }
          install() { xbps-install -y -c "$work/xbps" "$@"; }
        elif command -v pkg_add >/dev/null 2>&1; then
          update() { true; }
          index() { echo "$$ $(date)"; }
          install() { for name; do shift; set -- "$@" "$(printf %s "$name" | sed 's/=/-/')"; done; pkg_add -I -x "$@"; }
        elif command -v pkg >/dev/null 2>&1; then
          export ASSUME_ALWAYS_YES=yes
          export PKG_CACHEDIR=/run/pocker/work/pkg
          update() { pkg update -f; }
          index() { cat /var/db/pkg/repos/*/*; }
          install() { pkg install -y "$@"; }
        else exit 120; fi
        update || exit 121
        if command -v sha256sum >/dev/null 2>&1; then sum=sha256sum
        elif command -v sha256 >/dev/null 2>&1; then sum='sha256 -q'
        else sum=cksum; fi
        digest=$(index 2>/dev/null | $sum)
        printf '\001pocker-index %s\n' "${digest%% *}"
        [ "$mode" = install ] || exit 0
        install "$@" || exit 122
        "#);
    }

    #[test]
    fn the_first_manager_found_updates_then_installs() {
        let (output, dir) = run(
            &[("apk", "echo \"apk $*\""), ("dnf", "echo wrong")],
            "install",
        );
        let text = String::from_utf8_lossy(&output.stdout)
            .replace(&dir.path().display().to_string(), "DIR");
        assert_eq!(output.status.code(), Some(0));
        assert!(
            text.starts_with("apk --cache-dir DIR/work/apk update\n"),
            "{text}"
        );
        assert!(
            text.ends_with("apk --cache-dir DIR/work/apk add nginx curl\n"),
            "{text}"
        );
        assert!(text.contains(INDEX_MARK), "{text}");
    }

    #[test]
    fn a_probe_installs_nothing() {
        let (output, _dir) = run(&[("apk", "echo $3")], "probe");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.starts_with("update\n\u{1}pocker-index "), "{text}");
        assert!(!text.contains("add"), "{text}");
    }

    /// OpenBSD's tree has none of the others, and sha256(1) in place of sha256sum.
    #[test]
    fn pkg_add_is_told_names_versions_and_flavours() {
        let recorded = r#"printf '%s\n' "pkg_add $*" "PKG_PATH=$PKG_PATH""#;
        let script = |names: &[&str]| {
            let (output, dir) = run(&[("pkg_add", recorded)], "install");
            assert_eq!(output.status.code(), Some(0));
            let script = script().replace(WORK, &dir.path().join("work").display().to_string());
            let output = Command::new("/bin/sh")
                .args(["-c", &script, "pocker-pkg", "install"])
                .args(names)
                .env_clear()
                .env("PATH", dir.path())
                .env("PKG_PATH", "http://mirror/7.8/packages/amd64/")
                .output()
                .expect("sh starts");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines()
                .filter(|line| !line.starts_with(INDEX_MARK))
                .map(|line| format!("{line}\n"))
                .collect::<String>()
        };
        insta::assert_snapshot!(script(&["nginx", "vim--no_x11", "python%3.12", "curl=8.15.0"]), @r"
        pkg_add -I -x nginx vim--no_x11 python%3.12 curl-8.15.0
        PKG_PATH=http://mirror/7.8/packages/amd64/
        ");
        let (output, _dir) = run(
            &[("pkg_add", "echo \"Can't find $4\" >&2; exit 1")],
            "install",
        );
        assert_eq!(output.status.code(), Some(INSTALL_FAILED));
        assert!(String::from_utf8_lossy(&output.stderr).contains("Can't find curl"));
    }

    /// Whose index cannot be told is never taken for the same.
    #[test]
    fn pkg_adds_index_is_another_each_time() {
        let index = || {
            let (output, _dir) = run(&[("pkg_add", ":")], "probe");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let (one, other) = (index(), index());
        assert!(one.starts_with(INDEX_MARK), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn each_failure_has_its_status() {
        let status = |programs: &[(&str, &str)]| run(programs, "install").0.status.code();
        assert_eq!(status(&[]), Some(NO_MANAGER));
        assert_eq!(status(&[("apk", "exit 3")]), Some(UPDATE_FAILED));
        assert_eq!(
            status(&[("apk", "[ \"$3\" = update ]")]),
            Some(INSTALL_FAILED)
        );
        for status in [NO_MANAGER, UPDATE_FAILED, INSTALL_FAILED] {
            assert!(meaning(status).is_some());
        }
    }

    /// apt sees a policy that forbids services; afterwards it is gone, also when apt failed, and a tree's own stays.
    #[test]
    fn apt_starts_no_services() {
        let apt = "case \"$*\" in *' install '*) cat \"${0%/*}/policy-rc.d\"; exit 1;; esac";
        let (output, dir) = run(&[("apt-get", apt)], "install");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(INSTALL_FAILED));
        assert!(text.contains("exit 101"), "{text}");
        assert!(!dir.path().join("policy-rc.d").exists());

        let (output, dir) = run(&[("apt-get", ":"), ("policy-rc.d", "exit 0")], "install");
        assert_eq!(output.status.code(), Some(0));
        assert!(dir.path().join("policy-rc.d").exists());
    }
}
