//! What the serving process keeps of root's rights, and why. All else it gives up before it opens the store, so
//! whoever takes it over by what it reads from others has no more. What it needs of the rest its aide does.

use super::ServeOptions;
use crate::sys::{Capabilities, Capability, Fault};
use std::path::{Path, PathBuf};

/// Grafts are the host's directories, served with the rights of whoever asks; and the store is root's.
pub const KEPT: Capabilities = Capabilities::of(&[
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

/// pledge(2) of the serving process, which has its listeners by then.
const PROMISES: &str = "stdio rpath wpath cpath fattr chown flock inet unix dns proc";
/// Where copies of the store may be made under unveil(2), which must be said beforehand.
pub const BACKUPS: &str = "/var/backups";

/// What OpenBSD's kernel is told: the calls that stay, and the paths.
#[derive(Debug, PartialEq, Eq)]
pub struct Promises {
    pub calls: &'static str,
    pub paths: Vec<(PathBuf, &'static str)>,
}

/// Pure. A path's reason stands beside it, and a promise's here: `stdio` threads, sockets that are open, clocks;
/// `rpath wpath cpath fattr flock` the store's files; `chown` SQLite's, which gives a journal its database's owner;
/// `inet unix` accepting, and an upstream's connections; `dns` its name; `proc` signals to runs that are stopped,
/// and a low priority for upkeep. Not among them: exec, mounts, other users, devices, kernel settings.
pub fn promises(options: &ServeOptions) -> Promises {
    let mut paths = vec![
        (options.store.clone(), "rwc"),
        // Sockets, and what runs say of themselves.
        (options.socket_dir.clone(), "rwc"),
        // `store backup`.
        (BACKUPS.into(), "rwc"),
        // SQLite's large sorts.
        ("/tmp".into(), "rwc"),
        // The upstream's certificate is checked by these.
        ("/etc/ssl".into(), "r"),
        ("/dev/null".into(), "rw"),
    ];
    // An upstream that is a folder of this host.
    let folder =
        |upstream: &super::Upstream| upstream.url.strip_prefix("file://").map(PathBuf::from);
    paths.extend(
        options
            .upstream
            .as_ref()
            .and_then(folder)
            .map(|dir| (dir, "r")),
    );
    // Looked at again and again.
    let revoked = options.tls.as_ref().map(|files| files.revoked.clone());
    paths.extend(revoked.map(|list| (list, "r")));
    Promises {
        calls: PROMISES,
        paths,
    }
}

/// Gives up what this system can take away before there are threads.
pub fn confine() -> Result<(), Fault> {
    crate::sys::os::confine_server(KEPT)
}

/// Gives up what this system takes away from a process as a whole, once its listeners are open.
pub fn promise(options: &ServeOptions) -> Result<(), Fault> {
    let promises = promises(options);
    crate::sys::bsd::promise_self(promises.calls, &promises.paths)
}

/// Whether a folder can be reached at all from here.
pub fn reaches(dir: &Path) -> bool {
    !crate::sys::bsd::CONFINES || dir.starts_with(BACKUPS)
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
            auto: false,
            idle_timeout: std::time::Duration::from_secs(60),
        };
        insta::assert_snapshot!("openbsd", format!("{:#?}", promises(&options)));
    }
}
