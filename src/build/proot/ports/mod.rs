//! PROOT on OpenBSD, where its ports' proot(1) is: the base of the installed system, as it is now.
//!
//! proot fills a directory with the files that the release's own list names, and links them where it can. That
//! list is of `base` alone: nothing of `/etc` that a host has made its own is in it. What a new system has there comes
//! from `/var/sysmerge/etc.tgz`, as with SETS, and what no tree may have is left out once more (`tree`).

mod make;
mod model;
#[cfg(test)]
mod tests;
mod tree;
mod trust;

pub use make::populate;
pub use model::{Choice, Model};

use crate::build::BuildError;
use crate::build::key::Fields;
use crate::build::sets::{bounded, host_mirror};
use crate::image::plain::plain;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Cursor};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// proot is one script.
const PROGRAM_MAX: u64 = 1 << 20;
/// The list of a release's files, in locate(1)'s form.
const LIST: &str = "usr/lib/locate/src.db";
const LIST_MAX: u64 = 64 << 20;
/// What a new system has in /etc, which sysmerge(8) takes from here.
const ETC: &str = "var/sysmerge/etc.tgz";
const ETC_MAX: u64 = 64 << 20;
const MAKEDEV: &str = "dev/MAKEDEV";
const MAKEDEV_MAX: u64 = 1 << 20;
/// syspatch(8) leaves a directory here for each patch.
const PATCHES: &str = "var/syspatch";
const PATCHES_MAX: usize = 10_000;

/// Only the copying, and only of base: neither the host's resolv.conf and hosts, nor device nodes of all kinds,
/// nor directories for ports. What it would run in the new tree, it would run on files that are the host's own.
const ATTRIBUTES: [&str; 8] = [
    "actions=none",
    "actions=locate",
    "sets=-comp",
    "sets=-etc",
    "sets=-xbase",
    "sets=-xetc",
    "sets=-xfont",
    "sets=-xshare",
];

/// What of a kernel goes into the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As in `7.8`.
    pub release: String,
    /// As uname(3) has it: snapshots of one release differ in it.
    pub version: String,
}

/// What PROOT would model: read once, and used as it was read.
#[derive(Clone, Debug)]
pub struct Ports {
    kernel: Kernel,
    program: PathBuf,
    /// Its revision, as in `1.69`.
    revision: String,
    /// Of the program, of the release's list of files, and of `etc`.
    digests: [String; 3],
    /// Names, in order.
    patches: Vec<Vec<u8>>,
    etc: Vec<u8>,
    makedev: String,
    installurl: String,
}

impl Ports {
    /// Of the system whose files lie under `host` (`/`, or a test's directory).
    pub fn read(host: &Path, kernel: Kernel, program: &Path) -> Result<Ports, BuildError> {
        let hint = || elsewhere(&kernel.release);
        let refused = |why: String| BuildError::Proot { why, hint: hint() };
        let small = |path: &Path, max| {
            File::open(path)
                .and_then(|file| bounded(file, max))
                .map_err(|e| refused(format!("cannot read {}: {e}", path.display())))
        };
        let program = std::fs::canonicalize(program)
            .map_err(|e| refused(format!("cannot use {}: {e}", program.display())))?;
        let libraries = ports_dir(&program).join("infrastructure/lib");
        if let Some(why) = trust::refuses(&program, &libraries) {
            return Err(BuildError::Proot {
                why: format!("{why}: whoever may change it would be root here"),
                hint: format!(
                    "give {} to root alone; or {}",
                    libraries.parent().unwrap_or(&libraries).display(),
                    hint()
                ),
            });
        }
        let script = small(&program, PROGRAM_MAX)?;
        let list = small(&host.join(LIST), LIST_MAX)?;
        let etc = small(&host.join(ETC), ETC_MAX)?;
        check(&etc)
            .map_err(|e| refused(format!("cannot unpack {}: {e}", host.join(ETC).display())))?;
        let makedev = small(&host.join(MAKEDEV), MAKEDEV_MAX)?;
        let patches = patches(&host.join(PATCHES))
            .map_err(|e| refused(format!("cannot list {}: {e}", host.join(PATCHES).display())))?;
        let of = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        Ok(Ports {
            revision: revision(&script),
            digests: [of(&script), of(&list), of(&etc)],
            patches,
            makedev: String::from_utf8_lossy(&makedev).into_owned(),
            installurl: host_mirror(&host.join("etc")),
            etc,
            kernel,
            program,
        })
    }

    /// For the step's key. The files themselves are no part of it: reading all of a system takes as long as
    /// building its step, and libraries are linked anew, in another order, at each start of the machine.
    pub fn digest(&self) -> String {
        let mut fields = Fields::new("pocker proot 1");
        let kernel = &self.kernel;
        for text in [&kernel.release, &kernel.version, &self.installurl] {
            fields.add("field", text.as_bytes());
        }
        for text in &self.digests {
            fields.add("digest", text.as_bytes());
        }
        for attribute in ATTRIBUTES {
            fields.add("attribute", attribute.as_bytes());
        }
        for patch in &self.patches {
            fields.add("patch", patch);
        }
        fields.add("makedev", self.makedev.as_bytes());
        fields.hex()
    }

    /// What is executed, for a tree in `root`.
    pub fn arguments(&self, root: &Path) -> Vec<OsString> {
        let mut out: Vec<OsString> = vec![self.program.clone().into(), "-B".into(), root.into()];
        out.extend(ATTRIBUTES.map(OsString::from));
        out
    }
}

/// What else there is.
fn elsewhere(release: &str) -> String {
    format!(
        "`SETS {release} base` takes the release's own sets from a mirror; so does PROOT where /etc/pocker.conf has proot = \"sets\""
    )
}

/// The ports tree that a proot is of: it loads its modules from there.
fn ports_dir(program: &Path) -> PathBuf {
    let above = program.parent().and_then(Path::parent);
    match above {
        Some(dir) if dir.file_name().is_some_and(|name| name == "infrastructure") => {
            dir.parent().unwrap_or(dir).to_owned()
        }
        _ => PathBuf::from(model::PORTS_DIR),
    }
}

/// Reads an archive to its end.
fn check(archive: &[u8]) -> io::Result<()> {
    let mut tar = tar::Archive::new(plain(Cursor::new(archive))?);
    for entry in tar.entries()? {
        entry?;
    }
    Ok(())
}

/// From the mark that its repository leaves in each file.
fn revision(script: &[u8]) -> String {
    let text = String::from_utf8_lossy(script);
    let mark = text.split_once("$OpenBSD: proot,v ");
    let word = mark.and_then(|(_, rest)| rest.split_whitespace().next());
    let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    word.filter(plain)
        .unwrap_or("of no known revision")
        .to_owned()
}

/// Nothing where none was ever installed.
fn patches(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let list = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        list => list?,
    };
    let mut names = Vec::new();
    for entry in list.take(PATCHES_MAX) {
        names.push(entry?.file_name().as_bytes().to_vec());
    }
    names.sort();
    Ok(names)
}
