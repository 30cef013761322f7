//! The control API's connections: who has a place, and who loses it.

use super::super::tests::{World, lease, world};
use super::*;
use crate::control::hosts::{self, Role};
use std::sync::atomic::Ordering;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

const LONG: Duration = Duration::from_secs(60);

/// Connected from an address of this host.
async fn from(addr: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((addr, 0).into()).expect("bound");
    socket.connect(to).await.expect("connected")
}

/// What is said to who has no place: nothing. To a stranger who has one: TLS's alert.
async fn said(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let heard = tokio::time::timeout(LONG, stream.read_to_end(&mut said)).await;
    // A reset is an end too.
    let _ = heard.expect("it is closed");
    said
}

#[tokio::test]
async fn strangers_take_no_place_of_a_host() {
    let world = world();
    let dir = world.dir.path().join("tls");
    crate::tls::make(&dir, &["127.0.0.1".to_owned()]).expect("a certificate");
    let config = tls::server(&dir.join("server.pem"), &dir.join("server.key")).expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let to = listener.local_addr().expect("an address");
    let (_stop, stopped) = watch::channel(false);
    let router = super::super::http::router(world.d.clone());
    let allow = vec!["127.0.0.2/32".parse().expect("a net")];
    let places = || Crowd::new(2, 2);
    let serving = serve(
        listener,
        TlsAcceptor::from(config),
        allow,
        router,
        stopped,
        places,
    );
    let serving = tokio::spawn(serving);
    // Two stay, and are told; there is no place for a third.
    let mut strangers = Vec::new();
    for _ in 0..2 {
        let mut stranger = from([127, 0, 0, 1], to).await;
        let mut alert = [0; ACCESS_DENIED.len()];
        let told = tokio::time::timeout(LONG, stranger.read_exact(&mut alert)).await;
        told.expect("in time").expect("it is told");
        assert_eq!(alert, ACCESS_DENIED);
        strangers.push(stranger);
    }
    assert_eq!(said(&mut from([127, 0, 0, 3], to).await).await, b"");
    // A host that is allowed has its own: a handshake, and an answer.
    let client = tls::client(&dir.join("ca.pem")).expect("an authority");
    let name = || "127.0.0.1".try_into().expect("a name");
    let mut hosts = Vec::new();
    for _ in 0..2 {
        let stream = from([127, 0, 0, 2], to).await;
        let mut host = TlsConnector::from(client.clone())
            .connect(name(), stream)
            .await
            .expect("it is spoken to");
        let call = b"GET /v1/status HTTP/1.1\r\nhost: pocker\r\n\r\n";
        host.write_all(call).await.expect("written");
        let mut status = [0; 12];
        host.read_exact(&mut status).await.expect("answered");
        assert_eq!(&status, b"HTTP/1.1 400", "it has not said its version");
        hosts.push(host);
    }
    assert_eq!(
        said(&mut from([127, 0, 0, 2], to).await).await,
        b"",
        "two are the most"
    );
    serving.abort();
}

/// Asks for a tar of 16 MiB, over a line with room for little.
async fn download(world: &World, patience: Duration) -> tokio::io::DuplexStream {
    world.put("big", &vec![7; 16 << 20]);
    let big = world.d.known_pocker("big").expect("a pocker");
    let (mut ours, theirs) = tokio::io::duplex(4096);
    let router = super::super::http::router(world.d.clone());
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    let from = IpAddr::from([10, 9, 6, 1]);
    let watcher = graceful.watcher();
    let stream = patient(theirs, patience);
    tokio::spawn(speak(stream, from, router, watcher));
    let token = world.token(Role::Run);
    let lease = lease();
    let call = format!(
        "GET /v1/snapshots/{}/tar HTTP/1.1\r\nhost: pocker\r\nauthorization: Bearer {token}\r\n\
         {}: {}\r\n{}: {}\r\n{}: {}\r\n\r\n",
        big.steps[0].snapshot,
        hosts::VERSION,
        env!("CARGO_PKG_VERSION"),
        hosts::HOST,
        lease.host,
        hosts::LEASE,
        lease.id,
    );
    ours.write_all(call.as_bytes()).await.expect("written");
    let mut status = [0; 12];
    ours.read_exact(&mut status).await.expect("answered");
    assert_eq!(&status, b"HTTP/1.1 200");
    ours
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_no_thread() {
    let world = world();
    let mut ours = download(&world, Duration::from_secs(2)).await;
    assert_eq!(world.d.crowds.transfers.taken(), 1);
    let free = async {
        while world.d.calls.load(Ordering::Relaxed) > 0 || world.d.crowds.transfers.taken() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, free)
        .await
        .expect("it was given up");
    // What comes is no whole answer.
    let mut rest = Vec::new();
    let _ = ours.read_to_end(&mut rest).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_gets_all_of_it() {
    let world = world();
    // Less than it takes, and far more than a step of it.
    let mut ours = download(&world, Duration::from_secs(2)).await;
    let mut part = vec![0; 256 << 10];
    let mut whole = 0;
    let mut end = Vec::new();
    while !end.ends_with(b"0\r\n\r\n") {
        let got = ours.read(&mut part).await.expect("it goes on");
        assert!(got > 0, "it broke off");
        whole += got;
        end = [&end[end.len().saturating_sub(8)..], &part[..got]].concat();
        if whole % (64 << 10) < got {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert!(whole > 16 << 20);
}
