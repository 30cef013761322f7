//! Registries that say too much, in a process of the test's own.

use super::{Name, Options, Registry, RegistryError};
use crate::image::check;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most that a registry here says, where nobody stops it.
const FLOOD: usize = 64 << 20;

/// Its head and how it goes on, by method and path.
type Answers = fn(&str, &str) -> (String, Vec<u8>, bool);

struct Hostile {
    name: Name,
    sent: Arc<AtomicU64>,
}

impl Hostile {
    /// Its thread ends with the process.
    fn start(answers: Answers) -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its number");
        let sent = Arc::new(AtomicU64::new(0));
        let counted = sent.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = counted.clone();
                std::thread::spawn(move || answer(stream, answers, &counted));
            }
        });
        let name = Name::parse(&format!("{address}/team/app:v1")).expect("an image");
        Hostile { name, sent }
    }

    fn open(&self) -> Registry {
        Registry::open(&self.name, &Options::default()).expect("opened")
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn answer(mut stream: TcpStream, answers: Answers, sent: &AtomicU64) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let mut words = text.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (head, body, flood) = answers(method, path);
    let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
    if stream.write_all(head.as_bytes()).is_err() || stream.write_all(&body).is_err() {
        return;
    }
    while flood && sent.load(Ordering::Relaxed) < FLOOD as u64 {
        let more = vec![b' '; 64 << 10];
        if stream.write_all(&more).is_err() {
            return;
        }
        sent.fetch_add(more.len() as u64, Ordering::Relaxed);
    }
}

fn said(error: RegistryError) -> String {
    assert!(!error.hint.is_empty());
    error.message
}

fn plain(body: &str) -> (String, Vec<u8>, bool) {
    let head = format!("200 OK\r\nContent-Length: {}", body.len());
    (head, body.as_bytes().to_vec(), false)
}

/// What a socket and the client hold between them beside what is taken.
const ON_THE_WAY: u64 = 16 << 20;

#[test]
fn json_without_end_is_not_read() {
    let digest = check::of(b"");
    // By what it says of its length, and by what comes.
    let long: Answers = |_, _| ("200 OK\r\nContent-Length: 99000000000".into(), vec![], true);
    let endless: Answers = |method, _| ("200 OK".into(), vec![], method != "HEAD");
    for answers in [long, endless] {
        let hostile = Hostile::start(answers);
        let error = hostile.open().image(&digest).err().expect("too long");
        let message = said(error);
        assert!(
            message.contains("gave more than 4194304 bytes"),
            "{message}"
        );
        assert!(hostile.sent() < ON_THE_WAY, "{} were read", hostile.sent());
    }
    let hostile = Hostile::start(endless);
    let message = said(hostile.open().resolve().expect_err("too long"));
    assert!(
        message.contains("gave more than 4194304 bytes"),
        "{message}"
    );
}

#[test]
fn a_refusal_without_end_is_not_read() {
    for (answers, words) in [
        (
            (|_, _| ("500 No".into(), vec![], true)) as Answers,
            "failed (HTTP 500)",
        ),
        (|_, _| ("404 No".into(), vec![], true), "has no"),
        (|_, _| ("403 No".into(), vec![], true), "wants a password"),
    ] {
        let hostile = Hostile::start(answers);
        let message = said(
            hostile
                .open()
                .image(&check::of(b""))
                .err()
                .expect("refused"),
        );
        assert!(message.contains(words), "{message}");
        assert!(hostile.sent() < ON_THE_WAY, "{} were read", hostile.sent());
    }
}

#[test]
fn a_manifest_of_another_digest_is_refused_and_a_tag_may_have_none() {
    let hostile = Hostile::start(|_, _| plain("{}"));
    let digest = hostile.open().resolve().expect("its own");
    assert_eq!(digest, check::of(b"{}"));
    let other = check::of(b"{ }");
    let message = said(hostile.open().image(&other).err().expect("another"));
    assert!(
        message.contains(&digest) && message.contains(&other),
        "{message}"
    );
    let odd = Hostile::start(|_, _| {
        (
            "200 OK\r\nDocker-Content-Digest: ../x".into(),
            vec![],
            false,
        )
    });
    let message = said(odd.open().resolve().expect_err("no digest"));
    assert!(message.contains("../x"), "{message}");
}

/// A token is asked for where one is wanted, and anew where it has expired.
#[test]
fn tokens_are_got_and_got_again() {
    fn answers(_: &str, path: &str) -> (String, Vec<u8>, bool) {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        static TOKENS: AtomicU64 = AtomicU64::new(0);
        if path.starts_with("/token") {
            let n = TOKENS.fetch_add(1, Ordering::SeqCst);
            return plain(&format!("{{\"token\": \"t{n}\"}}"));
        }
        if path == "/v2/" {
            return challenge();
        }
        // Each token is good for one answer.
        match ASKED.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => challenge(),
            _ => plain("{}"),
        }
    }
    fn challenge() -> (String, Vec<u8>, bool) {
        let address = ADDRESS.get().expect("it listens");
        let head = format!(
            "401 No\r\nWWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"x\"\r\nContent-Length: 0"
        );
        (head, vec![], false)
    }
    static ADDRESS: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let hostile = Hostile::start(answers);
    let host = hostile.name.host().to_owned();
    ADDRESS.set(host).expect("once");
    let registry = hostile.open();
    for _ in 0..3 {
        assert_eq!(registry.resolve().expect("got"), check::of(b"{}"));
    }
}
