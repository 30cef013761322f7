//! The helper process: takes mounts from its session and serves them until the
//! session is closed and the last mount gone.

use super::attr::errno;
use super::control::{self, Answer, Hello, Message, WirePhase};
use super::export::{Export, Policy};
use super::fs::Fs;
use super::passthrough::Passthrough;
use super::remote::Remote;
use super::restart;
use super::waiting::Waiting;
use crate::helper::{Cache, MakeSecure, RestartCommand, Server};
use crate::sys::{self, PidNamespace};
use fuser::{Config, SessionACL};
use pocker_nfs::client::{
    Client, ClientError, ClientLimits, Connect, Health, HostConnect, StartTls, TcpConnect,
    UnixConnect,
};
use pocker_nfs::proto::nfsstat3;
use pocker_nfs::vfs::Stable;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

/// How long a mount waits for the server to name an export's root.
pub(crate) const EXPORT_DEADLINE: Duration = Duration::from_secs(30);

/// How long the end of a mount waits to have told the server.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long the server may be away before mounts are given up whose session is closed:
/// who used them has been killed, but cannot end before its last call is answered. An
/// auto-started server is back within a second.
const ABANDONED: Duration = Duration::from_secs(5);

/// How often is looked for the end of such mounts.
const LOOK: Duration = Duration::from_millis(20);

/// Threads that run operations. None of them ever waits, and an operation costs little
/// more than waking a thread does: with two, the tasks it passes through wake each
/// other across cores (measured: a quarter slower).
const WORKERS: usize = 1;

/// The helper's main, for the hidden command that [`super::FuseHelper`] starts: the
/// exit status. Call it before any thread is started. `secure` is for servers of other hosts.
pub fn fuse_helper_main(secure: Option<MakeSecure>) -> i32 {
    match run(secure) {
        Ok(()) => 0,
        Err(cause) => {
            eprintln!("pocker mount-helper: {cause}");
            1
        }
    }
}

fn run(secure: Option<MakeSecure>) -> io::Result<()> {
    sys::detach()?;
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    // No directory of ours keeps a file system busy.
    std::env::set_current_dir("/")?;
    if let Err(cause) = sys::set_io_flusher() {
        tracing::debug!(%cause, "not an IO flusher");
    }
    let Some((hello, _)) = control::receive::<Hello>(control.as_fd())? else {
        return Ok(());
    };
    let (server, restart) = hello.into_parts();
    let helper = Helper::new(&server, restart, secure)?;
    let taken = helper.take_mounts(&control);
    // Whoever reads our messages may wait for the end of them.
    nix::unistd::dup2_stderr(&null)?;
    helper.serve_to_the_end(taken);
    Ok(())
}

/// The mounts a session asked for.
#[derive(Default)]
struct Taken {
    threads: Vec<JoinHandle<()>>,
    /// One of them is to outlive the session.
    outlives: bool,
}

struct Helper {
    runtime: Runtime,
    reached: Reached,
}

/// The server, as mounts need it.
#[derive(Clone)]
struct Reached {
    client: Client,
    stable: Stable,
    /// Its socket on this host.
    local: Option<PathBuf>,
}

/// Why a mount is not served.
struct Failed {
    phase: WirePhase,
    cause: io::Error,
}

fn failed(phase: WirePhase) -> impl Fn(io::Error) -> Failed {
    move |cause| Failed { phase, cause }
}

