//! What OpenBSD says to a server, replayed as its sources give it: mount_nfs(8), the kernel's client (sys/nfs)
//! and umount(8), over sockets, through our own portmapper.

use super::tests::{snapshot, world};
use super::wire_tests::run;
use super::*;
use pocker_nfs::portmap::{TCP, UDP, mappings};
use pocker_nfs::server::{Options, Server};
use pocker_store::work::WorkClass;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
const PORTMAP: u32 = 100_000;
/// NFS_MAXPACKET less NFS_MAXDATA (sys/nfs/nfs.h): what a reply may have beside its data.
const HEADER_MAX: usize = 404;
const DATA_MAX: u32 = 64 << 10;

/// XDR, as far as these calls have it.
#[derive(Clone, Default)]
struct Xdr(Vec<u8>);

impl Xdr {
    fn words(mut self, words: &[u32]) -> Xdr {
        words.iter().for_each(|w| self.0.extend(w.to_be_bytes()));
        self
    }

    fn opaque(self, bytes: &[u8]) -> Xdr {
        let mut out = self.words(&[bytes.len() as u32]);
        out.0.extend(bytes);
        out.0.resize(out.0.len().next_multiple_of(4), 0);
        out
    }
}

/// A call as the kernel makes it: AUTH_UNIX, stamp 0, no machine name, one group; libc's portmap client has
/// AUTH_NONE.
fn call(xid: u32, (program, version, procedure): (u32, u32, u32), args: Xdr) -> Vec<u8> {
    let head = Xdr::default().words(&[xid, 0, 2, program, version, procedure]);
    let mut head = match program {
        PORTMAP => head.words(&[0, 0, 0, 0]),
        _ => head.words(&[1, 24, 0, 0, 0, 0, 1, 0, 0, 0]),
    };
    head.0.extend(args.0);
    head.0
}

/// Results of an accepted reply.
struct Results(Vec<u8>, usize);

impl Results {
    fn of(xid: u32, body: Vec<u8>) -> Results {
        let mut results = Results(body, 0);
        let head: Vec<u32> = (0..6).map(|_| results.word()).collect();
        assert_eq!(head, [xid, 1, 0, 0, 0, 0], "accepted");
        results
    }

    fn word(&mut self) -> u32 {
        let at = self.1;
        self.1 += 4;
        u32::from_be_bytes(self.0[at..at + 4].try_into().expect("a word"))
    }

    fn skip(&mut self, words: usize) {
        self.1 += 4 * words;
    }

    fn long(&mut self) -> u64 {
        u64::from(self.word()) << 32 | u64::from(self.word())
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.word() as usize;
        let at = self.1;
        self.1 += len.next_multiple_of(4);
        self.0[at..at + len].to_vec()
    }

    /// fattr3: its type and fileid.
    fn attr(&mut self) -> (u32, u64) {
        let kind = self.word();
        self.skip(12);
        let fileid = self.long();
        self.skip(6);
        (kind, fileid)
    }

    fn maybe_attr(&mut self) -> Option<(u32, u64)> {
        (self.word() == 1).then(|| self.attr())
    }

    fn wcc(&mut self) {
        if self.word() == 1 {
            self.skip(6);
        }
        self.maybe_attr();
    }

    /// post_op_fh3 and post_op_attr of what was made.
    fn made(&mut self) -> Vec<u8> {
        assert_eq!(self.word(), 1, "a handle");
        let fh = self.bytes();
        self.maybe_attr().expect("attributes");
        fh
    }
}

/// The kernel's connection: from a reserved port, and no reply in more than one fragment, as nfs_receive
/// puts none together.
struct Kernel(TcpStream, u32);

impl Kernel {
    async fn connect(at: SocketAddr, xid: u32) -> Kernel {
        for port in (600..1024).rev() {
            let socket = TcpSocket::new_v4().expect("a socket");
            if socket.bind((Ipv4Addr::LOCALHOST, port).into()).is_err() {
                continue;
            }
            if let Ok(stream) = socket.connect(at).await {
                return Kernel(stream, xid);
            }
        }
        panic!("no reserved port is free");
    }

    async fn send(&mut self, record: &[u8]) {
        let mark = record.len() as u32 | 1 << 31;
        let whole = [&mark.to_be_bytes()[..], record].concat();
        self.0.write_all(&whole).await.expect("sent");
    }

