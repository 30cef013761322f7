//! The daemon without a wire, and with the control API's routes as other hosts reach them.

mod again;
mod bounds;
mod fence;
mod grafts;
mod roles;
mod theirs;

use super::docs::{Asker, Owner};
use super::http::{self, Outside};
use super::state::Daemon;
use super::{ServeOptions, grafter, leases, serve};
use crate::control::api::*;
use crate::control::hosts::{self, Id, Lease, NewToken, Role};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::service::Service;
use pocker_nfs::proto::sattr3;
use pocker_nfs::vfs::{self, Caller, CreateHow, Cx, Fh, Stable, Vfs};
use pocker_store::object::Meta;
use pocker_store::types::Time;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub struct World {
    pub dir: tempfile::TempDir,
    pub d: Arc<Daemon>,
}

fn options(dir: &std::path::Path) -> ServeOptions {
    ServeOptions {
        store: dir.join("store"),
        socket_dir: dir.join("sockets"),
        listen: None,
        allow: Vec::new(),
        tls: None,
        rpc_tls: Default::default(),
        lease_term: Duration::from_secs(60),
        metrics: None,
        portmap: Default::default(),
        read_only: false,
        verify_reads: false,
        upstream: None,
        graft_below: Vec::new(),
        user: None,
        take_back: false,
        auto: false,
        idle_timeout: Duration::from_secs(60),
    }
}

/// A daemon with one pocker, `box`. The table of leases is of all tests of this process.
pub fn world() -> World {
    world_of(|_| ())
}

pub fn world_of(set: impl FnOnce(&mut ServeOptions)) -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = options(dir.path());
    set(&mut options);
    let grafter = grafter::tests::threads(&options);
    let d = serve::assemble(options, serve::Before::of(grafter)).expect("a daemon");
    let world = World { dir, d };
    world.put("box", b"hello");
    world
}

impl World {
    /// The server ends, and starts again.
    pub fn again(self) -> World {
        let World { dir, d } = self;
        let options = d.options.clone();
        d.works.close();
        if let Some(volumes) = d.exports.volumes.works() {
            volumes.close();
        }
        assert_eq!(Arc::strong_count(&d), 1, "somebody still has it");
        drop(d);
        let grafter = grafter::tests::threads(&options);
        let d = serve::assemble(options, serve::Before::of(grafter)).expect("a daemon");
        d.know_hosts();
        World { dir, d }
    }

    pub fn put(&self, name: &str, content: &[u8]) {
        let meta = || Meta {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time { secs: 5, nanos: 6 },
            xattrs: Vec::new(),
        };
        let mut ingest = self.d.store.ingest();
        ingest
            .file(b"f", meta(), content.len() as u64, &mut &content[..])
            .expect("a file");
        let snapshot = ingest.finish(None).expect("sealed").snapshot.to_string();
        let seal = SealRequest {
            key: snapshot.clone(),
            claim: None,
            parent: None,
            instruction: "RUN true".into(),
            upstream: None,
            source_date_epoch: None,
        };
        let step = PutStep {
            snapshot: snapshot.clone(),
            seal,
        };
        self.d.put_step(&snapshot, &step).expect("a step");
        let pocker = PutPocker {
            steps: vec![snapshot],
            config: RunConfig::default(),
        };
        self.d.put_pocker(name, &pocker).expect("a pocker");
    }

    pub fn run(&self, owner: Owner) -> RunInfo {
        self.d.start_run(&new_run("box"), owner).expect("a run")
    }

    pub fn tree(&self, owner: Owner) -> TreeInfo {
        let new = NewTree {
            base: None,
            purpose: Purpose::Build,
            label: "box step 1".into(),
            pid: 0,
        };
        self.d.new_tree(&new, owner).expect("a tree")
    }

    pub fn volume(&self, name: &str, shared: bool) {
        let new = NewVolume {
            base: None,
            token: "made".into(),
            shared,
        };
        self.d.create_volume(name, &new).expect("a volume");
    }

    /// A run with the volume to write, and where that is.
    pub fn writes(&self, volume: &str, owner: Owner) -> (u64, String) {
        let new = NewRun {
            volumes: vec![VolumeMount {
                name: volume.into(),
                target: "/v".into(),
                read_only: false,
            }],
            ..new_run("box")
        };
        let run = self.d.start_run(&new, owner).expect("a run");
        (run.id, run.volumes[0].path.clone())
    }

