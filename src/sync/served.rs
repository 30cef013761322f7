//! A store behind its server: the `/v1/sync` calls of its control API.
//!
//! That is a socket of this host, which may be another server's that was forwarded here, or TLS to
//! another host. A transfer is a session of the server's, which holds what was sent and found against its
//! collections.

use super::frames;
use super::named::NamedInfo;
use crate::control::api::{ApiError, PockerInfo};
use crate::control::remote::{Remote, Unreached};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response, StatusCode};
use pocker_store::sync::{Each, Named, Sink, Source, SyncError, Want};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// A reply other than a stream is smaller.
const REPLY_MAX: usize = 8 << 20;
/// Read and sent at once.
const CHUNK: usize = 256 << 10;
/// Small things are sent together, in so many bytes.
const TOGETHER: usize = 4 << 20;
/// How often a call of a session is tried that met another, or too many, and the first pause.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });
/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(120);

/// `POST /v1/sync/send/{name}`: the pocker, held until the session ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct SendBegun {
    pub session: u64,
    pub named: NamedInfo,
}

/// `POST /v1/sync/receive[?upstream=HEX]` with a [`NamedInfo`]: of the files, only that they are there.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReceiveBegun {
    pub session: u64,
    /// Which of its steps are wanted.
    pub wanted: Vec<bool>,
}

type Chunks = StreamBody<futures_util::stream::BoxStream<'static, io::Result<Frame<Bytes>>>>;

/// How a server is reached.
pub enum Way {
    Socket(PathBuf),
    Afar(Arc<Remote>),
}

/// A server that sends or receives.
pub struct Served {
    runtime: tokio::runtime::Runtime,
    way: Way,
    session: Option<u64>,
    together: Vec<u8>,
    lazy: Option<String>,
}

