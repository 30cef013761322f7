//! `--tmpfs PATH[:size=64m,mode=1777]`: an empty directory in memory.

use super::graft::{self, GraftError, RESERVED, Side};
use std::path::Path;

/// World-writable, and one may delete only one's own (sticky).
pub const TMP_MODE: u32 = 0o1777;
/// Shared memory: in /dev, and people size it.
const SHARED: &str = "/dev/shm";
const FORM: &str = "a tmpfs looks like --tmpfs /run:size=64m,mode=755";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    pub target: String,
    pub mode: u32,
    /// In bytes; none leaves it to the kernel (half of the memory).
    pub size: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("--tmpfs {text}: {why}")]
pub struct TmpfsError {
    text: String,
    why: String,
    pub hint: String,
}

fn wrong(text: &str, why: impl Into<String>, hint: impl Into<String>) -> TmpfsError {
    TmpfsError {
        text: text.replace('\0', "\u{fffd}"),
        why: why.into(),
        hint: hint.into(),
    }
}

/// All of a command line, beside the places that are taken.
pub fn parse_all(texts: &[String], taken: &[&str]) -> Result<Vec<Tmpfs>, TmpfsError> {
    let mut all: Vec<Tmpfs> = Vec::new();
    for text in texts {
        let one = parse(text)?;
        let known = all.iter().any(|other| other.target == one.target);
        if known || taken.contains(&one.target.as_str()) {
            let why = format!("something is at {} already", one.target);
            return Err(wrong(text, why, "give each a place of its own"));
        }
        all.push(one);
    }
    Ok(all)
}

fn parse(text: &str) -> Result<Tmpfs, TmpfsError> {
    if text.contains('\0') {
        return Err(wrong(text, "a path holds a NUL byte", FORM));
    }
    let parts = graft::split(text);
    let (path, options) = match parts.as_slice() {
        [path] => (path, ""),
        [path, options] => (path, options.as_str()),
        _ => {
            let hint = "write a colon in a path as \\:";
            return Err(wrong(text, "it has more than one colon", hint));
        }
    };
    let target = graft::normal(text, Side::Target, path).map_err(|e: GraftError| {
        let said = e.to_string();
        let why = said.strip_prefix(&format!("-d {text}: ")).unwrap_or(&said);
        wrong(text, why, e.hint().unwrap_or_else(|| FORM.to_owned()))
    })?;
    if target == "/" {
        let hint = "name a directory below /; `--read-only` keeps the rest as it is";
        return Err(wrong(text, "the whole root cannot be a tmpfs", hint));
    }
    let reserved = RESERVED.iter().find(|r| Path::new(&target).starts_with(r));
    if let (Some(path), false) = (reserved, target == SHARED) {
        let why = format!("{path} is the sandbox's own");
        return Err(wrong(text, why, "choose another place"));
    }
    let mut tmpfs = Tmpfs {
        target,
        mode: TMP_MODE,
        size: None,
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => {
                let hint = "a number of bytes, or one with k, m or g: size=64m";
                let parsed = bytes(size).filter(|size| *size > 0);
                tmpfs.size =
                    Some(parsed.ok_or_else(|| wrong(text, format!("{size:?} is no size"), hint))?);
            }
            Some(("mode", mode)) => {
                let parsed = u32::from_str_radix(mode, 8).ok();
                tmpfs.mode = parsed.filter(|mode| *mode <= 0o7777).ok_or_else(|| {
                    wrong(
                        text,
                        format!("{mode:?} is no mode"),
                        "an octal one: mode=1777",
                    )
                })?;
            }
            _ => {
                let why = format!("{option:?} is no option of a tmpfs");
                return Err(wrong(text, why, "`size=…` and `mode=…` are known"));
            }
        }
    }
    Ok(tmpfs)
}

/// With k, m or g behind it, in powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 1 << 10),
        b'm' => (&text[..text.len() - 1], 1 << 20),
        b'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| number.parse::<u64>().ok())??
        .checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Result<Vec<Tmpfs>, TmpfsError> {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        parse_all(&texts, &["/grafted"])
    }

    #[test]
    fn a_place_and_perhaps_size_and_mode() {
        let tmpfs = |target: &str, mode, size| Tmpfs {
            target: target.to_owned(),
            mode,
            size,
        };
        assert_eq!(
            all(&[
                "/run/",
                "/a:mode=755,size=64M",
                "/dev/shm:size=4096",
                r"/b\:c:"
            ])
            .unwrap(),
            [
                tmpfs("/run", 0o1777, None),
                tmpfs("/a", 0o755, Some(64 << 20)),
                tmpfs("/dev/shm", 0o1777, Some(4096)),
                tmpfs("/b:c", 0o1777, None),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_a_remedy() {
        for (texts, why, hint) in [
            (&["run"][..], "\"run\" is not absolute", "slash: /run"),
            (&["/"], "whole root", "--read-only"),
            (&["/a/.."], "has a `..`", "leads to"),
            (&["/dev/pts"], "/dev is the sandbox's", "another place"),
            (&["/a:b:c"], "more than one colon", "\\:"),
            (&["/a:size=much"], "\"much\" is no size", "64m"),
            (&["/a:size=0"], "\"0\" is no size", "64m"),
            (&["/a:size=99999999999g"], "is no size", "64m"),
            (&["/a:size=é"], "is no size", "64m"),
            (&["/a:mode=9"], "\"9\" is no mode", "octal"),
            (&["/a:mode=10000"], "is no mode", "octal"),
            (&["/a:rw"], "\"rw\" is no option", "size="),
            (&["/a", "/a/"], "at /a already", "of its own"),
            (&["/grafted"], "at /grafted already", "of its own"),
            (&["/a\0"], "NUL", "looks like"),
        ] {
            let error = all(texts).unwrap_err();
            assert!(error.to_string().contains(why), "{texts:?}: {error}");
            assert!(error.hint.contains(hint), "{texts:?}: {}", error.hint);
        }
    }
}
