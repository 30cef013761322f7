//! The environment of a run: nothing of the caller's but the terminal's name.

use std::ffi::{OsStr, OsString};

/// Where programs are found, those for root included (as login(1) gives it to root).
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// PATH and, with a terminal, TERM; then each list in order, later entries winning. HOME is
/// not here: unless given, the sandbox takes it from the tree's passwd.
pub fn environment(
    terminal: Option<&OsStr>,
    lists: &[&[(String, String)]],
) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = vec![("PATH".into(), PATH.into())];
    if let Some(term) = terminal {
        env.push(("TERM".into(), term.to_owned()));
    }
    for (name, value) in lists.iter().copied().flatten() {
        match env.iter_mut().find(|(known, _)| known == name.as_str()) {
            Some((_, old)) => *old = value.into(),
            None => env.push((name.into(), value.into())),
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_entries_win_and_nothing_is_there_twice() {
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let config = [pair("A", "1"), pair("PATH", "/x"), pair("A", "2")];
        let given = [pair("A", "3"), pair("TERM", "dumb")];
        let env = environment(Some(OsStr::new("xterm")), &[&config, &given]);
        let shown: Vec<String> = env
            .iter()
            .map(|(n, v)| format!("{}={}", n.display(), v.display()))
            .collect();
        assert_eq!(shown, ["PATH=/x", "TERM=dumb", "A=3"]);
        assert_eq!(environment(None, &[]), [("PATH".into(), PATH.into())]);
    }
}
