//! The Pockerfile language: bytes in, instructions out, no I/O.
//!
//! A file is a sequence of logical lines. Instructions of *words* (`PKG`, `COPY`, …) are split as
//! a shell would split them, may end in a `#` comment, and substitute `$NAME`; instructions of
//! *shell text* (`EXEC`, `RUN`) are handed to `/bin/sh` as they stand, heredocs included.
//! `docs/pockerfile.md` is the user's reference; a test parses each of its examples.

mod check;
mod error;
mod instruction;
mod shell;
#[cfg(test)]
mod tests;
mod words;

pub use check::{
    absolute_path, arch_name, env_name, package_name, pin, release, set_name, tree_path,
};
pub use error::{ParseError, Problem};
pub use words::{Part, Word};

use instruction::Source;

/// More is no Pockerfile but a mistake (`-f` on an archive), and every parsed byte is kept in memory.
pub const MAX_FILE: usize = 1 << 20;
/// A build makes a tree and a round trip for each; browsing thousands of steps helps nobody.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// One instruction and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// 1-based line of its keyword.
    pub line: u32,
    /// The first line as written, without surrounding blanks: for messages.
    pub text: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A root modelled on this host's own release.
    Proot,
    /// A root of OpenBSD's own sets.
    Sets(Sets),
    From(From),
    /// Packages, by the names the tree's own package manager knows.
    Pkg(Vec<Word>),
    /// How the pocker starts. Shell text.
    Run(String),
    Exec(Exec),
    Copy(Copy),
    Env(Vec<(String, Word)>),
    User(Word),
    Workdir(Word),
    Volume(Vec<Word>),
    Arg {
        name: String,
        default: Option<Word>,
    },
}

impl Kind {
    pub fn keyword(&self) -> &'static str {
        match self {
            Kind::Proot => "PROOT",
            Kind::Sets(_) => "SETS",
            Kind::From(_) => "FROM",
            Kind::Pkg(_) => "PKG",
            Kind::Run(_) => "RUN",
            Kind::Exec(_) => "EXEC",
            Kind::Copy(_) => "COPY",
            Kind::Env(_) => "ENV",
            Kind::User(_) => "USER",
            Kind::Workdir(_) => "WORKDIR",
            Kind::Volume(_) => "VOLUME",
            Kind::Arg { .. } => "ARG",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// The literal word `scratch`: an empty tree.
    Scratch,
    /// Another pocker's last tree, or an image of a registry: its name says which.
    Pocker(Word),
    /// A root archive and the SHA-256 it must have (checked after expansion).
    Archive { path: Word, sha256: Word },
}

/// OpenBSD's release, its sets, and where they and their key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sets {
    /// A directory of the context or a mirror.
    pub from: Option<Word>,
    pub key: Option<Word>,
    pub arch: Option<Word>,
    pub release: Word,
    pub sets: Vec<Word>,
}

/// A command run while building.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    pub script: String,
    pub secrets: Vec<Secret>,
    /// Absolute paths whose contents outlive the build and are never sealed.
    pub caches: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    pub id: String,
    /// Where the file appears; `/run/secrets/ID` unless told.
    pub target: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// `USER[:GROUP]`, names or numbers.
    pub chown: Option<Word>,
    /// Octal, at most 7777.
    pub chmod: Option<Word>,
    pub sources: Vec<Word>,
    pub target: Word,
}

/// Parses a whole file and checks what can be known without expanding arguments.
pub fn parse(bytes: &[u8]) -> Result<Vec<Instruction>, ParseError> {
    let text = check::text(bytes)?;
    let mut source = Source::new(text);
    let mut out = Vec::new();
    while let Some(instruction) = source.next_instruction()? {
        if out.len() == MAX_INSTRUCTIONS {
            return Err(ParseError::new(
                instruction.line,
                Problem::TooManyInstructions,
            ));
        }
        out.push(instruction);
    }
    check::order(&out)?;
    Ok(out)
}
