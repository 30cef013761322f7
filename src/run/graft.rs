//! `-d HOSTDIR:PATH[:ro,dev,suid]`: a host directory at a place in the tree.
//!
//! A backslash before a colon or a backslash makes it part of the path. Both paths are
//! absolute, UTF-8 (they travel as JSON), and without `..`; doubled and trailing slashes go.

use crate::control::api::Graft;
use std::io;
use std::path::Path;

/// What `-d` lacks or has wrong. [`GraftError::hint`] says what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum GraftError {
    #[error("-d {text}: a graft is HOSTDIR:PATH[:ro,dev,suid], and there is no colon in this one")]
    NoColon { text: String },
    #[error("-d {text}: {side} is empty")]
    Empty { text: String, side: Side },
    #[error("-d {text}: {side} {path:?} is not absolute")]
    Relative {
        text: String,
        side: Side,
        path: String,
    },
    #[error("-d {text}: {side} {path:?} has a `..` in it")]
    DotDot {
        text: String,
        side: Side,
        path: String,
    },
    #[error("-d {text}: {option:?} is no option of a graft")]
    Option { text: String, option: String },
    #[error("-d {text}: the whole root cannot be a graft")]
    Root { text: String },
    #[error("-d {text}: {path} is the sandbox's own")]
    Reserved { text: String, path: String },
    #[error("-d {text}: another graft is at {target} already")]
    Twice { text: String, target: String },
    #[error("-d {text}: a path holds a NUL byte")]
    Nul { text: String },
    #[error("-d {host}:…: {host} does not exist")]
    NoHost { host: String },
    #[error("-d {host}:…: {host} is not a directory")]
    NotDirectory { host: String },
    #[error("-d {host}:…: cannot look at {host}: {cause}")]
    Host { host: String, cause: io::Error },
}

/// Which of a graft's paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Host,
    Target,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Side::Host => "the host directory",
            Side::Target => "the place in the tree",
        })
    }
}

impl GraftError {
    /// What to write instead.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            GraftError::NoColon { text } if !text.contains('/') => format!(
                "to start {text} in the background, say `--detach {text}`; \
                 a graft looks like -d /srv/www:/var/www/html"
            ),
            GraftError::NoColon { text } => format!("say where it goes: -d {text}:/some/place"),
            GraftError::Empty { .. } => "a graft looks like -d /srv/www:/var/www/html".to_owned(),
            GraftError::Relative {
                side: Side::Host,
                path,
                ..
            } => format!(
                "start with a slash: \"$PWD/{}\"",
                path.trim_start_matches("./")
            ),
            GraftError::Relative { path, .. } => format!("start with a slash: /{path}"),
            GraftError::DotDot { .. } => "write the path that it leads to".to_owned(),
            GraftError::Option { .. } => {
                "`ro`, `suid` and `dev` are known, with commas between them; write a colon in a path as \\:".to_owned()
            }
            GraftError::Root { .. } => "name a directory below /".to_owned(),
            GraftError::Reserved { .. } => "choose another place".to_owned(),
            GraftError::Twice { .. } => "give each graft a place of its own".to_owned(),
            GraftError::NoHost { host } => format!("make it first: mkdir -p {host}"),
            GraftError::NotDirectory { .. } => "graft the directory that the file is in".to_owned(),
            GraftError::Nul { .. } | GraftError::Host { .. } => return None,
        })
    }
}

/// Places that the sandbox makes itself.
pub(super) const RESERVED: [&str; 2] = ["/dev", "/proc"];

/// All grafts of a command line, in its order.
pub fn parse_all(texts: &[String]) -> Result<Vec<Graft>, GraftError> {
    let mut grafts: Vec<Graft> = Vec::new();
    for text in texts {
        let graft = parse(text)?;
        if grafts.iter().any(|other| other.target == graft.target) {
            return Err(GraftError::Twice {
                text: text.clone(),
                target: graft.target,
            });
        }
        grafts.push(graft);
    }
    Ok(grafts)
}

