//! A file's bytes written where they are not all zeros: the rest stay holes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Read at a time.
const CHUNK: usize = 256 << 10;
/// A hole is of whole ones of these, as file systems have it.
const BLOCK: usize = 4096;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Writes files, with one buffer for all of them.
#[derive(Default)]
pub struct Body(Vec<u8>);

impl Body {
    /// Fills a new file with `data`.
    pub fn write(&mut self, data: &mut dyn Read, file: &File) -> io::Result<()> {
        self.0.resize(CHUNK, 0);
        let (mut at, mut end) = (0, 0);
        loop {
            let got = fill(data, &mut self.0)?;
            end = written(&self.0[..got], at, file)?.unwrap_or(end);
            at += got as u64;
            if got < CHUNK {
                break;
            }
        }
        match end < at {
            true => file.set_len(at),
            false => Ok(()),
        }
    }
}

/// Where what was written ends; none where it is all zeros.
fn written(bytes: &[u8], at: u64, file: &File) -> io::Result<Option<u64>> {
    let zeros = |block: &[u8]| *block == ZEROS[..block.len()];
    let mut end = None;
    let mut from = 0;
    while from < bytes.len() {
        let block = |at: usize| &bytes[at..bytes.len().min(at + BLOCK)];
        if zeros(block(from)) {
            from += BLOCK;
            continue;
        }
        let mut to = from + BLOCK;
        while to < bytes.len() && !zeros(block(to)) {
            to += BLOCK;
        }
        let to = to.min(bytes.len());
        file.write_all_at(&bytes[from..to], at + from as u64)?;
        end = Some(at + to as u64);
        from = to;
    }
    Ok(end)
}

/// As much as there is, up to the whole buffer.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match from.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn bytes_come_out_as_they_went_in_and_zeros_take_no_room() {
        let mut body = Body::default();
        let block = |n: u8| vec![n; BLOCK];
        let cases = [
            Vec::new(),
            vec![0; 10],
            vec![1; 10],
            vec![0; CHUNK],
            vec![3; CHUNK],
            vec![3; CHUNK + 1],
            [block(0), block(1), block(0), vec![0; 5]].concat(),
            [vec![0; CHUNK], block(2), vec![0; 3 * CHUNK], vec![7]].concat(),
            [vec![9; 100], vec![0; 3 * CHUNK + 17]].concat(),
        ];
        for bytes in cases {
            let mut file = tempfile::tempfile().expect("a file");
            body.write(&mut &bytes[..], &file).expect("written");
            let mut found = Vec::new();
            file.read_to_end(&mut found).expect("read");
            assert!(found == bytes, "of {} bytes", bytes.len());
            let blocks = bytes.chunks(BLOCK).filter(|b| b.iter().any(|b| *b != 0));
            // A file system may take more than a block at a time, and never for what is not there.
            let most = blocks.count() as u64 * (64 << 10);
            assert!(file.metadata().expect("stat").blocks() * 512 <= most);
        }
    }
}
