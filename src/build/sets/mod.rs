//! SETS: a root of OpenBSD's own sets, from a directory or a mirror, on any host.
//!
//! What a release says of its sets (SHA256.sig) is verified first, and is part of the step's key. Each set is
//! fetched whole and verified before a byte of it is unpacked; then all go into the store as layers, with the
//! configuration that the sets carry for a new system, and the device nodes of their own MAKEDEV.

mod fetch;
mod makedev;
mod signify;
#[cfg(test)]
mod tests;
mod unpack;

pub(in crate::build) use fetch::bounded;
pub(in crate::build) use unpack::{Watched, own};

use super::key::Fields;
use super::plan::SetsPlan;
use super::tools::{Event, Phase, Progress, Workshop};
use super::{BuildError, BuildRequest};
use fetch::{Fetched, Place, Within};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Where a host without /etc/installurl looks.
const MIRROR: &str = "https://cdn.openbsd.org/pub/OpenBSD";
/// Where OpenBSD has its keys.
const KEYS: &str = "/etc/signify";
/// A key of signify is two lines.
const KEY_MAX: u64 = 4096;
/// The list of a release: a line a file.
const LIST_MAX: u64 = 1 << 20;
const LIST: &str = "SHA256.sig";

/// A failure of SETS, whose line is known later.
#[derive(Debug)]
pub(in crate::build) struct SetsError {
    pub why: String,
    pub hint: String,
}

impl SetsError {
    fn new(why: impl Into<String>, hint: impl Into<String>) -> SetsError {
        SetsError {
            why: why.into(),
            hint: hint.into(),
        }
    }

    fn at(self, line: u32) -> BuildError {
        BuildError::Sets {
            line,
            why: self.why,
            hint: self.hint,
        }
    }
}

/// The sets of a step, and the digests that their release signed.
#[derive(Debug)]
pub(in crate::build) struct Pinned {
    place: Place,
    installurl: String,
    /// File names and SHA-256, in the Pockerfile's order.
    files: Vec<(String, String)>,
}

impl Pinned {
    /// For the step's key: what goes into the tree, wherever it comes from.
    pub fn digest(&self) -> String {
        let mut fields = Fields::new("pocker sets 1");
        fields.add("installurl", self.installurl.as_bytes());
        for (name, sha256) in &self.files {
            fields.add("set", name.as_bytes());
            fields.add("sha256", sha256.as_bytes());
        }
        fields.hex()
    }
}

/// Verifies what the release says of the sets.
pub(in crate::build) fn find(
    request: &BuildRequest<'_>,
    line: u32,
    plan: &SetsPlan,
) -> Result<Pinned, BuildError> {
    let found = pinned(request, plan);
    super::steps::cancelled(request)?;
    found.map_err(|e| e.at(line))
}

fn pinned(request: &BuildRequest<'_>, plan: &SetsPlan) -> Result<Pinned, SetsError> {
    if let Ok(host) = nix::sys::utsname::uname() {
        runs_on(
            &host.sysname().to_string_lossy(),
            &host.release().to_string_lossy(),
            &plan.release,
        )?;
    }
    let (key_name, key) = key(request, plan)?;
    let (place, installurl) = place(request, plan)?;
    let signed = place.small(LIST, LIST_MAX, request.cancelled)?;
    let found = hex::encode(Sha256::digest(&signed));
    if plan.sha256.as_ref().is_some_and(|sha256| *sha256 != found) {
        return Err(SetsError::new(
            format!(
                "{place}/{LIST} is not the one that the Pockerfile pins: it has sha256:{found}"
            ),
            "the mirror has another snapshot of the release than was meant; where that is right, pin the new one",
        ));
    }
    let list = signify::verify(&signed, &key).map_err(|e| match e {
        signify::Refused::Key => SetsError::new(
            format!("{key_name} is no public key of signify"),
            "it has two lines: an untrusted comment, and the key in base64",
        ),
        signify::Refused::Form => SetsError::new(
            format!("{place}/{LIST} is not a signed list"),
            "is this the directory of a release, as the mirrors have it?",
        ),
        signify::Refused::OtherKey => SetsError::new(
            format!("{place}/{LIST} is signed with another key than {key_name}"),
            format!(
                "release {} is signed with openbsd-{}-base",
                plan.release,
                plan.digits()
            ),
        ),
        signify::Refused::Signature => SetsError::new(
            format!("{place}/{LIST} does not have the signature that it shows"),
            "it was changed or damaged on its way: fetch it from another mirror",
        ),
    })?;
    let list = signify::digests(&list);
    let mut files = Vec::new();
    for set in &plan.sets {
        let file = format!("{set}{}.tgz", plan.digits());
        let Some(sha256) = list.get(&file) else {
            return Err(SetsError::new(
                format!("{place}/{LIST} has no {file}"),
                format!(
                    "is it the list of release {} for {}?",
                    plan.release, plan.arch
                ),
            ));
        };
        files.push((file, sha256.clone()));
    }
    Ok(Pinned {
        place,
        installurl,
        files,
    })
}

/// OpenBSD promises nothing between releases: programs of one run on its own kernel.
fn runs_on(system: &str, kernel: &str, release: &str) -> Result<(), SetsError> {
    if system != "OpenBSD" || kernel == release {
        return Ok(());
    }
    Err(SetsError::new(
        format!("programs of OpenBSD {release} do not run on this kernel, which is {kernel}"),
        format!("write SETS {kernel}, or upgrade this host with sysupgrade(8)"),
    ))
}

