//! Handshakes of both sides, good and bad.

use super::super::{
    CA_CERT, REVOKED, SERVER_CERT, SERVER_KEY, client, make, make_host, revoke, server,
};
use super::*;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;

const HOST: &str = "store.test";

/// An authority, its server and a host of it.
struct Kit {
    dir: tempfile::TempDir,
}

impl Kit {
    fn new() -> Kit {
        let dir = tempfile::tempdir().expect("a directory");
        make(dir.path(), &[HOST.to_owned()]).expect("made");
        make_host(dir.path(), "a.test").expect("made");
        Kit { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn serves(&self, mutual: bool) -> Arc<dyn Secure> {
        let ca = self.file(CA_CERT);
        let (cert, key) = (self.file(SERVER_CERT), self.file(SERVER_KEY));
        rpc_server(RpcServer {
            cert: &cert,
            key: &key,
            ca: Some(&ca),
            revoked: &self.file(REVOKED),
            mutual,
        })
        .expect("a server's")
    }

    /// What a host of that name shows.
    fn host(&self, name: &str) -> Arc<dyn Secure> {
        let file = |what: &str| self.file(&format!("host-{name}.{what}"));
        let (cert, key) = (file("pem"), file("key"));
        rpc_client(HOST, &self.file(CA_CERT), Some((&cert, &key))).expect("a client's")
    }

    fn uses(&self, host: &str, shown: Option<&Kit>) -> Arc<dyn Secure> {
        let shown = shown.map(|kit| (kit.file("host-a.test.pem"), kit.file("host-a.test.key")));
        let shown = shown.as_ref().map(|(c, k)| (c.as_path(), k.as_path()));
        rpc_client(host, &self.file(CA_CERT), shown).expect("a client's")
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("an address");
    (listener, at)
}

/// A word there and another back; why not, as the client judges it.
async fn meet(server: Arc<dyn Secure>, client: Arc<dyn Secure>) -> Result<(), String> {
    let (listener, at) = listener().await;
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut stream = server.secure(stream).await?;
        let mut word = [0; 5];
        stream.read_exact(&mut word).await?;
        stream.write_all(&word).await?;
        stream.flush().await
    });
    let stream = TcpStream::connect(at).await.expect("connected");
    let met = async {
        let mut stream = client.secure(stream).await?;
        stream.write_all(b"hello").await?;
        stream.flush().await?;
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.map(|_| word)
    };
    let met = met.await;
    let served = serving.await.expect("no panic");
    match met {
        Ok(word) => {
            assert_eq!(&word, b"hello");
            served.map_err(|e| format!("the server's side: {e}"))
        }
        Err(e) => {
            assert!(served.is_err(), "only one side failed: {e}");
            let e = client.judge(e);
            assert_eq!(e.kind(), io::ErrorKind::PermissionDenied, "{e}");
            Err(e.to_string())
        }
    }
}

#[tokio::test]
async fn a_host_may_show_a_certificate_or_has_to() {
    let kit = Kit::new();
    for (mutual, shown) in [(false, None), (false, Some(&kit)), (true, Some(&kit))] {
        let met = meet(kit.serves(mutual), kit.uses(HOST, shown)).await;
        assert_eq!(met, Ok(()), "{mutual} {}", shown.is_some());
    }
    let why = meet(kit.serves(true), kit.uses(HOST, None)).await;
    let why = why.expect_err("it shows nothing");
    assert!(why.contains("wants a certificate"), "{why}");
}

#[tokio::test]
async fn who_has_a_certificate_of_another_authority_is_neither_server_nor_host() {
    let (kit, other) = (Kit::new(), Kit::new());
    let why = meet(other.serves(false), kit.uses(HOST, None)).await;
    let why = why.expect_err("another's server");
    assert!(why.contains("its certificate is not good"), "{why}");
    let why = meet(kit.serves(false), kit.uses("other.test", None)).await;
    let why = why.expect_err("another name");
    assert!(why.contains("its certificate is not good"), "{why}");
    // Also where none has to be shown.
    for mutual in [false, true] {
        let why = meet(kit.serves(mutual), kit.uses(HOST, Some(&other))).await;
        let why = why.expect_err("another's host");
        assert!(why.contains("does not take this host"), "{why}");
    }
    // A server's certificate is no host's, nor a host's a server's.
    let (cert, key) = (kit.file("host-a.test.pem"), kit.file("host-a.test.key"));
    let odd = RpcServer {
        cert: &cert,
        key: &key,
        ca: None,
        revoked: "/nowhere".as_ref(),
        mutual: false,
    };
    let odd = rpc_server(odd).expect("a server's");
    let as_host = rpc_client("a.test", &kit.file(CA_CERT), None).expect("a client's");
    let why = meet(odd, as_host).await.expect_err("a host's");
    assert!(why.contains("its certificate is not good"), "{why}");
    let own = (kit.file(SERVER_CERT), kit.file(SERVER_KEY));
    let own = Some((own.0.as_path(), own.1.as_path()));
    let odd = rpc_client(HOST, &kit.file(CA_CERT), own).expect("a client's");
    meet(kit.serves(true), odd).await.expect_err("a server's");
}

/// A connection of each, which says back what it hears until it ends.
async fn open(server: &Arc<dyn Secure>, client: Arc<dyn Secure>) -> Box<dyn Stream> {
    let (listener, at) = listener().await;
    let server = server.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut stream = server.secure(stream).await?;
        loop {
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
            stream.flush().await?;
        }
        #[allow(unreachable_code)]
        io::Result::Ok(())
    });
    let stream = TcpStream::connect(at).await.expect("connected");
    let mut stream = client.secure(stream).await.expect("secured");
    assert_eq!(says_back(&mut stream).await.ok(), Some(7));
    stream
}

