//! Compressed streams made plain. What they are is told by their first bytes, never by a name.

use super::ImageError;
use super::error::quoted;
use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

/// What a decoder of zstd or xz may hold: `zstd --long=27` and `xz -9` take no more.
const WINDOW_LOG: u32 = 27;
const XZ_MEMORY: u64 = 128 << 20;
/// A stream unpacks to no more than this and so many times what was read of it: gzip cannot do
/// more, and what does is made to fill a disk.
const FREE: u64 = 1 << 30;
const RATIO: u64 = 1100;
/// Bytes that tell the kind.
pub const HEAD: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Xz => "xz",
        }
    }
}

/// Of a stream that begins so.
pub fn compression(head: &[u8]) -> Result<Compression, ImageError> {
    const KINDS: [(&[u8], Compression); 3] = [
        (&[0x1f, 0x8b], Compression::Gzip),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        (b"\xfd7zXZ\0", Compression::Xz),
    ];
    const OTHERS: [(&[u8], &str, &str); 3] = [
        (
            b"BZh",
            "it is bzip2-compressed",
            "`bzip2 -dk FILE` makes a tar of it",
        ),
        (
            b"PK\x03\x04",
            "it is a zip file",
            "unpack it, and archive what it holds with tar",
        ),
        (
            b"7z\xbc\xaf\x27\x1c",
            "it is a 7z file",
            "unpack it, and archive what it holds with tar",
        ),
    ];
    if let Some((_, why, hint)) = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Err(ImageError::new(*why, *hint));
    }
    let found = KINDS.iter().find(|(magic, _)| head.starts_with(magic));
    // A skippable frame may stand before zstd's own.
    let skippable = head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18];
    Ok(match found {
        Some((_, kind)) => *kind,
        None if skippable => Compression::Zstd,
        None => Compression::None,
    })
}

/// The plain bytes of a stream of any kind.
pub fn plain<'a>(mut stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = Vec::new();
    (&mut stream).take(HEAD as u64).read_to_end(&mut head)?;
    let kind = compression(&head)?;
    let stream = io::Cursor::new(head).chain(stream);
    if kind == Compression::None {
        return Ok(Box::new(stream));
    }
    let taken = Rc::new(Cell::new(0));
    let counted = Counted {
        stream,
        taken: taken.clone(),
    };
    let decoder = decoder(kind, counted)?;
    Ok(Box::new(Bounded {
        decoder,
        kind,
        taken,
        given: 0,
    }))
}

fn decoder<'a>(kind: Compression, stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match kind {
        Compression::None => Box::new(stream),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(stream)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(stream)?;
            decoder.window_log_max(WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let concatenated = liblzma::stream::CONCATENATED;
            let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, concatenated)?;
            let stream = BufReader::with_capacity(64 << 10, stream);
            Box::new(liblzma::bufread::XzDecoder::new_stream(stream, decoder))
        }
    })
}

struct Counted<R> {
    stream: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(out)?;
        self.taken.set(self.taken.get() + n as u64);
        Ok(n)
    }
}

