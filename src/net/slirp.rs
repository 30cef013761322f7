//! slirp4netns's control socket: one request and one answer a connection, in JSON.

use super::{NetError, Publish};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_MAX: u64 = 4096;

pub fn publish(socket: &Path, port: &Publish) -> Result<(), NetError> {
    let refused = |said: String| NetError::Refused {
        engine: "slirp4netns",
        port: *port,
        said,
    };
    let request = serde_json::json!({
        "execute": "add_hostfwd",
        "arguments": {
            "proto": port.protocol.to_string(),
            "host_addr": port.host.ip().to_string(),
            "host_port": port.host.port(),
            "guest_port": port.port,
        },
    });
    let answer = ask(socket, &request.to_string()).map_err(|e| refused(e.to_string()))?;
    let answer: serde_json::Value =
        serde_json::from_slice(&answer).map_err(|e| refused(e.to_string()))?;
    match answer.pointer("/error/desc") {
        Some(desc) => Err(refused(desc.as_str().unwrap_or("no reason").to_owned())),
        None if answer.get("return").is_some() => Ok(()),
        None => Err(refused("no answer".to_owned())),
    }
}

fn ask(socket: &Path, request: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}
