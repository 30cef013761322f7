//! A server that answers READ from memory and everything else with success: what the client,
//! the kernel and the wire leave to be had.

use crate::wire::{Put, Reader};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};

const READ: usize = 4 << 20;
/// As large as the file that is read from other servers, so that caches help no more.
const FILE_BYTES: usize = 64 << 20;

pub fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        std::thread::spawn(move || {
            let data: Vec<u8> = (0..FILE_BYTES).map(|i| (i >> 12) as u8).collect();
            let mut buffer = vec![0; READ];
            let (mut start, mut end) = (0, 0);
            let mut out = Vec::new();
            loop {
                out.clear();
                while let Some(mark) = buffer[start..end].first_chunk::<4>() {
                    let len = (u32::from_be_bytes(*mark) & 0x7fff_ffff) as usize;
                    if end - start < 4 + len {
                        break;
                    }
                    answer(&buffer[start + 4..start + 4 + len], &data, &mut out);
                    start += 4 + len;
                }
                if stream.write_all(&out).is_err() {
                    return;
                }
                if start == end {
                    (start, end) = (0, 0);
                } else if end == READ {
                    buffer.copy_within(start..end, 0);
                    (start, end) = (0, end - start);
                }
                match stream.read(&mut buffer[end..]) {
                    Ok(n) if n > 0 => end += n,
                    _ => return,
                }
            }
        });
    }
    Ok(())
}

fn answer(record: &[u8], data: &[u8], out: &mut Vec<u8>) {
    let mut r = Reader(record);
    let xid = r.u32();
    r.bytes(8);
    let (program, _, procedure) = (r.u32(), r.u32(), r.u32());
    for _ in 0..2 {
        r.u32();
        r.opaque();
    }
    let mark = out.len();
    out.u32(0);
    for word in [xid, 1, 0, 0, 0, 0] {
        out.u32(word);
    }
    match (program, procedure) {
        (100_003, 0) => {}
        (100_003, 6) => {
            r.opaque();
            let from = (r.u64() as usize).min(data.len());
            let want = (r.u32() as usize).min(data.len() - from);
            let data = &data[from..];
            out.u32(0);
            out.u32(0);
            out.u32(want as u32);
            out.u32(0);
            out.opaque(&data[..want]);
        }
        (100_003, 3) | (100_005, 1) => {
            out.u32(0);
            out.opaque(b"handle");
            for word in [1, 1] {
                out.u32(word);
            }
        }
        _ => {
            out.u32(0);
            out.resize(out.len() + 100, 0);
        }
    }
    let len = (out.len() - mark - 4) as u32 | 1 << 31;
    out[mark..mark + 4].copy_from_slice(&len.to_be_bytes());
}
