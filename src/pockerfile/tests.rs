//! What the language accepts, and what each mistake is told.

use super::*;
use proptest::prelude::*;

/// The instructions, one a line, or the error and its hint.
fn show(text: &str) -> String {
    match parse(text.as_bytes()) {
        Ok(all) => all
            .iter()
            .map(|i| format!("{:>2} {:?}\n", i.line, i.kind))
            .collect(),
        Err(e) => match e.hint() {
            Some(hint) => format!("{e}\n   hint: {hint}\n"),
            None => format!("{e}\n"),
        },
    }
}

fn run_of(text: &str) -> String {
    match parse(text.as_bytes())
        .expect("parses")
        .pop()
        .map(|i| i.kind)
    {
        Some(Kind::Run(script)) => script,
        other => panic!("no RUN at the end: {other:?}"),
    }
}

fn exec_of(text: &str) -> Exec {
    let all = parse(format!("FROM scratch\n{text}\nRUN x\n").as_bytes()).expect("parses");
    match &all[1].kind {
        Kind::Exec(exec) => exec.clone(),
        other => panic!("not an EXEC: {other:?}"),
    }
}

#[test]
fn the_seeds_example() {
    insta::assert_snapshot!(show("PROOT   # a chroot modelled on this host\nPKG nginx\nRUN nginx -g 'daemon off;'\n"), @r#"
1 Proot
2 Pkg([Word([Text("nginx")])])
3 Run("nginx -g 'daemon off;'")
"#);
}

#[test]
fn every_instruction() {
    let text = r#"
# a comment
ARG VERSION=1.0
ARG CHANNEL
FROM root-$VERSION.tar sha256:0000000000000000000000000000000000000000000000000000000000000000
ENV A=1 B="two words" C='$literal' D=${CHANNEL:-stable}/x
USER www-data:adm
WORKDIR /srv
VOLUME /data /more   # kept
PKG a \
    # between
    b=$VERSION
COPY --chown=0:0 --chmod=644 "a file" b* /dst/
EXEC --secret id=token,target=/etc/token --cache /root/.cache --cache=/x make # not stripped
RUN exec server --port 80
"#;
    insta::assert_snapshot!(show(text), @r#"
 3 Arg { name: "VERSION", default: Some(Word([Text("1.0")])) }
 4 Arg { name: "CHANNEL", default: None }
 5 From(Archive { path: Word([Text("root-"), Var { name: "VERSION", default: None }, Text(".tar")]), sha256: Word([Text("sha256:0000000000000000000000000000000000000000000000000000000000000000")]) })
 6 Env([("A", Word([Text("1")])), ("B", Word([Text("two words")])), ("C", Word([Text("$literal")])), ("D", Word([Var { name: "CHANNEL", default: Some("stable") }, Text("/x")]))])
 7 User(Word([Text("www-data:adm")]))
 8 Workdir(Word([Text("/srv")]))
 9 Volume([Word([Text("/data")]), Word([Text("/more")])])
10 Pkg([Word([Text("a")]), Word([Text("b="), Var { name: "VERSION", default: None }])])
13 Copy(Copy { chown: Some(Word([Text("0:0")])), chmod: Some(Word([Text("644")])), sources: [Word([Text("a file")]), Word([Text("b*")])], target: Word([Text("/dst/")]) })
14 Exec(Exec { script: "make # not stripped", secrets: [Secret { id: "token", target: "/etc/token" }], caches: ["/root/.cache", "/x"] })
15 Run("exec server --port 80")
"#);
}

#[test]
fn sets_of_a_release() {
    insta::assert_snapshot!(show("ARG R=7.8\nSETS --from=sets --key=k.pub --arch=arm64 $R base comp\nRUN x\n"), @r#"
 1 Arg { name: "R", default: Some(Word([Text("7.8")])) }
 2 Sets(Sets { from: Some(Word([Text("sets")])), key: Some(Word([Text("k.pub")])), arch: Some(Word([Text("arm64")])), release: Word([Var { name: "R", default: None }]), sets: [Word([Text("base")]), Word([Text("comp")])] })
 3 Run("x")
"#);
    for (wrong, why) in [
        ("SETS", "SETS needs a release and its sets"),
        ("SETS 7.8", "SETS needs a release and its sets"),
        ("SETS 78 base", "bad name `78`"),
        ("SETS 7.8 base78", "bad name `base78`"),
        ("SETS 7.8 ../base", "bad name `../base`"),
        ("SETS 7.8 base sha256:12", "bad sha256 pin `sha256:12`"),
        (
            "SETS --mirror=x 7.8 base",
            "SETS does not know the flag `--mirror=x`",
        ),
        ("PROOT\nSETS 7.8 base", "a second SETS"),
    ] {
        let error = parse(format!("{wrong}\nRUN x\n").as_bytes()).unwrap_err();
        assert!(error.to_string().contains(why), "{wrong}: {error}");
    }
}

#[test]
fn mistakes_are_told_with_a_hint() {
    let pin = "0".repeat(64);
    let files = [
        "".to_owned(),
        "# nothing but a comment\n\n".to_owned(),
        "ARG A=1\n".to_owned(),
        "PROOT\nPKGS nginx\nRUN x\n".to_owned(),
        "proot\nRUN x\n".to_owned(),
        "PROOT\nENTRYPOINT x\n".to_owned(),
        "PROOT\nFROBNICATE x\n".to_owned(),
        "PKG nginx\nRUN x\n".to_owned(),
        "PROOT\nFROM scratch\nRUN x\n".to_owned(),
        "PROOT\nPKG nginx\n".to_owned(),
        "PROOT\nRUN a\nRUN b\n".to_owned(),
        "PROOT\nRUN a\nPKG b\n".to_owned(),
        "PROOT\nRUN\n".to_owned(),
        "PROOT\nRUN # nothing\n".to_owned(),
        "PROOT\nRUN [\"nginx\", \"-g\"]\n".to_owned(),
        "PROOT\nRUN --rm x\n".to_owned(),
        "PROOT debian\nRUN x\n".to_owned(),
        "PROOT\nPKG\nRUN x\n".to_owned(),
        "PROOT\nPKG -y nginx\nRUN x\n".to_owned(),
        "PROOT\nPKG nginx;reboot\nRUN x\n".to_owned(),
        "FROM\nRUN x\n".to_owned(),
        "FROM ./root.tar\nRUN x\n".to_owned(),
        "FROM root.tar sha256:12\nRUN x\n".to_owned(),
        format!("FROM root.tar sha256:{pin} AS x\nRUN x\n"),
        "PROOT\nEXEC\nRUN x\n".to_owned(),
        "PROOT\nEXEC --privileged make\nRUN x\n".to_owned(),
        "PROOT\nEXEC --secret token make\nRUN x\n".to_owned(),
        "PROOT\nEXEC --secret id=../x make\nRUN x\n".to_owned(),
        "PROOT\nEXEC --cache=cache make\nRUN x\n".to_owned(),
        "PROOT\nEXEC --cache=/ make\nRUN x\n".to_owned(),
        "PROOT\nCOPY a\nRUN x\n".to_owned(),
        "PROOT\nCOPY ../a /b\nRUN x\n".to_owned(),
        "PROOT\nCOPY --link a /b\nRUN x\n".to_owned(),
        "PROOT\nCOPY <<EOF /b\nx\nEOF\nRUN x\n".to_owned(),
        "PROOT\nENV A 1\nRUN x\n".to_owned(),
        "PROOT\nENV 1A=1\nRUN x\n".to_owned(),
        "PROOT\nENV A='1\nRUN x\n".to_owned(),
        "PROOT\nENV A=${B\nRUN x\n".to_owned(),
        "PROOT\nENV A=$(date)\nRUN x\n".to_owned(),
        "PROOT\nUSER\nRUN x\n".to_owned(),
        "PROOT\nUSER a b\nRUN x\n".to_owned(),
        "PROOT\nWORKDIR /a/../b\nRUN x\n".to_owned(),
        "PROOT\nVOLUME data\nRUN x\n".to_owned(),
        "PROOT\nVOLUME /\nRUN x\n".to_owned(),
        "PROOT\nARG\nRUN x\n".to_owned(),
        "PROOT\nPKG a \\ \n b\nRUN x\n".to_owned(),
        "PROOT\nEXEC a \\ \n b\nRUN x\n".to_owned(),
        "PROOT\nPKG a \\\n".to_owned(),
        "PROOT\nEXEC <<EOF\nmake\n EOF\nRUN x\n".to_owned(),
        "PROOT\nEXEC <<EOF\n#!/usr/bin/python3\nEOF\nRUN x\n".to_owned(),
        "PROOT\nPKG a\0b\nRUN x\n".to_owned(),
        "#".repeat(MAX_FILE + 1),
        format!("PROOT\n{}RUN x\n", "USER a\n".repeat(MAX_INSTRUCTIONS)),
    ];
    let mut all = String::new();
    for file in files {
        assert!(parse(file.as_bytes()).is_err(), "accepted: {file}");
        all.push_str(&show(&file));
    }
    insta::assert_snapshot!(all, @r#"
    line 1: the file has no instructions
       hint: the smallest Pockerfile is PROOT and RUN command, one a line
    line 1: the file has no instructions
       hint: the smallest Pockerfile is PROOT and RUN command, one a line
    line 1: there is no RUN
       hint: end with RUN command: it starts the pocker
    line 2: unknown instruction `PKGS`
       hint: did you mean PKG?
    line 1: unknown instruction `proot`
       hint: did you mean PROOT?
    line 2: unknown instruction `ENTRYPOINT`
       hint: did you mean RUN?
    line 2: unknown instruction `FROBNICATE`
       hint: instructions are PROOT, SETS, FROM, PKG, EXEC, COPY, ENV, USER, WORKDIR, VOLUME, ARG and RUN, in capitals
    line 1: the first instruction must be PROOT, SETS or FROM, not PKG
       hint: start with PROOT (this host's own release), SETS release sets (OpenBSD's own), FROM name, FROM archive sha256:… or FROM scratch; only ARG may stand before it
    line 2: a second FROM: a tree has one base
       hint: build the other base as a pocker of its own
    line 2: there is no RUN
       hint: end with RUN command: it starts the pocker
    line 3: a second RUN; the first is on line 2
       hint: RUN starts the pocker and comes once, last; commands run while building are EXEC
    line 2: RUN must be the last instruction, but PKG follows
       hint: RUN starts the pocker and comes once, last; commands run while building are EXEC
    line 2: RUN needs a command
       hint: write RUN command, as in RUN nginx -g 'daemon off;'
    line 2: RUN needs a command
       hint: write RUN command, as in RUN nginx -g 'daemon off;'
    line 2: RUN takes shell text, not a list in brackets
       hint: write the command as in a shell, without brackets and commas
    line 2: RUN does not know the flag `--rm`
       hint: it knows none
    line 1: PROOT takes no arguments, but `debian` follows
       hint: write PROOT alone on its line
    line 2: PKG needs a package's name
       hint: write PKG name…, as in PKG nginx curl
    line 2: bad name `-y`: a package's name starts with a letter or digit and has no blanks or shell characters
    line 2: bad name `nginx;reboot`: a package's name starts with a letter or digit and has no blanks or shell characters
    line 1: FROM needs a pocker's name, an archive or `scratch`
       hint: write FROM name, FROM archive.tar sha256:DIGEST or FROM scratch
    line 1: archive `./root.tar` has no sha256 pin
       hint: write FROM archive.tar sha256:DIGEST (or SETS 7.8 base sha256:DIGEST) with the 64 digits that `sha256sum` prints of archive.tar (or SHA256.sig)
    line 1: bad sha256 pin `sha256:12`
       hint: write FROM archive.tar sha256:DIGEST (or SETS 7.8 base sha256:DIGEST) with the 64 digits that `sha256sum` prints of archive.tar (or SHA256.sig)
    line 1: FROM takes a base and a pin, but `AS` follows
       hint: write FROM name, FROM archive.tar sha256:DIGEST or FROM scratch
    line 2: EXEC needs a command
       hint: write EXEC [--secret id=ID] [--cache=/path] command
    line 2: EXEC does not know the flag `--privileged`
       hint: it knows --secret id=ID[,target=/path] and --cache=/path
    line 2: bad flag `--secret=token`: write --secret id=ID or --secret id=ID,target=/path
    line 2: bad flag `--secret=id=../x`: an id is letters, digits, `-`, `_` and `.`
    line 2: bad path `cache`: it must start with /
    line 2: bad path `/`: it is the root of the tree
    line 2: COPY needs a source and a target
       hint: write COPY [--chown=USER:GROUP] [--chmod=MODE] source… target
    line 2: bad path `../a`: `..` could lead anywhere
    line 2: COPY does not know the flag `--link`
       hint: it knows --chown=USER[:GROUP] and --chmod=MODE
    line 2: a heredoc works with EXEC and RUN only
       hint: put the text in a file and COPY it, or write it with EXEC cat > FILE <<EOF
    line 2: `A` is not NAME=VALUE
       hint: write NAME=VALUE, with quotes around a value that has blanks
    line 2: bad name `1A`: a variable's name is letters, digits and `_`, not starting with a digit
    line 2: a single quote is not closed on its line
       hint: close it, or write \ before a quote that is meant as it stands
    line 2: bad substitution `${B`
       hint: write $NAME, ${NAME} or ${NAME:-default}; \$ is a dollar sign
    line 2: bad substitution `$(date)`
       hint: write $NAME, ${NAME} or ${NAME:-default}; \$ is a dollar sign
    line 2: USER needs one user
       hint: write USER name, USER uid or USER user:group
    line 2: USER takes one user, but `b` follows
       hint: write USER name, USER uid or USER user:group
    line 2: bad path `/a/../b`: `..` could lead anywhere
    line 2: bad path `data`: it must start with /
    line 2: bad path `/`: it is the root of the tree
    line 2: ARG needs one name, or NAME=default
       hint: write ARG NAME or ARG NAME=default
    line 2: blanks after the `\` at the end of the line
       hint: remove them, so that `\` is the line's last character
    line 2: blanks after the `\` at the end of the line
       hint: remove them, so that `\` is the line's last character
    line 2: the file ends after a `\`
       hint: remove it, or add the line it announces
    line 2: the heredoc `<<EOF` is not closed: no line is just `EOF`
       hint: the closing line has nothing else on it, not even blanks (tabs before it are fine after <<-)
    line 2: the script names an interpreter, `/usr/bin/python3`, but runs in /bin/sh
       hint: feed it to the interpreter instead, as in EXEC python3 <<EOF; shell options are set with `set`
    line 2: a NUL byte
       hint: a Pockerfile is UTF-8 text; is this another file?
    line 1: the file is longer than 1024 KiB
       hint: is this a Pockerfile? `-f` names it
    line 4097: more than 4096 instructions
    "#);
}

#[test]
fn bytes_that_are_not_utf8_are_told_by_line() {
    let error = parse(b"PROOT\nPKG \xff\nRUN x\n").expect_err("not UTF-8");
    assert_eq!((error.line, error.problem), (2, Problem::NotUtf8));
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_accepted() {
    let text = "\u{feff}PROOT\r\nPKG a \\\r\n  b\r\nEXEC <<EOF\r\nmake\r\nEOF\r\nRUN x\r\n";
    insta::assert_snapshot!(show(text), @r#"
1 Proot
2 Pkg([Word([Text("a")]), Word([Text("b")])])
4 Exec(Exec { script: "set -e\nmake\n", secrets: [], caches: [] })
7 Run("x")
"#);
}

#[test]
fn words_follow_the_shell() {
    let all = parse(b"FROM scratch\nENV A=\"x \\\"y\\\" \\n $B\" C=a\\ b'$d'\"e\"#f # g\nRUN x")
        .expect("parses");
    let Kind::Env(pairs) = &all[1].kind else {
        panic!("not ENV");
    };
    let value = |name: &str| (name == "B").then(|| "b  b".to_owned());
    let texts: Vec<String> = pairs
        .iter()
        .map(|(_, word)| word.expand(&value).expect("B is set"))
        .collect();
    assert_eq!(texts, ["x \"y\" \\n b  b", "a b$de#f"]);
}

#[test]
fn substitution_takes_defaults_and_refuses_the_unset() {
    let word = |text: &str| {
        let all = parse(format!("FROM scratch\nUSER {text}\nRUN x").as_bytes()).expect("parses");
        match &all[1].kind {
            Kind::User(word) => word.clone(),
            other => panic!("not USER: {other:?}"),
        }
    };
    let value = |name: &str| match name {
        "SET" => Some("s".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let expand = |text: &str| word(text).expand(&value);
    assert_eq!(expand("a${SET}b$SET-c"), Ok("asbs-c".to_owned()));
    assert_eq!(expand("x${EMPTY:-d}${NONE:-e f}"), Ok("xde f".to_owned()));
    assert_eq!(expand("x$EMPTY"), Ok("x".to_owned()));
    assert_eq!(expand(r"\$SET'$SET'"), Ok("$SET$SET".to_owned()));
    let unset = Problem::Unset {
        name: "NONE".to_owned(),
    };
    assert_eq!(expand("$NONE"), Err(unset));
}

#[test]
fn shell_text_is_left_as_it_stands() {
    assert_eq!(
        run_of("PROOT\nRUN echo \"$HOME\" 'a # b' \\\\  # c"),
        r#"echo "$HOME" 'a # b' \\  # c"#
    );
    assert_eq!(run_of("PROOT\nRUN a \\\n  # dropped\n  && b"), "a   && b");
    // A comment ends with its line, as in a shell, so nothing after it is lost.
    assert!(show("PROOT\nEXEC a # why \\\nb\nRUN x").contains("line 3: unknown instruction `b`"));
    assert!(show("PROOT\nEXEC a # why \\\nRUN x").contains("Run(\"x\")"));
}

#[test]
fn heredocs() {
    assert_eq!(
        exec_of("EXEC <<EOF\n a\n\nb\nEOF").script,
        "set -e\n a\n\nb\n"
    );
    assert_eq!(
        exec_of("EXEC <<-'E'\n\ta\n\t\tb\n\tE").script,
        "set -e\na\nb\n"
    );
    assert_eq!(
        exec_of("EXEC <<EOF\n#!/bin/sh\na\nEOF").script,
        "set -e\n#!/bin/sh\na\n"
    );
    assert_eq!(
        exec_of("EXEC cat >/x <<A && cat >/y <<\"B\"\n1\nA\n2\nB").script,
        "cat >/x <<A && cat >/y <<\"B\"\n1\nA\n2\nB"
    );
    assert_eq!(
        exec_of("EXEC --cache=/c \\\n  python3 <<EOF\n#!/ignored\nEOF").script,
        "python3 <<EOF\n#!/ignored\nEOF"
    );
    assert_eq!(
        run_of("PROOT\nRUN <<EOF\nRUN inside\nEOF"),
        "set -e\nRUN inside\n"
    );
    for plain in [
        "echo '<<EOF'",
        "echo \"<<EOF\"",
        r"echo \<<EOF2x.y",
        "cat <<< EOF",
        "echo $((1 << n)) $((1<<n))",
        "echo x # <<EOF",
        "echo 1<<2",
    ] {
        assert_eq!(exec_of(&format!("EXEC {plain}")).script, plain);
    }
}

#[test]
fn exec_flags() {
    let exec = exec_of("EXEC --secret id=a --secret=id=b,target=/b --cache=/c make --cache=/d");
    assert_eq!(exec.script, "make --cache=/d");
    assert_eq!(exec.caches, ["/c"]);
    let secrets: Vec<_> = exec
        .secrets
        .iter()
        .map(|s| (s.id.as_str(), s.target.as_str()))
        .collect();
    assert_eq!(secrets, [("a", "/run/secrets/a"), ("b", "/b")]);
}

/// Each fenced block of the reference marked `pockerfile` is a whole file; one marked `fragment`
/// stands between a base and a RUN.
#[test]
fn the_references_examples_parse() {
    let page = include_str!("../../docs/pockerfile.md");
    let mut count = 0;
    let mut seen = std::collections::BTreeSet::new();
    for block in page.split("\n```").skip(1).step_by(2) {
        let (mark, body) = block.split_once('\n').expect("a fence has a line end");
        let text = match mark.trim() {
            "pockerfile" => body.to_owned(),
            "pockerfile fragment" => format!("FROM scratch\n{body}\nRUN true\n"),
            "pockerfile base" => format!("{body}\nRUN true\n"),
            "text" | "sh" | "console" => continue,
            other => panic!("a block marked {other:?}"),
        };
        let all = parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        seen.extend(all.iter().map(|i| i.kind.keyword()));
        count += 1;
    }
    assert!(count >= 10, "only {count} examples found");
    assert_eq!(seen.len(), 12, "an instruction has no example: {seen:?}");
}

#[test]
fn the_examples_parse() {
    assert_eq!(
        show(include_str!("../../examples/nginx/Pockerfile")),
        show("PROOT\nPKG nginx\nRUN nginx -g 'daemon off;'")
    );
    let site = show(include_str!("../../examples/site/Pockerfile"));
    assert!(site.contains("root /var/www/site;"), "{site}");
    assert!(site.contains("Run(\"exec nginx"), "{site}");
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    /// Text made of the language's own pieces reaches further than random bytes.
    #[test]
    fn parsing_pieces_never_panics(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "PROOT", "FROM", "PKG", "RUN", "EXEC", "COPY", "ENV", "ARG", " ", "\n", "\\", "\\\n", "$", "${", "}",
        "'", "\"", "<<", "<<-", "EOF", "((", "))", "#", "--secret", "--cache=", "=", "/a", "..", "é", "\t", "\r\n", ":-",
    ]), 0..40)) {
        let text: String = pieces.concat();
        if let Err(error) = parse(text.as_bytes()) {
            prop_assert!(error.line >= 1);
            prop_assert!(error.line as usize <= text.matches('\n').count() + 1);
        }
    }
}
