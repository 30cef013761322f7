//! What can be wrong with a Pockerfile, and what to do about it.

use super::{MAX_FILE, MAX_INSTRUCTIONS};

/// A problem and the 1-based line it stands on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    pub line: u32,
    pub problem: Problem,
}

impl ParseError {
    pub fn new(line: u32, problem: Problem) -> ParseError {
        ParseError { line, problem }
    }

    pub fn hint(&self) -> Option<String> {
        self.problem.hint()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the file is longer than {} KiB", MAX_FILE >> 10)]
    TooLong,
    #[error("more than {MAX_INSTRUCTIONS} instructions")]
    TooManyInstructions,
    #[error("a NUL byte")]
    Nul,
    #[error("bytes that are not UTF-8")]
    NotUtf8,
    #[error("the file has no instructions")]
    Empty,
    #[error("unknown instruction `{word}`")]
    Unknown {
        word: String,
        near: Option<&'static str>,
    },
    #[error("the first instruction must be PROOT, SETS or FROM, not {0}")]
    First(&'static str),
    #[error("a second {0}: a tree has one base")]
    SecondBase(&'static str),
    #[error("there is no RUN")]
    NoRun,
    #[error("a second RUN; the first is on line {first}")]
    SecondRun { first: u32 },
    #[error("RUN must be the last instruction, but {after} follows")]
    RunNotLast { after: &'static str },
    #[error("PROOT takes no arguments, but `{0}` follows")]
    ProotArgument(String),
    #[error("{keyword} needs {what}")]
    Missing {
        keyword: &'static str,
        what: &'static str,
    },
    #[error("{keyword} takes {what}, but `{extra}` follows")]
    Extra {
        keyword: &'static str,
        what: &'static str,
        extra: String,
    },
    #[error("{keyword} does not know the flag `{flag}`")]
    UnknownFlag {
        keyword: &'static str,
        flag: String,
        known: &'static str,
    },
    #[error("bad flag `{flag}`: {why}")]
    BadFlag { flag: String, why: &'static str },
    #[error("bad path `{path}`: {why}")]
    BadPath { path: String, why: &'static str },
    #[error("bad name `{name}`: {why}")]
    BadName { name: String, why: &'static str },
    #[error("`{0}` is not NAME=VALUE")]
    NotPair(String),
    #[error("bad sha256 pin `{0}`")]
    BadPin(String),
    #[error("archive `{0}` has no sha256 pin")]
    NoPin(String),
    #[error("a {0} quote is not closed on its line")]
    OpenQuote(&'static str),
    #[error("bad substitution `{0}`")]
    BadSubstitution(String),
    #[error("`${name}` has no value")]
    Unset { name: String },
    #[error("blanks after the `\\` at the end of the line")]
    BlankAfterBackslash,
    #[error("the file ends after a `\\`")]
    EndsInBackslash,
    #[error("the heredoc `<<{delimiter}` is not closed: no line is just `{delimiter}`")]
    OpenHeredoc { delimiter: String },
    #[error("a heredoc works with EXEC and RUN only")]
    HeredocElsewhere,
    #[error("the script names an interpreter, `{0}`, but runs in /bin/sh")]
    Interpreter(String),
    #[error("{0} takes shell text, not a list in brackets")]
    JsonForm(&'static str),
}

impl Problem {
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Problem::TooLong => "is this a Pockerfile? `-f` names it",
            Problem::Nul | Problem::NotUtf8 => "a Pockerfile is UTF-8 text; is this another file?",
            Problem::Empty => "the smallest Pockerfile is PROOT and RUN command, one a line",
            Problem::Unknown { near, .. } => return Some(unknown_hint(*near)),
            Problem::First(_) => {
                "start with PROOT (this host's own release), SETS release sets (OpenBSD's own), FROM name, FROM archive sha256:… or FROM scratch; only ARG may stand before it"
            }
            Problem::SecondBase(_) => "build the other base as a pocker of its own",
            Problem::NoRun => "end with RUN command: it starts the pocker",
            Problem::SecondRun { .. } | Problem::RunNotLast { .. } => {
                "RUN starts the pocker and comes once, last; commands run while building are EXEC"
            }
            Problem::Missing { keyword, .. } => return Some(usage(keyword).to_owned()),
            Problem::ProotArgument(_) => "write PROOT alone on its line",
            Problem::Extra { keyword, .. } => return Some(usage(keyword).to_owned()),
            Problem::UnknownFlag { known, .. } => return Some(format!("it knows {known}")),
            Problem::NotPair(_) => "write NAME=VALUE, with quotes around a value that has blanks",
            Problem::BadPin(_) | Problem::NoPin(_) => {
                "write FROM archive.tar sha256:DIGEST (or SETS 7.8 base sha256:DIGEST) with the 64 digits that `sha256sum` prints of archive.tar (or SHA256.sig)"
            }
            Problem::OpenQuote(_) => {
                "close it, or write \\ before a quote that is meant as it stands"
            }
            Problem::BadSubstitution(_) => {
                "write $NAME, ${NAME} or ${NAME:-default}; \\$ is a dollar sign"
            }
            Problem::Unset { name } => {
                return Some(format!(
                    "declare it before this line with ARG {name}=default or ENV {name}=value, or pass --build-arg {name}=VALUE to a declared ARG; \\$ is a dollar sign"
                ));
            }
            Problem::BlankAfterBackslash => {
                "remove them, so that `\\` is the line's last character"
            }
            Problem::EndsInBackslash => "remove it, or add the line it announces",
            Problem::OpenHeredoc { .. } => {
                "the closing line has nothing else on it, not even blanks (tabs before it are fine after <<-)"
            }
            Problem::HeredocElsewhere => {
                "put the text in a file and COPY it, or write it with EXEC cat > FILE <<EOF"
            }
            Problem::Interpreter(_) => {
                "feed it to the interpreter instead, as in EXEC python3 <<EOF; shell options are set with `set`"
            }
            Problem::JsonForm(_) => "write the command as in a shell, without brackets and commas",
            Problem::TooManyInstructions
            | Problem::BadFlag { .. }
            | Problem::BadPath { .. }
            | Problem::BadName { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

fn unknown_hint(near: Option<&str>) -> String {
    match near {
        Some(near) => format!("did you mean {near}?"),
        None => "instructions are PROOT, SETS, FROM, PKG, EXEC, COPY, ENV, USER, WORKDIR, VOLUME, ARG and RUN, in capitals".to_owned(),
    }
}

fn usage(keyword: &str) -> &'static str {
    match keyword {
        "FROM" => "write FROM name, FROM archive.tar sha256:DIGEST or FROM scratch",
        "SETS" => {
            "write SETS [--from=DIR or URL] [--key=FILE] [--arch=ARCH] release set… [sha256:DIGEST of SHA256.sig], as in SETS 7.8 base comp man"
        }
        "PKG" => "write PKG name…, as in PKG nginx curl",
        "RUN" => "write RUN command, as in RUN nginx -g 'daemon off;'",
        "EXEC" => "write EXEC [--secret id=ID] [--cache=/path] command",
        "COPY" => "write COPY [--chown=USER:GROUP] [--chmod=MODE] source… target",
        "ENV" => "write ENV NAME=VALUE…",
        "USER" => "write USER name, USER uid or USER user:group",
        "WORKDIR" => "write WORKDIR /path",
        "VOLUME" => "write VOLUME /path…",
        _ => "write ARG NAME or ARG NAME=default",
    }
}
