//! `.pockerignore`: what COPY does not see. The last line that matches a path, or a directory above it, decides.

use super::glob;

/// More is a mistake; each path of the context is matched against each line.
pub const MAX_FILE: u64 = 1 << 20;

#[derive(Default)]
pub struct Ignore {
    lines: Vec<Line>,
}

struct Line {
    components: Vec<Vec<u8>>,
    keep: bool,
}

impl Ignore {
    pub fn parse(bytes: &[u8]) -> Ignore {
        let lines = bytes.split(|b| *b == b'\n').filter_map(line).collect();
        Ignore { lines }
    }

    /// `path` is relative to the context, its components given.
    pub fn ignored(&self, path: &[&[u8]]) -> bool {
        let mut ignored = false;
        for line in &self.lines {
            // Most lines change nothing for most paths: match only where it would.
            if ignored == line.keep && line.matches(path) {
                ignored = !line.keep;
            }
        }
        ignored
    }

    /// Whether something below an ignored directory may be taken back.
    pub fn may_keep(&self) -> bool {
        self.lines.iter().any(|line| line.keep)
    }
}

impl Line {
    /// The path itself or any directory above it.
    fn matches(&self, path: &[&[u8]]) -> bool {
        (1..=path.len()).any(|end| glob::matches_path(&self.components, &path[..end]))
    }
}

fn line(raw: &[u8]) -> Option<Line> {
    let text = raw.trim_ascii();
    if text.starts_with(b"#") {
        return None;
    }
    let (keep, text) = match text.strip_prefix(b"!") {
        Some(rest) => (true, rest.trim_ascii()),
        None => (false, text),
    };
    let components: Vec<Vec<u8>> = text
        .split(|b| *b == b'/')
        .filter(|c| !c.is_empty() && *c != b".")
        .map(<[u8]>::to_vec)
        .collect();
    (!components.is_empty()).then_some(Line { components, keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_matching_line_decides() {
        let ignore = Ignore::parse(
            b"# comment\r\n\n  target/ \n!target/release/app\n/*.log\n**/*.o\n!keep.o\nsecret\n",
        );
        for (path, expected) in [
            ("target", true),
            ("target/debug/x", true),
            ("target/release/app", false),
            ("target/release/app2", true),
            ("a.log", true),
            ("sub/a.log", false),
            ("sub/a.o", true),
            ("keep.o", false),
            ("sub/keep.o", true),
            ("secret/deep/file", true),
            ("sub/secret", false),
            ("# comment", false),
        ] {
            let components: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            assert_eq!(ignore.ignored(&components), expected, "{path}");
        }
        assert!(ignore.may_keep());
    }
}
