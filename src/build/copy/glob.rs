//! Patterns: within one name (`*`, `?`, `[a-z]`, `[^a-z]`, `\x`), and over paths with `**`. Names are bytes.

/// Whether a source of COPY has to be looked for.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// One component against one name. Never slower than pattern × name: only the last `*` is tried again.
pub fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
            continue;
        }
        match one(&pattern[p..], name[n]) {
            Some(used) => {
                p += used;
                n += 1;
            }
            None => {
                let Some((at, from)) = star else {
                    return false;
                };
                star = Some((at, from + 1));
                p = at + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// How much of the pattern one byte of the name takes, if it fits.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [b'[', class @ ..] => in_class(class, byte),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// `class` starts after the `[`. A class without its `]` is a literal `[`.
fn in_class(class: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(class.first(), Some(b'^' | b'!'));
    let start = usize::from(negated);
    let Some(close) = class
        .iter()
        .skip(start + 1)
        .position(|b| *b == b']')
        .map(|at| at + start + 1)
    else {
        return (byte == b'[').then_some(1);
    };
    let mut members = &class[start..close];
    let mut found = false;
    while let [low, rest @ ..] = members {
        (found, members) = match rest {
            [b'-', high, rest @ ..] => (found || (*low..=*high).contains(&byte), rest),
            _ => (found || *low == byte, rest),
        };
    }
    (found != negated).then_some(close + 2)
}

/// Components against components; `**` stands for any number of them, none included.
pub fn matches_path(pattern: &[Vec<u8>], path: &[&[u8]]) -> bool {
    // reach[i]: the pattern so far can end before path component i.
    let mut reach = vec![false; path.len() + 1];
    reach[0] = true;
    for component in pattern {
        let mut next = vec![false; path.len() + 1];
        for at in 0..=path.len() {
            if component == b"**" {
                next[at] = reach[at] || (at > 0 && next[at - 1]);
            } else if at > 0 && reach[at - 1] {
                next[at] = matches_name(component, path[at - 1]);
            }
        }
        reach = next;
    }
    reach[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<&[u8]> {
        text.split('/').map(str::as_bytes).collect()
    }

    #[test]
    fn names_and_paths() {
        for (pattern, name, fits) in [
            ("*.o", "a.o", true),
            ("*.o", ".o", true),
            ("*.o", "a.oo", false),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[!a]x", "bx", true),
            ("[]x]", "]", true),
            ("[ab", "[ab", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(
                matches_name(pattern.as_bytes(), name.as_bytes()),
                fits,
                "{pattern} {name}"
            );
        }
        for (pattern, path, fits) in [
            ("**/*.o", "a.o", true),
            ("**/*.o", "x/y/a.o", true),
            ("x/**", "x/y/z", true),
            ("x/**/z", "x/z", true),
            ("x/*", "x/y/z", false),
            ("**", "a/b", true),
        ] {
            let pattern: Vec<Vec<u8>> = pattern.split('/').map(|c| c.as_bytes().to_vec()).collect();
            assert_eq!(
                matches_path(&pattern, &split(path)),
                fits,
                "{pattern:?} {path}"
            );
        }
    }

    proptest! {
        /// The definition, read literally and exponentially, on a small alphabet.
        #[test]
        fn stars_match_as_defined(pattern in "[ab*?]{0,7}", name in "[ab]{0,7}") {
            fn slow(p: &[u8], n: &[u8]) -> bool {
                match (p, n) {
                    ([], []) => true,
                    ([b'*', rest @ ..], _) => (0..=n.len()).any(|at| slow(rest, &n[at..])),
                    ([b'?', p @ ..], [_, n @ ..]) => slow(p, n),
                    ([a, p @ ..], [b, n @ ..]) => a == b && slow(p, n),
                    _ => false,
                }
            }
            prop_assert_eq!(matches_name(pattern.as_bytes(), name.as_bytes()), slow(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn no_pattern_panics(pattern in proptest::collection::vec(any::<u8>(), 0..12), name in proptest::collection::vec(any::<u8>(), 0..12)) {
            matches_name(&pattern, &name);
        }
    }
}
