//! Finding the server, and starting one in the background where none runs.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server started here may take to answer: opening a large store
/// after a crash takes seconds, never minutes.
const START_TIMEOUT: Duration = Duration::from_secs(30);
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
}

impl Endpoint {
    pub fn control_socket(&self) -> PathBuf {
        self.socket_dir.join("control.sock")
    }

    pub fn nfs_socket(&self) -> PathBuf {
        self.socket_dir.join("nfs.sock")
    }

    pub fn log_file(&self) -> PathBuf {
        self.socket_dir.join("serve.log")
    }

    pub(crate) fn control_text(&self) -> String {
        self.control_socket().display().to_string()
    }

    /// The command that starts this store's server in the background; mount
    /// helpers keep it to restart a server that died.
    pub fn restart_command(&self) -> Vec<std::ffi::OsString> {
        let exe = std::env::current_exe().unwrap_or_else(|_| "pocker".into());
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
    #[error("the server was started but did not answer within {} s; its log is {log}", START_TIMEOUT.as_secs())]
    Silent { log: String },
    #[error("cannot prepare {path}")]
    SocketDir {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// Makes sure that a server answers; the pid of the one it started, if it had to.
pub fn ensure_server(endpoint: &Endpoint) -> Result<Option<u32>, StartError> {
    if UnixStream::connect(endpoint.control_socket()).is_ok() {
        return Ok(None);
    }
    if !endpoint.start {
        return Err(StartError::NotRunning(endpoint.control_text()));
    }
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
    // The server closes its stdout once it answers; before that it may say why it cannot.
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        let _ = out.take(SAID_MAX).read_to_string(&mut said);
    }
    if said.starts_with("ready") {
        return Ok(Some(child.id()));
    }
    if let Some(text) = said.strip_prefix("error: ") {
        let _ = child.wait();
        // Another command may have started one at the same moment: then that one serves.
        if wait_for_server(endpoint, Duration::from_millis(500)) {
            return Ok(None);
        }
        let (message, hint) = match text.trim_end().split_once("\nhint: ") {
            Some((message, hint)) => (message.to_string(), Some(hint.to_string())),
            None => (text.trim_end().to_string(), None),
        };
        return Err(StartError::Refused { message, hint });
    }
    if wait_for_server(endpoint, START_TIMEOUT) {
        return Ok(Some(child.id()));
    }
    Err(StartError::Silent {
        log: endpoint.log_file().display().to_string(),
    })
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
