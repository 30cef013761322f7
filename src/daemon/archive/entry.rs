//! One tar entry, judged: its path, attributes and kind.

use super::{ArchiveError, PATH_MAX, SHOWN};
use pocker_store::object::Meta;
use pocker_store::types::{Rdev, Time};
use std::io::Read;

/// PAX key of an extended attribute, as GNU tar and bsdtar write it.
pub const XATTR_KEY: &str = "SCHILY.xattr.";
/// What a whiteout's name begins with, before that of the file which is gone (OCI image specification,
/// "Whiteouts").
pub const WHITEOUT: &[u8] = b".wh.";
/// Longest name of a file.
const NAME_MAX: usize = 255;

/// PAX keys with which GNU tar says that the data is a map and pieces, not the file.
const SPARSE_KEYS: &str = "GNU.sparse.";

#[derive(Debug, PartialEq, Eq)]
pub struct TarEntry {
    pub path: Vec<u8>,
    pub meta: Meta,
    pub kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    Char(Rdev),
    Block(Rdev),
}

/// `None` for entries that are no files: global headers and the like.
/// `lifted` are PAX records of this entry that the library was not shown.
pub fn parse<R: Read>(
    entry: &mut tar::Entry<R>,
    lifted: &[(Vec<u8>, Vec<u8>)],
) -> Result<Option<TarEntry>, ArchiveError> {
    use tar::EntryType as T;
    let given = |key: &[u8]| {
        let record = lifted.iter().rev().find(|(k, _)| k == key);
        record.map(|(_, value)| value.clone())
    };
    let raw = given(b"path").unwrap_or_else(|| entry.path_bytes().into_owned());
    let kind = entry.header().entry_type();
    if matches!(
        kind,
        T::XGlobalHeader | T::XHeader | T::GNULongName | T::GNULongLink
    ) {
        return Ok(None);
    }
    let path = clean(&raw)?;
    let mut meta = attributes(entry, lifted, &raw)?;
    let rdev = |entry: &tar::Entry<R>| -> Result<Rdev, ArchiveError> {
        let number = |n: std::io::Result<Option<u32>>| n.ok().flatten();
        match (
            number(entry.header().device_major()),
            number(entry.header().device_minor()),
        ) {
            (Some(major), Some(minor)) => Ok(Rdev { major, minor }),
            _ => Err(bad(&raw, "a device without numbers")),
        }
    };
    let link = |entry: &tar::Entry<R>| {
        given(b"linkpath")
            .or_else(|| entry.link_name_bytes().map(|l| l.into_owned()))
            .ok_or_else(|| bad(&raw, "a link without target"))
    };
    let kind = match kind {
        T::Regular | T::Continuous | T::GNUSparse => Kind::File,
        T::Directory => Kind::Dir,
        T::Symlink => {
            let target = link(entry)?;
            if target.is_empty() || target.len() >= PATH_MAX || target.contains(&0) {
                return Err(bad(&raw, "a symlink target that no system would take"));
            }
            meta.mode = 0o777;
            Kind::Symlink(target)
        }
        T::Link => Kind::HardLink(clean(&link(entry)?)?),
        T::Fifo => Kind::Fifo,
        T::Char => Kind::Char(rdev(entry)?),
        T::Block => Kind::Block(rdev(entry)?),
        other => {
            return Err(bad(
                &raw,
                &format!("an entry of type {:?}", char::from(other.as_byte())),
            ));
        }
    };
    Ok(Some(TarEntry { path, meta, kind }))
}

fn bad(path: &[u8], why: &str) -> ArchiveError {
    let shown = &path[..path.len().min(SHOWN)];
    ArchiveError::Entry {
        path: shown.escape_ascii().to_string(),
        why: why.to_string(),
    }
}

/// A relative path without empty, "." and ".." components; the root is empty.
pub fn clean(raw: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    if raw.len() > PATH_MAX {
        return Err(bad(raw, "a path longer than 4096 bytes"));
    }
    if raw.first() == Some(&b'/') {
        return Err(bad(raw, "an absolute path"));
    }
    let mut out = Vec::with_capacity(raw.len());
    let last = raw.rsplit(|b| *b == b'/').next().unwrap_or_default();
    // As overlay file systems have whiteouts under the file's own name, a layer's may be longer than a name.
    let marks = last.strip_prefix(WHITEOUT);
    let marks = marks.is_some_and(|gone| gone.len() <= NAME_MAX);
    for part in raw.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(bad(raw, "a path with \"..\"")),
            part if part.len() > NAME_MAX && !(marks && std::ptr::eq(part, last)) => {
                return Err(bad(raw, "a name longer than 255 bytes"));
            }
            part if part.contains(&0) => return Err(bad(raw, "a name with a NUL byte")),
            part => {
                if !out.is_empty() {
                    out.push(b'/');
                }
                out.extend_from_slice(part);
            }
        }
    }
    Ok(out)
}

