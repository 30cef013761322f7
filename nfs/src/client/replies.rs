//! What replies hold, decoded with bounds: a hostile server allocates nothing here
//! that it has not sent.

use super::ClientError;
use crate::proto::*;
use crate::vfs::{Fh, Stable};
use crate::xdr::{Decoded, Garbage, Reader};

#[derive(Clone, Copy, Debug)]
pub struct LookupReply {
    pub fh: Fh,
    pub attr: Option<fattr3>,
    pub dir: Option<fattr3>,
}

/// CREATE, MKDIR, SYMLINK, MKNOD. A server may leave out the handle; ours never does.
#[derive(Clone, Copy, Debug)]
pub struct MadeReply {
    pub fh: Option<Fh>,
    pub attr: Option<fattr3>,
    pub dir: Option<fattr3>,
}

/// PATHCONF (RFC 1813 §3.3.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathConf {
    /// The most hard links a file may have.
    pub link_max: u32,
    pub name_max: u32,
    pub no_trunc: bool,
    pub chown_restricted: bool,
    pub case_insensitive: bool,
    pub case_preserving: bool,
}

#[derive(Clone, Debug)]
pub struct ReadReply {
    pub attr: Option<fattr3>,
    pub eof: bool,
    pub data: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub struct WriteReply {
    pub attr: Option<fattr3>,
    pub count: u32,
    pub committed: Stable,
    pub verifier: [u8; 8],
}

#[derive(Clone, Debug)]
pub struct DirEntry {
    pub fileid: u64,
    pub name: Vec<u8>,
    pub cookie: u64,
    pub attr: Option<fattr3>,
    pub fh: Option<Fh>,
}

#[derive(Clone, Debug)]
pub struct DirReply {
    pub attr: Option<fattr3>,
    pub verifier: [u8; 8],
    pub entries: Vec<DirEntry>,
    pub eof: bool,
}

impl From<Garbage> for ClientError {
    fn from(_: Garbage) -> ClientError {
        ClientError::Garbled
    }
}

/// Steps over a reply's header (RFC 5531 §9) to its results.
pub fn results(record: &[u8]) -> Result<Reader<'_>, ClientError> {
    let mut r = Reader::new(record);
    r.u32()?;
    if r.u32()? != 1 {
        return Err(ClientError::Garbled);
    }
    if r.u32()? != 0 {
        return Err(ClientError::Rpc(match (r.u32()?, r.u32()?) {
            (1, 5) => "it has to come over TLS",
            _ => "denied: RPC version or credentials",
        }));
    }
    r.u32()?;
    r.opaque(400)?;
    match r.u32()? {
        0 => Ok(r),
        1 => Err(ClientError::Rpc("no such program")),
        2 => Err(ClientError::Rpc("no such version")),
        3 => Err(ClientError::Rpc("no such procedure")),
        4 => Err(ClientError::Rpc("its arguments do not decode")),
        _ => Err(ClientError::Rpc("the server failed")),
    }
}

/// Reads nfsstat3; what follows an error is left alone.
pub fn ok(r: &mut Reader<'_>) -> Result<(), ClientError> {
    match r.u32()? {
        0 => Ok(()),
        code => Err(ClientError::Status(status(code))),
    }
}

fn status(code: u32) -> nfsstat3 {
    use nfsstat3::*;
    const ALL: [nfsstat3; 28] = [
        NFS3ERR_PERM,
        NFS3ERR_NOENT,
        NFS3ERR_IO,
        NFS3ERR_NXIO,
        NFS3ERR_ACCES,
        NFS3ERR_EXIST,
        NFS3ERR_XDEV,
        NFS3ERR_NODEV,
        NFS3ERR_NOTDIR,
        NFS3ERR_ISDIR,
        NFS3ERR_INVAL,
        NFS3ERR_FBIG,
        NFS3ERR_NOSPC,
        NFS3ERR_ROFS,
        NFS3ERR_MLINK,
        NFS3ERR_NAMETOOLONG,
        NFS3ERR_NOTEMPTY,
        NFS3ERR_DQUOT,
        NFS3ERR_STALE,
        NFS3ERR_REMOTE,
        NFS3ERR_BADHANDLE,
        NFS3ERR_NOT_SYNC,
        NFS3ERR_BAD_COOKIE,
        NFS3ERR_NOTSUPP,
        NFS3ERR_TOOSMALL,
        NFS3ERR_SERVERFAULT,
        NFS3ERR_BADTYPE,
        NFS3ERR_JUKEBOX,
    ];
    ALL.into_iter()
        .find(|s| *s as u32 == code)
        .unwrap_or(NFS3ERR_SERVERFAULT)
}

pub fn made(r: &mut Reader<'_>) -> Decoded<MadeReply> {
    Ok(MadeReply {
        fh: r.post_op_fh()?,
        attr: r.post_op_attr()?,
        dir: r.wcc_after()?,
    })
}

pub fn stable(r: &mut Reader<'_>) -> Decoded<Stable> {
    match r.u32()? {
        0 => Ok(Stable::Unstable),
        1 => Ok(Stable::DataSync),
        2 => Ok(Stable::FileSync),
        _ => Err(Garbage),
    }
}

pub fn directory(r: &mut Reader<'_>, plus: bool) -> Decoded<DirReply> {
    let attr = r.post_op_attr()?;
    let verifier = r.array()?;
    let mut entries = Vec::new();
    while r.bool()? {
        let fileid = r.u64()?;
        let name = r.opaque(NAME_MAX)?.to_vec();
        let cookie = r.u64()?;
        let (attr, fh) = if plus {
            (r.post_op_attr()?, r.post_op_fh()?)
        } else {
            (None, None)
        };
        entries.push(DirEntry {
            fileid,
            name,
            cookie,
            attr,
            fh,
        });
    }
    Ok(DirReply {
        attr,
        verifier,
        entries,
        eof: r.bool()?,
    })
}
