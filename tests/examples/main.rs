//! The examples, by the words of their READMEs alone: each block of commands there is run as it
//! stands, in a world and a network of the test's own.

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod words;

use std::collections::BTreeSet;
use support::{World, until};
use words::Words;

/// The certificates of this host, which pip is to believe too.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

#[test]
fn mail_and_a_guest_book_run_as_their_readmes_say() {
    let w = World::new();
    std::fs::create_dir(w.path("volumes")).expect("mkdir");
    let mail = Words::of(&w, "mail");
    let pip = Words::of(&w, "pip");

    // What is fetched from registries, in this host's network.
    mail.run("pocker create imap", "");
    pip.run("pocker create guestbook", "");
    hostile::build(&w);
    // The ports that the examples use are free in a network of their own.
    words::own_network();

    mail.run("mkdir -p", "");
    mail.run("run --detach", "");
    letter(&mail.run("swaks", ""));
    let before = started(&w);
    // What a break-in would leave in a tree.
    for name in ["imap", "smtp"] {
        w.pocker(&["exec", name, "--", "touch", "/etc/backdoor"])
            .ok();
    }
    letter(&mail.run("pocker restart", ""));
    let after = started(&w);
    assert!(before.is_disjoint(&after), "{before:?} and {after:?}");
    for name in ["imap", "smtp"] {
        let look = w.pocker(&["exec", name, "--", "test", "-e", "/etc/backdoor"]);
        assert_eq!(look.status, 1, "{name}'s tree is not clean");
    }
    // A letter whose delivery fails waits in the volume, over a restart of its pocker.
    w.pocker(&["stop", "imap"]).ok();
    mail.run("swaks", "curl");
    w.pocker(&["restart", "smtp"]).ok();
    mail.run("run --detach", "smtp-queue");
    until("the second letter is delivered", || mail.letters() == 2);
    mail.run("pocker stop", "");
    assert!(started(&w).is_empty());

    pip.run("mkdir -p", "");
    let page = pip.run("--data", "");
    assert!(
        page.contains("written: what a nice place\nwhat a nice place\n"),
        "{page:?}"
    );
    let user = w.pocker(&["exec", "guestbook", "--", "id", "-u"]).ok();
    assert_eq!(user.out.trim(), "5001");
    pip.run("pocker stop", "");
    let book = std::fs::read_to_string(w.path("volumes/book/book.txt")).expect("the book");
    assert_eq!(book, "what a nice place\n");

    hostile::get_nowhere(&w);
}

fn letter(said: &str) {
    for part in ["Subject: hello", "the first letter", "by imap with LMTP"] {
        assert!(said.contains(part), "no {part:?} in {said:?}");
    }
}

/// The processes that run.
fn started(w: &World) -> BTreeSet<String> {
    let listed = w.pocker(&["ps", "--json"]).ok().out;
    let runs: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let runs = runs.as_array().expect("a list");
    runs.iter().map(|run| run["pid"].to_string()).collect()
}