    async fn receive(&mut self) -> Vec<u8> {
        let mark = self.0.read_u32().await.expect("a reply");
        assert_ne!(mark & 1 << 31, 0, "a reply of several fragments");
        let len = (mark & !(1 << 31)) as usize;
        assert!(
            len <= HEADER_MAX + DATA_MAX as usize,
            "impossible packet length ({len})"
        );
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).await.expect("a whole reply");
        body
    }

    async fn ask(&mut self, program: u32, procedure: u32, args: Xdr) -> Results {
        self.1 += 1;
        let record = call(self.1, (program, 3, procedure), args);
        self.send(&record).await;
        let reply = self.receive().await;
        Results::of(self.1, reply)
    }

    /// An NFS call that succeeds.
    async fn nfs(&mut self, procedure: u32, args: Xdr) -> Results {
        let mut results = self.ask(NFS, procedure, args).await;
        assert_eq!(results.word(), 0, "status of procedure {procedure}");
        results
    }

    async fn lookup(&mut self, dir: &[u8], name: &[u8]) -> (Vec<u8>, (u32, u64)) {
        let mut found = self.nfs(3, fh(dir).opaque(name)).await;
        let handle = found.bytes();
        (handle, found.maybe_attr().expect("attributes"))
    }
}

fn fh(handle: &[u8]) -> Xdr {
    Xdr::default().opaque(handle)
}

async fn datagram(at: SocketAddr, xid: u32, what: (u32, u32, u32), args: Xdr) -> Results {
    let socket = UdpSocket::bind("127.0.0.1:900").await;
    let socket = match socket {
        Ok(socket) => socket,
        Err(_) => UdpSocket::bind("127.0.0.1:901")
            .await
            .expect("a reserved port"),
    };
    socket
        .send_to(&call(xid, what, args), at)
        .await
        .expect("sent");
    let mut reply = vec![0; 2048];
    let (len, _) = socket.recv_from(&mut reply).await.expect("a reply");
    reply.truncate(len);
    Results::of(xid, reply)
}

/// A server as `serve --portmap builtin` makes it, on ports of its own: where NFS and the portmapper are.
async fn serve(exports: Arc<Exports>) -> (Server, SocketAddr, SocketAddr) {
    let server = Server::new(exports);
    let options = Options {
        reserved_port: true,
        transfer: DATA_MAX,
        ..Options::default()
    };
    let any = "127.0.0.1:0";
    let nfs = TcpListener::bind(any).await.expect("a port");
    let at = nfs.local_addr().expect("an address");
    server.listen_tcp(nfs, options.clone());
    server.listen_udp(UdpSocket::bind(at).await.expect("its port"), options);
    let portmap = UdpSocket::bind(any).await.expect("a port");
    let ask = portmap.local_addr().expect("an address");
    let tcp = TcpListener::bind(any).await.expect("a port");
    server.listen_portmap(tcp, portmap, Options::default(), mappings(at.port()));
    (server, at, ask)
}

async fn port(ask: SocketAddr, xid: u32, program: u32, version: u32, protocol: u32) -> u16 {
    let args = Xdr::default().words(&[program, version, protocol, 0]);
    let mut found = datagram(ask, xid, (PORTMAP, 2, 3), args).await;
    u16::try_from(found.word()).expect("a port")
}

