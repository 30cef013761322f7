//! Who has TLS and sends on to where there is none is not followed: whoever is in between would say what the
//! image or object is.

mod support;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use support::{Done, World, wait};

/// A certificate for this host's loopback, signed by an authority whose own is in `ca.pem`.
fn certified(w: &World) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("a key");
    w.write("ca.pem", &params.self_signed(&key).expect("signed").pem());
    let authority = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &authority).expect("signed");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    Arc::new(config.expect("a configuration"))
}

/// What is sent to, from there on, is not there.
const ELSEWHERE: &str = "/elsewhere";

/// Two servers: one with TLS, which sends to `sends` whatever it is asked, and one without.
struct Servers {
    address: String,
    bare: String,
    sends: Arc<Mutex<String>>,
    /// How often the one without was asked.
    heard: Arc<AtomicUsize>,
}

/// The first line of a request.
fn asked(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    head.split(' ').nth(1).unwrap_or("").to_owned()
}

fn bound() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its number").to_string();
    (listener, address)
}

const ABSENT: &[u8] = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl Servers {
    /// Their threads end with the process.
    fn start(w: &World) -> Servers {
        let config = certified(w);
        let (with, address) = bound();
        let (without, bare) = bound();
        let sends = Arc::new(Mutex::new(String::new()));
        let heard = Arc::new(AtomicUsize::new(0));
        let (to, counted) = (sends.clone(), heard.clone());
        std::thread::spawn(move || {
            for stream in with.incoming().flatten() {
                let connection = ServerConnection::new(config.clone()).expect("a connection");
                let mut stream = StreamOwned::new(connection, stream);
                let path = asked(&mut stream);
                let answer = match path.starts_with(ELSEWHERE) {
                    true => ABSENT.to_vec(),
                    false => format!(
                        "HTTP/1.1 307 There\r\nLocation: {}{ELSEWHERE}{path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                        to.lock().expect("set")
                    )
                    .into_bytes(),
                };
                let _ = stream.write_all(&answer);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        std::thread::spawn(move || {
            for mut stream in without.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                asked(&mut stream);
                let _ = stream.write_all(ABSENT);
            }
        });
        Servers {
            address,
            bare,
            sends,
            heard,
        }
    }

    fn send_to(&self, scheme: &str) {
        let address = match scheme {
            "https" => &self.address,
            _ => &self.bare,
        };
        *self.sends.lock().expect("set") = format!("{scheme}://{address}");
    }

    fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

fn with(w: &World, env: &[(&str, &str)], args: &[&str]) -> Done {
    let mut command = w.command(args);
    command.envs(env.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn().expect("pocker starts"))
}

#[test]
fn a_registry_that_sends_to_where_there_is_no_tls_is_not_followed() {
    let w = World::new();
    w.create("a", "RUN true\n").ok();
    let servers = Servers::start(&w);
    let image = format!("{}/team/app:v1", servers.address);
    let pinned = format!("{}/team/app@sha256:{}", servers.address, "0".repeat(64));
    w.write("P", &format!("FROM {image}\nRUN true\n"));
    let ca = w.path("ca.pem").display().to_string();
    let each: [&[&str]; 4] = [
        &["pull", &image, "b"],
        &["pull", &pinned, "b"],
        &["push", "a", &image],
        &["create", "-f", "P", "b"],
    ];
    let run = |args: &[&str]| with(&w, &[("POCKER_CA", &ca)], args);
    // From one place with TLS to another it is followed.
    servers.send_to("https");
    run(each[0]).fails(&["has no", "hint: "]);
    servers.send_to("http");
    for args in each {
        let said = run(args)
            .fails(&["sends to where there is none", "hint: "])
            .err;
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
        assert_eq!(servers.heard(), 0, "{args:?}");
    }
}

#[test]
fn an_object_store_that_sends_to_where_there_is_no_tls_is_not_followed() {
    let w = World::new();
    w.create("a", "RUN true\n").ok();
    let servers = Servers::start(&w);
    let endpoint = format!("https://{}", servers.address);
    let ca = w.path("ca.pem").display().to_string();
    let env = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "hush"),
        ("AWS_REGION", "here"),
        ("AWS_ENDPOINT", &endpoint),
        ("SSL_CERT_FILE", &ca),
    ];
    let each: [&[&str]; 2] = [
        &["sync", "s3://bucket/x", "local", "b"],
        &["sync", "local", "s3://bucket/x", "a"],
    ];
    servers.send_to("https");
    let followed = with(&w, &env, each[0]).fails(&["hint: "]).err;
    servers.send_to("http");
    for args in each {
        let said = with(&w, &env, args).fails(&["hint: "]).err;
        assert_ne!(said, followed);
        assert_eq!(servers.heard(), 0, "{args:?}");
    }
}
