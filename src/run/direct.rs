//! RUN's text where it is one program and its arguments: the shell becomes it, so that
//! signals reach the program. A shell that waits for it keeps them.

/// What a shell has or takes for its own, so that there need be no such program: POSIX's, and
/// those of dash, bash, ksh and busybox.
const OWN: &str = "\
    . : [ [[ alias bg bind break builtin caller case cd chdir command compgen complete \
    compopt continue coproc declare dirs disown do done echo elif else enable esac eval exec \
    exit export false fc fg fi for function getopts hash help history if in jobs kill let \
    local logout mapfile popd print printf pushd pwd read readarray readonly return select \
    set shift shopt source suspend test then time times trap true type typeset ulimit umask \
    unalias unset until wait whence while";

/// The text for `sh -c`: with `exec` before it where that changes nothing else.
pub fn direct(text: &str) -> String {
    match is_program(text.trim()) {
        true => format!("exec {}", text.trim()),
        false => text.to_owned(),
    }
}

/// Where the scripts of rc.d(8) lie.
const SCRIPTS: &str = "/etc/rc.d/";

/// What starts a service of rc.d(8): its script alone, which is asked to, though rc.conf(5) may not name the
/// service; or with `start`, as it stands. Such a script ends once the daemon is in the background.
pub fn service(text: &str) -> Option<Vec<String>> {
    let mut words = text.split_ascii_whitespace();
    let script = words.next()?;
    let name = script.strip_prefix(SCRIPTS)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return None;
    }
    let rest: Vec<&str> = words.collect();
    let rest = match &rest[..] {
        [] => vec!["-f", "start"],
        [flags @ .., "start"] if flags.iter().all(|flag| matches!(*flag, "-d" | "-f")) => rest,
        _ => return None,
    };
    let all = std::iter::once(script).chain(rest);
    Some(all.map(str::to_owned).collect())
}

/// One simple command (POSIX, 2.9.1) without assignments or redirections, whose name is written
/// out and is none of the shell's own. What is hard to tell is taken for none.
fn is_program(text: &str) -> bool {
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let name = &text[..end];
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./+-@:".contains(c);
    if name.is_empty() || !name.chars().all(plain) || OWN.split(' ').any(|own| own == name) {
        return false;
    }
    let mut quote = None;
    let mut before = ' ';
    let mut rest = text[end..].chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            // What it quotes is taken with it.
            (_, '\\') if rest.next().is_none() => return false,
            (_, '\\') => {}
            // A command in a command may hold anything.
            (_, '`') => return false,
            (_, '$') if !is_variable(rest.as_str()) => return false,
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')' | '\n') => return false,
            (None, '#') if before.is_whitespace() => return false,
            _ => {}
        }
        before = c;
    }
    quote.is_none()
}

/// `$` before it begins a variable's value, and nothing with a syntax of its own.
fn is_variable(rest: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match rest.strip_prefix('{') {
        Some(inner) => inner
            .split_once('}')
            .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(word)),
        None => rest.starts_with(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_and_its_arguments_take_the_shells_place() {
        for text in [
            "nginx -g 'daemon off;'",
            "/etc/rc.d/nginx",
            "./server --data \"$DATA\" ${MORE} *.conf \\; a#b",
            "python3 -c \"print('a;b')\"",
            "sleep\t1000",
        ] {
            assert_eq!(direct(text), format!("exec {text}"));
        }
        assert_eq!(direct("  nginx  "), "exec nginx");
    }

    #[test]
    fn a_script_of_rc_d_starts_its_service() {
        let words = |text: &str| service(text).map(|argv| argv.join(" "));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(words("/etc/rc.d/nginx"), some("/etc/rc.d/nginx -f start"));
        for text in ["/etc/rc.d/nginx start", "/etc/rc.d/php83_fpm -d -f start"] {
            assert_eq!(words(text), some(text));
        }
        for text in [
            "/etc/rc.d/nginx stop",
            "/etc/rc.d/nginx -f",
            "/etc/rc.d/",
            "/etc/rc.d/../x",
            "/etc/rc.d/nginx start; sleep 1",
            "/etc/rc.d/$X start",
            "exec /etc/rc.d/nginx",
            "",
        ] {
            assert_eq!(words(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_the_shells_own_is_left_to_it() {
        for text in [
            "exec nginx",
            "echo hello",
            "true",
            "exit 3",
            "[ -e /x ]",
            "A=b nginx",
            "$CMD x",
            "\"/a b\" c",
            "~/bin/x",
            "! nginx",
            "{ nginx",
            "wait",
            "",
        ] {
            assert_eq!(direct(text), text);
        }
    }

    #[test]
    fn more_than_one_command_is_left_to_the_shell() {
        for text in [
            "mkdir /x; nginx",
            "a && b",
            "a || b",
            "a | b",
            "a &",
            "a\nb",
            "a >log",
            "a <in",
            "a 2>&1",
            "(a)",
            "a $(b)",
            "a \"$(b)\"",
            "a `b`",
            "a \"`b`\"",
            "a ${B:-\"x;y\"}",
            "a $'x\\'; b'",
            "a # not seen",
            "a 'open",
            "set -e\na\n",
            "a \\",
        ] {
            assert!(!direct(text).starts_with("exec "), "{text}");
        }
    }
}