/// One graft; nothing is looked at on the host.
pub fn parse(text: &str) -> Result<Graft, GraftError> {
    let owned = || text.to_owned();
    if text.contains('\0') {
        let text = text.replace('\0', "\u{fffd}");
        return Err(GraftError::Nul { text });
    }
    let parts = split(text);
    let (host, target, options) = match parts.as_slice() {
        [] | [_] => return Err(GraftError::NoColon { text: owned() }),
        [host, target, options @ ..] => (host, target, options),
    };
    let [read_only, suid, dev] = flags(text, options)?;
    let host = normal(text, Side::Host, host)?;
    let target = normal(text, Side::Target, target)?;
    if target == "/" {
        return Err(GraftError::Root { text: owned() });
    }
    if let Some(path) = RESERVED.iter().find(|r| Path::new(&target).starts_with(r)) {
        return Err(GraftError::Reserved {
            text: owned(),
            path: (*path).to_owned(),
        });
    }
    Ok(Graft {
        host,
        target,
        read_only,
        suid,
        dev,
    })
}

/// `ro` (or `rw`), `suid`, `dev`, with commas between them.
fn flags(text: &str, options: &[String]) -> Result<[bool; 3], GraftError> {
    let mut flags = [false; 3];
    let unknown = |option: &str| GraftError::Option {
        text: text.to_owned(),
        option: option.to_owned(),
    };
    let list = match options {
        [] => return Ok(flags),
        [list] => list,
        more => return Err(unknown(&more.join(":"))),
    };
    for option in list.split(',') {
        // As it is anyway.
        if option == "rw" && !list.split(',').any(|other| other == "ro") {
            continue;
        }
        let at = ["ro", "suid", "dev"]
            .iter()
            .position(|known| *known == option);
        flags[at.ok_or_else(|| unknown(option))?] = true;
    }
    Ok(flags)
}

/// At each colon that no backslash precedes.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match (c, next) {
            (':', _) => {
                parts.push(String::new());
                continue;
            }
            ('\\', Some(escaped @ (':' | '\\'))) => {
                chars.next();
                push(&mut parts, escaped);
            }
            (c, _) => push(&mut parts, c),
        }
    }
    parts
}

fn push(parts: &mut [String], c: char) {
    if let Some(last) = parts.last_mut() {
        last.push(c);
    }
}

