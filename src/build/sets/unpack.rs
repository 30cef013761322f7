//! Verified sets as the layers of one tree: the sets in their order, then what they carry for a new system
//! (var/sysmerge/etc.tgz and xetc.tgz), then device nodes and /etc/installurl.

use super::SetsError;
use super::fetch::Fetched;
use super::makedev;
use crate::build::tools::{Event, Phase, Progress};
use crate::control::layers::Framing;
use crate::image::plain::plain;
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicBool, Ordering};

/// Configuration for a new system, which sysmerge(8) and the installer take from these.
const CARRIED: [&str; 2] = ["var/sysmerge/etc.tgz", "var/sysmerge/xetc.tgz"];
const MAKEDEV: &str = "dev/MAKEDEV";
const CARRIED_MAX: u64 = 64 << 20;
const MAKEDEV_MAX: u64 = 1 << 20;

pub struct Layers<'a> {
    sets: &'a [(String, Fetched)],
    carried: Vec<Vec<u8>>,
    own: Vec<u8>,
}

impl<'a> Layers<'a> {
    /// Looks through the sets for what they carry.
    pub fn new(sets: &'a [(String, Fetched)], installurl: &str) -> Result<Layers<'a>, SetsError> {
        let mut carried = Vec::new();
        let mut script = String::new();
        for (file, set) in sets {
            let broken = |e: io::Error| {
                SetsError::new(
                    format!("{file} cannot be unpacked: {e}"),
                    "its digest is right: is it a set at all?",
                )
            };
            // Only base and xbase have any of it.
            if !file.contains("base") {
                continue;
            }
            let stream = set.open().and_then(plain).map_err(broken)?;
            let mut archive = tar::Archive::new(stream);
            for entry in archive.entries().map_err(broken)? {
                let mut entry = entry.map_err(broken)?;
                let path = entry.path_bytes();
                let path = path.strip_prefix(b"./").unwrap_or(&path);
                if CARRIED.iter().any(|name| name.as_bytes() == path) {
                    carried.push(bounded(&mut entry, CARRIED_MAX).map_err(broken)?);
                } else if path == MAKEDEV.as_bytes() {
                    let bytes = bounded(&mut entry, MAKEDEV_MAX).map_err(broken)?;
                    script = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        let own = own(&script, installurl).map_err(|e| SetsError::new(e.to_string(), ""))?;
        Ok(Layers { sets, carried, own })
    }

    pub fn framing(&self) -> Framing<'_> {
        let mut left = self.sets.iter();
        let mut carried = self.carried.iter();
        let mut own = Some(&self.own);
        Framing::new(Box::new(move || {
            if let Some((_, set)) = left.next() {
                return Ok(Some(plain(set.open()?)?));
            }
            if let Some(bytes) = carried.next() {
                return Ok(Some(plain(Cursor::new(bytes))?));
            }
            Ok(own
                .take()
                .map(|bytes| Box::new(&bytes[..]) as Box<dyn Read>))
        }))
    }
}

fn bounded(entry: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => Err(io::Error::other(format!(
            "a part of it is longer than {max} bytes"
        ))),
        false => Ok(bytes),
    }
}

/// What no set has: nodes and the mirror that pkg_add(1) asks.
pub fn own(script: &str, installurl: &str) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    for node in makedev::nodes(script) {
        header.set_entry_type(tar::EntryType::Char);
        header.set_size(0);
        header.set_mode(node.mode);
        header.set_device_major(node.major)?;
        header.set_device_minor(node.minor)?;
        tar.append_data(&mut header, format!("dev/{}", node.name), io::empty())?;
    }
    let text = format!("{installurl}\n");
    header.set_entry_type(tar::EntryType::Regular);
    header.set_device_major(0)?;
    header.set_device_minor(0)?;
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/installurl", text.as_bytes())?;
    tar.into_inner()
}

/// Counted, interruptible, and it remembers why it broke.
pub struct Watched<'a, R> {
    pub stream: R,
    pub progress: &'a mut dyn Progress,
    pub cancelled: &'a AtomicBool,
    pub failure: &'a mut Option<String>,
    pub done: u64,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        let read = self.stream.read(out);
        let n = read.inspect_err(|e| *self.failure = Some(e.to_string()))?;
        self.done += n as u64;
        self.progress.event(Event::Bytes {
            phase: Phase::Ingest,
            done: self.done,
            total: None,
        });
        Ok(n)
    }
}
