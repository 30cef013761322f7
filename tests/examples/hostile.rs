//! The guest book with a dependency that turned bad.

use crate::support::{World, until};
use serde_json::{Map, Value};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

const MODULE: &str = include_str!("hostile.py");
const SECRET: &str = "the host's own\n";

/// A pocker of the guest book's, in which Flask brings the module along.
pub fn build(w: &World) {
    w.write("hostile/hostile.py", MODULE);
    let page = "import hostile\n@app.get('/found')\ndef found(): return hostile.FOUND\n";
    w.write("hostile/page.py", page);
    let lines = "FROM guestbook\nUSER root\n\
         COPY hostile.py /srv/app/venv/lib/python3.11/site-packages/\n\
         COPY page.py /srv/app/\n\
         EXEC cat /srv/app/page.py >> /srv/app/app.py\n\
         USER app\n\
         RUN exec venv/bin/waitress-serve --host=127.0.0.1 --port=8000 app:app\n";
    w.write("hostile/Pockerfile", lines);
    w.pocker(&["create", "hostile", "hostile"]).ok();
}

pub fn get_nowhere(w: &World) {
    let witness = w.write("witness", SECRET);
    let mut decoy = Decoy::new();
    let env = [
        format!("WITNESS={}", witness.display()),
        format!("DECOY={}", decoy.0.id()),
        format!("SOCKETS={}", w.path("s").display()),
    ];
    let env: Vec<&str> = env.iter().flat_map(|e| ["-e", e]).collect();

    // The module can do what it tries: in a bare chroot, as root.
    let plain = [
        &["run", "--unsafe-plain", "-u", "root"],
        &env[..],
        &["hostile", "--"],
    ]
    .concat();
    let program = [
        "venv/bin/python",
        "venv/lib/python3.11/site-packages/hostile.py",
    ];
    let bare = w.pocker(&[&plain[..], &program].concat()).ok();
    let done: Map<String, Value> = serde_json::from_str(bare.out.trim()).expect("JSON");
    let done: Vec<&String> = done
        .iter()
        .filter(|(_, v)| *v == "succeeded")
        .map(|(k, _)| k)
        .collect();
    assert!(
        done.len() >= 10,
        "in a bare chroot only {done:?} succeeded: {}",
        bare.out
    );

    // And as a pocker runs it, as its user and as root.
    for user in ["app", "root"] {
        let run = [
            &["run", "--detach", "--name", user, "-u", user],
            &env[..],
            &["hostile"],
        ]
        .concat();
        w.pocker(&run).ok();
        let mut page = String::new();
        until("the hostile application serves", || {
            page = fetch("/found").unwrap_or_default();
            !page.is_empty()
        });
        let found: Map<String, Value> = serde_json::from_str(&page).expect("JSON");
        assert!(found.len() > 30, "{page}");
        // To root its own tree belongs, which is new at each start.
        let own = [
            "its own program",
            "its dependencies",
            "the list of users",
            "the last user's mistakes",
            "become root",
        ];
        for (name, outcome) in &found {
            let refused = outcome
                .as_str()
                .is_some_and(|text| text.starts_with("refused"));
            let allowed = user == "root" && own.contains(&name.as_str());
            assert!(refused || allowed, "{user}: {name} {outcome}");
        }
        // Others are served meanwhile.
        w.pocker(&["run", "imap", "--", "true"]).ok();
        w.pocker(&["stop", user]).ok();
    }
    assert_eq!(
        std::fs::read_to_string(&witness).expect("the witness"),
        SECRET
    );
    assert!(
        decoy.0.try_wait().expect("the decoy").is_none(),
        "the decoy is gone"
    );
}

/// A process of the host that does nothing.
struct Decoy(Child);

impl Decoy {
    fn new() -> Decoy {
        let mut command = Command::new("sleep");
        Decoy(
            command
                .arg("600")
                .stdin(Stdio::null())
                .spawn()
                .expect("sleep"),
        )
    }
}

impl Drop for Decoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fetch(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", 8000)).ok()?;
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(30)))
        .ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.0 200").then(|| body.to_owned())
}
