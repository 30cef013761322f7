//! `-v NAME:PATH[:ro]`: a volume at a place in the tree.

use super::graft::{self, RESERVED};
use crate::control::api::{Graft, VolumeMount};
use std::path::Path;

/// What `-v` lacks or has wrong, and what to write instead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("-v {text}: {why}")]
pub struct VolumeError {
    text: String,
    why: String,
    pub hint: String,
}

/// All volumes of a command line, in its order; none at the place of a graft.
pub fn parse_all(texts: &[String], grafts: &[Graft]) -> Result<Vec<VolumeMount>, VolumeError> {
    let mut volumes: Vec<VolumeMount> = Vec::new();
    for text in texts {
        let volume = parse(text)?;
        let mut taken = grafts.iter().map(|g| &g.target);
        if taken.any(|t| *t == volume.target) || volumes.iter().any(|v| v.target == volume.target) {
            return Err(wrong(
                text,
                format!("something else is at {} already", volume.target),
                "give each graft and volume a place of its own",
            ));
        }
        if volumes.iter().any(|v| v.name == volume.name) {
            return Err(wrong(
                text,
                format!("volume {} is in this run already", volume.name),
                "mount it once, and link to it inside the tree",
            ));
        }
        volumes.push(volume);
    }
    Ok(volumes)
}

fn wrong(text: &str, why: impl Into<String>, hint: impl Into<String>) -> VolumeError {
    VolumeError {
        text: text.replace('\0', "\u{fffd}"),
        why: why.into(),
        hint: hint.into(),
    }
}

const FORM: &str = "a volume looks like -v data:/var/lib/data";

fn parse(text: &str) -> Result<VolumeMount, VolumeError> {
    if text.contains('\0') {
        return Err(wrong(text, "it holds a NUL byte", FORM));
    }
    let parts = graft::split(text);
    let (name, target, options) = match parts.as_slice() {
        [] | [_] => {
            let why = "a volume is NAME:PATH[:ro], and there is no colon in this one";
            return Err(wrong(
                text,
                why,
                format!("say where it goes: -v {text}:/some/place"),
            ));
        }
        [name, target, options @ ..] => (name, target, options),
    };
    if name.starts_with('/') || name.starts_with('.') {
        let why = format!("{name} is a path, and no volume's name");
        return Err(wrong(
            text,
            why,
            format!("a host directory is grafted with -d {text}"),
        ));
    }
    crate::build::check_name(name).map_err(|e| wrong(text, e.to_string(), FORM))?;
    let read_only = match options {
        [] => false,
        [option] if option == "ro" => true,
        [option] if option == "rw" => false,
        options => {
            let why = format!("{:?} is no option of a volume", options.join(":"));
            return Err(wrong(
                text,
                why,
                "only `ro` is known; write a colon in a path as \\:",
            ));
        }
    };
    let target = graft::normal(text, graft::Side::Target, target).map_err(|e| {
        let said = e.to_string();
        let why = said.strip_prefix(&format!("-d {text}: ")).unwrap_or(&said);
        wrong(text, why, e.hint().unwrap_or_else(|| FORM.to_owned()))
    })?;
    if target == "/" {
        return Err(wrong(
            text,
            "the whole root cannot be a volume",
            "name a directory below /",
        ));
    }
    if let Some(path) = RESERVED.iter().find(|r| Path::new(&target).starts_with(r)) {
        let why = format!("{path} is the sandbox's own");
        return Err(wrong(text, why, "choose another place"));
    }
    Ok(VolumeMount {
        name: name.clone(),
        target,
        read_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Result<Vec<VolumeMount>, VolumeError> {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        let graft = Graft {
            host: "/srv".to_owned(),
            target: "/grafted".to_owned(),
            read_only: false,
            suid: false,
            dev: false,
        };
        parse_all(&texts, &[graft])
    }

    #[test]
    fn a_volume_has_a_name_a_place_and_perhaps_ro() {
        let found = all(&["data:/var//lib/", "logs:/log:ro", "w:/w:rw"]).unwrap();
        let said: Vec<_> = found
            .iter()
            .map(|v| (v.name.as_str(), v.target.as_str(), v.read_only))
            .collect();
        assert_eq!(
            said,
            [
                ("data", "/var/lib", false),
                ("logs", "/log", true),
                ("w", "/w", false)
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_a_remedy() {
        for (texts, why, hint) in [
            (&["data"][..], "no colon", "-v data:/some/place"),
            (&["/srv:/b"], "/srv is a path", "-d /srv:/b"),
            (&["../x:/b"], "../x is a path", "-d ../x:/b"),
            (&["Data:/b"], "may hold a-z", "looks like"),
            (&[":/b"], "empty", "looks like"),
            (&["data:"], "place in the tree is empty", "looks like"),
            (&["data:b"], "\"b\" is not absolute", "slash: /b"),
            (&["data:/a/.."], "has a `..`", "leads to"),
            (&["data:/b:rx"], "\"rx\" is no option", "only `ro`"),
            (&["data:/"], "whole root", "below /"),
            (&["data:/proc/x"], "/proc is the sandbox's", "another place"),
            (&["a:/x", "b:/x/"], "at /x already", "of its own"),
            (&["a:/grafted"], "at /grafted already", "of its own"),
            (&["a:/x", "a:/y:ro"], "volume a is in this run", "once"),
            (&["a:/x\0"], "NUL", "looks like"),
        ] {
            let error = all(texts).unwrap_err();
            assert!(error.to_string().contains(why), "{texts:?}: {error}");
            assert!(error.hint.contains(hint), "{texts:?}: {}", error.hint);
        }
    }
}
