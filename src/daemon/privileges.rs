//! What the serving process keeps of root's rights, and why. All else it gives up before it opens the store, so
//! whoever takes it over by what it reads from others has no more. What it needs of the rest its aide does, and its
//! grafter where it has one.

use super::ServeOptions;
use crate::sys::{Capabilities, Capability, Fault};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Of a server that serves grafts itself: the host's directories, with the rights of whoever asks.
const ALONE: Capabilities = Capabilities::of(&[
    // A graft's files are given to whom a caller who is root in it says.
    Capability::CHOWN,
    // That caller reads and writes what no mode lets him.
    Capability::DAC_OVERRIDE,
    // Files of grafts are opened by handle.
    Capability::DAC_READ_SEARCH,
    // Modes, times and links of others' files.
    Capability::FOWNER,
    // A setgid bit that a caller sets stays.
    Capability::FSETID,
    // A thread acts as the caller on a graft, and then as itself again.
    Capability::SETGID,
    Capability::SETUID,
    // Ports below 1024: of listeners, and of what a portmapper and mountd believe.
    Capability::NET_BIND_SERVICE,
]);

/// Of one whose grafter does that.
const APART: Capabilities = Capabilities::of(&[
    // A store may be another user's than root, and TLS's keys.
    Capability::DAC_OVERRIDE,
    Capability::NET_BIND_SERVICE,
]);

/// Of the grafter: each has its reason above.
const GRAFTER: Capabilities = Capabilities::of(&[
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::DAC_READ_SEARCH,
    Capability::FOWNER,
    Capability::FSETID,
    Capability::SETGID,
    Capability::SETUID,
]);

/// pledge(2) of the serving process, which has its listeners by then.
const PROMISES: &str = "stdio rpath wpath cpath fattr chown flock inet unix dns proc";
/// Of the grafter: `stdio` threads, and the sockets that it has; `rpath wpath cpath fattr` files, their names and times;
/// `dpath` pipes; `chown` whom they belong to.
const GRAFTERS_PROMISES: &str = "stdio rpath wpath cpath dpath fattr chown";
/// Of a server that is a user of its own and has its store alone, without an upstream: SQLite gives nothing away then.
const USERS_PROMISES: &str = "stdio rpath wpath cpath fattr flock inet unix proc";
/// Where copies of the store may be made by a server that must say so beforehand.
const BACKUPS: &str = "/var/backups";
/// Where backups go, of a server that reaches no other place for them.
pub fn backups(options: &ServeOptions) -> PathBuf {
    match options.user {
        Some(_) => options.store.join(pocker_store::BACKUPS_WITHIN),
        None => BACKUPS.into(),
    }
}

/// What the kernel is told: the calls that stay (OpenBSD's), and the paths.
#[derive(Debug, PartialEq, Eq)]
pub struct Promises {
    pub calls: &'static str,
    pub paths: Vec<(PathBuf, &'static str)>,
}

/// Where systems keep the authorities by which an upstream's certificate is checked.
const AUTHORITIES: [&str; 8] = [
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/var/lib/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];
/// An upstream's name is looked up by these, and by what of the C library is loaded for it then. OpenBSD: `dns`.
const NAMES: [&str; 14] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/etc/ld.so.cache",
    "/lib",
    "/usr/lib",
    "/lib64",
    "/usr/lib64",
];

/// The upstream's folder, where it is one of this host.
fn folder(options: &ServeOptions) -> Option<PathBuf> {
    let url = url::Url::parse(&options.upstream.as_ref()?.url).ok()?;
    (url.scheme() == "file").then(|| url.to_file_path().ok())?
}

/// What lets this host in at an upstream: files that do not change, and those that are replaced, which are
/// found by their directory.
const SECRETS: [&str; 2] = ["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS"];
const RENEWED: [&str; 3] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
];

/// Whether there is an upstream that is reached over the network.
fn afar(options: &ServeOptions) -> bool {
    options.upstream.is_some() && folder(options).is_none()
}