/// Whether this host runs a tree of that release's sets, or, in what older versions built, one whose first step is
/// `instruction`; else why not, and what to do.
pub fn runs(release: Option<&str>, instruction: &str) -> Result<(), (String, String)> {
    let Ok(host) = nix::sys::utsname::uname() else {
        return Ok(());
    };
    let (system, kernel) = (host.sysname(), host.release());
    runs_under(
        &system.to_string_lossy(),
        &kernel.to_string_lossy(),
        release.or_else(|| named(instruction)),
    )
}

/// The release of `SETS RELEASE …`.
fn named(instruction: &str) -> Option<&str> {
    let mut words = instruction.split(' ');
    words.next().filter(|word| *word == "SETS")?;
    words.next()
}

fn runs_under(system: &str, kernel: &str, release: Option<&str>) -> Result<(), (String, String)> {
    let Some(release) = release else {
        return Ok(());
    };
    if system != "OpenBSD" {
        return Err((
            format!("a tree of OpenBSD's sets runs on OpenBSD {release}, and this is {system}"),
            "it can be looked into here: `pocker tree`, `pocker cat`, `pocker export`".to_owned(),
        ));
    }
    runs_on(system, kernel, release).map_err(|e| (e.why, e.hint))
}

fn key(request: &BuildRequest<'_>, plan: &SetsPlan) -> Result<(String, Vec<u8>), SetsError> {
    let (shown, read) = match &plan.key {
        Some(key) => {
            let file = Within::new(request.context, key)?;
            let read = file
                .open(None)
                .and_then(|file| fetch::bounded(file, KEY_MAX));
            (file.shown(), read)
        }
        None => {
            let path = Path::new(KEYS).join(format!("openbsd-{}-base.pub", plan.digits()));
            (
                path.display().to_string(),
                fetch::small_file(&path, KEY_MAX),
            )
        }
    };
    let hint = "an OpenBSD of this release or the one before has it in /etc/signify: copy it into the context, and write SETS --key=FILE";
    match read {
        Ok(key) => Ok((shown, key)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(SetsError::new(
            format!("there is no public key {shown}"),
            hint,
        )),
        Err(e) => Err(SetsError::new(format!("cannot read {shown}: {e}"), hint)),
    }
}

/// The mirror that a host's installurl names, else OpenBSD's own.
pub(in crate::build) fn host_mirror(etc: &Path) -> String {
    let named = || {
        let text = fetch::small_file(&etc.join("installurl"), KEY_MAX).ok()?;
        let text = String::from_utf8(text).ok()?;
        let mut lines = text.lines().map(str::trim);
        lines.find(|l| l.starts_with("http")).map(str::to_owned)
    };
    named().unwrap_or_else(|| MIRROR.to_owned())
}

/// Where the sets lie, and what /etc/installurl of the tree says.
fn place(request: &BuildRequest<'_>, plan: &SetsPlan) -> Result<(Place, String), SetsError> {
    let below = format!("{}/{}", plan.release, plan.arch);
    let from = plan.from.clone();
    let from = from.unwrap_or_else(|| host_mirror(Path::new("/etc")));
    if from.contains("://") {
        return Place::mirror(&from, &below, request.ca);
    }
    let dir = Within::new(request.context, &from)?;
    // As the mirrors have it, or one release's directory alone.
    let dir = match dir.open(Some(LIST)).is_ok() {
        true => dir,
        false => dir.below(&below),
    };
    Ok((Place::Dir(dir), MIRROR.to_owned()))
}

/// All sets into the store: one tree, sealed.
pub(in crate::build) fn build(
    request: &BuildRequest<'_>,
    workshop: &dyn Workshop,
    progress: &mut dyn Progress,
    line: u32,
    pinned: &Pinned,
) -> Result<Option<String>, BuildError> {
    std::fs::create_dir_all(request.cache_dir)
        .map_err(|e| BuildError::io("make", request.cache_dir, e))?;
    let mut sets: Vec<(String, Fetched)> = Vec::new();
    let mut done = 0;
    for (file, sha256) in &pinned.files {
        progress.event(Event::Note(&format!("{file} from {}", pinned.place)));
        let mut on_bytes = |n: u64| {
            done += n;
            progress.event(Event::Bytes {
                phase: Phase::Ingest,
                done,
                total: None,
            });
        };
        let got = pinned.place.fetch(
            file,
            sha256,
            request.cache_dir,
            request.cancelled,
            &mut on_bytes,
        );
        super::steps::cancelled(request)?;
        sets.push((file.clone(), got.map_err(|e| e.at(line))?));
    }
    let layers = unpack::Layers::new(&sets, &pinned.installurl).map_err(|e| e.at(line))?;
    let mut failure = None;
    let mut stream = unpack::Watched {
        stream: layers.framing(),
        progress,
        cancelled: request.cancelled,
        failure: &mut failure,
        done: 0,
    };
    let sealed = workshop.ingest_layers(&mut stream, request.source_date_epoch, true);
    super::steps::cancelled(request)?;
    match (sealed, failure) {
        (Ok(done), _) => Ok(done.snapshot),
        (Err(_), Some(why)) => Err(SetsError::new(
            why,
            "its digest is right: the release itself is like this",
        )
        .at(line)),
        (Err(e), None) => Err(e),
    }
}