/// Absolute, without `.`, doubled or trailing slashes.
pub(super) fn normal(text: &str, side: Side, path: &str) -> Result<String, GraftError> {
    let text = text.to_owned();
    if path.is_empty() {
        return Err(GraftError::Empty { text, side });
    }
    let path_owned = path.to_owned();
    if !path.starts_with('/') {
        return Err(GraftError::Relative {
            text,
            side,
            path: path_owned,
        });
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return Err(GraftError::DotDot {
            text,
            side,
            path: path_owned,
        });
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Whether each host directory is one.
pub fn check_hosts(grafts: &[Graft]) -> Result<(), GraftError> {
    for graft in grafts {
        let host = graft.host.clone();
        match std::fs::metadata(&graft.host) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(GraftError::NotDirectory { host }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(GraftError::NoHost { host });
            }
            Err(cause) => return Err(GraftError::Host { host, cause }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ok(text: &str) -> (String, String, bool) {
        let graft = parse(text).unwrap();
        (graft.host, graft.target, graft.read_only)
    }

    fn want(host: &str, target: &str, read_only: bool) -> (String, String, bool) {
        (host.to_owned(), target.to_owned(), read_only)
    }

    #[test]
    fn the_seeds_form_and_its_variants() {
        let seed = "/var/pocker/volumes/www/:/var/www/html/";
        assert_eq!(
            ok(seed),
            want("/var/pocker/volumes/www", "/var/www/html", false)
        );
        assert_eq!(ok("/a:/b:ro"), want("/a", "/b", true));
        assert_eq!(ok("//a/./b//:/c d"), want("/a/b", "/c d", false));
        assert_eq!(ok("/:/host"), want("/", "/host", false));
        let flags = |text: &str| {
            let graft = parse(text).unwrap();
            [graft.read_only, graft.suid, graft.dev]
        };
        assert_eq!(flags("/a:/b:rw,suid"), [false, true, false]);
        assert_eq!(flags("/a:/b:dev"), [false, false, true]);
        assert_eq!(flags("/a:/b:suid,ro"), [true, true, false]);
        assert_eq!(ok(r"/a\:b:/c\:ro"), want("/a:b", "/c:ro", false));
        assert_eq!(ok(r"/a\\:/c\d"), want(r"/a\", r"/c\d", false));
    }

    #[test]
    fn what_is_wrong_is_said_with_a_remedy() {
        let said = |text: &str| {
            let error = parse(text).unwrap_err();
            let hint = error.hint().unwrap_or_default();
            assert!(error.to_string().starts_with(&format!("-d {text}: ")));
            (error.to_string()[text.len() + 5..].to_owned(), hint)
        };
        for (text, error, hint) in [
            ("nginx", "no colon", "--detach nginx"),
            ("/srv/www", "no colon", "-d /srv/www:/some/place"),
            ("", "no colon", "--detach"),
            ("www:/b", "host directory \"www\" is not abs", "$PWD/www"),
            ("./www:/b", "host directory \"./www\"", "\"$PWD/www\""),
            ("/a:b", "place in the tree \"b\" is not", "slash: /b"),
            (":/b", "the host directory is empty", "looks like"),
            ("/a:", "the place in the tree is empty", "looks like"),
            ("/a:/b:ro,rw", "\"rw\" is no option", "`ro`, `suid`"),
            ("/a:/b:ro:x", "\"ro:x\" is no option", "`ro`, `suid`"),
            ("/a:/b:ro,x", "\"x\" is no option", "`ro`, `suid`"),
            ("/a:/b:", "\"\" is no option", "`ro`, `suid`"),
            ("/a/../b:/c", "host directory \"/a/../b\" has", "leads to"),
            ("/a:/c/..", "place in the tree \"/c/..\" has", "leads to"),
            ("/a:/", "whole root", "below /"),
            ("/a://./", "whole root", "below /"),
            ("/a:/dev", "/dev is the sandbox's own", "another place"),
            ("/a:/proc/x", "/proc is the sandbox's", "another place"),
        ] {
            let (got, got_hint) = said(text);
            assert!(got.contains(error), "{text}: {got}");
            assert!(got_hint.contains(hint), "{text}: {got_hint}");
        }
        assert!(parse("/a:/b\0").unwrap_err().to_string().contains("NUL"));
        assert!(parse("/a:/device").is_ok());
    }

    #[test]
    fn the_same_place_twice_is_refused() {
        let all = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
            parse_all(&texts)
        };
        assert_eq!(all(&["/a:/x", "/a:/y"]).unwrap().len(), 2);
        let error = all(&["/a:/x", "/b:/x/"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "-d /b:/x/: another graft is at /x already"
        );
    }

    #[test]
    fn a_host_directory_must_be_there_and_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let check = |path: &Path| {
            let text = format!("{}:/x", path.display());
            check_hosts(&[parse(&text).unwrap()]).map_err(|e| (e.to_string(), e.hint()))
        };
        assert_eq!(check(dir.path()), Ok(()));
        let (text, hint) = check(&dir.path().join("none")).unwrap_err();
        assert!(text.ends_with("/none does not exist"), "{text}");
        assert!(hint.unwrap().contains("mkdir -p "));
        let (text, hint) = check(&file).unwrap_err();
        assert!(text.ends_with("/file is not a directory"), "{text}");
        assert!(hint.is_some());
    }

    fn escape(path: &str) -> String {
        path.replace('\\', r"\\").replace(':', r"\:")
    }

    proptest! {
        #[test]
        fn every_path_can_be_written(host in r"(/[a-z:\\ ]{1,4}){1,3}", target in r"/x(/[a-z:\\ é]{1,4}){0,3}") {
            let graft = parse(&format!("{}:{}:ro", escape(&host), escape(&target))).unwrap();
            prop_assert_eq!((graft.host, graft.target, graft.read_only), (host, target, true));
        }

        #[test]
        fn nothing_makes_it_panic_or_leave_the_rules(text in r"[/a.:\\ro\x00]{0,20}") {
            if let Ok(graft) = parse(&text) {
                for path in [&graft.host, &graft.target] {
                    prop_assert!(path.starts_with('/'));
                    prop_assert!(!path.split('/').any(|part| part == ".." || part == "."));
                }
                prop_assert!(graft.target != "/");
            }
        }
    }
}
