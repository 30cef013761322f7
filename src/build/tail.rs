//! Output of commands: cut into lines, made safe to show, its end kept for the error.

use std::collections::VecDeque;

/// Enough for a compiler's error or a package manager's reasons.
pub const MAX_LINES: usize = 40;
/// Longer lines are cut: they are progress bars or binary.
const MAX_LINE: usize = 2000;

/// Cuts output into lines and keeps the last ones.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    partial: Vec<u8>,
}

impl Tail {
    /// Gives each completed line to `each`.
    pub fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(&str)) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(each),
                _ if self.partial.len() < MAX_LINE => self.partial.push(byte),
                _ => {}
            }
        }
    }

    /// What stands after the last newline is a line as well.
    pub fn finish(&mut self, each: &mut dyn FnMut(&str)) {
        if !self.partial.is_empty() {
            self.end_line(each);
        }
    }

    fn end_line(&mut self, each: &mut dyn FnMut(&str)) {
        let line = readable(&self.partial);
        self.partial.clear();
        each(&line);
        if line.is_empty() {
            return;
        }
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The last lines, oldest first, empty ones left out.
    pub fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

/// What a terminal would show in the end: text after the last carriage return, without escape
/// sequences and control characters, which could otherwise act on the user's terminal.
fn readable(raw: &[u8]) -> String {
    let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
    let shown = raw.rsplit(|b| *b == b'\r').next().unwrap_or_default();
    let text = String::from_utf8_lossy(shown);
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.peek() == Some(&'[') {
            chars.next();
            // CSI: parameters, then one letter (ECMA-48 §5.4).
            while chars
                .next()
                .is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c))
            {}
        } else if c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_cleaned_and_the_last_kept() {
        let mut tail = Tail::default();
        let mut seen = Vec::new();
        let mut each = |line: &str| seen.push(line.to_owned());
        tail.feed(
            b"one\r\n 10%\r 99%\rdone\n\n\x1b[31mred\x1b[0m\x07 \xff",
            &mut each,
        );
        tail.feed(b" end", &mut each);
        tail.finish(&mut each);
        assert_eq!(seen, ["one", "done", "", "red \u{fffd} end"]);
        assert_eq!(tail.lines(), ["one", "done", "red \u{fffd} end"]);
        for at in 0..100 {
            tail.feed(format!("{at}\n").as_bytes(), &mut |_| {});
        }
        assert_eq!(tail.lines().len(), MAX_LINES);
        assert_eq!(tail.lines().last().map(String::as_str), Some("99"));
        tail.feed(&vec![b'x'; 10 * MAX_LINE], &mut |_| {});
        tail.finish(&mut |line| assert_eq!(line.len(), MAX_LINE));
    }
}