#[test]
fn mount_use_and_unmount() {
    run(async {
        let w = world();
        let tree = w
            .works
            .create(Some(snapshot(&w)), WorkClass::Build, b"t", clock::now());
        let path = w.exports.tree_path("build", tree.expect("a clone").id());
        let (_server, at, ask) = serve(w.exports.clone()).await;

        // mount_nfs -3 -T -o port=N: GETPORT for MOUNT over UDP, MNT over TCP from a reserved port.
        assert_eq!(port(ask, 1, MOUNT, 3, TCP).await, at.port());
        assert_eq!(port(ask, 2, NFS, 3, TCP).await, at.port());
        let mut mountd = Kernel::connect(at, 100).await;
        let mut mnt = mountd
            .ask(MOUNT, 1, Xdr::default().opaque(path.as_bytes()))
            .await;
        assert_eq!(mnt.word(), 0);
        let root = mnt.bytes();
        assert!((1..=64).contains(&root.len()));
        let flavours: Vec<u32> = (0..mnt.word()).map(|_| mnt.word()).collect();
        assert!(flavours.contains(&1), "{flavours:?}");
        drop(mountd);

        // mount(2): GETATTR; FSINFO once and FSSTAT, for statfs(2).
        let mut k = Kernel::connect(at, 200).await;
        let (kind, root_id) = k.nfs(1, fh(&root)).await.attr();
        assert_eq!(kind, 2, "a directory");
        let mut info = k.nfs(19, fh(&root)).await;
        info.maybe_attr().expect("attributes");
        let sizes: Vec<u32> = (0..7).map(|_| info.word()).collect();
        for size in [sizes[0], sizes[1], sizes[3], sizes[4]] {
            assert_eq!(size, DATA_MAX, "{sizes:?}");
        }
        assert!(sizes[6].is_power_of_two() && (8192..=DATA_MAX).contains(&sizes[6]));
        let mut stat = k.nfs(18, fh(&root)).await;
        stat.maybe_attr().expect("attributes");
        assert!(stat.long() > 0, "no bytes at all");

        // getcwd(3): READDIR above a directory finds the fileid that GETATTR said; ".." leads there by one handle.
        let (etc, (_, etc_id)) = k.lookup(&root, b"etc").await;
        let (up, (_, up_id)) = k.lookup(&etc, b"..").await;
        assert_eq!((&up, up_id), (&root, root_id));
        assert_eq!(k.nfs(1, fh(&etc)).await.attr(), (2, etc_id));

        // O_EXCL: CREATE EXCLUSIVE, then SETATTR without a guard. The same again finds its own file.
        let exclusive = |verifier: [u32; 2]| {
            fh(&root)
                .opaque(b"new")
                .words(&[2, verifier[0], verifier[1]])
        };
        let file = k.nfs(8, exclusive([7, 8])).await.made();
        assert_eq!(k.nfs(8, exclusive([7, 8])).await.made(), file);
        assert_eq!(k.ask(NFS, 8, exclusive([7, 9])).await.word(), 17, "EEXIST");
        // mode, uid, gid; size; times by the server's clock.
        let attributes = fh(&file).words(&[1, 0o644, 1, 0, 1, 0, 0, 1, 1, 0]);
        k.nfs(2, attributes).await.wcc();

        // A block: written, all of it stable, so that no COMMIT comes; read back in one fragment.
        let block: Vec<u8> = (0..DATA_MAX).map(|n| n as u8).collect();
        let write = fh(&file).words(&[0, 0, DATA_MAX, 0]).opaque(&block);
        let mut wrote = k.nfs(7, write).await;
        wrote.wcc();
        assert_eq!((wrote.word(), wrote.word()), (DATA_MAX, 2), "FILE_SYNC");
        let mut read = k.nfs(6, fh(&file).words(&[0, 0, DATA_MAX])).await;
        read.maybe_attr().expect("attributes");
        assert_eq!((read.word(), read.word()), (DATA_MAX, 1));
        assert_eq!(read.bytes(), block);
        // Who asks for more than FSINFO said gets no more.
        let mut read = k.nfs(6, fh(&file).words(&[0, 0, 1 << 20])).await;
        read.maybe_attr().expect("attributes");
        assert_eq!(read.word(), DATA_MAX);

        // umount(8): UMNT to version 1 over UDP, found through the portmapper.
        assert_eq!(port(ask, 3, MOUNT, 1, UDP).await, at.port());
        let path = Xdr::default().opaque(path.as_bytes());
        datagram(at, 4, (MOUNT, 1, 3), path.clone()).await;
        // MOUNT over UDP, as without -T.
        assert_eq!(datagram(at, 5, (MOUNT, 3, 1), path).await.word(), 0);
    });
}

