//! MOUNT (RFC 1813 §5.2) over TCP and UDP, each call on both.

use super::tests::world;
use pocker_nfs::proto::*;
use pocker_nfs::server::{Options, Server};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

const MNT: u32 = 1;
const DUMP: u32 = 2;
const UMNT: u32 = 3;
const UMNTALL: u32 = 4;
const EXPORT: u32 = 5;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

fn opaque(bytes: &[u8]) -> Vec<u8> {
    let mut out = words(&[bytes.len() as u32]);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// The same server, by one way.
struct Asker {
    udp: bool,
    from: &'static str,
    tcp_at: SocketAddr,
    udp_at: SocketAddr,
}

impl Asker {
    /// The results of a call that was accepted; otherwise accept_stat.
    async fn program(&self, what: [u32; 3], args: &[u8]) -> Result<Vec<u8>, u32> {
        const XID: u32 = 77;
        let [program, version, procedure] = what;
        // AUTH_SYS of root, without a verifier.
        let mut call = words(&[XID, 0, 2, program, version, procedure]);
        call.extend(words(&[1, 20, 0, 0, 0, 0, 0, 0, 0]));
        call.extend_from_slice(args);
        let from = (self.from.to_owned() + ":0").parse().expect("an address");
        let reply = if self.udp {
            let socket = UdpSocket::bind(from).await.expect("bound");
            socket.send_to(&call, self.udp_at).await.expect("sent");
            let mut reply = vec![0; 10_000];
            let len = socket.recv(&mut reply).await.expect("a reply");
            reply.truncate(len);
            reply
        } else {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind(from).expect("bound");
            let mut stream = socket.connect(self.tcp_at).await.expect("connected");
            let mut record = words(&[call.len() as u32 | 1 << 31]);
            record.extend(call);
            stream.write_all(&record).await.expect("sent");
            let len = stream.read_u32().await.expect("a reply") & !(1 << 31);
            let mut reply = vec![0; len as usize];
            stream.read_exact(&mut reply).await.expect("all of it");
            reply
        };
        let head = |at: usize| {
            let word = reply[at * 4..at * 4 + 4].try_into();
            u32::from_be_bytes(word.expect("four bytes"))
        };
        // A reply, accepted, with an empty verifier.
        let expected = [XID, 1, 0, 0, 0];
        assert_eq!([head(0), head(1), head(2), head(3), head(4)], expected);
        match head(5) {
            0 => Ok(reply[24..].to_vec()),
            status => Err(status),
        }
    }

    async fn mount(&self, version: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
        let what = [MOUNT_PROGRAM, version, procedure];
        self.program(what, args).await.expect("accepted")
    }

    /// DUMP, in the version given.
    async fn dump(&self, version: u32) -> Vec<(String, String)> {
        let list = self.mount(version, DUMP, &[]).await;
        let mut rest = &list[..];
        let mut rows = Vec::new();
        while take_word(&mut rest) == 1 {
            rows.push((take_text(&mut rest), take_text(&mut rest)));
        }
        assert!(rest.is_empty());
        rows
    }
}

fn take_word(rest: &mut &[u8]) -> u32 {
    let (word, after) = rest.split_at(4);
    *rest = after;
    u32::from_be_bytes(word.try_into().expect("four bytes"))
}

fn take_text(rest: &mut &[u8]) -> String {
    let len = take_word(rest) as usize;
    let (text, after) = rest.split_at(len.next_multiple_of(4));
    *rest = after;
    String::from_utf8_lossy(&text[..len]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_procedure_of_mount_on_both_transports() {
    let w = world();
    let server = Server::new(w.exports.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let (tcp_at, udp_at) = (listener.local_addr(), socket.local_addr());
    let (tcp_at, udp_at) = (tcp_at.expect("an address"), udp_at.expect("an address"));
    server.listen_tcp(listener, Options::default());
    server.listen_udp(socket, Options::default());
    let asker = |udp, from| Asker {
        udp,
        from,
        tcp_at,
        udp_at,
    };
    let (tcp, udp) = (asker(false, "127.0.0.1"), asker(true, "127.0.0.1"));
    let other = asker(true, "127.0.0.2");
    let view = opaque(b"/chroot");
    let row = |from: &str| (from.to_owned(), "/chroot".to_owned());
    let rows = async || {
        let rows = tcp.dump(MOUNT_V3).await;
        // Everybody is told the same, in both versions.
        for way in [&tcp, &udp, &other] {
            assert_eq!(way.dump(MOUNT_V1).await, rows);
            assert_eq!(way.dump(MOUNT_V3).await, rows);
        }
        rows
    };
    assert_eq!(rows().await, []);
    for way in [&tcp, &udp, &other] {
        way.mount(MOUNT_V3, 0, &[]).await;
        // A handle and the flavours, of which AUTH_SYS is the only one.
        let made = way.mount(MOUNT_V3, MNT, &view).await;
        assert_eq!(made[..4], [0; 4]);
        assert_eq!(made[made.len() - 8..], [0, 0, 0, 1, 0, 0, 0, 1]);
        // mountstat3: no such export; and nothing is mounted by it.
        let missing = way.mount(MOUNT_V3, MNT, &opaque(b"/none")).await;
        assert_eq!(missing, [0, 0, 0, 2]);
        let v1 = [MOUNT_PROGRAM, MOUNT_V1, MNT];
        assert_eq!(way.program(v1, &view).await, Err(3), "PROC_UNAVAIL");
        // "/chroot", for everybody.
        let mut exports = words(&[1]);
        exports.extend_from_slice(&view);
        exports.extend(words(&[0, 0]));
        for version in [MOUNT_V1, MOUNT_V3] {
            assert_eq!(way.mount(version, EXPORT, &[]).await, exports);
        }
    }
    assert_eq!(rows().await, [row("127.0.0.1"), row("127.0.0.2")]);
    // One client mounted it by both ways: it is gone with the second.
    udp.mount(MOUNT_V1, UMNT, &view).await;
    assert_eq!(rows().await, [row("127.0.0.1"), row("127.0.0.2")]);
    tcp.mount(MOUNT_V3, UMNT, &view).await;
    assert_eq!(rows().await, [row("127.0.0.2")]);
    for (way, version) in [(&tcp, MOUNT_V1), (&udp, MOUNT_V3)] {
        tcp.mount(MOUNT_V3, MNT, &view).await;
        udp.mount(MOUNT_V3, MNT, &view).await;
        way.mount(version, UMNTALL, &[]).await;
        assert_eq!(rows().await, [row("127.0.0.2")], "another's stays");
    }
    other.mount(MOUNT_V3, UMNTALL, &[]).await;
    assert_eq!(rows().await, []);
    // NFS itself is on TCP only.
    let null = [NFS_PROGRAM, NFS_V3, 0];
    assert_eq!(udp.program(null, &[]).await, Err(1), "PROG_UNAVAIL");
    assert_eq!(tcp.program(null, &[]).await, Ok(Vec::new()));
}
