//! What a registry has is neither sent to it nor made again.

use crate::registry::Registry;
use crate::support::World;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Before a registry: counts what is sent to it.
struct Meter {
    address: String,
    /// All that was sent.
    sent: Arc<Mutex<Vec<u8>>>,
}

/// What one push sent.
#[derive(Debug, PartialEq)]
struct Sent {
    /// Blobs whose bytes were sent, and those that were asked for out of another repository.
    puts: usize,
    mounts: usize,
    large: bool,
}

impl Meter {
    /// Its threads end with the process.
    fn before(registry: &Registry) -> Meter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its number").to_string();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (to, heard) = (registry.address.clone(), sent.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&to) else {
                    continue;
                };
                let clone = |stream: &TcpStream| stream.try_clone().expect("another");
                let (from, into, heard) = (clone(&client), clone(&server), heard.clone());
                std::thread::spawn(move || {
                    pass(from, into, |bytes| {
                        heard.lock().expect("ours").extend_from_slice(bytes);
                    })
                });
                std::thread::spawn(move || pass(server, client, |_| {}));
            }
        });
        Meter { address, sent }
    }

    fn image(&self, rest: &str) -> String {
        format!("{}/team/{rest}", self.address)
    }

    /// Since it was asked last.
    fn sent(&self) -> Sent {
        let bytes = std::mem::take(&mut *self.sent.lock().expect("ours"));
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter(|line| line.ends_with(" HTTP/1.1"));
        let count = |method: &str, words: &str| {
            let has = |line: &&str| line.starts_with(method) && line.contains(words);
            lines.clone().filter(has).count()
        };
        Sent {
            puts: count("PUT ", "/blobs/uploads/"),
            mounts: count("POST ", "mount=sha256"),
            large: bytes.len() > 1 << 20,
        }
    }
}

fn pass(mut from: TcpStream, mut into: TcpStream, mut see: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        see(&buffer[..n]);
        if into.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = into.shutdown(std::net::Shutdown::Write);
}

fn sent(puts: usize, mounts: usize, large: bool) -> Sent {
    Sent {
        puts,
        mounts,
        large,
    }
}

/// The files of large blobs, which have no other bytes in the store.
fn large(w: &World) -> Vec<std::path::PathBuf> {
    let dirs = std::fs::read_dir(w.path("store/blobs")).expect("blobs");
    let files = dirs.flat_map(|dir| std::fs::read_dir(dir.expect("one").path()).expect("dir"));
    files.map(|file| file.expect("one").path()).collect()
}

#[test]
fn what_a_registry_has_is_neither_made_nor_sent() {
    let w = World::new();
    let noise = "EXEC head -c 3000000 /dev/urandom >/large\n";
    w.create("a", &format!("{noise}RUN true\n")).ok();
    let registry = Registry::with(&w, "", "");
    let meter = Meter::before(&registry);
    let push = |name: &str, to: &str| w.pocker(&["push", name, &meter.image(to)]).ok().out;
    let first = push("a", "app:v1");
    // The root, what was made of it, and the configuration.
    assert_eq!(meter.sent(), sent(3, 0, true));
    let digest = |out: &str| out.trim().rsplit('@').next().map(str::to_owned);

    // With all large files away no layer could be made.
    let away = w.path("away");
    let large = large(&w);
    assert!(!large.is_empty());
    w.pocker(&["serve", "--stop"]).ok();
    std::fs::create_dir(&away).expect("mkdir");
    let moved = |back: bool| {
        for path in &large {
            let other = away.join(path.file_name().expect("a name"));
            let (from, to) = if back { (&other, path) } else { (path, &other) };
            std::fs::rename(from, to).expect("moved");
        }
    };
    moved(false);
    let args = ["export", "a", "--format", "oci", "-o", "x.tar"];
    assert_ne!(w.pocker(&args).status, 0);
    for tag in ["app:v1", "app:v2"] {
        assert_eq!(digest(&push("a", tag)), digest(&first));
        assert_eq!(meter.sent(), sent(0, 0, false), "{tag}");
    }
    // Another repository of the same registry is given them.
    assert_eq!(digest(&push("a", "other:v1")), digest(&first));
    assert_eq!(meter.sent(), sent(1, 2, false));
    moved(true);

    // A step more: its layer and a configuration.
    let more = noise.replace("large", "more");
    w.create("b", &format!("{noise}{more}RUN true\n")).ok();
    push("b", "app:v3");
    assert_eq!(meter.sent(), sent(2, 0, true));
    w.pocker(&["pull", &meter.image("other:v1"), "back"]).ok();
    for (name, tar) in [("a", "a.tar"), ("back", "back.tar")] {
        w.pocker(&["export", name, "-o", tar]).ok();
    }
    let read = |name: &str| std::fs::read(w.path(name)).expect("a tar");
    assert!(read("a.tar") == read("back.tar"), "another tree");

    // A registry that has lost all of it gets all of it, whatever is noted.
    drop(registry);
    std::fs::remove_dir_all(w.path("registry")).expect("removed");
    let registry = Registry::with(&w, "", "");
    let meter = Meter::before(&registry);
    let push = |name: &str, to: &str| w.pocker(&["push", name, &meter.image(to)]).ok().out;
    assert_eq!(digest(&push("a", "app:v1")), digest(&first));
    assert_eq!(meter.sent(), sent(3, 0, true));

    // What is noted of trees goes with them.
    w.pocker(&["rm", "b"]).ok();
    w.pocker(&["gc"]).ok();
    w.pocker(&["fsck"]).ok();
    push("a", "app:v2");
    assert_eq!(meter.sent(), sent(0, 0, false));
}
