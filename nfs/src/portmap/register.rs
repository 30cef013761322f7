//! PMAPPROC_SET and PMAPPROC_UNSET at the host's own portmapper: over UDP, from the loopback
//! address and a port below 1024, which is who it believes.

use super::{Mapping, PORTMAP_PORT, PORTMAP_PROGRAM, PORTMAP_V2};
use crate::rpc::put_call;
use crate::vfs::Caller;
use crate::xdr::{Put, Reader};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long the portmapper has for an answer; UDP loses calls, so each is sent a few times.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 3;

/// Why the server is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("the portmapper at {at} cannot be asked")]
    Io {
        at: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the portmapper at {at} does not answer")]
    Silent { at: SocketAddr },
    #[error(
        "the portmapper at {at} has program {program} version {version} at port {port} already: stop what serves it there"
    )]
    Taken {
        at: SocketAddr,
        program: u32,
        version: u32,
        port: u32,
    },
    #[error("the portmapper at {at} refuses program {program} version {version}")]
    Refused {
        at: SocketAddr,
        program: u32,
        version: u32,
    },
}

/// Registers `mappings`, in place of what an earlier server left there at the same ports; all or none.
pub fn register(mappings: &[Mapping]) -> Result<(), RegisterError> {
    register_at((Ipv4Addr::LOCALHOST, PORTMAP_PORT).into(), mappings)
}

/// The port that the portmapper of `host` has for a service; 0 where it knows none. From any port: whoever
/// asks may.
pub fn port_of(
    host: Ipv4Addr,
    program: u32,
    version: u32,
    protocol: u32,
) -> Result<u32, RegisterError> {
    let row = Mapping {
        program,
        version,
        protocol,
        port: 0,
    };
    port_at((host, PORTMAP_PORT).into(), &row)
}

fn port_at(at: SocketAddr, row: &Mapping) -> Result<u32, RegisterError> {
    let fail = |source| RegisterError::Io { at, source };
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(fail)?;
    socket.connect(at).map_err(fail)?;
    ask(&socket, at, GETPORT, row)
}

/// Takes `mappings` back.
pub fn unregister(mappings: &[Mapping]) -> Result<(), RegisterError> {
    let at = (Ipv4Addr::LOCALHOST, PORTMAP_PORT).into();
    let socket = socket(at)?;
    for row in mappings {
        ask(&socket, at, UNSET, row)?;
    }
    Ok(())
}

const SET: u32 = 1;
const UNSET: u32 = 2;
const GETPORT: u32 = 3;

fn register_at(at: SocketAddr, mappings: &[Mapping]) -> Result<(), RegisterError> {
    let socket = socket(at)?;
    let (mut old, mut rows) = (Vec::new(), mappings.to_vec());
    for row in mappings {
        let port = ask(&socket, at, GETPORT, row)?;
        if port == u32::from(row.port) {
            old.push(*row);
        } else if port != 0 {
            return Err(RegisterError::Taken {
                at,
                program: row.program,
                version: row.version,
                port,
            });
        }
    }
    // UNSET takes a version's rows of all transports, so each version's once and before any is set.
    for row in &old {
        ask(&socket, at, UNSET, row)?;
    }
    for done in 0..rows.len() {
        let row = &rows[done];
        let refused = match ask(&socket, at, SET, row) {
            Ok(0) => RegisterError::Refused {
                at,
                program: row.program,
                version: row.version,
            },
            Ok(_) => continue,
            // It may have been set, and the answer lost.
            Err(e) => e,
        };
        rows.truncate(done + usize::from(!matches!(refused, RegisterError::Refused { .. })));
        for row in &rows {
            let _ = ask(&socket, at, UNSET, row);
        }
        return Err(refused);
    }
    Ok(())
}

fn socket(at: SocketAddr) -> Result<UdpSocket, RegisterError> {
    let fail = |source| RegisterError::Io { at, source };
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in (512..1024).rev() {
        match UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(socket) => {
                socket.connect(at).map_err(fail)?;
                return Ok(socket);
            }
            Err(e) => last = e,
        }
    }
    Err(fail(last))
}

/// One call, sent again where nothing comes back.
fn ask(
    socket: &UdpSocket,
    at: SocketAddr,
    procedure: u32,
    row: &Mapping,
) -> Result<u32, RegisterError> {
    let fail = |source| RegisterError::Io { at, source };
    let xid = xid(procedure, row);
    let root = Caller {
        uid: 0,
        gid: 0,
        gids: Vec::new(),
    };
    let mut call = Vec::new();
    put_call(
        &mut call,
        xid,
        PORTMAP_PROGRAM,
        PORTMAP_V2,
        procedure,
        &root,
    );
    for word in [row.program, row.version, row.protocol, u32::from(row.port)] {
        call.u32(word);
    }
    for _ in 0..ATTEMPTS {
        socket.send(&call).map_err(fail)?;
        let deadline = Instant::now() + ANSWER_WITHIN;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .map_err(fail)?;
            let mut reply = [0; 512];
            match socket.recv(&mut reply) {
                Ok(len) => {
                    if let Some(done) = result(&reply[..len], xid) {
                        return Ok(done);
                    }
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) =>
                {
                    break;
                }
                Err(e) => return Err(fail(e)),
            }
        }
    }
    Err(RegisterError::Silent { at })
}

