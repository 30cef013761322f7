//! A run's tree within its bytes and names: told by df, refused beyond, whatever was killed.

use crate::support::World;
use crate::support::server::Server;
use crate::{run, world};
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use pocker::control::api::{NewRun, Quota};
use pocker_nfs::client::{Client, ClientError, ClientLimits, Creds, UnixConnect};
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{CreateHow, Fh, Stable};
use std::sync::Arc;
use tokio::runtime::Runtime;

const MIB: usize = 1 << 20;
const ROOT: &Creds = &Creds {
    uid: 0,
    gid: 0,
    gids: Vec::new(),
};

#[test]
fn a_filler_is_contained_and_finds_room_again() {
    let w = world();
    let filler = "
        space() { df -k / | awk 'NR == 2 { print $2, $3, $4 }'; }
        space
        dd if=/dev/zero of=/f bs=64k count=160 conv=fsync 2>/tmp/err || cat /tmp/err
        wc -c </f
        # What is there can be written again.
        dd if=/dev/zero of=/f bs=64k count=32 conv=notrunc,fsync 2>/dev/null && echo again
        rm /f
        space
        dd if=/dev/zero of=/f bs=64k count=48 conv=fsync 2>/dev/null && echo room
    ";
    let done = run(&w, &["--disk", "4M"], filler).ok();
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines[0], "4096 0 4096");
    assert!(done.out.contains("quota exceeded"), "{}", done.out);
    let written: usize = lines[lines.len() - 4].parse().expect("a size");
    assert!(written <= 4 * MIB && written > 3 * MIB, "{written} bytes");
    assert_eq!(&lines[lines.len() - 3..], ["again", "4096 0 4096", "room"]);

    let filler = "
        i=0; while [ $i -lt 200 ] && touch /var/$i 2>/tmp/err; do i=$((i+1)); done
        echo $i; cat /tmp/err; df -i / | awk 'NR == 2 { print $2, $4 }'
        ln /etc/passwd /var/link 2>&1; mkdir /var/dir 2>&1
        rm /var/0 /var/1; ln /etc/passwd /var/link && mkdir /var/dir && echo room
    ";
    let done = run(&w, &["--inodes", "50"], filler).ok();
    let lines: Vec<&str> = done.out.lines().collect();
    let names: u64 = lines[0].parse().expect("a number");
    assert!((40..=50).contains(&names), "{names} names");
    assert_eq!(
        done.out.matches("quota exceeded").count(),
        3,
        "{}",
        done.out
    );
    assert!(
        lines.contains(&"50 0") && lines.last() == Some(&"room"),
        "{}",
        done.out
    );
    // Another run has its own.
    run(&w, &[], "dd if=/dev/zero of=/f bs=1M count=8 2>/dev/null").ok();
    let kept = run(&w, &["--keep", "--disk", "4M"], "true");
    kept.fails(&["--keep", "--disk", "hint:"]);
    for wrong in [["--disk", "lots"], ["--inodes", "0"]] {
        let done = run(&w, &wrong, "true");
        assert_eq!(done.status, 125, "{}", done.err);
        done.fails(&[wrong[0]]);
    }
}

struct Wire {
    runtime: Runtime,
    client: Client,
}

impl Wire {
    fn to(server: &Server) -> Wire {
        let runtime = Runtime::new().expect("a runtime");
        let connect = Arc::new(UnixConnect(server.nfs_socket()));
        let client = {
            let _inside = runtime.enter();
            Client::new(connect, [9; 16], ClientLimits::default())
        };
        Wire { runtime, client }
    }

    fn mount(&self, path: &str) -> Fh {
        let mounted = self.client.mount(path.as_bytes());
        self.runtime.block_on(mounted).expect("MNT")
    }

    fn create(&self, dir: &Fh, name: &str) -> Result<Fh, ClientError> {
        let how = CreateHow::Unchecked(sattr3::default());
        let made = self.client.create(ROOT, dir, name.as_bytes(), &how);
        Ok(self.runtime.block_on(made)?.fh.expect("a handle"))
    }

    fn write(&self, fh: &Fh, at: usize, len: usize) -> Result<(), ClientError> {
        let data = vec![7; len];
        let wrote = self
            .client
            .write(ROOT, fh, at as u64, &data, Stable::FileSync);
        self.runtime.block_on(wrote).map(drop)
    }