    /// A status is its number here.
    pub fn nfs<T>(&self, call: impl FnOnce(&dyn Vfs, &Cx) -> vfs::Result<T>) -> Result<T, u32> {
        let caller = Caller {
            uid: 0,
            gid: 0,
            gids: vec![],
        };
        let cx = Cx {
            nowait: false,
            caller: &caller,
            peer: &vfs::Peer::Memory,
            client: [0; 16],
            once: None,
        };
        call(&*self.d.exports, &cx).map_err(|status| status as u32)
    }

    pub fn mount(&self, path: &str) -> Result<Fh, u32> {
        self.nfs(|v, cx| v.mount(cx, path.as_bytes()))
    }

    /// A file with that in it, which is acknowledged as on disk.
    pub fn write(&self, dir: &Fh, name: &str, text: &str) -> Result<(), u32> {
        self.nfs(|v, cx| {
            let how = CreateHow::Unchecked(sattr3::default());
            let made = v.create(cx, dir, name.as_bytes(), &how)?;
            let done = v.write(cx, &made.fh, 0, text.as_bytes(), Stable::FileSync)?;
            assert_eq!(done.count, text.len() as u32);
            Ok(())
        })
    }

    pub fn read(&self, dir: &Fh, name: &str) -> Result<String, u32> {
        self.nfs(|v, cx| {
            let file = v.lookup(cx, dir, name.as_bytes())?;
            let mut data = Vec::new();
            v.read(cx, &file.fh, 0, 1000, &mut data)?;
            Ok(String::from_utf8_lossy(&data).into_owned())
        })
    }

    pub fn there(&self, tree: u64) -> bool {
        self.d.works.get(tree).is_ok()
    }

    pub fn token(&self, role: Role) -> String {
        let new = NewToken {
            role,
            lasts: 1000,
            name: None,
        };
        self.d.create_token(&new).expect("a token").token
    }
}

pub fn new_run(name: &str) -> NewRun {
    NewRun {
        name: name.into(),
        ..NewRun::default()
    }
}

/// A command of a host that nobody has seen yet.
pub fn lease() -> Lease {
    Lease {
        host: Id::draw().expect("random"),
        id: Id::draw().expect("random"),
    }
}

/// A command that has its lease.
pub fn command(lease: Lease) -> Owner {
    leases::renew(lease, false, IpAddr::from([10, 9, 8, 250]));
    Owner::afar(lease)
}

/// Another command of the same host.
pub fn next(lease: Lease) -> Lease {
    Lease {
        id: Id::draw().expect("random"),
        ..lease
    }
}

pub fn asker(lease: Lease) -> Asker {
    Asker {
        host: Some(lease.host),
        all: false,
    }
}

pub fn here() -> Owner {
    Owner::of(std::process::id())
}

/// What another host asks, and what it is told.
pub struct Call<'a> {
    pub world: &'a World,
    pub token: &'a str,
    pub lease: Lease,
    pub from: IpAddr,
}

impl Call<'_> {
    pub async fn ask(
        &self,
        method: &str,
        uri: &str,
        body: &impl serde::Serialize,
    ) -> (StatusCode, serde_json::Value) {
        let bytes = serde_json::to_vec(body).expect("JSON");
        let (status, body) = self.send(method, uri, bytes.into()).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    pub async fn send(&self, method: &str, uri: &str, body: Body) -> (StatusCode, bytes::Bytes) {
        let response = self.begin(method, uri, body).await;
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
        (status, body.unwrap_or_default())
    }

    pub async fn begin(&self, method: &str, uri: &str, body: Body) -> axum::response::Response {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token))
            .header(hosts::VERSION, env!("CARGO_PKG_VERSION"))
            .header(hosts::HOST, self.lease.host.to_string())
            .header(hosts::LEASE, self.lease.id.to_string())
            .extension(Outside(self.from))
            .body(body)
            .expect("a request");
        let routes = http::router(self.world.d.clone());
        let routes = hyper_util::service::TowerToHyperService::new(routes);
        routes.call(request).await.expect("it answers")
    }
}