impl Served {
    pub fn by(way: Way) -> Result<Served, SyncError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Ok(Served {
            runtime: runtime.map_err(|e| SyncError::because("cannot start", e))?,
            way,
            session: None,
            together: Vec::new(),
            lazy: None,
        })
    }

    /// What is known under the name; none where there is nothing.
    pub fn named(&mut self, name: &str) -> Result<Option<Named>, SyncError> {
        let path = format!("/v1/sync/send/{name}");
        let response = self.exchange(Method::POST, &path, &mut io::empty())?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let begun: SendBegun = self.json(response)?;
        self.session = Some(begun.session);
        // What it is called here is for this side to say.
        if begun.named.name != name {
            return Err(self.garbled(&"it is of another name"));
        }
        let named = begun.named.named();
        named.map(Some).map_err(|e| self.garbled(&e))
    }

    /// It takes directories only, where its upstream is this.
    pub fn lazy(&mut self, upstream: &str) {
        self.lazy = Some(upstream.to_owned());
    }

    /// The names that there are.
    pub fn names(&mut self) -> Result<Vec<String>, SyncError> {
        let all: Vec<PockerInfo> = self.call(Method::GET, "/v1/pockers", &[])?;
        Ok(all.into_iter().map(|pocker| pocker.name).collect())
    }

    fn place(&self) -> String {
        match &self.way {
            Way::Socket(socket) => socket.display().to_string(),
            Way::Afar(remote) => remote.place.to_string(),
        }
    }

    fn failed(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SyncError {
        let mend = match &self.way {
            Way::Socket(_) => "start it with `pocker serve`, or forward its socket again",
            Way::Afar(_) => "see that `pocker serve --listen ADDR --allow CIDR` runs there",
        };
        SyncError::because(
            format!("the server at {} cannot be reached", self.place()),
            cause,
        )
        .hint(format!(
            "{mend}; what was sent is kept, so running the command again goes on"
        ))
    }

    fn unreached(&self, why: Unreached) -> SyncError {
        match why {
            Unreached::Away(e) => self.failed(e),
            Unreached::Refused { message, hint } => SyncError::new(message).hint(hint),
        }
    }

    fn garbled(&self, why: &dyn std::fmt::Display) -> SyncError {
        let place = self.place();
        SyncError::because(
            format!("the server at {place} gave an answer that makes no sense"),
            why.to_string(),
        )
        .hint("see that both are of the same version: `pocker version`")
    }

    fn session(&self, call: &str) -> String {
        format!("/v1/sync/{}/{call}", self.session.unwrap_or(0))
    }

    async fn connect(&self) -> Result<SendRequest<Chunks>, SyncError> {
        match &self.way {
            Way::Socket(socket) => {
                let stream = tokio::net::UnixStream::connect(socket).await;
                self.speak(stream.map_err(|e| self.failed(e))?).await
            }
            Way::Afar(remote) => {
                let stream = remote.connect().await;
                self.speak(stream.map_err(|e| self.unreached(e))?).await
            }
        }
    }

    async fn speak<S>(&self, stream: S) -> Result<SendRequest<Chunks>, SyncError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = hyper_util::rt::TokioIo::new(stream);
        let shaken = hyper::client::conn::http1::handshake(io).await;
        let (sender, connection) = shaken.map_err(|e| self.failed(e))?;
        tokio::spawn(async move {
            // Its error reaches the caller through the request it broke.
            let _ = connection.await;
        });
        Ok(sender)
    }

    /// One call on a connection of its own; the answer's head.
    fn exchange(
        &self,
        method: Method,
        path: &str,
        body: &mut dyn Read,
    ) -> Result<Response<Incoming>, SyncError> {
        let response = self.ask(method, path, body)?;
        if let Way::Afar(remote) = &self.way {
            let same = remote.check_version(response.headers());
            same.map_err(|e| self.unreached(e))?;
        }
        Ok(response)
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: &mut dyn Read,
    ) -> Result<Response<Incoming>, SyncError> {
        let (send, mut receive) = mpsc::channel(4);
        let stream = futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx));
        let chunks: Chunks = StreamBody::new(Box::pin(stream));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "pocker")
            .header("content-type", "application/json")
            .body(chunks)
            .map_err(|e| self.failed(e))?;
        if let Way::Afar(remote) = &self.way {
            remote.put_headers(request.headers_mut());
        }
        let mut reply = self.runtime.block_on(async {
            let mut sender = self.connect().await?;
            Ok(Box::pin(sender.send_request(request)))
        })?;
        // Read outside the runtime: what is read may come by another one.
        loop {
            let mut chunk = vec![0; CHUNK];
            let frame = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => {
                    chunk.truncate(n);
                    Frame::data(chunk.into())
                }
                Err(e) => {
                    let cut = io::Error::from(e.kind());
                    self.runtime.block_on(async {
                        let _ = send.try_send(Err(cut));
                        tokio::task::yield_now().await;
                    });
                    return Err(SyncError::because("cannot send what the source gave", e));
                }
            };
            let early = self.runtime.block_on(async {
                tokio::select! {
                    reply = &mut reply => Some(reply.map_err(|e| self.failed(e))),
                    sent = tokio::time::timeout(SILENCE, send.send(Ok(frame))) => match sent {
                        Err(e) => Some(Err(self.failed(e))),
                        // Its reply says why it takes no more.
                        Ok(_) => None,
                    },
                }
            });
            if let Some(early) = early {
                return early;
            }
        }
        drop(send);
        self.in_time(reply)?.map_err(|e| self.failed(e))
    }

    fn in_time<T>(&self, what: impl Future<Output = T>) -> Result<T, SyncError> {
        let timed = async { tokio::time::timeout(SILENCE, what).await };
        self.runtime.block_on(timed).map_err(|e| self.failed(e))
    }

    fn json<R: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<R, SyncError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), REPLY_MAX).collect();
        let body = self.in_time(body)?;
        let bytes = body.map_err(|e| self.failed(e))?.to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|e| self.garbled(&e));
        }
        let said: ApiError = serde_json::from_slice(&bytes)
            .map_err(|_| self.garbled(&format!("status {status}")))?;
        Err(SyncError {
            tried: said.message,
            cause: None,
            hint: said.hint,
        })
    }

    /// A call that can be said again: once more after a pause where the server is busy. One whose connection
    /// broke may be under way there for a moment yet.
    fn say(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> Result<Response<Incoming>, SyncError> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            let response = self.exchange(method.clone(), path, &mut &body[..])?;
            let busy = [StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS];
            if self.session.is_none() || !busy.contains(&response.status()) {
                return Ok(response);
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        self.exchange(method, path, &mut &body[..])
    }

    fn call<R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> Result<R, SyncError> {
        let response = self.say(method, path, body)?;
        self.json(response)
    }

    fn send_together(&mut self) -> Result<(), SyncError> {
        if self.together.is_empty() {
            return Ok(());
        }
        let together = std::mem::take(&mut self.together);
        self.call(Method::PUT, &self.session("objects"), &together)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.session.is_some() {
            // It ends by itself where this is not heard.
            let _ = self.call::<()>(Method::DELETE, &self.session("end"), &[]);
        }
    }
}