    /// Bytes and names: all there may be, and what is left.
    fn space(&self, fh: &Fh) -> [u64; 4] {
        let stat = self.runtime.block_on(self.client.fsstat(ROOT, fh));
        let stat = stat.expect("FSSTAT");
        [
            stat.total_bytes,
            stat.avail_bytes,
            stat.total_files,
            stat.avail_files,
        ]
    }
}

#[track_caller]
fn refused(done: Result<impl Sized, ClientError>) {
    let quota = matches!(done, Err(ClientError::Status(nfsstat3::NFS3ERR_DQUOT)));
    assert!(quota, "{:?}", done.err());
}

#[test]
fn the_wire_says_dquot_and_a_killed_server_knows_what_is_held() {
    let server = Server::start();
    server.world.create("box", "RUN true\n").ok();
    let mut holder = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("sleep starts");
    let [bounded, free] = [Some(2 * MIB as u64), None].map(|bytes| {
        let quota = Quota {
            bytes,
            names: bytes.map(|_| 3),
        };
        let new = NewRun {
            name: "box".to_owned(),
            pid: holder.id(),
            quota,
            ..NewRun::default()
        };
        server.ask(|client| client.new_run(&new)).expect("a run")
    });
    let wire = Wire::to(&server);
    let top = wire.mount(&bounded.tree.export.path);
    assert_eq!(wire.space(&top), [2 << 20, 2 << 20, 3, 3]);
    let f = wire.create(&top, "f").expect("CREATE");
    wire.write(&f, 0, MIB).expect("WRITE");
    wire.write(&f, 8 * MIB, MIB - 4096).expect("WRITE");
    refused(wire.write(&f, 4 * MIB, 2 * 4096));
    wire.create(&top, "g").expect("CREATE");
    wire.create(&top, "h").expect("CREATE");
    refused(wire.create(&top, "i"));
    server.restart();
    let wire = Wire::to(&server);
    assert_eq!(wire.space(&top), [2 << 20, 4096, 3, 0]);
    refused(wire.write(&f, 4 * MIB, 2 * 4096));
    refused(wire.create(&top, "i"));
    wire.write(&f, 0, MIB).expect("what is there");
    let removed = wire.client.remove(ROOT, &top, b"f");
    wire.runtime.block_on(removed).expect("REMOVE");
    assert_eq!(wire.space(&top), [2 << 20, 2 << 20, 3, 1]);
    // Others are none of its business.
    let top = wire.mount(&free.tree.export.path);
    assert!(wire.space(&top)[0] > 16 << 20);
    let f = wire.create(&top, "f").expect("CREATE");
    (0..4).for_each(|i| wire.write(&f, i * MIB, MIB).expect("WRITE"));
    holder.kill().expect("killed");
    holder.wait().expect("waited for");
}

#[test]
fn runs_leave_the_store_room_that_builds_may_use() {
    let world = World::new();
    let store = world.path("store");
    std::fs::create_dir_all(&store).expect("mkdir");
    let (none, size) = (None::<&str>, Some("size=96m"));
    mount(none, &store, Some("tmpfs"), MsFlags::empty(), size).expect("mount a tmpfs");
    let server = Server::of(world, vec![store.clone()]);
    let w = &server.world;
    w.create("box", "RUN true\n").ok();
    let filler =
        "dd if=/dev/zero of=/f bs=256k conv=fsync 2>&1; df -k / | awk 'NR == 2 { print $4 }'";
    let done = run(w, &[], filler).ok();
    assert!(done.out.contains("No space left"), "{}", done.out);
    let left = done.out.lines().last().and_then(|n| n.parse::<u64>().ok());
    assert!(left.expect("a number") < 256, "{}", done.out);
    // The next run's tree replaces it, and starts all the same.
    let fs = statvfs(&store).expect("statvfs");
    let left = fs.blocks_available() * fs.fragment_size();
    assert!(left > 4 << 20, "{left} bytes left");
    w.create(
        "other",
        "EXEC dd if=/dev/zero of=/f bs=1M count=1\nRUN true\n",
    )
    .ok();
    run(w, &[], "dd if=/dev/zero of=/f bs=1M count=4 2>/dev/null").ok();
}
