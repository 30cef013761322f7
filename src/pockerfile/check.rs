//! Rules about whole files, names and paths.

use super::{Instruction, Kind, MAX_FILE, ParseError, Problem};

/// Longest path the kernel takes (PATH_MAX on Linux, 1024 on the BSDs: theirs is checked by them).
const MAX_PATH: usize = 4095;
/// Longest name of a package, an argument or a secret.
const MAX_NAME: usize = 255;

/// The file as text: bounded, UTF-8, no NUL; a leading byte order mark is dropped.
pub(super) fn text(bytes: &[u8]) -> Result<&str, ParseError> {
    let line_at = |offset: usize| {
        let newlines = bytes[..offset].iter().filter(|b| **b == b'\n').count();
        newlines as u32 + 1
    };
    if bytes.len() > MAX_FILE {
        return Err(ParseError::new(1, Problem::TooLong));
    }
    if let Some(at) = bytes.iter().position(|b| *b == 0) {
        return Err(ParseError::new(line_at(at), Problem::Nul));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(e) => Err(ParseError::new(line_at(e.valid_up_to()), Problem::NotUtf8)),
    }
}

/// What must come first, last, and once.
pub(super) fn order(all: &[Instruction]) -> Result<(), ParseError> {
    let Some(first) = all.iter().find(|i| !matches!(i.kind, Kind::Arg { .. })) else {
        let line = all.last().map_or(1, |i| i.line);
        let problem = if all.is_empty() {
            Problem::Empty
        } else {
            Problem::NoRun
        };
        return Err(ParseError::new(line, problem));
    };
    if !is_base(first) {
        return Err(ParseError::new(
            first.line,
            Problem::First(first.kind.keyword()),
        ));
    }
    if let Some(second) = all.iter().filter(|i| is_base(i)).nth(1) {
        let problem = Problem::SecondBase(second.kind.keyword());
        return Err(ParseError::new(second.line, problem));
    }
    run_is_last(all)
}

fn is_base(instruction: &Instruction) -> bool {
    matches!(
        instruction.kind,
        Kind::Proot | Kind::Sets(_) | Kind::From(_)
    )
}

fn run_is_last(all: &[Instruction]) -> Result<(), ParseError> {
    let mut runs = all.iter().filter(|i| matches!(i.kind, Kind::Run(_)));
    let last_line = all.last().map_or(1, |i| i.line);
    let first = runs
        .next()
        .ok_or(ParseError::new(last_line, Problem::NoRun))?;
    if let Some(second) = runs.next() {
        let problem = Problem::SecondRun { first: first.line };
        return Err(ParseError::new(second.line, problem));
    }
    match all.iter().find(|i| i.line > first.line) {
        Some(after) => Err(ParseError::new(
            first.line,
            Problem::RunNotLast {
                after: after.kind.keyword(),
            },
        )),
        None => Ok(()),
    }
}

/// A path inside the tree, absolute or relative: no `..`, no control bytes, not too long.
pub fn tree_path(path: &str) -> Result<(), Problem> {
    let bad = |why| {
        Err(Problem::BadPath {
            path: path.chars().take(80).collect(),
            why,
        })
    };
    if path.is_empty() {
        return bad("it is empty");
    }
    if path.len() > MAX_PATH {
        return bad("it is longer than 4095 bytes");
    }
    if path.chars().any(|c| c.is_control()) {
        return bad("it holds control characters");
    }
    if path.split('/').any(|part| part == "..") {
        return bad("`..` could lead anywhere");
    }
    if path.split('/').any(|part| part.len() > MAX_NAME) {
        return bad("a name in it is longer than 255 bytes");
    }
    Ok(())
}

/// As `tree_path`, and absolute, and not the root itself.
pub fn absolute_path(path: &str) -> Result<(), Problem> {
    tree_path(path)?;
    let bad = |why| {
        Err(Problem::BadPath {
            path: path.to_owned(),
            why,
        })
    };
    if !path.starts_with('/') {
        return bad("it must start with /");
    }
    if path.split('/').all(|part| part.is_empty() || part == ".") {
        return bad("it is the root of the tree");
    }
    Ok(())
}

/// A name as POSIX has environment variables: a letter or `_`, then letters, digits, `_`.
pub fn env_name(name: &str) -> Result<(), Problem> {
    let head = name.bytes().next();
    let fits = head.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= MAX_NAME;
    if fits {
        return Ok(());
    }
    Err(Problem::BadName {
        name: name.chars().take(80).collect(),
        why: "a variable's name is letters, digits and `_`, not starting with a digit",
    })
}

/// What reaches a package manager must look like a package to all of them, never like an option or a file.
pub fn package_name(name: &str) -> Result<(), Problem> {
    let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '@')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-._:=~@%/<>".contains(&b))
        && name.len() <= MAX_NAME;
    if fits {
        return Ok(());
    }
    Err(Problem::BadName {
        name: name.chars().take(80).collect(),
        why: "a package's name starts with a letter or digit and has no blanks or shell characters",
    })
}

/// A release of OpenBSD: two numbers, as in 7.8.
pub fn release(text: &str) -> Result<(), Problem> {
    let number =
        |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let fits = text
        .split_once('.')
        .is_some_and(|(major, minor)| number(major) && number(minor));
    match fits {
        true => Ok(()),
        false => Err(Problem::BadName {
            name: text.chars().take(80).collect(),
            why: "a release is two numbers, as in SETS 7.8 base",
        }),
    }
}

/// A set as OpenBSD names it, without the release: part of a file's name on a mirror.
pub fn set_name(name: &str) -> Result<(), Problem> {
    let why = "sets are base, comp, man, game, xbase, xshare, xfont and xserv, without a number";
    lower_case(name, false, why)
}

/// An architecture as OpenBSD names it: a directory of a mirror.
pub fn arch_name(name: &str) -> Result<(), Problem> {
    lower_case(name, true, "architectures are amd64, arm64 and the like")
}

fn lower_case(name: &str, digits: bool, why: &'static str) -> Result<(), Problem> {
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || digits && b.is_ascii_digit())
        && name.len() <= 32;
    match fits {
        true => Ok(()),
        false => Err(Problem::BadName {
            name: name.chars().take(80).collect(),
            why,
        }),
    }
}

/// `sha256:` and 64 hexadecimal digits; gives the digits in lower case.
pub fn pin(text: &str) -> Result<String, Problem> {
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(digits.to_ascii_lowercase());
    }
    Err(Problem::BadPin(text.chars().take(80).collect()))
}

/// A base that can only be meant as a file: no pocker's name has a slash, and few end like an archive.
pub(super) fn looks_like_archive(base: &str) -> bool {
    const ENDINGS: [&str; 8] = [
        ".tar", ".tgz", ".tar.gz", ".tar.xz", ".txz", ".tar.zst", ".tar.bz2", ".zip",
    ];
    base.contains('/') || ENDINGS.iter().any(|ending| base.ends_with(ending))
}