#[test]
fn a_directory_is_read_with_the_verifier_it_began_with() {
    run(async {
        let w = world();
        let tree = w.works.create(None, WorkClass::Build, b"t", clock::now());
        let path = w.exports.tree_path("build", tree.expect("a tree").id());
        let (_server, at, _) = serve(w.exports.clone()).await;
        let mut k = Kernel::connect(at, 300).await;
        let mut mnt = k
            .ask(MOUNT, 1, Xdr::default().opaque(path.as_bytes()))
            .await;
        assert_eq!(mnt.word(), 0);
        let root = mnt.bytes();
        // MKDIR with a mode and nothing else.
        let mkdir = |name: &str| {
            fh(&root)
                .opaque(name.as_bytes())
                .words(&[1, 0o755, 0, 0, 0, 0, 0])
        };
        for n in 0..200 {
            k.nfs(9, mkdir(&format!("d{n}"))).await.made();
        }
        let (mut cookie, mut verifier) = (0u64, 0u64);
        let mut seen = Vec::new();
        let mut calls = 0;
        loop {
            // The kernel keeps one verifier a directory, from whichever block it read last.
            let at = [
                (cookie >> 32) as u32,
                cookie as u32,
                (verifier >> 32) as u32,
                verifier as u32,
                1024,
            ];
            let mut page = k.nfs(16, fh(&root).words(&at)).await;
            assert!(page.0.len() <= 1024 + HEADER_MAX);
            page.maybe_attr().expect("attributes");
            let now = page.long();
            assert!(calls == 0 || now == verifier, "the verifier moved");
            verifier = now;
            while page.word() == 1 {
                let fileid = page.long();
                let name = page.bytes();
                cookie = page.long();
                assert!(cookie < 1 << 63, "{cookie:x}");
                if name != b"." && name != b".." {
                    seen.push((name, fileid));
                }
            }
            calls += 1;
            if page.word() == 1 {
                break;
            }
            // Meanwhile a name that was read goes: cookies stay good.
            if calls % 2 == 1 {
                let name = String::from_utf8(seen[calls].0.clone()).expect("text");
                k.nfs(13, fh(&root).opaque(name.as_bytes())).await;
            }
        }
        assert!(calls > 3, "{calls}");
        assert_eq!(seen.len(), 200);
        let (last, id) = seen.last().expect("names").clone();
        let (_, (_, attr_id)) = k.lookup(&root, &last).await;
        assert_eq!(attr_id, id);
    });
}

#[test]
fn what_was_outstanding_is_sent_again_on_the_next_connection_and_done_once() {
    run(async {
        let w = world();
        let tree = w
            .works
            .create(Some(snapshot(&w)), WorkClass::Build, b"t", clock::now());
        let path = w.exports.tree_path("build", tree.expect("a clone").id());
        let (_server, at, _) = serve(w.exports.clone()).await;
        let mut k = Kernel::connect(at, 400).await;
        let mut mnt = k
            .ask(MOUNT, 1, Xdr::default().opaque(path.as_bytes()))
            .await;
        assert_eq!(mnt.word(), 0);
        let root = mnt.bytes();
        let (etc, _) = k.lookup(&root, b"etc").await;
        let none = [0, 0, 0, 0, 0, 0];
        let outstanding = [
            call(501, (NFS, 3, 9), fh(&root).opaque(b"made").words(&none)),
            call(502, (NFS, 3, 12), fh(&etc).opaque(b"f")),
            call(
                503,
                (NFS, 3, 14),
                fh(&root).opaque(b"made").opaque(&root).opaque(b"moved"),
            ),
            call(
                504,
                (NFS, 3, 8),
                fh(&root).opaque(b"excl").words(&[2, 1, 2]),
            ),
            call(505, (NFS, 3, 1), fh(&root)),
        ];
        // Each has run before the next is sent; nobody reads the replies.
        for record in &outstanding {
            k.send(record).await;
            let mut byte = [0];
            k.0.peek(&mut byte).await.expect("a reply is there");
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
        drop(k);
        let mut again = Kernel::connect(at, 0).await;
        for record in &outstanding {
            again.send(record).await;
        }
        let mut left: Vec<u32> = (501..=505).collect();
        while !left.is_empty() {
            let reply = again.receive().await;
            let xid = u32::from_be_bytes(reply[..4].try_into().expect("an xid"));
            assert_eq!(Results::of(xid, reply).word(), 0, "status of {xid}");
            left.retain(|l| *l != xid);
        }
        again.1 = 600;
        again.lookup(&root, b"moved").await;
        assert_eq!(
            again.ask(NFS, 3, fh(&etc).opaque(b"f")).await.word(),
            2,
            "ENOENT"
        );
    });
}

#[test]
fn a_port_that_anybody_may_use_is_not_answered() {
    run(async {
        let (_server, at, _) = serve(world().exports.clone()).await;
        let mut stream = TcpStream::connect(at).await.expect("connected");
        let null = call(1, (NFS, 3, 0), Xdr::default());
        let mark = null.len() as u32 | 1 << 31;
        let _ = stream
            .write_all(&[&mark.to_be_bytes()[..], &null].concat())
            .await;
        let mut reply = Vec::new();
        let ended = stream.read_to_end(&mut reply).await;
        assert!(ended.is_err() || reply.is_empty(), "{reply:?}");
    });
}