async fn says_back(stream: &mut Box<dyn Stream>) -> io::Result<u8> {
    stream.write_u8(7).await?;
    stream.flush().await?;
    stream.read_u8().await
}

#[tokio::test]
async fn a_host_whose_certificate_is_revoked_is_out_and_others_are_not() {
    for mutual in [false, true] {
        let kit = Kit::new();
        make_host(kit.dir.path(), "b.test").expect("made");
        let server = kit.serves(mutual);
        let mut a = open(&server, kit.host("a.test")).await;
        let mut b = open(&server, kit.host("b.test")).await;
        revoke(kit.dir.path(), "a.test").expect("revoked");
        // A new one at once, and what is open soon, though it says nothing.
        let why = meet(server.clone(), kit.host("a.test")).await;
        let why = why.expect_err("it is revoked");
        assert!(
            why.contains("has revoked the certificate of this host"),
            "{why}"
        );
        a.read_u8().await.expect_err("it ends");
        assert_eq!(says_back(&mut b).await.ok(), Some(7));
        assert_eq!(meet(server.clone(), kit.host("b.test")).await, Ok(()));
        // Another of that name is good, until it is revoked too.
        make_host(kit.dir.path(), "a.test").expect("made");
        let mut a = open(&server, kit.host("a.test")).await;
        revoke(kit.dir.path(), "a.test").expect("revoked");
        a.read_u8().await.expect_err("it ends");
        assert_eq!(says_back(&mut b).await.ok(), Some(7));
        // A server that is started later knows it too.
        let host = kit.host("a.test");
        let why = meet(kit.serves(mutual), host.clone()).await;
        why.expect_err("it is revoked");
        // Who has it open takes the next one that is there, and nothing that is damaged.
        let cert = kit.file("host-a.test.pem");
        std::fs::write(&cert, "none").expect("written");
        meet(server.clone(), host.clone()).await.expect_err("still");
        make_host(kit.dir.path(), "a.test").expect("made");
        assert_eq!(meet(server.clone(), host).await, Ok(()));
    }
}