impl Helper {
    fn new(
        server: &Server,
        restart: Option<RestartCommand>,
        secure: Option<MakeSecure>,
    ) -> io::Result<Helper> {
        let (connect, stable, local): (Arc<dyn Connect>, _, _) = match server {
            Server::Unix(path) => {
                let connect = Arc::new(UnixConnect(path.clone()));
                (connect, Stable::Unstable, Some(path.clone()))
            }
            Server::Tcp { addr, netns } => {
                if let Some(netns) = netns {
                    // Before there are threads: all of them are to be there.
                    sys::enter_netns(netns)?;
                }
                let connect = TcpConnect {
                    addr: *addr,
                    reserved_port: true,
                };
                let stable = if addr.ip().is_loopback() {
                    Stable::Unstable
                } else {
                    Stable::FileSync
                };
                (Arc::new(connect), stable, None)
            }
            Server::Host { name, port, tls } => {
                let tls = match (tls, secure) {
                    (None, _) => None,
                    (Some(tls), Some(secure)) => {
                        Some(StartTls::new(secure(name, tls)?, tls.required))
                    }
                    (Some(_), None) => {
                        return Err(io::Error::other("this mount helper has no TLS"));
                    }
                };
                let connect = HostConnect {
                    host: name.clone(),
                    port: *port,
                    tls,
                };
                (Arc::new(connect), Stable::FileSync, None)
            }
        };
        let mut instance = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut instance)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()?;
        let client = runtime.block_on(async {
            let client = Client::new(connect, instance, ClientLimits::default());
            if let Some(command) = restart {
                tokio::spawn(restart::watch(client.health(), command));
            }
            client
        });
        Ok(Helper {
            runtime,
            reached: Reached {
                client,
                stable,
                local,
            },
        })
    }

    /// Until the last mount is gone, or nobody can be served any more. The end of this
    /// process closes the devices, which fails the calls that are left.
    fn serve_to_the_end(&self, taken: Taken) {
        if taken.outlives {
            for mount in taken.threads {
                // A mount's thread that panicked has nothing left to serve.
                let _ = mount.join();
            }
            return;
        }
        let health = self.reached.client.health();
        let away = || match *health.borrow() {
            Health::Connected => false,
            Health::Away { since, .. } => since.elapsed() > ABANDONED,
        };
        while taken.threads.iter().any(|mount| !mount.is_finished()) && !away() {
            std::thread::sleep(LOOK);
        }
    }

    /// Serves what the session asks for until it is closed.
    fn take_mounts(&self, control: &OwnedFd) -> Taken {
        let mut taken = Taken::default();
        loop {
            let (mount, fds) = match control::receive::<Message>(control.as_fd()) {
                Ok(Some((Message::Mount(mount), fds))) => (mount, fds),
                Ok(Some((Message::Quiet, _))) => {
                    let null = File::options().write(true).open("/dev/null");
                    let _ = null.map(|null| nix::unistd::dup2_stderr(&null));
                    continue;
                }
                Ok(None) => return taken,
                Err(cause) => {
                    eprintln!("pocker mount-helper: a message that is none: {cause}");
                    return taken;
                }
            };
            taken.threads.retain(|m| !m.is_finished());
            let Ok([device, answer, pids]) = <[OwnedFd; control::FDS_MAX]>::try_from(fds) else {
                eprintln!("pocker mount-helper: a mount without its descriptors");
                continue;
            };
            let (handle, reached) = (self.runtime.handle().clone(), self.reached.clone());
            let answer = UnixStream::from(answer);
            taken.outlives |= mount.outlives;
            let spawned = std::thread::Builder::new()
                .name("mount".into())
                .spawn(move || serve(&handle, reached, &mount, (device, pids), answer));
            match spawned {
                Ok(thread) => taken.threads.push(thread),
                Err(cause) => eprintln!("pocker mount-helper: no thread for a mount: {cause}"),
            }
        }
    }
}

/// Serves one mount to its end.
fn serve(
    runtime: &Handle,
    reached: Reached,
    mount: &control::Mount,
    fds: (OwnedFd, OwnedFd),
    mut answer: UnixStream,
) {
    let client = reached.client.clone();
    let started = start(runtime, reached, mount, fds);
    let said = match &started {
        Ok(_) => Answer::Serving,
        Err(f) => Answer::Failed {
            phase: f.phase,
            errno: f.cause.raw_os_error(),
            text: f.cause.to_string(),
        },
    };
    let sent = serde_json::to_vec(&said).map(|bytes| answer.write_all(&bytes));
    drop(answer);
    let Ok(session) = started else {
        return;
    };
    // A session that has given up waiting unmounts, which ends the loop below.
    let _ = sent;
    if let Err(cause) = session.run() {
        eprintln!("pocker mount-helper: a mount ended: {cause}");
    }
    runtime.block_on(farewell(&client, &mount.export));
}

