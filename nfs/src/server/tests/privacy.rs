//! What goes before TLS and around it. In its place is a veil that a capture would see through at
//! once; as TLS does it keeps what it was given until it is flushed.

use super::super::connection::{Ended, converse};
use super::super::privacy::Privacy;
use super::*;
use crate::client::{Health, HostConnect, StartTls};
use crate::rpc::{is_starttls, put_probe};
use crate::secure::{Secure, Securing, refused};
use std::pin::Pin;
use std::task::{Context, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const KEPT: usize = 64 << 10;
/// What each side says first, once both have agreed to it.
const HANDSHAKE: [u8; 4] = *b"veil";

struct Veiled {
    inner: TcpStream,
    kept: Vec<u8>,
}

impl AsyncRead for Veiled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        buf.filled_mut()[before..]
            .iter_mut()
            .for_each(|b| *b ^= 0x55);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Veiled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.kept.len() >= KEPT {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let n = buf.len().min(KEPT);
        self.kept.extend(buf[..n].iter().map(|b| b ^ 0x55));
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Veiled { inner, kept } = self.get_mut();
        while !kept.is_empty() {
            let sent = ready!(Pin::new(&mut *inner).poll_write(cx, kept))?;
            kept.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

struct Veil;

impl Secure for Veil {
    fn secure(&self, mut stream: TcpStream) -> Securing<'_> {
        Box::pin(async move {
            stream.write_all(&HANDSHAKE).await?;
            let mut theirs = [0; 4];
            stream.read_exact(&mut theirs).await?;
            if theirs != HANDSHAKE {
                return Err(refused("what the other side says is no veil"));
            }
            let (inner, kept) = (stream, Vec::new());
            Ok(Box::new(Veiled { inner, kept }) as Box<dyn Stream>)
        })
    }
}

fn tls(required: bool) -> Option<Tls> {
    Some(Tls {
        by: Arc::new(Veil),
        required,
        not_from_here: false,
    })
}

fn record(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let start = start_record(&mut out);
    put(&mut out);
    finish_record(&mut out, start);
    out
}

fn probe(program: u32, version: u32) -> Vec<u8> {
    record(|out| put_probe(out, 9, program, version))
}

fn null(xid: u32, program: u32, version: u32, procedure: u32) -> Vec<u8> {
    record(|out| put_call(out, xid, program, version, procedure, &creds()))
}

type Conversed = tokio::task::JoinHandle<io::Result<Ended<DuplexStream>>>;

fn begin(privacy: Privacy) -> (DuplexStream, Conversed) {
    let service = Service::new(Arc::new(Stand::default())).with(privacy);
    let (near, far) = tokio::io::duplex(1 << 16);
    let served = tokio::spawn(async move {
        let (_keep, stop) = watch::channel(false);
        converse(service, far, Peer::Memory, stop).await
    });
    (near, served)
}

/// What a reply's header says: whether it starts TLS, and what it is denied with, if it is.
fn said(reply: &[u8]) -> (bool, Option<u32>) {
    let word = |at: usize| u32::from_be_bytes(*reply[4 * at..].first_chunk().expect("a word"));
    let denied = (word(2) == 1).then(|| word(4));
    (is_starttls(reply, word(0)) == Ok(true), denied)
}

const NFS: (u32, u32) = (NFS_PROGRAM, NFS_V3);

#[tokio::test]
async fn the_first_call_of_a_connection_may_start_tls_and_nothing_follows_it() {
    for privacy in [Privacy::Offered, Privacy::Required] {
        for (program, version) in [NFS, (MOUNT_PROGRAM, MOUNT_V3)] {
            let (mut near, served) = begin(privacy);
            near.write_all(&probe(program, version))
                .await
                .expect("sent");
            assert_eq!(said(&reply(&mut near).await), (true, None));
            let Ok(Ended::StartTls(mut far)) = served.await.expect("no panic") else {
                panic!("its end is not for TLS");
            };
            // What comes now is the handshake's, to the byte.
            near.write_all(b"hello").await.expect("sent");
            let mut seen = [0; 5];
            far.read_exact(&mut seen).await.expect("read");
            assert_eq!(&seen, b"hello");
        }
    }
}

#[tokio::test]
async fn what_comes_before_the_handshake_ends_the_connection_unanswered() {
    for tail in [&null(2, NFS.0, NFS.1, 0)[..], &[22, 3], &[0x80]] {
        let (mut near, served) = begin(Privacy::Offered);
        let both = [&probe(NFS.0, NFS.1)[..], tail].concat();
        near.write_all(&both).await.expect("sent");
        let ended = served.await.expect("no panic").err().expect("an error");
        assert_eq!(ended.kind(), io::ErrorKind::InvalidData, "{ended}");
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.expect("the end");
        assert!(rest.is_empty(), "{rest:?}");
    }
}

#[tokio::test]
async fn tls_is_started_by_null_first_and_once() {
    const BAD: (bool, Option<u32>) = (false, Some(1));
    let with_tls = |procedure| {
        let mut call = probe(NFS.0, NFS.1);
        call[4 + 20..4 + 24].copy_from_slice(&u32::to_be_bytes(procedure));
        call
    };
    let ask = async |privacy, calls: &[Vec<u8>]| {
        let (mut near, _served) = begin(privacy);
        let mut last = Vec::new();
        for call in calls {
            near.write_all(call).await.expect("sent");
            last = reply(&mut near).await;
        }
        last
    };
    let first = probe(NFS.0, NFS.1);
    // Unknown, as the flavor of any other kind is; within TLS; in another call; later.
    let unknown = ask(Privacy::None, std::slice::from_ref(&first)).await;
    assert_eq!(said(&unknown), (false, Some(2)));
    assert_eq!(
        said(&ask(Privacy::Begun, std::slice::from_ref(&first)).await),
        BAD
    );
    assert_eq!(said(&ask(Privacy::Offered, &[with_tls(1)]).await), BAD);
    let before = null(1, NFS.0, NFS.1, 0);
    assert_eq!(
        said(&ask(Privacy::Offered, &[before, first.clone()]).await),
        BAD
    );
    // On a thread, too, something was said before.
    let read = read_call(1, 5000);
    assert_eq!(said(&ask(Privacy::Offered, &[read, first]).await), BAD);
    let nobodys = ask(Privacy::Offered, &[probe(99, 1)]).await;
    assert_eq!(said(&nobodys), (false, None));
    assert_eq!(nobodys[20..24], [0, 0, 0, 1], "PROG_UNAVAIL");
}

#[tokio::test]
async fn where_tls_is_required_nothing_but_null_is_answered_without_it() {
    let (mut near, _served) = begin(Privacy::Required);
    let calls = [
        (null(1, NFS.0, NFS.1, 0), None),
        (null(2, MOUNT_PROGRAM, MOUNT_V3, 0), None),
        (null(3, NFS.0, NFS.1, 1), Some(5)),
        (null(4, MOUNT_PROGRAM, MOUNT_V3, 1), Some(5)),
        (null(5, POCKER_PROGRAM, POCKER_V1, 1), Some(5)),
        (read_call(6, 10), Some(5)),
    ];
    for (call, denied) in calls {
        near.write_all(&call).await.expect("sent");
        assert_eq!(said(&reply(&mut near).await), (false, denied));
    }
    // And by UDP, where there is none to be had.
    let server = Server::new(Arc::new(Stand::default()));
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let at = udp.local_addr().expect("an address");
    let options = Options {
        tls: tls(true),
        ..Options::default()
    };
    server.listen_udp(udp, options);
    let own = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let calls = [
        (null(1, MOUNT_PROGRAM, MOUNT_V3, 0), (false, None)),
        (null(2, MOUNT_PROGRAM, MOUNT_V3, 5), (false, Some(5))),
        (probe(MOUNT_PROGRAM, MOUNT_V3), (false, Some(1))),
    ];
    for (call, expected) in calls {
        own.send_to(&call[4..], at).await.expect("sent");
        let mut answer = [0; 512];
        let len = own.recv(&mut answer).await.expect("an answer");
        assert_eq!(said(&answer[..len]), expected);
    }
}

/// A listener, its port, and what it counts.
async fn listening(port: u16, tls: Option<Tls>) -> (Server, u16, Arc<Stand>) {
    let stand = Arc::new(Stand::default());
    let server = Server::new(stand.clone());
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("set");
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    socket.bind(at).expect("bound");
    let listener: TcpListener = socket.listen(64).expect("listening");
    let port = listener.local_addr().expect("an address").port();
    let options = Options {
        tls,
        ..Options::default()
    };
    server.listen_tcp(listener, options);
    (server, port, stand)
}

fn client(port: u16, tls: Option<bool>) -> Client {
    let connect = HostConnect {
        host: "127.0.0.1".into(),
        port,
        tls: tls.map(|required| StartTls::new(Arc::new(Veil), required)),
    };
    Client::new(Arc::new(connect), [1; 16], ClientLimits::default())
}

async fn why_away(client: &Client) -> String {
    let mut health = client.health();
    let why = |health: &Health| match health {
        Health::Away { refused, .. } => refused.clone(),
        Health::Connected => None,
    };
    let told = health.wait_for(|health| why(health).is_some()).await;
    why(&told.expect("told")).expect("why")
}

#[tokio::test]
async fn calls_and_large_replies_go_behind_the_veil_both_ways() {
    let (server, port, _) = listening(0, tls(true)).await;
    let private = client(port, Some(true));
    let reads = (1..=64).map(|n| {
        let private = private.clone();
        tokio::spawn(async move { private.read(&creds(), &fh(), 0, n * 16_000).await })
    });
    for (n, read) in (1..).zip(reads.collect::<Vec<_>>()) {
        let reply = read.await.expect("no panic").expect("data");
        assert_eq!(reply.data.len(), n * 16_000);
        assert!(reply.data.iter().all(|b| *b == 7));
    }
    let (data, who, file) = (vec![3; 1 << 20], creds(), fh());
    let written = private.write(&who, &file, 0, &data, Stable::FileSync);
    written.await.expect("written");
    // Who does not start it is told so, and no more.
    let plain = client(port, None);
    let e = plain
        .read(&creds(), &fh(), 0, 10)
        .await
        .expect_err("refused");
    assert!(
        matches!(e, ClientError::Rpc(why) if why.contains("TLS")),
        "{e}"
    );
    server.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_server_that_stops_to_offer_tls_is_not_spoken_to_without() {
    let (server, port, _) = listening(0, None).await;
    // Where nobody has said that it has to be, a server without it will do.
    let may = client(port, Some(false));
    may.read(&creds(), &fh(), 0, 10).await.expect("data");
    let must = client(port, Some(true));
    assert!(why_away(&must).await.contains("no TLS"));
    server.shutdown(Duration::from_secs(5)).await;
    let (server, _, _) = listening(port, tls(false)).await;
    for client in [&may, &must] {
        client.read(&creds(), &fh(), 0, 10).await.expect("data");
    }
    server.shutdown(Duration::from_secs(5)).await;
    let (server, _, stand) = listening(port, None).await;
    for client in [&may, &must] {
        assert!(why_away(client).await.contains("no TLS"));
    }
    assert_eq!(stand.0.load(Ordering::SeqCst), 0, "something was asked");
    server.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_handshake_that_fails_or_never_ends_costs_one_connection() {
    let (server, port, _) = listening(0, tls(false)).await;
    let begun = async |first: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connected");
        stream.write_all(&probe(NFS.0, NFS.1)).await.expect("sent");
        let mut answer = Vec::new();
        let whole = read_record(&mut stream, &mut answer, RECORD_MAX).await;
        assert!(whole.expect("a reply") && said(&answer).0);
        stream.write_all(first).await.expect("sent");
        stream
    };
    let mut bad = begun(&null(1, NFS.0, NFS.1, 0)).await;
    let mut rest = Vec::new();
    let _ = bad.read_to_end(&mut rest).await;
    assert!(rest.len() <= HANDSHAKE.len(), "{rest:?}");
    let silent = begun(b"").await;
    let other = client(port, Some(true));
    other.read(&creds(), &fh(), 0, 10).await.expect("data");
    // It does not keep the server from leaving either.
    let service = server.service.clone();
    server.shutdown(Duration::from_secs(5)).await;
    assert_eq!(service.connections(), 0);
    drop(silent);
}

#[test]
fn what_comes_from_this_host_itself_needs_no_tls_where_so_told() {
    let options = |not_from_here| Options {
        tls: tls(true).map(|tls| Tls {
            not_from_here,
            ..tls
        }),
        ..Options::default()
    };
    let of = |not_from_here, from: &str| {
        let from = from.parse().expect("an address");
        Privacy::of(&options(not_from_here), from)
    };
    assert_eq!(of(true, "127.0.0.1"), Privacy::Offered);
    assert_eq!(of(true, "::ffff:127.0.0.1"), Privacy::Offered);
    assert_eq!(of(true, "192.0.2.1"), Privacy::Required);
    assert_eq!(of(false, "::1"), Privacy::Required);
}