/// Pure. A path's reason stands beside it, and a promise's here: `stdio` threads, sockets that are open, clocks;
/// `rpath wpath cpath fattr flock` the store's files; `chown` SQLite's, which gives a journal its database's owner; `inet unix` accepting, and an upstream's connections; `dns` its name; `proc` signals to
/// runs that are stopped, and a low priority for upkeep. Not among them: exec, mounts, other users, devices, kernel
/// settings.
pub fn promises(options: &ServeOptions) -> Promises {
    if options.user.is_some() {
        return Promises {
            calls: USERS_PROMISES,
            paths: vec![("/".into(), "rwc")],
        };
    }
    let mut paths = vec![
        // SQLite's large sorts too.
        (options.store.clone(), "rwc"),
        // Sockets, and what runs say of themselves.
        (options.socket_dir.clone(), "rwc"),
        // `store backup`.
        (BACKUPS.into(), "rwc"),
        ("/dev/null".into(), "rw"),
    ];
    if afar(options) {
        paths.extend(AUTHORITIES.map(|at| (at.into(), "r")));
        let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(std::env::var_os);
        paths.extend(named.into_iter().flatten().map(|at| (at.into(), "r")));
    }
    paths.extend(folder(options).map(|dir| (dir, "r")));
    // Looked at again and again.
    let revoked = options.tls.as_ref().map(|files| files.revoked.clone());
    paths.extend(revoked.map(|list| (list, "r")));
    Promises {
        calls: PROMISES,
        paths,
    }
}

/// What is read on Linux too: there the paths are given up before all is open.
fn read_early(options: &ServeOptions) -> Vec<PathBuf> {
    // Who lives, what is mounted, and the paths of what is open. Nothing there is written to.
    let mut paths = vec![PathBuf::from("/proc")];
    if let Some(files) = &options.tls {
        paths.extend([files.cert.clone(), files.key.clone()]);
        paths.extend(files.ca.clone());
        // Landlock knows a file, not its name: a list that takes another's place is found by its directory alone.
        paths.extend(files.revoked.parent().map(PathBuf::from));
    }
    if afar(options) {
        paths.extend(NAMES.map(PathBuf::from));
        let named = |name: &&str| std::env::var_os(name).map(PathBuf::from);
        paths.extend(SECRETS.iter().filter_map(named));
        let renewed = RENEWED.iter().filter_map(named);
        paths.extend(renewed.filter_map(|file| file.parent().map(PathBuf::from)));
    }
    paths
}

/// TCP ports that it listens on itself.
fn ports(options: &ServeOptions) -> Vec<u16> {
    let listen = options.listen.into_iter();
    let nfs = listen.flat_map(|addr| [addr.port(), super::outside::address(addr).port()]);
    let portmap =
        (options.portmap == super::Portmap::Builtin).then_some(pocker_nfs::portmap::PORTMAP_PORT);
    let metrics = options.metrics.map(|addr| addr.port());
    nfs.chain(portmap).chain(metrics).collect()
}

/// Whether the kernel keeps this process from all paths but those that it was told.
static ENCLOSED: OnceLock<bool> = OnceLock::new();

fn enclosed() -> bool {
    ENCLOSED.get().is_some_and(|enclosed| *enclosed)
}

/// Whether the kernel asks for the directories above each file that is opened.
pub fn asked_for_places() -> bool {
    enclosed() && !crate::sys::bsd::CONFINES
}

/// Gives up what this system can take away before there are threads. Store and sockets have their folders by then.
pub fn confine(options: &ServeOptions) -> Result<(), Fault> {
    if !options.graft_below.is_empty() {
        // Large sorts of SQLite's would go to /var/tmp or /tmp, which are of all.
        crate::sys::process::set_variable("SQLITE_TMPDIR", &options.store);
        let mut paths = promises(options).paths;
        paths.extend(read_early(options).into_iter().map(|at| (at, "r")));
        let done = crate::sys::os::enclose(&paths, &ports(options), afar(options))?;
        if !done && !crate::sys::bsd::CONFINES {
            tracing::warn!(
                "this kernel has no Landlock (`pocker doctor`): grafts are kept to {}, but the server itself is kept from nothing",
                named(&options.graft_below)
            );
        }
        let _ = ENCLOSED.set(done || crate::sys::bsd::CONFINES);
        return crate::sys::os::confine_server(APART);
    }
    crate::sys::os::confine_server(ALONE)
}

/// What is left is the store, with no rights but a user's.
pub fn confine_in_store() -> Result<(), Fault> {
    let all = Path::new("/");
    crate::sys::process::set_variable("SQLITE_TMPDIR", all);
    let _ = ENCLOSED.set(true);
    crate::sys::os::enclose(&[(all.into(), "rwc")], &[], false)?;
    crate::sys::os::confine_server(Capabilities::NONE)
}