/// A decoder held to what it may give, whose errors say what they are of.
struct Bounded<'a> {
    decoder: Box<dyn Read + 'a>,
    kind: Compression,
    taken: Rc<Cell<u64>>,
    given: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let kind = self.kind.name();
        let n = self.decoder.read(out).map_err(|e| {
            if ImageError::inside(&e).is_some() {
                return e;
            }
            let message = format!(
                "its {kind} data is damaged or cut short: {}",
                quoted(&e.to_string())
            );
            let hint =
                "it was damaged on its way or where it lies: fetch it again, or make it again";
            ImageError::new(message, hint).into()
        })?;
        self.given += n as u64;
        let taken = self.taken.get();
        if self.given > FREE.saturating_add(taken.saturating_mul(RATIO)) {
            let given = self.given >> 20;
            let message = format!("{taken} bytes of {kind} unpacked to more than {given} MiB");
            let hint = "it looks made to fill a disk; if it is what it should be, unpack it first";
            return Err(ImageError::new(message, hint).into());
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn packed(kind: Compression, bytes: &[u8]) -> Vec<u8> {
        match kind {
            Compression::None => bytes.to_vec(),
            Compression::Gzip => {
                let mut out =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(bytes).expect("written");
                out.finish().expect("finished")
            }
            Compression::Zstd => {
                let mut out = zstd::Encoder::new(Vec::new(), 1).expect("zstd");
                out.include_checksum(true).expect("zstd");
                out.write_all(bytes).expect("written");
                out.finish().expect("finished")
            }
            Compression::Xz => {
                let mut out = liblzma::write::XzEncoder::new(Vec::new(), 0);
                out.write_all(bytes).expect("written");
                out.finish().expect("finished")
            }
        }
    }

    const ALL: [Compression; 3] = [Compression::Gzip, Compression::Zstd, Compression::Xz];

    fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        plain(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn each_kind_is_told_by_its_first_bytes() {
        let bytes: Vec<u8> = (0..200_000u32)
            .map(|n| (n.wrapping_mul(n) >> 9) as u8)
            .collect();
        assert_eq!(unpacked(&bytes).expect("plain"), bytes);
        for kind in ALL {
            let mut twice = packed(kind, &bytes);
            assert_eq!(compression(&twice).expect("known"), kind);
            assert!(unpacked(&twice).expect("whole") == bytes, "{kind:?}");
            twice.extend(packed(kind, b"more"));
            assert!(
                unpacked(&twice).expect("two in a row").ends_with(b"more"),
                "{kind:?}"
            );
        }
        for other in [&b"BZh91AY"[..], b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c"] {
            assert!(compression(other).is_err());
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error_with_a_hint() {
        let bytes: Vec<u8> = (0..50_000u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        for kind in ALL {
            let whole = packed(kind, &bytes);
            for cut in [10, whole.len() / 2, whole.len() - 1] {
                let error = unpacked(&whole[..cut]).expect_err("cut");
                assert!(
                    ImageError::inside(&error).is_some(),
                    "{kind:?} {cut}: {error}"
                );
            }
            let mut changed = whole.clone();
            let middle = changed.len() / 2;
            changed[middle] ^= 0x10;
            assert!(unpacked(&changed).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_on_the_way() {
        struct Zeros(u64);
        impl Read for Zeros {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                let n = self.0.min(out.len() as u64) as usize;
                out[..n].fill(0);
                self.0 -= n as u64;
                Ok(n)
            }
        }
        let mut out = zstd::Encoder::new(Vec::new(), 1).expect("zstd");
        io::copy(&mut Zeros(3 << 30), &mut out).expect("packed");
        let bomb = out.finish().expect("finished");
        let mut plain = plain(&bomb[..]).expect("zstd");
        let error = io::copy(&mut plain, &mut io::sink()).expect_err("a bomb");
        let error = ImageError::inside(&error).expect("ours");
        assert!(error.message.contains("unpacked to more than"), "{error}");
    }

    /// 1 GiB of dictionary is asked for, by a header of a few bytes.
    #[test]
    fn a_decoder_takes_no_more_memory_than_it_may() {
        let options = liblzma::stream::LzmaOptions::new_preset(0).map(|mut options| {
            options.dict_size(1 << 30);
            options
        });
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options.expect("options"));
        // What the encoder would hold for that dictionary is not wanted here: only the header is.
        let mut small = liblzma::stream::Filters::new();
        let small_options = liblzma::stream::LzmaOptions::new_preset(0).expect("options");
        small.lzma2(&small_options);
        let check = liblzma::stream::Check::Crc32;
        let stream = liblzma::stream::Stream::new_stream_encoder(&small, check).expect("xz");
        let mut out = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        out.write_all(b"x").expect("written");
        let mut bytes = out.finish().expect("finished");
        // The block header (XZ file format, 3.1) is behind the stream header's 12 bytes: size, flags, filter id 0x21,
        // its one byte of properties; the header's CRC32 is its last four bytes.
        assert_eq!(bytes[14], 0x21);
        bytes[16] = 36;
        let size = (usize::from(bytes[12]) + 1) * 4;
        let sum = crc32(&bytes[12..12 + size - 4]);
        bytes[12 + size - 4..12 + size].copy_from_slice(&sum.to_le_bytes());
        let error = unpacked(&bytes).expect_err("too much memory");
        assert!(ImageError::inside(&error).is_some(), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }
}
