//! One connection under stress: a file system that panics, peers that stall. The file
//! system is a stand-in: only READ and GETATTR do something, as no more is needed here.

use super::*;
use crate::client::{Client, ClientError, ClientLimits, Connect, Creds, Stream};
use crate::proto::*;
use crate::rpc::{RECORD_MAX, finish_record, put_call, read_record, start_record};
use crate::vfs::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// GETATTR panics; READ gives what was asked for, and counts.
#[derive(Default)]
struct Stand(AtomicUsize);

const NO: nfsstat3 = nfsstat3::NFS3ERR_NOTSUPP;

impl Vfs for Stand {
    fn mount(&self, _: &Cx, _: &[u8]) -> Result<Fh> {
        Err(NO)
    }
    fn umount(&self, _: &Cx, _: &[u8]) {}
    fn exports(&self) -> Vec<ExportLine> {
        Vec::new()
    }
    fn getattr(&self, _: &Cx, _: &Fh) -> Result<fattr3> {
        panic!("a bug in the file system")
    }
    fn setattr(&self, _: &Cx, _: &Fh, _: &sattr3, _: Option<nfstime3>) -> Result<Wcc> {
        Err(NO)
    }
    fn lookup(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<Found> {
        Err(NO)
    }
    fn access(&self, _: &Cx, _: &Fh, _: u32) -> Result<(u32, fattr3)> {
        Err(NO)
    }
    fn readlink(&self, _: &Cx, _: &Fh) -> Result<(Vec<u8>, fattr3)> {
        Err(NO)
    }
    fn read(&self, _: &Cx, _: &Fh, _: u64, count: u32, out: &mut Vec<u8>) -> Result<ReadDone> {
        self.0.fetch_add(1, Ordering::SeqCst);
        out.resize(out.len() + count as usize, 7);
        Ok(ReadDone {
            attr: fattr3::default(),
            eof: false,
        })
    }
    fn write(&self, _: &Cx, _: &Fh, _: u64, _: &[u8], _: Stable) -> Result<Written> {
        Err(NO)
    }
    fn create(&self, _: &Cx, _: &Fh, _: &[u8], _: &CreateHow) -> Result<Made> {
        Err(NO)
    }
    fn mkdir(&self, _: &Cx, _: &Fh, _: &[u8], _: &sattr3) -> Result<Made> {
        Err(NO)
    }
    fn symlink(&self, _: &Cx, _: &Fh, _: &[u8], _: &[u8], _: &sattr3) -> Result<Made> {
        Err(NO)
    }
    fn mknod(&self, _: &Cx, _: &Fh, _: &[u8], _: NodeKind, _: &sattr3) -> Result<Made> {
        Err(NO)
    }
    fn remove(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<Wcc> {
        Err(NO)
    }
    fn rmdir(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<Wcc> {
        Err(NO)
    }
    fn rename(&self, _: &Cx, _: &Fh, _: &[u8], _: &Fh, _: &[u8]) -> Result<(Wcc, Wcc)> {
        Err(NO)
    }
    fn link(&self, _: &Cx, _: &Fh, _: &Fh, _: &[u8]) -> Result<(fattr3, Wcc)> {
        Err(NO)
    }
    fn readdir(
        &self,
        _: &Cx,
        _: &Fh,
        _: u64,
        _: bool,
        _: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<DirDone> {
        Err(NO)
    }
    fn fsstat(&self, _: &Cx, _: &Fh) -> Result<(FsStat, fattr3)> {
        Err(NO)
    }
    fn fsinfo(&self, _: &Cx, _: &Fh) -> Result<(FsInfo, fattr3)> {
        Err(NO)
    }
    fn commit(&self, _: &Cx, _: &Fh, _: u64, _: u32) -> Result<Wcc> {
        Err(NO)
    }
    fn write_verifier(&self) -> [u8; 8] {
        [0; 8]
    }
    fn getxattr(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<Vec<u8>> {
        Err(NO)
    }
    fn listxattr(&self, _: &Cx, _: &Fh) -> Result<Vec<Vec<u8>>> {
        Err(NO)
    }
    fn setxattr(&self, _: &Cx, _: &Fh, _: &[u8], _: &[u8], _: XattrHow) -> Result<()> {
        Err(NO)
    }
    fn removexattr(&self, _: &Cx, _: &Fh, _: &[u8]) -> Result<()> {
        Err(NO)
    }
}
