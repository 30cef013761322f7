//! From lines to instructions: one function a keyword.

use super::words::{self, Word};
use super::{Copy, Exec, From, Instruction, Kind, ParseError, Problem, Secret, Sets, check, shell};

const KEYWORDS: [&str; 12] = [
    "PROOT", "SETS", "FROM", "PKG", "RUN", "EXEC", "COPY", "ENV", "USER", "WORKDIR", "VOLUME",
    "ARG",
];
/// What people write who come from other tools.
const ELSEWHERE: [(&str, &str); 8] = [
    ("ADD", "COPY"),
    ("CP", "COPY"),
    ("CMD", "RUN"),
    ("ENTRYPOINT", "RUN"),
    ("START", "RUN"),
    ("INSTALL", "PKG"),
    ("PACKAGES", "PKG"),
    ("SHELL", "EXEC"),
];
/// Longest excerpt of the file that a message repeats.
const MAX_SHOWN: usize = 120;
const EXEC_FLAGS: &str = "--secret id=ID[,target=/path] and --cache=/path";
const SETS_FLAGS: &str = "--from=DIR or URL, --key=FILE and --arch=ARCH";
const COPY_FLAGS: &str = "--chown=USER[:GROUP] and --chmod=MODE";

/// The file, read line by line.
pub(super) struct Source<'a> {
    rest: &'a str,
    line: u32,
}

impl<'a> Source<'a> {
    pub fn new(text: &'a str) -> Source<'a> {
        Source {
            rest: text,
            line: 0,
        }
    }

    /// The line last taken, 1-based.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The next line without its end (LF or CR LF).
    pub fn take_line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    /// The line that a `\` announced. Comment lines between are skipped, where asked.
    pub fn continued_line(&mut self, skip_comments: bool) -> Result<&'a str, ParseError> {
        let announced = self.line;
        while let Some(line) = self.take_line() {
            if !(skip_comments && line.trim_start().starts_with('#')) {
                return Ok(line);
            }
        }
        Err(ParseError::new(announced, Problem::EndsInBackslash))
    }

    pub fn next_instruction(&mut self) -> Result<Option<Instruction>, ParseError> {
        while let Some(raw) = self.take_line() {
            let trimmed = raw.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let line = self.line;
            let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
            let (keyword, rest) = trimmed.split_at(end);
            let kind = self.kind(keyword, rest)?;
            let text = trimmed.trim_end().chars().take(MAX_SHOWN).collect();
            return Ok(Some(Instruction { line, text, kind }));
        }
        Ok(None)
    }

    fn kind(&mut self, keyword: &str, rest: &str) -> Result<Kind, ParseError> {
        let line = self.line;
        let fail = |problem| ParseError::new(line, problem);
        let known = KEYWORDS.into_iter().find(|known| *known == keyword);
        let keyword = known.ok_or_else(|| fail(unknown(keyword)))?;
        if matches!(keyword, "EXEC" | "RUN") {
            let text = shell::read(self, rest)?;
            return shell_kind(keyword, &text).map_err(fail);
        }
        let words = words::split(self, rest)?;
        word_kind(keyword, words).map_err(fail)
    }
}

fn unknown(word: &str) -> Problem {
    let upper = word.to_ascii_uppercase();
    let near = ELSEWHERE
        .into_iter()
        .find(|(theirs, _)| *theirs == upper)
        .map(|(_, ours)| ours)
        .or_else(|| {
            KEYWORDS
                .into_iter()
                .map(|known| (distance(known, &upper), known))
                .min()
                .filter(|(distance, known)| *distance <= known.len() / 2)
                .map(|(_, known)| known)
        });
    Problem::Unknown {
        word: word.chars().take(MAX_SHOWN).collect(),
        near,
    }
}

/// Edits (insert, delete, replace) from one short word to another; long words are far from all.
fn distance(known: &str, word: &str) -> usize {
    if word.len() > 2 * known.len() {
        return usize::MAX;
    }
    let word: Vec<char> = word.chars().collect();
    let mut row: Vec<usize> = (0..=word.len()).collect();
    for (i, a) in known.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in word.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[word.len()]
}

