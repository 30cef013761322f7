//! As much of RPC (RFC 5531), MOUNT and NFSv3 (RFC 1813) as a load needs.

pub const NFS: (u32, u32) = (100_003, 3);
pub const MOUNT: (u32, u32) = (100_005, 3);

pub type Fh = Vec<u8>;

pub trait Put {
    fn u32(&mut self, v: u32);
    fn u64(&mut self, v: u64);
    fn opaque(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_be_bytes());
    }
    fn opaque(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.extend_from_slice(bytes);
        self.resize(self.len() + (bytes.len().wrapping_neg() & 3), 0);
    }
}

/// Appends a call as root, with its record mark.
pub fn call(
    out: &mut Vec<u8>,
    xid: u32,
    program: (u32, u32),
    procedure: u32,
    args: impl FnOnce(&mut Vec<u8>),
) {
    let mark = out.len();
    out.u32(0);
    for word in [xid, 0, 2, program.0, program.1, procedure] {
        out.u32(word);
    }
    // AUTH_SYS: stamp, machine name, uid, gid, no groups; then no verifier.
    for word in [1, 20, 0, 0, 0, 0, 0, 0, 0] {
        out.u32(word);
    }
    args(out);
    let len = (out.len() - mark - 4) as u32 | 1 << 31;
    out[mark..mark + 4].copy_from_slice(&len.to_be_bytes());
}

/// No attribute is set but the mode.
pub fn sattr(out: &mut Vec<u8>, mode: u32) {
    for word in [1, mode, 0, 0, 0, 0, 0] {
        out.u32(word);
    }
}

pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at_checked(n).unwrap_or((&[], &[]));
        self.0 = rest;
        head
    }
    pub fn u32(&mut self) -> u32 {
        self.bytes(4)
            .try_into()
            .map_or(u32::MAX, u32::from_be_bytes)
    }
    pub fn u64(&mut self) -> u64 {
        self.bytes(8)
            .try_into()
            .map_or(u64::MAX, u64::from_be_bytes)
    }
    pub fn opaque(&mut self) -> &'a [u8] {
        let len = self.u32() as usize;
        let bytes = self.bytes(len);
        self.bytes(len.wrapping_neg() & 3);
        bytes
    }
    /// ftype and fileid of attributes, where there are any.
    pub fn post_op_attr(&mut self) -> Option<(u32, u64)> {
        if self.u32() != 1 {
            return None;
        }
        let attr = self.bytes(84);
        let kind = attr.get(..4)?.try_into().map(u32::from_be_bytes).ok()?;
        let fileid = attr.get(52..60)?.try_into().map(u64::from_be_bytes).ok()?;
        Some((kind, fileid))
    }
}

/// What of a reply follows its RPC header; none where the call was not accepted.
pub fn results(record: &[u8]) -> Option<Reader<'_>> {
    let mut r = Reader(record);
    r.u32();
    let accepted = (r.u32(), r.u32()) == (1, 0);
    r.u32();
    r.opaque();
    (accepted && r.u32() == 0).then_some(r)
}

pub fn xid(record: &[u8]) -> u32 {
    Reader(record).u32()
}