/// Different for each call of one server, the same when it is sent again.
fn xid(procedure: u32, row: &Mapping) -> u32 {
    let words = [
        procedure,
        row.program,
        row.version,
        row.protocol,
        std::process::id(),
    ];
    words.iter().fold(0x811c_9dc5, |hash: u32, word| {
        (hash ^ word).wrapping_mul(0x0100_0193)
    })
}

/// The boolean or the port that the portmapper answers; `None` for another call's reply.
/// Refusals of the call itself are a "no".
fn result(reply: &[u8], xid: u32) -> Option<u32> {
    let mut r = Reader::new(reply);
    if r.u32().ok()? != xid || r.u32().ok()? != 1 {
        return None;
    }
    let mut value = || {
        if r.u32().ok()? != 0 {
            return None;
        }
        r.u32().ok()?;
        r.opaque(400).ok()?;
        (r.u32().ok()? == 0).then_some(())?;
        r.u32().ok()
    };
    Some(value().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portmap::mappings;
    use crate::rpc::{Accept, parse_call, put_accepted};

    /// A portmapper that loses the first call, has all at `port`, and agrees to all but `no`.
    fn portmapper(
        no: u32,
        port: u32,
        calls: usize,
    ) -> (SocketAddr, std::thread::JoinHandle<Vec<(u32, u32)>>) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = socket.local_addr().unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(3)))
            .unwrap();
        let thread = std::thread::spawn(move || {
            let (mut seen, mut asked) = (Vec::new(), Vec::new());
            let mut buffer = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                assert!(from.port() < 1024);
                let mut call = parse_call(&buffer[..len]).ok().unwrap();
                if !seen.contains(&call.xid) {
                    seen.push(call.xid);
                    if seen.len() == 1 {
                        continue;
                    }
                }
                let program = call.args.u32().unwrap();
                asked.push((call.procedure, program));
                let mut out = Vec::new();
                put_accepted(&mut out, call.xid, Accept::Success);
                match call.procedure {
                    GETPORT => out.u32(port),
                    _ => out.bool(program != no),
                }
                // A stranger's reply first.
                let mut other = out.clone();
                other[0] ^= 0x80;
                socket.send_to(&other, from).unwrap();
                socket.send_to(&out, from).unwrap();
                if asked.len() == calls {
                    break;
                }
            }
            asked
        });
        (at, thread)
    }

    #[test]
    fn rows_are_taken_back_and_set_and_a_lost_call_is_sent_again() {
        let (at, thread) = portmapper(0, 2049, 15);
        register_at(at, &mappings(2049)).unwrap();
        let asked = thread.join().unwrap();
        let procedures: Vec<u32> = asked.iter().map(|a| a.0).collect();
        assert_eq!(procedures, [3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
        let (at, thread) = portmapper(0, 0, 10);
        register_at(at, &mappings(2049)).unwrap();
        let asked = thread.join().unwrap();
        let procedures: Vec<u32> = asked.iter().map(|a| a.0).collect();
        assert_eq!(procedures, [3, 3, 3, 3, 3, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn what_another_server_registered_stays() {
        let (at, thread) = portmapper(0, 635, 1);
        let taken = register_at(at, &mappings(2049)).unwrap_err().to_string();
        assert!(taken.contains("at port 635 already"), "{taken}");
        let asked = thread.join().unwrap();
        assert!(asked.iter().all(|a| a.0 == GETPORT), "{asked:?}");
    }

    #[test]
    fn a_port_is_asked_for_and_nobody_is_an_error() {
        let row = Mapping {
            program: crate::proto::MOUNT_PROGRAM,
            version: 3,
            protocol: crate::portmap::TCP,
            port: 0,
        };
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = socket.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            let call = parse_call(&buffer[..len]).ok().unwrap();
            assert_eq!(call.procedure, GETPORT);
            let mut out = Vec::new();
            put_accepted(&mut out, call.xid, Accept::Success);
            out.u32(2050);
            socket.send_to(&out, from).unwrap();
        });
        assert_eq!(port_at(at, &row).unwrap(), 2050);
        thread.join().unwrap();
        let gone = port_at(at, &row).unwrap_err();
        assert!(gone.to_string().contains(&at.to_string()), "{gone}");
    }

    #[test]
    fn a_refusal_names_what_was_refused() {
        let rows = mappings(2049);
        let no = crate::proto::MOUNT_PROGRAM;
        let set = rows.iter().position(|r| r.program == no).unwrap();
        let (at, thread) = portmapper(no, 0, rows.len() + set + 1 + set);
        let refused = register_at(at, &mappings(2049));
        assert!(
            matches!(
                refused,
                Err(RegisterError::Refused {
                    program: 100_005,
                    version: 1,
                    ..
                })
            ),
            "{refused:?}"
        );
        // What had been set is taken back.
        let asked = thread.join().unwrap();
        let unset = asked.iter().filter(|a| a.0 == UNSET).count();
        assert_eq!(unset, set);
        assert_eq!(asked.iter().filter(|a| a.0 == SET).count(), set + 1);
    }
}