impl Source for Served {
    fn fetch(&mut self, wants: &[Want], each: Each<'_>) -> Result<(), SyncError> {
        for wants in wants.chunks(frames::WANTS_MAX) {
            let body = frames::wants_to_bytes(wants);
            let path = self.session("fetch");
            let response = self.say(Method::POST, &path, &body)?;
            if !response.status().is_success() {
                return self.json(response);
            }
            let mut input = BodyRead {
                served: self,
                body: response.into_body(),
                current: Bytes::new(),
            };
            let mut at = 0;
            let read = frames::read(
                &mut input,
                |e| self.failed(e),
                |want, bytes| {
                    let asked = wants.get(at).filter(|asked| asked.digest == want.digest);
                    let asked =
                        asked.ok_or_else(|| self.garbled(&"it was asked for something else"))?;
                    at += 1;
                    each(asked, bytes)
                },
            );
            read?;
        }
        Ok(())
    }
}

struct BodyRead<'a> {
    served: &'a Served,
    body: Incoming,
    current: Bytes,
}

impl Read for BodyRead<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let frame = self.served.in_time(self.body.frame());
            match frame.map_err(io::Error::other)? {
                None => return Ok(0),
                Some(frame) => {
                    let frame = frame.map_err(io::Error::other)?;
                    self.current = frame.into_data().unwrap_or_default();
                }
            }
        }
        let n = out.len().min(self.current.len());
        out[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

impl Sink for Served {
    fn begin(&mut self, named: &Named) -> Result<Vec<bool>, SyncError> {
        let info = NamedInfo::of(named).map_err(|e| SyncError::because("cannot send it", e))?;
        let body = serde_json::to_vec(&info).unwrap_or_default();
        let path = match &self.lazy {
            Some(url) => format!("/v1/sync/receive?upstream={}", hex::encode(url)),
            None => "/v1/sync/receive".to_owned(),
        };
        let begun: ReceiveBegun = self.call(Method::POST, &path, &body)?;
        self.session = Some(begun.session);
        Ok(begun.wanted)
    }

    fn lacks(&mut self, wants: &[Want]) -> Result<Vec<bool>, SyncError> {
        let mut out = Vec::with_capacity(wants.len());
        for wants in wants.chunks(frames::WANTS_MAX) {
            let body = frames::wants_to_bytes(wants);
            let lacks: Vec<bool> = self.call(Method::POST, &self.session("lacks"), &body)?;
            if lacks.len() != wants.len() {
                return Err(self.garbled(&"it was asked about more"));
            }
            out.extend(lacks);
        }
        Ok(out)
    }

    fn put(&mut self, want: &Want, bytes: &mut dyn Read) -> Result<(), SyncError> {
        match want.blob {
            Some(size) if size as usize > TOGETHER => {
                self.send_together()?;
                let head = frames::head_of_plain(want, size);
                let path = self.session("objects");
                let response = self.exchange(Method::PUT, &path, &mut (&head[..]).chain(bytes))?;
                self.json(response)
            }
            _ => {
                let mut thing = Vec::new();
                let read = bytes.read_to_end(&mut thing);
                read.and_then(|_| frames::write_bytes(&mut self.together, want, &thing))
                    .map_err(|e| {
                        let tried = format!("cannot take {} from the source", want.digest);
                        SyncError::because(tried, e)
                    })?;
                match self.together.len() >= TOGETHER {
                    true => self.send_together(),
                    false => Ok(()),
                }
            }
        }
    }

    fn finish(&mut self, _: &Named) -> Result<(), SyncError> {
        self.send_together()?;
        self.call(Method::POST, &self.session("finish"), &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_call_that_met_another_is_said_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).expect("a listener");
        let server = std::thread::spawn(move || {
            let busy = r#"{"message":"busy","status":409}"#;
            for (status, said) in [
                ("409 Conflict", busy),
                ("200 OK", "[true]"),
                ("200 OK", "null"),
            ] {
                let (mut stream, _) = listener.accept().expect("a call");
                let mut asked = Vec::new();
                let mut some = [0; 1000];
                while !asked.ends_with(b"0\r\n\r\n") {
                    let n = stream.read(&mut some).expect("read");
                    asked.extend_from_slice(&some[..n]);
                }
                let length = said.len();
                let reply = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{said}");
                stream.write_all(reply.as_bytes()).expect("written");
            }
        });
        let mut served = Served::by(Way::Socket(socket)).expect("a runtime");
        served.session = Some(5);
        let want = Want::object(pocker_store::types::Digest([7; 32]));
        assert_eq!(served.lacks(&[want]).expect("heard"), [true]);
        drop(served);
        server.join().expect("all were asked");
    }
}
