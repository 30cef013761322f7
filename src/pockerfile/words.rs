//! Words: how instructions other than EXEC and RUN read their line.
//!
//! Blanks separate; `'…'` is literal; `"…"` groups and substitutes; `\x` is x; `$NAME`, `${NAME}`
//! and `${NAME:-default}` are substituted later; ` #` starts a comment; a `\` that ends the line
//! joins it with the next one.

use super::instruction::Source;
use super::{ParseError, Problem, check};

/// One word as written: text and the variables in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word(pub Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Var {
        name: String,
        /// `${NAME:-default}`: stands in for a variable that is unset or empty.
        default: Option<String>,
    },
}

impl Word {
    pub fn text(text: &str) -> Word {
        Word(vec![Part::Text(text.to_owned())])
    }

    /// The word's value where nothing in it depends on a variable.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The word with every variable replaced by what `value` says.
    pub fn expand(&self, value: &dyn Fn(&str) -> Option<String>) -> Result<String, Problem> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Var { name, default } => match (value(name), default) {
                    (Some(found), Some(default)) if found.is_empty() => out.push_str(default),
                    (Some(found), _) => out.push_str(&found),
                    (None, Some(default)) => out.push_str(default),
                    (None, None) => return Err(Problem::Unset { name: name.clone() }),
                },
            }
        }
        Ok(out)
    }

    /// Near to how it was written, for messages.
    pub fn shown(&self) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Var { name, .. } => format!("${{{name}}}"),
            })
            .collect()
    }

    /// `NAME=rest`, where NAME is literal.
    pub(super) fn split_pair(self) -> Option<(String, Word)> {
        let mut parts = self.0.into_iter();
        let Some(Part::Text(first)) = parts.next() else {
            return None;
        };
        let (name, rest) = first.split_once('=')?;
        let mut value = Vec::new();
        if !rest.is_empty() {
            value.push(Part::Text(rest.to_owned()));
        }
        value.extend(parts);
        Some((name.to_owned(), Word(value)))
    }

    fn push(&mut self, c: char) {
        match self.0.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => self.0.push(Part::Text(c.to_string())),
        }
    }
}

/// Where a line ended.
enum End {
    Line,
    /// In a `\`: the next line goes on here.
    Continued,
}

struct Splitter {
    words: Vec<Word>,
    current: Option<Word>,
    /// Inside `"…"`, which a `\` at the end of the line may carry over to the next one.
    double: bool,
}

/// Splits what follows the keyword, taking further lines as long as they are continued.
pub(super) fn split(source: &mut Source<'_>, rest: &str) -> Result<Vec<Word>, ParseError> {
    let mut splitter = Splitter {
        words: Vec::new(),
        current: None,
        double: false,
    };
    let mut line = rest;
    loop {
        let at = source.line();
        let end = splitter.line(line).map_err(|p| ParseError::new(at, p))?;
        match end {
            End::Line => break,
            End::Continued => line = source.continued_line(!splitter.double)?,
        }
    }
    splitter.finish_word();
    if splitter
        .words
        .iter()
        .any(|w| matches!(w.0.first(), Some(Part::Text(t)) if t.starts_with("<<")))
    {
        return Err(ParseError::new(source.line(), Problem::HeredocElsewhere));
    }
    Ok(splitter.words)
}

impl Splitter {
    fn finish_word(&mut self) {
        self.words.extend(self.current.take());
    }

    fn push(&mut self, c: char) {
        self.current.get_or_insert_default().push(c);
    }

    fn line(&mut self, line: &str) -> Result<End, Problem> {
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            rest = match c {
                '\\' if after.is_empty() => return Ok(End::Continued),
                '\\' => self.escape(after)?,
                '$' => self.variable(rest)?,
                '"' => {
                    self.double = !self.double;
                    self.current.get_or_insert_default();
                    after
                }
                _ if self.double => {
                    self.push(c);
                    after
                }
                '\'' => self.single(after)?,
                '#' if self.current.is_none() => return Ok(End::Line),
                c if c.is_whitespace() => {
                    self.finish_word();
                    after
                }
                c => {
                    self.push(c);
                    after
                }
            };
        }
        if self.double {
            return Err(Problem::OpenQuote("double"));
        }
        Ok(End::Line)
    }

    /// After a backslash; inside double quotes it keeps standing before most characters, as in a shell.
    fn escape<'a>(&mut self, after: &'a str) -> Result<&'a str, Problem> {
        if after.trim().is_empty() || (!self.double && after.trim_start().starts_with('#')) {
            return Err(Problem::BlankAfterBackslash);
        }
        let mut chars = after.chars();
        let Some(c) = chars.next() else {
            return Ok(after);
        };
        if self.double && !matches!(c, '"' | '\\' | '$') {
            self.push('\\');
        }
        self.push(c);
        Ok(chars.as_str())
    }

    fn single<'a>(&mut self, after: &'a str) -> Result<&'a str, Problem> {
        let (quoted, rest) = after.split_once('\'').ok_or(Problem::OpenQuote("single"))?;
        self.current.get_or_insert_default();
        quoted.chars().for_each(|c| self.push(c));
        Ok(rest)
    }

    /// `rest` starts with the `$`.
    fn variable<'a>(&mut self, rest: &'a str) -> Result<&'a str, Problem> {
        let bad = || Problem::BadSubstitution(rest.chars().take(20).collect());
        let (name, default, after) = match rest[1..].strip_prefix('{') {
            Some(inner) => {
                let (body, after) = inner.split_once('}').ok_or_else(bad)?;
                match body.split_once(":-") {
                    Some((name, default)) if !default.contains('$') => {
                        (name, Some(default.to_owned()), after)
                    }
                    Some(_) => return Err(bad()),
                    None => (body, None, after),
                }
            }
            None => {
                let end = rest[1..]
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .map_or(rest.len(), |at| at + 1);
                (&rest[1..end], None, &rest[end..])
            }
        };
        check::env_name(name).map_err(|_| bad())?;
        let part = Part::Var {
            name: name.to_owned(),
            default,
        };
        self.current.get_or_insert_default().0.push(part);
        Ok(after)
    }
}
