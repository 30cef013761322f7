//! Shell text: what EXEC and RUN hand to `/bin/sh`, with its heredocs.

use super::instruction::Source;
use super::{ParseError, Problem};

/// The text after EXEC or RUN: its logical line, and the bodies of the heredocs that the line opens.
pub(super) struct Shell {
    pub line: String,
    bodies: Vec<Body>,
}

struct Body {
    heredoc: Heredoc,
    /// As written, each line ended by a newline.
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Heredoc {
    delimiter: String,
    /// `<<-`: leading tabs do not count.
    tabs: bool,
}

/// Reads the logical line that starts with `rest`, then its heredocs.
pub(super) fn read(source: &mut Source<'_>, rest: &str) -> Result<Shell, ParseError> {
    let mut scan = Scan::default();
    let mut line = String::new();
    let mut piece = rest;
    loop {
        let trimmed = piece.trim_end();
        let slashes = trimmed.len() - trimmed.trim_end_matches('\\').len();
        let continued = slashes % 2 == 1;
        let body = &trimmed[..trimmed.len() - usize::from(continued)];
        scan.feed(if continued { body } else { piece });
        if !continued || scan.comment {
            line.push_str(piece);
            break;
        }
        if trimmed.len() != piece.len() {
            return Err(ParseError::new(source.line(), Problem::BlankAfterBackslash));
        }
        line.push_str(body);
        piece = source.continued_line(true)?;
    }
    let bodies = scan
        .heredocs
        .into_iter()
        .map(|heredoc| read_body(source, heredoc))
        .collect::<Result<_, _>>()?;
    Ok(Shell {
        line: line.trim().to_owned(),
        bodies,
    })
}

fn read_body(source: &mut Source<'_>, heredoc: Heredoc) -> Result<Body, ParseError> {
    let opened = source.line();
    let mut text = String::new();
    while let Some(line) = source.take_line() {
        let bare = if heredoc.tabs {
            line.trim_start_matches('\t')
        } else {
            line
        };
        if bare == heredoc.delimiter {
            return Ok(Body { heredoc, text });
        }
        text.push_str(line);
        text.push('\n');
    }
    let delimiter = heredoc.delimiter;
    Err(ParseError::new(opened, Problem::OpenHeredoc { delimiter }))
}

impl Shell {
    /// What `/bin/sh -c` gets; `line` is the logical line without flags. A heredoc alone on the
    /// line *is* the script, and stops at the first command that fails.
    pub fn script(&self, line: &str) -> Result<String, Problem> {
        if let [only] = self.bodies.as_slice()
            && Scan::is_one_heredoc(line)
        {
            return only.as_script();
        }
        let mut script = line.to_owned();
        for body in &self.bodies {
            script.push('\n');
            script.push_str(&body.text);
            script.push_str(&body.heredoc.delimiter);
        }
        Ok(script)
    }
}

impl Body {
    fn as_script(&self) -> Result<String, Problem> {
        let first = self.text.lines().next().unwrap_or_default();
        if let Some(interpreter) = first.trim().strip_prefix("#!")
            && interpreter.trim() != "/bin/sh"
        {
            return Err(Problem::Interpreter(interpreter.trim().to_owned()));
        }
        let mut script = String::from("set -e\n");
        for line in self.text.lines() {
            script.push_str(if self.heredoc.tabs {
                line.trim_start_matches('\t')
            } else {
                line
            });
            script.push('\n');
        }
        Ok(script)
    }
}

/// As much of the shell's grammar as it takes to find `<<WORD` outside quotes, comments and `((…))`.
#[derive(Default)]
struct Scan {
    quote: Option<char>,
    arithmetic: u32,
    comment: bool,
    heredocs: Vec<Heredoc>,
}

impl Scan {
    fn feed(&mut self, text: &str) {
        let mut rest = text;
        let mut before = ' ';
        while let Some(c) = rest.chars().next()
            && !self.comment
        {
            let mut after = &rest[c.len_utf8()..];
            match (self.quote, c) {
                (None | Some('"'), '\\') => {
                    after = after
                        .char_indices()
                        .nth(1)
                        .map_or("", |(at, _)| &after[at..]);
                }
                (Some(open), _) => {
                    if c == open {
                        self.quote = None;
                    }
                }
                (None, '\'' | '"') => self.quote = Some(c),
                (None, '#') if before.is_whitespace() || before == ';' => self.comment = true,
                (None, '(') if after.starts_with('(') => {
                    self.arithmetic += 1;
                    after = &after[1..];
                }
                (None, ')') if self.arithmetic > 0 && after.starts_with(')') => {
                    self.arithmetic -= 1;
                    after = &after[1..];
                }
                (None, '<') if self.arithmetic == 0 => after = self.redirection(rest),
                (None, _) => {}
            }
            before = c;
            rest = after;
        }
    }

    /// `rest` starts with `<`: takes a heredoc's operator and delimiter, or a here-string's operator.
    fn redirection<'a>(&mut self, rest: &'a str) -> &'a str {
        if let Some(after) = rest.strip_prefix("<<<") {
            return after;
        }
        match heredoc(rest) {
            Some((found, after)) => {
                self.heredocs.push(found);
                after
            }
            None => rest.trim_start_matches('<'),
        }
    }

    fn is_one_heredoc(line: &str) -> bool {
        let line = line.trim();
        heredoc(line).is_some_and(|(_, after)| {
            let after = after.trim_start();
            after.is_empty() || after.starts_with('#')
        })
    }
}

/// `<<WORD`, `<<-WORD`, `<<'WORD'`, `<<"WORD"` at the start of `text`, blanks allowed before WORD.
fn heredoc(text: &str) -> Option<(Heredoc, &str)> {
    let rest = text.strip_prefix("<<")?;
    let (tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let rest = quote.map_or(rest, |_| &rest[1..]);
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    let (delimiter, mut after) = rest.split_at(end);
    if delimiter.is_empty() || delimiter.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Some(quote) = quote {
        after = after.strip_prefix(quote)?;
    }
    if !after.starts_with(|c: char| c.is_whitespace() || ";&|<>)#".contains(c)) && !after.is_empty()
    {
        return None;
    }
    let delimiter = delimiter.to_owned();
    Some((Heredoc { delimiter, tabs }, after))
}