fn shell_kind(keyword: &'static str, text: &shell::Shell) -> Result<Kind, Problem> {
    let (flags, command) = shell_flags(&text.line);
    let command = command.trim();
    let missing = Problem::Missing {
        keyword,
        what: "a command",
    };
    if command.is_empty() || command.starts_with('#') {
        return Err(missing);
    }
    if let Some(inner) = command.strip_prefix('[')
        && inner.trim_start().starts_with('"')
    {
        return Err(Problem::JsonForm(keyword));
    }
    let script = text.script(command)?;
    if keyword == "RUN" {
        return match flags.first() {
            Some(flag) => Err(Problem::UnknownFlag {
                keyword,
                flag: (*flag).to_owned(),
                known: "none",
            }),
            None => Ok(Kind::Run(script)),
        };
    }
    exec(&flags, script).map(Kind::Exec)
}

/// `--flag=value` and `--flag value` words before the command. A flag that takes its value from the next word
/// is handed over joined by `=`.
fn shell_flags(line: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = line.trim_start();
    while rest.starts_with("--") {
        let (flag, after) = next_word(rest);
        if matches!(flag, "--secret" | "--cache") {
            let (value, after) = next_word(after);
            flags.push(format!("{flag}={value}"));
            rest = after;
        } else {
            flags.push(flag.to_owned());
            rest = after;
        }
    }
    (flags, rest)
}

fn next_word(text: &str) -> (&str, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn exec(flags: &[String], script: String) -> Result<Exec, Problem> {
    let mut out = Exec {
        script,
        secrets: Vec::new(),
        caches: Vec::new(),
    };
    for flag in flags {
        let bad = |why| Problem::BadFlag {
            flag: flag.chars().take(MAX_SHOWN).collect(),
            why,
        };
        if let Some(value) = flag.strip_prefix("--secret=") {
            let secret = secret(value).map_err(bad)?;
            check::absolute_path(&secret.target)?;
            out.secrets.push(secret);
        } else if let Some(path) = flag.strip_prefix("--cache=") {
            check::absolute_path(path)?;
            out.caches.push(path.to_owned());
        } else {
            return Err(Problem::UnknownFlag {
                keyword: "EXEC",
                flag: flag.clone(),
                known: EXEC_FLAGS,
            });
        }
    }
    Ok(out)
}

fn secret(value: &str) -> Result<Secret, &'static str> {
    let mut id = None;
    let mut target = None;
    for pair in value.split(',') {
        match pair.split_once('=') {
            Some(("id", value)) => id = Some(value),
            Some(("target", value)) => target = Some(value.to_owned()),
            _ => return Err("write --secret id=ID or --secret id=ID,target=/path"),
        }
    }
    let id = id.ok_or("it names no id")?;
    let fits = !id.is_empty()
        && id.len() <= 255
        && !id.starts_with('.')
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !fits {
        return Err("an id is letters, digits, `-`, `_` and `.`");
    }
    Ok(Secret {
        id: id.to_owned(),
        target: target.unwrap_or_else(|| format!("/run/secrets/{id}")),
    })
}

fn word_kind(keyword: &'static str, words: Vec<Word>) -> Result<Kind, Problem> {
    match keyword {
        "PROOT" => match words.first() {
            Some(extra) => Err(Problem::ProotArgument(extra.shown())),
            None => Ok(Kind::Proot),
        },
        "SETS" => sets(words).map(Kind::Sets),
        "FROM" => from(words).map(Kind::From),
        "PKG" => pkg(words),
        "COPY" => copy(words).map(Kind::Copy),
        "ENV" => env(words),
        "USER" => one(keyword, words, "one user").map(Kind::User),
        "WORKDIR" => {
            let path = one(keyword, words, "one path")?;
            path.literal().map_or(Ok(()), check::tree_path)?;
            Ok(Kind::Workdir(path))
        }
        "VOLUME" => volume(words),
        _ => arg(words),
    }
}

fn one(keyword: &'static str, words: Vec<Word>, what: &'static str) -> Result<Word, Problem> {
    let mut words = words.into_iter();
    let first = words.next().ok_or(Problem::Missing { keyword, what })?;
    match words.next() {
        Some(extra) => Err(Problem::Extra {
            keyword,
            what,
            extra: extra.shown(),
        }),
        None => Ok(first),
    }
}

fn from(words: Vec<Word>) -> Result<From, Problem> {
    let mut words = words.into_iter();
    let Some(base) = words.next() else {
        return Err(Problem::Missing {
            keyword: "FROM",
            what: "a pocker's name, an archive or `scratch`",
        });
    };
    let (pin, extra) = (words.next(), words.next());
    if let Some(extra) = extra {
        return Err(Problem::Extra {
            keyword: "FROM",
            what: "a base and a pin",
            extra: extra.shown(),
        });
    }
    if let Some(sha256) = pin {
        if let Some(text) = sha256.literal() {
            check::pin(text)?;
        }
        return Ok(From::Archive { path: base, sha256 });
    }
    match base.literal() {
        Some("scratch") => Ok(From::Scratch),
        Some(text) if check::looks_like_archive(text) && !crate::registry::is_image(text) => {
            Err(Problem::NoPin(text.to_owned()))
        }
        _ => Ok(From::Pocker(base)),
    }
}

