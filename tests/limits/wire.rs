//! NFSv3 calls on a server's socket, one at a time, and a FUSE mount of the same server.

use crate::support::server::Server;
use pocker::control::api::TreeInfo;
use pocker_mount_helpers::fuse::FuseHelper;
use pocker_mount_helpers::{Cache, MountHelper, Mounted, Request};
use pocker_nfs::client::{Client, ClientError, ClientLimits, Creds, UnixConnect};
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{CreateHow, Fh};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

pub struct Wire {
    pub runtime: Runtime,
    pub client: Client,
}

pub static ROOT: Creds = Creds {
    uid: 0,
    gid: 0,
    gids: Vec::new(),
};

pub fn user(id: u32, gids: &[u32]) -> Creds {
    Creds {
        uid: id,
        gid: id,
        gids: gids.to_vec(),
    }
}

impl Wire {
    pub fn to(server: &Server) -> Wire {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let connect = Arc::new(UnixConnect(server.nfs_socket()));
        let client = {
            let _inside = runtime.enter();
            Client::new(connect, [5; 16], ClientLimits::default())
        };
        Wire { runtime, client }
    }

    pub fn run<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    pub fn mount(&self, path: &str) -> Fh {
        self.run(self.client.mount(path.as_bytes())).expect("MNT")
    }

    pub fn find(&self, dir: &Fh, name: &str) -> Fh {
        let found = self.client.lookup(&ROOT, dir, name.as_bytes());
        self.run(found).expect("LOOKUP").fh
    }

    pub fn create(&self, dir: &Fh, name: &str) -> Result<Fh, ClientError> {
        let how = CreateHow::Guarded(mode(0o644));
        let made = self.client.create(&ROOT, dir, name.as_bytes(), &how);
        Ok(self.run(made)?.fh.expect("a handle"))
    }

    pub fn attr(&self, fh: &Fh) -> fattr3 {
        self.run(self.client.getattr(&ROOT, fh)).expect("GETATTR")
    }

    /// All names but "." and "..", each listed once and under a cookie of its own.
    pub fn names(&self, dir: &Fh, plus: bool) -> HashSet<Vec<u8>> {
        let (mut names, mut cookies, mut cookie) = (HashSet::new(), HashSet::new(), 0);
        loop {
            let reply = self.run(async {
                let (c, me) = (&self.client, &ROOT);
                match plus {
                    true => {
                        c.readdirplus(me, dir, cookie, [0; 8], 32 << 10, 128 << 10)
                            .await
                    }
                    false => c.readdir(me, dir, cookie, [0; 8], 32 << 10).await,
                }
            });
            let reply = reply.expect("READDIR");
            assert!(reply.eof || !reply.entries.is_empty(), "no progress");
            for e in reply.entries {
                cookie = e.cookie;
                assert!(cookies.insert(cookie), "a cookie came twice");
                if e.name != b"." && e.name != b".." {
                    let shown = e.name.escape_ascii().to_string();
                    assert!(names.insert(e.name), "{shown} came twice");
                }
            }
            if reply.eof {
                return names;
            }
        }
    }
}

pub fn mode(mode: u32) -> sattr3 {
    sattr3 {
        mode: set_mode3::mode(mode),
        ..sattr3::default()
    }
}

/// Mounts a tree as a build step has it; unmounted with the value.
pub fn fuse(server: &Server, tree: &TreeInfo, at: &Path) -> Mounted {
    std::fs::create_dir_all(at).expect("a place to mount");
    let helper = FuseHelper::with_program(
        env!("CARGO_BIN_EXE_pocker").into(),
        vec!["mount-helper".into(), "fuse".into()],
    );
    let socket = pocker_mount_helpers::Server::Unix(server.nfs_socket());
    let mut session = helper.session(&socket, None).expect("a helper");
    let mounted = session.mount(&Request {
        export: tree.export.path.as_bytes(),
        target: at,
        read_only: false,
        nosuid: false,
        nodev: false,
        noexec: false,
        cache: Cache::Exclusive,
        outlives: true,
    });
    mounted.expect("mounted")
}
