//! The client of the control socket: typed calls, each safe to send again
//! after the server died and came back.

use super::api::*;
use super::connect::{Endpoint, ensure_server};
use super::hold::Holder;
use super::remote::Unreached;
use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use std::cell::RefCell;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// A JSON reply larger than this is no reply of ours.
pub(super) const REPLY_MAX: usize = 64 << 20;
pub(super) type Body = Either<Full<Bytes>, StreamBody<chunks::Chunks>>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered, with an error.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// 404: the thing asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// No server, or it went away and did not come back in time.
    #[error("no answer from the server at {socket}")]
    Gone {
        socket: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start a server")]
    Start(#[from] super::connect::StartError),
    #[error("the server at {socket} gave an answer that makes no sense: {detail}")]
    Garbled { socket: String, detail: String },
    /// A server of another host that will not do, or will not have us.
    #[error("{message}")]
    Refused { message: String, hint: String },
    #[error("cannot start the process that keeps this host's lease")]
    Hold(#[source] std::io::Error),
    #[error("reading the archive failed")]
    Archive(#[source] std::io::Error),
}

/// A connection to the server. Single-threaded: a command may fork while it holds one.
pub struct Client {
    pub(super) runtime: tokio::runtime::Runtime,
    endpoint: Endpoint,
    pub(super) sender: RefCell<Option<SendRequest<Body>>>,
    /// Who keeps this process's lease, once it needs one.
    pub(super) holder: RefCell<Option<Holder>>,
    started: std::cell::Cell<Option<u32>>,
}

pub(super) mod chunks {
    //! A stream over an mpsc channel, as `StreamBody` wants it.
    use bytes::Bytes;
    use hyper::body::Frame;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    pub struct Chunks(pub tokio::sync::mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>);

    impl futures_util::Stream for Chunks {
        type Item = Result<Frame<Bytes>, std::io::Error>;
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(cx)
        }
    }
}

impl Client {
    /// Connects, starting a server in the background where none runs and the endpoint allows it.
    pub fn open(endpoint: Endpoint) -> Result<Client, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ClientError::Gone {
                socket: endpoint.control_text(),
                source,
            })?;
        let client = Client {
            runtime,
            endpoint,
            sender: RefCell::new(None),
            holder: RefCell::new(None),
            started: std::cell::Cell::new(None),
        };
        // A server that is killed right now still has its socket for a moment.
        client.patiently(|| client.connect())?;
        Ok(client)
    }

    /// Tries again after each broken connection until the server timeout is over.
    fn patiently<R>(
        &self,
        mut attempt: impl FnMut() -> Result<R, ClientError>,
    ) -> Result<R, ClientError> {
        let deadline = Instant::now() + self.endpoint.timeout;
        loop {
            match attempt() {
                Err(ClientError::Gone { socket, source }) => {
                    self.sender.borrow_mut().take();
                    if Instant::now() >= deadline {
                        return Err(ClientError::Gone { socket, source });
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                other => return other,
            }
        }
    }

    /// The pid of the server this client had to start, if any.
    pub fn started(&self) -> Option<u32> {
        self.started.get()
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn connect(&self) -> Result<(), ClientError> {
        if let Some(pid) = ensure_server(&self.endpoint)? {
            self.started.set(Some(pid));
        }
        let socket = self.endpoint.control_socket();
        let gone = |source| ClientError::Gone {
            socket: self.endpoint.control_text(),
            source,
        };
        let sender = self.runtime.block_on(async {
            match &self.endpoint.remote {
                Some(remote) => {
                    let stream = remote.connect().await;
                    self.speak(stream.map_err(|e| self.unreached(e))?).await
                }
                None => {
                    let stream = tokio::net::UnixStream::connect(&socket).await;
                    self.speak(stream.map_err(gone)?).await
                }
            }
        })?;
        *self.sender.borrow_mut() = Some(sender);
        Ok(())
    }

    /// HTTP on a connection.
    async fn speak<S>(&self, stream: S) -> Result<SendRequest<Body>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = hyper_util::rt::TokioIo::new(stream);
        let shaken = hyper::client::conn::http1::handshake(io).await;
        let (sender, connection) = shaken.map_err(|e| ClientError::Gone {
            socket: self.endpoint.control_text(),
            source: std::io::Error::other(e),
        })?;
        tokio::spawn(async move {
            // Its error reaches the caller through the request it broke.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn unreached(&self, why: Unreached) -> ClientError {
        match why {
            Unreached::Away(source) => ClientError::Gone {
                socket: self.endpoint.control_text(),
                source,
            },
            Unreached::Refused { message, hint } => ClientError::Refused { message, hint },
        }
    }

    /// One attempt: `Err(Gone)` means nothing is known of whether it ran.
    fn attempt(&self, request: Request<Body>) -> Result<(StatusCode, Bytes), ClientError> {
        let gone = |e: hyper::Error| ClientError::Gone {
            socket: self.endpoint.control_text(),
            source: std::io::Error::other(e),
        };
        if self.sender.borrow().as_ref().is_none_or(|s| s.is_closed()) {
            self.connect()?;
        }
        let mut slot = self.sender.borrow_mut();
        let Some(sender) = slot.as_mut() else {
            let source = std::io::Error::from(std::io::ErrorKind::NotConnected);
            return Err(ClientError::Gone {
                socket: self.endpoint.control_text(),
                source,
            });
        };
        self.runtime.block_on(async {
            sender.ready().await.map_err(gone)?;
            let response = sender.send_request(request).await.map_err(gone)?;
            if let Some(remote) = &self.endpoint.remote {
                let same = remote.check_version(response.headers());
                same.map_err(|e| self.unreached(e))?;
            }
            let status = response.status();
            let limited = http_body_util::Limited::new(response.into_body(), REPLY_MAX);
            let body = limited.collect().await.map_err(|e| ClientError::Gone {
                socket: self.endpoint.control_text(),
                source: std::io::Error::other(e),
            })?;
            Ok((status, body.to_bytes()))
        })
    }

    pub(super) fn request(&self, method: &Method, path: &str, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        // Paths are built from digests, numbers and checked names only.
        *request.uri_mut() = path.parse().unwrap_or_default();
        request
            .headers_mut()
            .insert("host", hyper::header::HeaderValue::from_static("pocker"));
        request.headers_mut().insert(
            "content-type",
            hyper::header::HeaderValue::from_static("application/json"),
        );
        if let Some(remote) = &self.endpoint.remote {
            remote.put_headers(request.headers_mut());
        }
        request
    }

    /// Sends a call, again after each broken connection until the server timeout is over.
    pub(super) fn call<T: Serialize, R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&T>,
    ) -> Result<R, ClientError> {
        self.call_counted(method, path, body, &mut 0)
    }

    /// Sends a call, again after each broken connection until the server timeout is over; counts
    /// how often.
    fn call_counted<T: Serialize, R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&T>,
        sent: &mut u32,
    ) -> Result<R, ClientError> {
        let bytes = match body {
            Some(body) => serde_json::to_vec(body)
                .map_err(|e| self.garbled(e.to_string()))?
                .into(),
            None => Bytes::new(),
        };
        let (status, reply) = self.patiently(|| {
            let request = self.request(&method, path, Either::Left(Full::new(bytes.clone())));
            *sent += 1;
            self.attempt(request)
        })?;
        self.decode(status, &reply)
    }

    pub(super) fn garbled(&self, detail: String) -> ClientError {
        ClientError::Garbled {
            socket: self.endpoint.control_text(),
            detail,
        }
    }

    pub(super) fn decode<R: DeserializeOwned>(
        &self,
        status: StatusCode,
        reply: &[u8],
    ) -> Result<R, ClientError> {
        if status.is_success() {
            let reply: &[u8] = if reply.is_empty() { b"null" } else { reply };
            return serde_json::from_slice(reply).map_err(|e| self.garbled(e.to_string()));
        }
        let error: ApiError = serde_json::from_slice(reply).map_err(|_| {
            self.garbled(format!(
                "status {status}: {}",
                String::from_utf8_lossy(&reply[..reply.len().min(200)])
            ))
        })?;
        if status == StatusCode::NOT_FOUND {
            return Err(ClientError::NotFound(error.message));
        }
        let status = status.as_u16();
        Err(ClientError::Api(ApiError { status, ..error }))
    }

    pub(super) fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, ClientError> {
        self.call::<(), R>(Method::GET, path, None)
    }

    fn find<R: DeserializeOwned>(&self, path: &str) -> Result<Option<R>, ClientError> {
        match self.get(path) {
            Ok(found) => Ok(Some(found)),
            Err(ClientError::NotFound(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), ClientError> {
        match self.call::<(), ()>(Method::DELETE, path, None) {
            // Gone already: the call ran before a connection broke.
            Err(ClientError::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    /// As [`Client::delete`], but it has to be there for the first of these calls.
    pub(super) fn remove(&self, path: &str) -> Result<(), ClientError> {
        let mut sent = 0;
        match self.call_counted::<(), ()>(Method::DELETE, path, None, &mut sent) {
            // The call ran before a connection broke.
            Err(ClientError::NotFound(_)) if sent > 1 => Ok(()),
            other => other,
        }
    }

    pub fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status")
    }

    pub fn stats(&self) -> Result<Stats, ClientError> {
        self.get("/v1/stats")
    }

    /// A finished step; it stays as long as this process lives.
    pub fn step(&self, key: &str) -> Result<Option<StepInfo>, ClientError> {
        self.hold()?;
        self.find(&format!("/v1/steps/{key}?pid={}", std::process::id()))
    }

    /// One try to get the right to build a step; `Busy` comes after up to a second of waiting.
    pub fn claim(&self, key: &str, request: &ClaimRequest) -> Result<ClaimReply, ClientError> {
        self.hold()?;
        self.call(
            Method::POST,
            &format!("/v1/steps/{key}/claim"),
            Some(request),
        )
    }

    pub fn release(&self, claim: u64) -> Result<(), ClientError> {
        self.delete(&format!("/v1/claims/{claim}"))
    }

    pub fn put_step(&self, key: &str, step: &PutStep) -> Result<StepInfo, ClientError> {
        self.call(Method::PUT, &format!("/v1/steps/{key}"), Some(step))
    }

    pub fn new_tree(&self, tree: &NewTree) -> Result<TreeInfo, ClientError> {
        self.hold()?;
        self.call(Method::POST, "/v1/trees", Some(tree))
    }

    pub fn seal(&self, tree: u64, request: &SealRequest) -> Result<StepInfo, ClientError> {
        self.call(
            Method::POST,
            &format!("/v1/trees/{tree}/seal"),
            Some(request),
        )
    }

    pub fn drop_tree(&self, tree: u64) -> Result<(), ClientError> {
        self.delete(&format!("/v1/trees/{tree}"))
    }

    /// Keeps a failed build's tree for `pocker debug NAME`, in place of an earlier one.
    pub fn keep_tree(&self, tree: u64, name: &str) -> Result<(), ClientError> {
        self.call(
            Method::POST,
            &format!("/v1/trees/{tree}/keep/{name}"),
            Some(&()),
        )
    }

    /// The tree that `pocker debug` enters: of the failed build, or the last run's.
    pub fn debug_tree(&self, name: &str) -> Result<Option<TreeInfo>, ClientError> {
        self.find(&format!("/v1/pockers/{name}/debug"))
    }

    /// Drops the trees that runs and failed builds of NAME left.
    pub fn reset(&self, name: &str) -> Result<u64, ClientError> {
        self.call(
            Method::POST,
            &format!("/v1/pockers/{name}/reset"),
            Some(&()),
        )
    }

    pub fn pocker(&self, name: &str) -> Result<Option<PockerInfo>, ClientError> {
        self.find(&format!("/v1/pockers/{name}"))
    }

    pub fn pockers(&self) -> Result<Vec<PockerInfo>, ClientError> {
        self.get("/v1/pockers")
    }

    pub fn put_pocker(&self, name: &str, pocker: &PutPocker) -> Result<PockerInfo, ClientError> {
        self.call(Method::PUT, &format!("/v1/pockers/{name}"), Some(pocker))
    }

    pub fn remove_pocker(&self, name: &str, force: bool) -> Result<(), ClientError> {
        self.remove(&format!("/v1/pockers/{name}?force={force}"))
    }

    pub fn new_run(&self, run: &NewRun) -> Result<RunInfo, ClientError> {
        self.hold()?;
        self.call(Method::POST, "/v1/runs", Some(run))
    }

    /// The run ended; its tree stays until the next start or `reset`.
    pub fn end_run(&self, id: u64) -> Result<(), ClientError> {
        self.delete(&format!("/v1/runs/{id}"))
    }

    /// Where a step can be mounted read-only.
    pub fn export_of(&self, name: &str, step: &str) -> Result<Export, ClientError> {
        self.get(&format!("/v1/pockers/{name}/steps/{step}/export"))
    }

    pub fn add_mount(&self, mount: &MountRecord) -> Result<(), ClientError> {
        if self.endpoint.remote.is_some() && mount.what == BROWSE_VIEW {
            // Of sealed trees only, and this host's own to look after.
            return Ok(());
        }
        self.hold_mount(&mount.target)?;
        self.call(Method::POST, "/v1/mounts", Some(mount))
    }

    pub fn mounts(&self) -> Result<Vec<MountRecord>, ClientError> {
        self.get("/v1/mounts")
    }

    pub fn remove_mount(&self, target: &str) -> Result<(), ClientError> {
        self.call(Method::POST, "/v1/mounts/remove", Some(&target))
    }

    pub fn file_of(&self, snapshot: &str, path: &str) -> Result<Option<Vec<u8>>, ClientError> {
        self.call(
            Method::POST,
            &format!("/v1/snapshots/{snapshot}/file"),
            Some(&path),
        )
    }

    /// Whether a path of a sealed tree is a directory, links followed inside it.
    pub fn is_dir(&self, snapshot: &str, path: &str) -> Result<bool, ClientError> {
        self.call(
            Method::POST,
            &format!("/v1/snapshots/{snapshot}/is-dir"),
            Some(&path),
        )
    }

    pub fn stop(&self) -> Result<Stopped, ClientError> {
        self.call(Method::POST, "/v1/stop", Some(&()))
    }
}
