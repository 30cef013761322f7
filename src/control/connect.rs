//! Finding the server, and starting one in the background where none runs.

use super::remote::Remote;
use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long servers are started here that are killed before they answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const BETWEEN_STARTS: Duration = Duration::from_millis(50);
/// What a server says once it answers.
const READY: &str = "ready\n";
/// Longest message a server that cannot start leaves for its parent.
const SAID_MAX: u64 = 16 << 10;

/// Where the server is and what may be done to reach it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub socket_dir: PathBuf,
    pub store: PathBuf,
    /// Start a server when none answers.
    pub start: bool,
    /// How long a call waits for a server that is away.
    pub timeout: Duration,
    /// It is on another host; what is in the folders above is this host's own all the same.
    pub remote: Option<Arc<Remote>>,
}

impl Endpoint {
    pub fn control_socket(&self) -> PathBuf {
        self.socket_dir.join("control.sock")
    }

    pub fn nfs_socket(&self) -> PathBuf {
        self.socket_dir.join("nfs.sock")
    }

    /// Where this host keeps what it shows of the server's store: a folder for each.
    pub fn view_dir(&self) -> PathBuf {
        let Some(remote) = &self.remote else {
            return self.socket_dir.clone();
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        let host: String = remote
            .place
            .host
            .chars()
            .map(|c| if plain(c) { c } else { '_' })
            .collect();
        let name = format!("remote-{host}-{}", remote.place.port);
        self.socket_dir.join(name)
    }

    /// Whether a server takes connections.
    pub fn answers(&self) -> bool {
        match &self.remote {
            None => UnixStream::connect(self.control_socket()).is_ok(),
            Some(remote) => {
                let place = (remote.place.host.as_str(), remote.place.port);
                let found = place.to_socket_addrs().into_iter().flatten();
                let mut found = found.take(4);
                found.any(|addr| TcpStream::connect_timeout(&addr, PROBE).is_ok())
            }
        }
    }

    pub fn log_file(&self) -> PathBuf {
        self.socket_dir.join("serve.log")
    }

    pub(crate) fn control_text(&self) -> String {
        if let Some(remote) = &self.remote {
            return remote.place.to_string();
        }
        self.control_socket().display().to_string()
    }

    /// The command that starts this store's server in the background; mount
    /// helpers keep it to restart a server that died.
    pub fn restart_command(&self) -> Vec<std::ffi::OsString> {
        let exe = crate::sys::os::program().unwrap_or_else(|_| "pocker".into());
        vec![
            exe.into(),
            "--store".into(),
            self.store.clone().into(),
            "--socket-dir".into(),
            self.socket_dir.clone().into(),
            "serve".into(),
            "--auto".into(),
        ]
    }
}

/// How long another host's server may take to take a connection.
const PROBE: Duration = Duration::from_secs(5);

/// How long a server that somebody else starts just now may take to answer, on a busy machine.
const OTHERS_START: Duration = Duration::from_secs(6);

/// Why no server could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("no server runs at {0} and this command starts none")]
    NotRunning(String),
    #[error("cannot run {program}")]
    Spawn {
        program: String,
        #[source]
        source: std::io::Error,
    },
    /// The server's own words, its hint after a line break.
    #[error("{message}")]
    Refused {
        message: String,
        hint: Option<String>,
    },
    #[error("the server was started, and ended without a word; its log is {log}")]
    Silent { log: String },
    #[error("cannot prepare {path}")]
    SocketDir {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// Makes sure that a server answers; the pid of the one it started, if it had to. One that is
/// killed before it answers is started again.
pub fn ensure_server(endpoint: &Endpoint) -> Result<Option<u32>, StartError> {
    // Another host's is its own to start.
    if endpoint.remote.is_some() {
        return Ok(None);
    }
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if UnixStream::connect(endpoint.control_socket()).is_ok() {
            return Ok(None);
        }
        if !endpoint.start {
            return Err(StartError::NotRunning(endpoint.control_text()));
        }
        let (mut child, said) = start(endpoint)?;
        if said.starts_with(READY) {
            return Ok(Some(child.id()));
        }
        if let Some(text) = said.strip_prefix("error: ") {
            let _ = child.wait();
            // Another command may have started one at the same moment: then that one serves.
            if wait_for_server(endpoint, OTHERS_START) {
                return Ok(None);
            }
            let (message, hint) = match text.trim_end().split_once("\nhint: ") {
                Some((message, hint)) => (message.to_string(), Some(hint.to_string())),
                None => (text.trim_end().to_string(), None),
            };
            return Err(StartError::Refused { message, hint });
        }
        // It ended without a word, so it does not come by waiting for it.
        let ended = child.wait();
        let killed = ended.is_ok_and(|status| status.signal().is_some());
        if !killed || Instant::now() >= deadline {
            return Err(StartError::Silent {
                log: endpoint.log_file().display().to_string(),
            });
        }
        std::thread::sleep(BETWEEN_STARTS);
    }
}

/// Starts a server; what it says before it answers, or ends.
fn start(endpoint: &Endpoint) -> Result<(Child, String), StartError> {
    let argv = endpoint.restart_command();
    let spawn_error = |source| StartError::Spawn {
        program: argv[0].display().to_string(),
        source,
    };
    make_socket_dir(endpoint)?;
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(endpoint.log_file())
        .map_err(|source| StartError::SocketDir {
            path: endpoint.log_file().display().to_string(),
            source,
        })?;
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir("/")
        .spawn()
        .map_err(spawn_error)?;
    let mut said = Vec::new();
    if let Some(out) = child.stdout.take() {
        let mut out = out.take(SAID_MAX);
        let mut part = [0; 1 << 10];
        // To its end only where it is not ready: a process that was forked meanwhile may have
        // the pipe too.
        while !said.starts_with(READY.as_bytes()) {
            match out.read(&mut part) {
                Ok(0) => break,
                Ok(got) => said.extend_from_slice(&part[..got]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }
    Ok((child, String::from_utf8_lossy(&said).into_owned()))
}

/// Makes the socket directory, for root alone.
pub fn make_socket_dir(endpoint: &Endpoint) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&endpoint.socket_dir)
        .map_err(|source| StartError::SocketDir {
            path: endpoint.socket_dir.display().to_string(),
            source,
        })
}

fn wait_for_server(endpoint: &Endpoint, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if UnixStream::connect(endpoint.control_socket()).is_ok() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