#[tokio::test]
async fn a_list_that_is_damaged_or_gone_lets_nobody_in() {
    let kit = Kit::new();
    make_host(kit.dir.path(), "b.test").expect("made");
    let server = kit.serves(true);
    revoke(kit.dir.path(), "a.test").expect("revoked");
    let both = async || {
        let a = meet(server.clone(), kit.host("a.test")).await.is_ok();
        (a, meet(server.clone(), kit.host("b.test")).await.is_ok())
    };
    assert_eq!(both().await, (false, true));
    let list = kit.file(REVOKED);
    let good = std::fs::read_to_string(&list).expect("read");
    let torn = &good[..good.len() / 2];
    let other = std::fs::read_to_string(kit.file(CA_CERT)).expect("read");
    let odd = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    for text in ["", torn, &other, odd] {
        std::fs::write(&list, text).expect("written");
        assert_eq!(both().await, (false, true), "{text}");
        let (ca, cert) = (kit.file(CA_CERT), kit.file(SERVER_CERT));
        let e = rpc_server(RpcServer {
            cert: &cert,
            key: &kit.file(SERVER_KEY),
            ca: Some(&ca),
            revoked: &list,
            mutual: false,
        });
        let e = e.err().expect("no server starts with it");
        assert!(matches!(e, TlsError::List { .. }) && e.hint().is_some());
    }
    std::fs::remove_file(&list).expect("removed");
    assert_eq!(both().await, (false, true));
    std::fs::write(&list, good).expect("written");
    assert_eq!(both().await, (false, true));
}

#[tokio::test]
async fn a_server_says_that_it_is_rpc_and_a_client_that_says_something_says_that() {
    let kit = Kit::new();
    // The control API's: the same certificate, and no RPC.
    let config = server(&kit.file(SERVER_CERT), &kit.file(SERVER_KEY)).expect("a server's");
    let (listener, at) = listener().await;
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        TlsAcceptor::from(config).accept(stream).await.map(drop)
    });
    let stream = TcpStream::connect(at).await.expect("connected");
    let e = kit.uses(HOST, None).secure(stream).await.err();
    let e = e.expect("refused").to_string();
    assert!(e.contains("does not say that it is RPC"), "{e}");
    serving.await.expect("no panic").expect("a handshake");
    // Clients that say nothing, and something else.
    let config = client(&kit.file(CA_CERT)).expect("a client's");
    for (says, taken) in [(vec![], true), (vec![b"http/1.1".to_vec()], false)] {
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols = says;
        let odd = TlsConnector::from(Arc::new(config));
        let name: ServerName<'static> = HOST.try_into().expect("a name");
        let (serves, (listener, at)) = (kit.serves(false), self::listener().await);
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            serves.secure(stream).await.map(drop)
        });
        let stream = TcpStream::connect(at).await.expect("connected");
        let connected = odd.connect(name, stream).await;
        assert_eq!(connected.is_ok(), taken);
        drop(connected);
        assert_eq!(serving.await.expect("no panic").is_ok(), taken);
    }
}

#[test]
fn what_cannot_be_served_is_said() {
    let kit = Kit::new();
    let (cert, key) = (kit.file(SERVER_CERT), kit.file(SERVER_KEY));
    let alone = RpcServer {
        cert: &cert,
        key: &key,
        ca: None,
        revoked: "/nowhere".as_ref(),
        mutual: true,
    };
    let e = rpc_server(alone).err().expect("refused");
    assert!(
        matches!(e, TlsError::NoAuthority(_)) && e.hint().is_some(),
        "{e}"
    );
    let empty = tempfile::tempdir().expect("a directory");
    let e = make_host(empty.path(), "a.test").err().expect("refused");
    assert!(matches!(e, TlsError::NoCa(_)) && e.hint().is_some(), "{e}");
    for name in ["../x", "a/b", "", "a b"] {
        let e = make_host(kit.dir.path(), name).err().expect(name);
        assert!(matches!(e, TlsError::Name(_)), "{name}: {e}");
    }
    use std::os::unix::fs::MetadataExt;
    let mode = std::fs::metadata(kit.file("host-a.test.key"))
        .expect("there")
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}
