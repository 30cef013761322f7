//! Read-only descriptors of files, for mount helpers of this host: what a kernel reads with
//! one by itself takes no READ.
//!
//! A descriptor goes with a message and not in a stream of records, so these have a unix
//! socket of their own beside the RPC one. A request is the handle's length in a byte and 64
//! bytes that begin with the handle. The answer is an nfsstat3, with which the
//! descriptor goes where that is NFS3_OK. One request is answered at a time.

use crate::proto::FHSIZE;
use crate::vfs::Fh;
use std::path::{Path, PathBuf};

/// Bytes of a request.
pub const REQUEST: usize = 1 + FHSIZE;
/// Bytes of an answer.
pub const ANSWER: usize = 4;

/// Where descriptors are given, for the RPC socket `nfs`.
pub fn beside(nfs: &Path) -> PathBuf {
    nfs.with_file_name("files.sock")
}

pub fn request(fh: &Fh) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    let handle = fh.as_bytes();
    bytes[0] = handle.len() as u8;
    bytes[1..=handle.len()].copy_from_slice(handle);
    bytes
}

/// The handle that is asked for, if that can be one.
pub(crate) fn asked(request: &[u8; REQUEST]) -> Option<Fh> {
    let (len, bytes) = request.split_first()?;
    Fh::new(bytes.get(..usize::from(*len))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_handles_and_nothing_else() {
        for len in [1, 32, FHSIZE] {
            let fh = Fh::new(&vec![7; len]).unwrap();
            assert_eq!(asked(&request(&fh)), Some(fh));
        }
        for len in [0, FHSIZE as u8 + 1, u8::MAX] {
            let mut bytes = [1; REQUEST];
            bytes[0] = len;
            assert_eq!(asked(&bytes), None);
        }
    }
}
