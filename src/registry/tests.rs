//! Registries that say too much, in a process of the test's own.

use super::{Name, Options, Registry, RegistryError};
use crate::control::api::RunConfig;
use crate::image::check;
use crate::image::write::{About, Made, Stager};
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Most that a registry here says, where nobody stops it.
const FLOOD: usize = 64 << 20;

/// Its head and how it goes on, by method and path.
type Answers = fn(&str, &str) -> (String, Vec<u8>, bool);

/// How what is sent to a registry is taken.
#[derive(Clone, Copy, PartialEq)]
enum Takes {
    All,
    Slowly,
    Nothing,
}

struct Hostile {
    name: Name,
    sent: Arc<AtomicU64>,
    /// The heads of what it was asked.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Hostile {
    /// Its thread ends with the process.
    fn start(answers: Answers) -> Hostile {
        Hostile::taking(Takes::All, answers)
    }

    fn taking(takes: Takes, answers: Answers) -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its number");
        let sent = Arc::new(AtomicU64::new(0));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (counted, hears) = (sent.clone(), heard.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counted, hears) = (counted.clone(), hears.clone());
                std::thread::spawn(move || answer(stream, takes, answers, &counted, &hears));
            }
        });
        let name = Name::parse(&format!("{address}/team/app:v1")).expect("an image");
        Hostile { name, sent, heard }
    }

    /// How often a request of this method was heard whose head has all of these words.
    fn heard(&self, method: &str, words: &[&str]) -> usize {
        let heard = self.heard.lock();
        let has = |head: &&String| {
            head.starts_with(method) && words.iter().all(|word| head.contains(word))
        };
        heard.iter().filter(has).count()
    }

    fn open(&self) -> Registry {
        Registry::open(&self.name, &Options::default()).expect("opened")
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// False where it was not to be read.
fn took_body(stream: &mut TcpStream, takes: Takes, head: &str) -> bool {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let mut left = length.unwrap_or(0);
    if takes == Takes::Nothing && left > (1 << 20) {
        return false;
    }
    let mut some = vec![0; 1 << 20];
    while left > 0 {
        let most = left.min(some.len());
        if stream.read_exact(&mut some[..most]).is_err() {
            return true;
        }
        left -= most;
        if takes == Takes::Slowly {
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    true
}

fn answer(
    mut stream: TcpStream,
    takes: Takes,
    answers: Answers,
    sent: &AtomicU64,
    heard: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    heard.lock().push(text.clone());
    if !took_body(&mut stream, takes, &text) {
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
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

/// An image with a layer of so many bytes, which do not become fewer.
fn made(bytes: usize) -> Made {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut stager = Stager::new(dir.path()).expect("staged");
    let mut noise = vec![0; bytes];
    getrandom::fill(&mut noise).expect("noise");
    stager.write_all(&noise).expect("written");
    let about = About {
        name: "app",
        tag: "v1",
        run: &RunConfig::default(),
        history: &[("FROM scratch", true)],
    };
    Made::new(vec![stager.finish().expect("staged")], &about).expect("made")
}

fn push(hostile: &Hostile, bytes: usize) -> Result<String, RegistryError> {
    push_within(hostile, bytes, 30)
}

fn push_within(hostile: &Hostile, bytes: usize, timeout: u64) -> Result<String, RegistryError> {
    let options = Options {
        timeout,
        ..Options::default()
    };
    let registry = Registry::open_to_push(&hostile.name, &options).expect("opened");
    registry.push(made(bytes))
}

/// The steps of a push, and one that takes all of them.
fn taken(method: &str, path: &str) -> (String, Vec<u8>, bool) {
    let head = match method {
        "HEAD" => "404 No\r\nContent-Length: 0",
        "POST" => "202 Yes\r\nLocation: ../uploads/x?y=1\r\nContent-Length: 0",
        "PUT" if path.contains("/manifests/") => "201 Yes\r\nContent-Length: 0",
        "PUT" if path.contains("/uploads/x?y=1&digest=sha256") => "201 Yes\r\nContent-Length: 0",
        _ => "400 No\r\nContent-Length: 0",
    };
    (head.to_owned(), vec![], false)
}

#[test]
fn answers_without_end_to_a_push_are_not_read() {
    assert!(push(&Hostile::start(taken), 1000).is_ok());
    let cases: [(Answers, bool); 5] = [
        (
            |method, path| match method {
                "POST" => ("500 No".into(), vec![], true),
                _ => taken(method, path),
            },
            false,
        ),
        (
            |method, path| match method {
                "POST" => (
                    "202 Yes\r\nLocation: /v2/uploads/x?y=1".into(),
                    vec![],
                    true,
                ),
                _ => taken(method, path),
            },
            true,
        ),
        (
            |method, path| match path.contains("/uploads/x") {
                true => ("400 No".into(), vec![], true),
                false => taken(method, path),
            },
            false,
        ),
        (
            |method, path| match method {
                "PUT" => ("201 Yes".into(), vec![], true),
                _ => taken(method, path),
            },
            true,
        ),
        (
            |method, path| match path.contains("/manifests/") {
                true => ("404 No".into(), vec![], true),
                false => taken(method, path),
            },
            false,
        ),
    ];
    for (at, (answers, goes)) in cases.into_iter().enumerate() {
        let hostile = Hostile::start(answers);
        let pushed = push(&hostile, 1000);
        assert_eq!(pushed.is_ok(), goes, "{at}: {pushed:?}");
        if let Err(e) = pushed {
            said(e);
        }
        assert!(hostile.sent() < ON_THE_WAY, "{at}: {}", hostile.sent());
    }
    let lost = Hostile::start(|method, path| match method {
        "POST" => ("202 Yes\r\nContent-Length: 0".into(), vec![], false),
        _ => taken(method, path),
    });
    let message = said(push(&lost, 1000).expect_err("no place"));
    assert!(message.contains("does not say where"), "{message}");
}

/// An upload has no end of its own: it may take as long as it goes on.
#[test]
fn an_upload_may_be_slow() {
    let slow = Hostile::taking(Takes::Slowly, taken);
    let pushed = push_within(&slow, 24 << 20, 10);
    assert!(pushed.is_ok(), "{pushed:?}");
}

#[test]
fn an_upload_may_not_stand_still() {
    let still = Hostile::taking(Takes::Nothing, taken);
    let message = said(push_within(&still, 24 << 20, 2).expect_err("it stands still"));
    assert!(message.contains("said nothing for 2 s"), "{message}");
}

/// Where tokens are had says too much, or sends for them to where anybody listens.
#[test]
fn a_token_without_end_is_not_read() {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    fn answers(_: &str, path: &str) -> (String, Vec<u8>, bool) {
        let address = ADDRESS.get().expect("it listens");
        match path.starts_with("/token") {
            true => ("200 OK".into(), b"{\"token\": \"x".to_vec(), true),
            false => (
                format!(
                    "401 No\r\nWWW-Authenticate: Bearer realm=\"http://{address}/token\"\r\nContent-Length: 0"
                ),
                vec![],
                false,
            ),
        }
    }
    let hostile = Hostile::start(answers);
    ADDRESS.set(hostile.name.host().to_owned()).expect("once");
    let message = said(hostile.open().resolve().expect_err("too long"));
    assert!(message.contains("gave more than 262144 bytes"), "{message}");
    let message = said(push(&hostile, 1000).expect_err("too long"));
    assert!(message.contains("gave more than 262144 bytes"), "{message}");
    assert!(hostile.sent() < ON_THE_WAY, "{} were read", hostile.sent());
}

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
    static ADDRESS: OnceLock<String> = OnceLock::new();
    let hostile = Hostile::start(answers);
    let host = hostile.name.host().to_owned();
    ADDRESS.set(host).expect("once");
    let registry = hostile.open();
    for _ in 0..3 {
        assert_eq!(registry.resolve().expect("got"), check::of(b"{}"));
    }
}

/// Whom a registry sends to may ask for what it likes: it gets no password, and nor does where it sends for
/// a token.
#[test]
fn whom_a_registry_sends_to_gets_no_password() {
    static OTHER: OnceLock<String> = OnceLock::new();
    let other = Hostile::start(|_, path| {
        let other = OTHER.get().expect("it listens");
        match path.starts_with("/token") {
            true => plain("{\"token\": \"t\"}"),
            false => (
                format!(
                    "401 No\r\nWWW-Authenticate: Bearer realm=\"http://{other}/token\"\r\nContent-Length: 0"
                ),
                vec![],
                false,
            ),
        }
    });
    OTHER.set(other.name.host().to_owned()).expect("once");
    let sends = Hostile::start(|_, path| {
        let other = OTHER.get().expect("it listens");
        let head = format!("307 There\r\nLocation: http://{other}{path}\r\nContent-Length: 0");
        (head, vec![], false)
    });
    let mut registry = sends.open();
    let getter = Arc::get_mut(&mut registry.getter).expect("nobody else's");
    getter.login = Some(("me".into(), "hush".into()));
    let message = said(registry.resolve().expect_err("not shown"));
    assert!(message.contains("wants a password"), "{message}");
    assert!(other.heard("HEAD", &["/manifests/"]) > 0);
    assert_eq!(other.heard("GET", &["/token"]), 0);
    assert_eq!(other.heard("", &["authorization"]), 0);
}

/// A token that expires while a blob goes out is got again, once, and the blob is sent again.
#[test]
fn a_blob_is_sent_again_with_a_new_token() {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    fn challenge() -> (String, Vec<u8>, bool) {
        let address = ADDRESS.get().expect("it listens");
        let head = format!(
            "401 No\r\nWWW-Authenticate: Bearer realm=\"http://{address}/token\"\r\nContent-Length: 0"
        );
        (head, vec![], false)
    }
    let hostile = Hostile::start(|method, path| {
        static TOKENS: AtomicU64 = AtomicU64::new(0);
        static PUTS: AtomicU64 = AtomicU64::new(0);
        if path.starts_with("/token") {
            let n = TOKENS.fetch_add(1, Ordering::SeqCst);
            return plain(&format!("{{\"token\": \"t{n}\"}}"));
        }
        match method {
            "PUT" if PUTS.fetch_add(1, Ordering::SeqCst) == 0 => challenge(),
            _ => taken(method, path),
        }
    });
    ADDRESS.set(hostile.name.host().to_owned()).expect("once");
    let pushed = push(&hostile, 1000);
    assert!(pushed.is_ok(), "{pushed:?}");
    assert_eq!(hostile.heard("GET", &["/token"]), 1);
    // The layer twice, the config once: each asked for its place.
    assert_eq!(hostile.heard("POST", &["/blobs/uploads/"]), 3);
    assert_eq!(hostile.heard("PUT", &["/uploads/x"]), 3);
    assert_eq!(hostile.heard("PUT", &["/uploads/x", "Bearer t0"]), 2);
    let never = Hostile::start(|method, path| match method {
        "PUT" => challenge(),
        _ if path.starts_with("/token") => plain("{\"token\": \"t\"}"),
        _ => taken(method, path),
    });
    let message = said(push(&never, 1000).expect_err("never taken"));
    assert!(message.contains("wants a password"), "{message}");
    assert_eq!(never.heard("PUT", &[]), 2, "once more, and no more");
}

/// What it says without an address is said of where it was said.
#[test]
fn an_upload_goes_to_where_its_place_was_named() {
    let hostile = Hostile::start(|method, path| match method {
        "POST" if !path.starts_with("/elsewhere/") => (
            "307 There\r\nLocation: /elsewhere/begin/\r\nContent-Length: 0".into(),
            vec![],
            false,
        ),
        _ => taken(method, path),
    });
    let pushed = push(&hostile, 1000);
    assert!(pushed.is_ok(), "{pushed:?}");
    assert_eq!(hostile.heard("PUT", &[" /elsewhere/uploads/x?"]), 2);
}

/// A layer is taken out of another repository of the same registry, where a token is good for both.
#[test]
fn a_layer_is_taken_from_where_it_is_or_not_there() {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    let digest = check::of(b"layer");
    let hostile = Hostile::start(|method, path| {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let address = ADDRESS.get().expect("it listens");
        let head = |text: &str| (format!("{text}\r\nContent-Length: 0"), vec![], false);
        match method {
            "GET" => plain("{\"token\": \"t\"}"),
            "HEAD" => head("404 No"),
            // The first one wants a token.
            "POST" if ASKED.fetch_add(1, Ordering::SeqCst) == 0 => head(&format!(
                "401 No\r\nWWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"x\""
            )),
            "POST" if path.contains("from=team%2Fhas") => head("201 Yes"),
            "POST" if path.contains("from=team%2Fodd") => head("403 No"),
            "POST" => head("202 Sent\r\nLocation: /uploads/x"),
            _ => head("204 Gone"),
        }
    });
    let host = hostile.name.host().to_owned();
    ADDRESS.set(host.clone()).expect("once");
    let registry = Registry::open_to_push(&hostile.name, &Options::default()).expect("opened");
    let has = |of: &[&str]| {
        let places: Vec<String> = of
            .iter()
            .map(|place| place.replace("HERE", &host))
            .collect();
        registry.has_layer(&digest, &places).expect("asked")
    };
    let posts = || hostile.heard("POST", &["mount=sha256"]);
    // Not where it goes, and not at another registry.
    assert!(!has(&["HERE/team/app", "other.example/team/has"]));
    assert_eq!(posts(), 0);
    assert!(has(&["HERE/team/odd", "HERE/team/has"]));
    // Once without a token, and then of each.
    assert_eq!(posts(), 3);
    let scopes = [
        "repository%3Ateam%2Fapp%3Apull%2Cpush",
        "repository%3Ateam%2Fodd%3Apull",
    ];
    assert_eq!(hostile.heard("GET", &scopes), 1);
    assert!(!has(&["HERE/a", "HERE/b", "HERE/c", "HERE/team/has"]));
    assert_eq!(posts(), 6, "no more than a few are asked");
    // An upload that was begun instead is called off.
    assert_eq!(hostile.heard("DELETE", &[" /uploads/x "]), 3);
}