fn attributes<R: Read>(
    entry: &mut tar::Entry<R>,
    lifted: &[(Vec<u8>, Vec<u8>)],
    path: &[u8],
) -> Result<Meta, ArchiveError> {
    let header = entry.header();
    let id = |value: std::io::Result<u64>, what: &str| -> Result<u32, ArchiveError> {
        value
            .ok()
            .and_then(|v| u32::try_from(v).ok())
            .ok_or_else(|| bad(path, what))
    };
    let mut meta = Meta {
        mode: header.mode().map_err(|_| bad(path, "no mode"))? & 0o7777,
        uid: id(header.uid(), "no owner")?,
        gid: id(header.gid(), "no group")?,
        mtime: Time {
            secs: mtime(header),
            nanos: 0,
        },
        xattrs: Vec::new(),
    };
    if let Some(extensions) = entry.pax_extensions().map_err(ArchiveError::Read)? {
        for extension in extensions {
            let extension = extension.map_err(ArchiveError::Read)?;
            let value = extension.value_bytes();
            let Ok(key) = extension.key() else { continue };
            match key {
                "uid" => meta.uid = number(value).ok_or_else(|| bad(path, "a bad uid"))?,
                "gid" => meta.gid = number(value).ok_or_else(|| bad(path, "a bad gid"))?,
                "mtime" => meta.mtime = pax_time(value).ok_or_else(|| bad(path, "a bad mtime"))?,
                key if key.starts_with(SPARSE_KEYS) => {
                    return Err(bad(
                        path,
                        "a sparse file in PAX form; make the archive without --sparse",
                    ));
                }
                key => {
                    if let Some(name) = key.strip_prefix(XATTR_KEY) {
                        meta.xattrs.push((name.as_bytes().to_vec(), value.to_vec()));
                    }
                }
            }
        }
    }
    for (key, value) in lifted {
        if let Some(name) = key.strip_prefix(XATTR_KEY.as_bytes()) {
            meta.xattrs.push((name.to_vec(), value.clone()));
        }
    }
    meta.xattrs.sort();
    meta.xattrs.dedup_by(|a, b| a.0 == b.0);
    Ok(meta)
}

fn mtime(header: &tar::Header) -> i64 {
    header
        .mtime()
        .ok()
        .and_then(|t| i64::try_from(t).ok())
        .unwrap_or(0)
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// PAX times are decimal seconds with a fraction (pax(1), "mtime").
fn pax_time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let secs: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        // -1.25 is 1.25 s before the epoch; nanoseconds count upwards.
        return Some(Time {
            secs: secs - 1,
            nanos: 1_000_000_000 - nanos,
        });
    }
    Some(Time { secs, nanos })
}

/// The same, for writing.
pub fn pax_time_text(t: Time) -> String {
    if t.secs < 0 && t.nanos > 0 {
        let secs = -(t.secs + 1);
        return format!("-{secs}.{:09}", 1_000_000_000 - t.nanos);
    }
    format!("{}.{:09}", t.secs, t.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_cleaned_or_refused() {
        assert_eq!(clean(b"./usr//bin/./sh").expect("clean"), b"usr/bin/sh");
        assert_eq!(clean(b"./").expect("clean"), b"");
        for bad in [&b"/etc/passwd"[..], b"../x", b"a/../../b", b"a\0b"] {
            assert!(clean(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(clean(&[b'a'; 256]).is_err());
        // What is gone may have a name as long as any.
        let marks = |length| [b"a/.wh.", &[b'a'; 256][..length]].concat();
        assert_eq!(clean(&marks(255)).expect("clean"), marks(255));
        for bad in [marks(256), [&marks(255)[..], b"/x"].concat()] {
            assert!(clean(&bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    /// GNU tar 1.34: `tar --sparse --format=posix`.
    #[test]
    fn a_sparse_file_in_pax_form_is_refused_not_misread() {
        let mut made = tar::Builder::new(Vec::new());
        let keys = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.name", b"f")];
        made.append_pax_extensions(keys).expect("tar");
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        made.append_data(&mut header, "GNUSparseFile.1/f", std::io::empty())
            .expect("tar");
        let bytes = made.into_inner().expect("tar");
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entry = archive
            .entries()
            .expect("tar")
            .next()
            .expect("one")
            .expect("tar");
        let refused = parse(&mut entry, &[])
            .expect_err("a map, not the file")
            .to_string();
        assert!(refused.contains("sparse"), "{refused}");
    }

    proptest! {
        #[test]
        fn times_survive_the_archive(secs in -1_000_000_000_000i64..1_000_000_000_000, nanos in 0u32..1_000_000_000) {
            let t = Time { secs, nanos };
            prop_assert_eq!(pax_time(pax_time_text(t).as_bytes()), Some(t));
        }
    }
}