fn sets(words: Vec<Word>) -> Result<Sets, Problem> {
    let (mut from, mut key, mut arch) = (None, None, None);
    let mut rest = Vec::new();
    for word in words {
        let flag = matches!(word.0.first(), Some(super::Part::Text(t)) if t.starts_with("--"));
        if !flag || !rest.is_empty() {
            rest.push(word);
            continue;
        }
        let shown = word.shown();
        match word.split_pair() {
            Some((name, value)) if name == "--from" => from = Some(value),
            Some((name, value)) if name == "--key" => key = Some(value),
            Some((name, value)) if name == "--arch" => arch = Some(value),
            _ => {
                return Err(Problem::UnknownFlag {
                    keyword: "SETS",
                    flag: shown,
                    known: SETS_FLAGS,
                });
            }
        }
    }
    if rest.len() < 2 {
        return Err(Problem::Missing {
            keyword: "SETS",
            what: "a release and its sets",
        });
    }
    let release = rest.remove(0);
    release.literal().map_or(Ok(()), check::release)?;
    for word in rest.iter().filter_map(Word::literal) {
        match word.starts_with("sha256:") {
            true => check::pin(word).map(drop)?,
            false => check::set_name(word)?,
        }
    }
    Ok(Sets {
        from,
        key,
        arch,
        release,
        sets: rest,
    })
}

fn pkg(words: Vec<Word>) -> Result<Kind, Problem> {
    if words.is_empty() {
        return Err(Problem::Missing {
            keyword: "PKG",
            what: "a package's name",
        });
    }
    for word in words.iter().filter_map(Word::literal) {
        check::package_name(word)?;
    }
    Ok(Kind::Pkg(words))
}

fn copy(words: Vec<Word>) -> Result<Copy, Problem> {
    let mut chown = None;
    let mut chmod = None;
    let mut paths = Vec::new();
    for word in words {
        let flag = matches!(word.0.first(), Some(super::Part::Text(t)) if t.starts_with("--"));
        if !flag || !paths.is_empty() {
            paths.push(word);
            continue;
        }
        let shown = word.shown();
        match word.split_pair() {
            Some((name, value)) if name == "--chown" => chown = Some(value),
            Some((name, value)) if name == "--chmod" => chmod = Some(value),
            _ => {
                return Err(Problem::UnknownFlag {
                    keyword: "COPY",
                    flag: shown,
                    known: COPY_FLAGS,
                });
            }
        }
    }
    for path in paths.iter().filter_map(Word::literal) {
        check::tree_path(path)?;
    }
    let target = paths.pop().filter(|_| !paths.is_empty());
    let target = target.ok_or(Problem::Missing {
        keyword: "COPY",
        what: "a source and a target",
    })?;
    Ok(Copy {
        chown,
        chmod,
        sources: paths,
        target,
    })
}

fn env(words: Vec<Word>) -> Result<Kind, Problem> {
    if words.is_empty() {
        return Err(Problem::Missing {
            keyword: "ENV",
            what: "NAME=VALUE",
        });
    }
    let mut pairs = Vec::new();
    for word in words {
        let shown = word.shown();
        let (name, value) = word.split_pair().ok_or(Problem::NotPair(shown))?;
        check::env_name(&name)?;
        pairs.push((name, value));
    }
    Ok(Kind::Env(pairs))
}

fn volume(words: Vec<Word>) -> Result<Kind, Problem> {
    if words.is_empty() {
        return Err(Problem::Missing {
            keyword: "VOLUME",
            what: "a path",
        });
    }
    for path in words.iter().filter_map(Word::literal) {
        check::absolute_path(path)?;
    }
    Ok(Kind::Volume(words))
}

fn arg(words: Vec<Word>) -> Result<Kind, Problem> {
    let word = one("ARG", words, "one name, or NAME=default")?;
    if let Some(name) = word.literal()
        && !name.contains('=')
    {
        check::env_name(name)?;
        return Ok(Kind::Arg {
            name: name.to_owned(),
            default: None,
        });
    }
    let shown = word.shown();
    let (name, default) = word.split_pair().ok_or(Problem::NotPair(shown))?;
    check::env_name(&name)?;
    Ok(Kind::Arg {
        name,
        default: Some(default),
    })
}
