use super::*;
use std::io;

fn stamp(secs: i64) -> Stamp {
    Stamp { secs, nanos: 0 }
}

fn text(dir: &Path, since: Option<i64>, tail: Option<usize>) -> String {
    let mut out = Vec::new();
    let since = since.map(stamp);
    read(dir, since, tail, &mut |line: &Line| {
        out.extend(&line.text);
        Ok(())
    })
    .expect("read");
    String::from_utf8(out).expect("text")
}

#[test]
fn lines_come_back_as_they_were_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Writer::open(dir.path(), DEFAULT_MAX);
    log.say(Source::Output, b"one\ntw", stamp(1));
    log.say(Source::Output, b"o\n\n", stamp(2));
    log.say(Source::Errors, b"\xff end", stamp(3));
    let mut lines = Vec::new();
    let keep = &mut |line: &Line| {
        lines.push(line.clone());
        Ok(())
    };
    read(dir.path(), None, None, keep).expect("read");
    let texts: Vec<&[u8]> = lines.iter().map(|l| &l.text[..]).collect();
    assert_eq!(texts, [&b"one\n"[..], b"tw", b"o\n", b"\n", b"\xff end"]);
    assert_eq!(lines[4].from, Source::Errors);
    let raw = std::fs::read(dir.path().join("log")).expect("read");
    assert!(raw.starts_with(b"1970-01-01T00:00:01.000000000Z stdout F one\n"));
}

#[test]
fn a_part_is_chosen_by_time_and_by_number() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Writer::open(dir.path(), DEFAULT_MAX);
    for n in 1..6 {
        log.say(Source::Output, format!("{n}\n").as_bytes(), stamp(n));
    }
    assert_eq!(text(dir.path(), Some(4), None), "4\n5\n");
    assert_eq!(text(dir.path(), None, Some(2)), "4\n5\n");
    assert_eq!(text(dir.path(), None, Some(0)), "");
    assert_eq!(text(dir.path(), Some(5), Some(2)), "5\n");
    log.say(Source::Output, b"half", stamp(9));
    assert_eq!(text(dir.path(), None, Some(1)), "5\nhalf");
}

#[test]
fn it_stays_bounded_and_the_newest_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Writer::open(dir.path(), 1000);
    let mut seen = Vec::new();
    let mut follow = read(dir.path(), None, None, &mut |_| Ok(())).expect("read");
    for n in 0..100 {
        log.say(Source::Output, format!("{n}\n").as_bytes(), stamp(n));
        let keep = &mut |line: &Line| {
            seen.extend_from_slice(&line.text);
            io::Result::Ok(())
        };
        follow.more(keep).expect("followed");
    }
    let size = |name: &str| {
        std::fs::metadata(dir.path().join(name))
            .expect("there")
            .len()
    };
    assert!(size("log") <= 1000 && size("log.1") <= 1000);
    let kept = text(dir.path(), None, None);
    assert!(
        kept.ends_with("98\n99\n") && kept.lines().count() > 20,
        "{kept}"
    );
    assert!(!kept.starts_with("0\n"));
    // Who follows sees each once, whatever was put aside meanwhile.
    let all: String = (0..100).map(|n| format!("{n}\n")).collect();
    assert_eq!(String::from_utf8(seen).expect("text"), all);
    let again = Writer::open(dir.path(), 1000);
    assert!(again.size > 0);
}