/// The grafter's paths.
fn grafters(below: &[PathBuf], kept: &Path) -> Promises {
    let mut paths = vec![(kept.to_owned(), "rwc")];
    paths.extend(below.iter().map(|dir| (dir.clone(), "rwc")));
    Promises {
        calls: GRAFTERS_PROMISES,
        paths,
    }
}

/// The grafter gives up all but its directories, before it has threads.
pub fn confine_grafter(below: &[PathBuf], kept: &Path) -> Result<(), Fault> {
    let promises = grafters(below, kept);
    let done = crate::sys::os::enclose(&promises.paths, &[], false)?;
    if !done && !crate::sys::bsd::CONFINES {
        tracing::warn!(
            "this kernel has no Landlock (`pocker doctor`): the grafter is kept from no file of the host"
        );
    }
    let _ = ENCLOSED.set(done || crate::sys::bsd::CONFINES);
    crate::sys::os::confine_server(GRAFTER)?;
    crate::sys::os::no_more_sockets()?;
    crate::sys::bsd::promise_self(promises.calls, &promises.paths)
}

/// Gives up what this system takes away from a process as a whole, once its listeners are open.
pub fn promise(options: &ServeOptions) -> Result<(), Fault> {
    // What listens on others means more than files: a service manager starts what it is told to.
    match options.user {
        // It has all that it listens on, and connects to nobody.
        Some(_) => crate::sys::os::no_more_sockets()?,
        None => crate::sys::os::no_more_unix_sockets()?,
    }
    let promises = promises(options);
    crate::sys::bsd::promise_self(promises.calls, &promises.paths)
}

/// What is not there when the rest is given up is out of reach for good. Without it no backup can be made, and
/// all else goes on.
pub fn make_backups(options: &ServeOptions) {
    if options.user.is_some() {
        // Its store is in reach.
        return;
    }
    let backups = backups(options);
    use std::os::unix::fs::DirBuilderExt;
    let mut private = std::fs::DirBuilder::new();
    private.mode(0o700).recursive(true);
    if let Err(e) = private.create(&backups) {
        tracing::warn!(
            "{} cannot be made, where backups go: {e}",
            backups.display()
        );
    }
}

/// A folder for a backup, as this process finds it; none where it cannot be reached.
pub fn reached(options: &ServeOptions, dir: &Path) -> Option<PathBuf> {
    if enclosed() && !dir.starts_with(backups(options)) {
        return None;
    }
    if options.user.is_none() {
        return Some(dir.to_owned());
    }
    let within = options.store_within();
    // Where it cannot be made, making the folder says why.
    let _ = std::fs::create_dir(within.join(pocker_store::BACKUPS_WITHIN));
    Some(within.join(dir.strip_prefix(&options.store).ok()?))
}

/// Directories, as a message has them.
pub fn named(dirs: &[PathBuf]) -> String {
    let shown: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_openbsd_is_told() {
        let options = ServeOptions {
            store: "/var/pocker/store".into(),
            socket_dir: "/var/run/pocker".into(),
            listen: None,
            allow: Vec::new(),
            // Read before anything is promised, but for what is revoked.
            tls: Some(super::super::TlsFiles {
                cert: "/etc/pocker/tls/server.crt".into(),
                key: "/etc/pocker/tls/server.key".into(),
                ca: Some("/etc/pocker/tls/ca.pem".into()),
                revoked: "/etc/pocker/tls/revoked.pem".into(),
            }),
            rpc_tls: Default::default(),
            lease_term: std::time::Duration::from_secs(60),
            metrics: None,
            portmap: super::super::Portmap::Off,
            read_only: false,
            verify_reads: false,
            upstream: Some(super::super::Upstream {
                url: "file:///srv/copies".to_owned(),
                cache: 0,
                timeout: std::time::Duration::from_secs(60),
            }),
            graft_below: vec!["/var/pocker/volumes".into()],
            user: None,
            take_back: false,
            auto: false,
            idle_timeout: std::time::Duration::from_secs(60),
        };
        let grafters = grafters(&options.graft_below, &options.grafters_dir());
        let in_store = promises(&ServeOptions {
            user: Some(super::super::ServerUser {
                name: "_pocker".into(),
                uid: 999,
                gid: 999,
            }),
            ..options.clone()
        });
        let all = [promises(&options), in_store, grafters];
        insta::assert_snapshot!("openbsd", format!("{all:#?}"));
    }
}