/// Tells the server, whose log and list say so, that a mount is gone. One that is away need not
/// know, and must not be waited for: whoever waits has it started again.
async fn farewell(client: &Client, export: &[u8]) {
    let mut health = client.health();
    tokio::select! {
        _ = client.umount(export) => {}
        _ = health.wait_for(|h| !matches!(h, Health::Connected)) => {}
        () = tokio::time::sleep(FAREWELL) => {}
    }
}

fn start(
    runtime: &Handle,
    reached: Reached,
    mount: &control::Mount,
    (device, pids): (OwnedFd, OwnedFd),
) -> Result<fuser::Session<Fs>, Failed> {
    let policy = Policy {
        cache: mount.cache,
        stable: reached.stable,
    };
    let local = reached.local.as_deref();
    let passthrough = local
        .filter(|_| mount.read_only && mount.cache == Cache::LargeView)
        .map(Passthrough::new);
    let opening = open_export(reached.client, &mount.export, policy, passthrough);
    let export = runtime.block_on(opening)?;
    let own = device.try_clone().map_err(failed(WirePhase::Device))?;
    let waiting = Waiting::new(own, PidNamespace::new(&pids), runtime);
    let fs = Fs::new(export.clone(), runtime.clone(), waiting);
    let session = fuser::Session::from_fd(fs, device, SessionACL::All, Config::default())
        .map_err(failed(WirePhase::Device))?;
    export.set_notifier(session.notifier());
    Ok(session)
}

async fn open_export(
    client: Client,
    path: &[u8],
    policy: Policy,
    passthrough: Option<Passthrough>,
) -> Result<Arc<Export>, Failed> {
    let mut health = client.health();
    let opening = async {
        let root = client.mount(path).await.map_err(export_failed)?;
        let os =
            |e: fuser::Errno| failed(WirePhase::Export)(io::Error::from_raw_os_error(e.code()));
        let remote = Remote::new(client, &root).await.map_err(os)?;
        let attr = remote.getattr(&root).await.map_err(os)?;
        Ok(Export::new(remote, (root, attr), policy, passthrough))
    };
    let cause = tokio::select! {
        outcome = opening => return outcome,
        why = refused(&mut health) => io::Error::other(why),
        () = tokio::time::sleep(EXPORT_DEADLINE) => io::ErrorKind::TimedOut.into(),
    };
    Err(failed(WirePhase::Server)(cause))
}

/// Why the server will not do, as soon as that is known.
async fn refused(health: &mut watch::Receiver<Health>) -> String {
    loop {
        if let Health::Away {
            refused: Some(why), ..
        } = &*health.borrow_and_update()
        {
            return why.clone();
        }
        // The client is gone, and with it the call that waits beside this.
        if health.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// mountstat3 (RFC 1813 §5.1.5) has nfsstat3's numbers for what can happen.
fn export_failed(error: ClientError) -> Failed {
    let cause = match error {
        ClientError::Mount(2) => no_export(nfsstat3::NFS3ERR_NOENT),
        ClientError::Mount(13) => no_export(nfsstat3::NFS3ERR_ACCES),
        ClientError::Mount(20) => no_export(nfsstat3::NFS3ERR_NOTDIR),
        ClientError::Mount(70) => no_export(nfsstat3::NFS3ERR_STALE),
        other => io::Error::other(other.to_string()),
    };
    failed(WirePhase::Export)(cause)
}

fn no_export(status: nfsstat3) -> io::Error {
    io::Error::from_raw_os_error(errno(status).code())
}
