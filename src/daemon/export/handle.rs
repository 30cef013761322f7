//! NFS file handles: what a node is called on the wire.
//!
//! `version ‖ kind ‖ id (8) ‖ node (8) ‖ MAC (16)`, 34 bytes; of a volume that another host had, 8 more
//! behind the node: the generation to write in. For a host directory the
//! node is the host file system's own handle, and the whole at most 64 bytes. The MAC
//! is keyed by the store, so a handle can be neither guessed nor altered, and it outlives
//! the server that gave it out.

use pocker_nfs::proto::{FHSIZE, nfsstat3};
use pocker_nfs::vfs::Fh;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

const VERSION: u8 = 1;
const MAC_LEN: usize = 16;
const HEAD_LEN: usize = 2 + 8;
/// Longest host handle that still fits: type (4) and bytes.
pub const HOST_MAX: usize = FHSIZE - HEAD_LEN - MAC_LEN;

/// The kind of a host directory's file.
const HOST: u8 = 4;

/// What a handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A node of a work tree.
    Work { tree: u64, node: u64 },
    /// A node of a volume, reached where it may be changed or where it may not.
    Volume { tree: u64, node: u64, may: May },
    /// A node of a sealed tree, seen through a row of the browse view.
    Browse { row: u64, node: u64 },
    /// A directory or link that the browse view makes up.
    Synthetic { id: u64 },
    /// A file of a grafted host directory.
    Host { graft: u64, file: HostFile },
}

/// How a volume is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    Read,
    /// As long as it is in that generation.
    Write {
        generation: u64,
    },
}

/// The host kernel's name of a file, as name_to_handle_at(2) gives it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostFile {
    pub kind: i32,
    len: u8,
    bytes: [u8; HOST_MAX - 4],
}

impl HostFile {
    /// `None` where the host's handle is too long to be carried.
    pub fn new(kind: i32, handle: &[u8]) -> Option<HostFile> {
        let mut bytes = [0; HOST_MAX - 4];
        bytes.get_mut(..handle.len())?.copy_from_slice(handle);
        Some(HostFile {
            kind,
            len: u8::try_from(handle.len()).ok()?,
            bytes,
        })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for HostFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostFile(type {})", self.kind)
    }
}

/// Makes and checks handles with one store's key.
#[derive(Clone)]
pub struct Codec {
    key: Key,
    /// For files of host directories.
    grafts: Key,
}

type Key = [u8; 16];

impl Codec {
    pub fn new(secret: &[u8; 32]) -> Codec {
        let mut key = [0; 16];
        key.copy_from_slice(&secret[..16]);
        Codec { key, grafts: key }
    }

    /// The same, but for files of host directories, whose key another process knows: it knows no other.
    pub fn apart(secret: &[u8; 32]) -> Codec {
        let codec = Codec::new(secret);
        let grafts = mac(
            &codec.key,
            b"files of host directories, of a process of their own",
        );
        Codec { grafts, ..codec }
    }

    /// That process's.
    pub fn of_grafts(key: Key) -> Codec {
        Codec { key, grafts: key }
    }

    pub fn graft_key(&self) -> Key {
        self.grafts
    }

    fn mac(&self, bytes: &[u8]) -> [u8; MAC_LEN] {
        let key = match bytes.get(1) {
            Some(&HOST) => &self.grafts,
            _ => &self.key,
        };
        mac(key, bytes)
    }

    pub fn encode(&self, name: &Name) -> Fh {
        let mut buf = [0; FHSIZE];
        buf[0] = VERSION;
        let (kind, id, rest): (u8, u64, usize) = match name {
            Name::Work { tree, node } => {
                buf[HEAD_LEN..HEAD_LEN + 8].copy_from_slice(&node.to_be_bytes());
                (1, *tree, 8)
            }
            Name::Volume { tree, node, may } => {
                buf[HEAD_LEN..HEAD_LEN + 8].copy_from_slice(&node.to_be_bytes());
                match may {
                    May::Write { generation: 0 } => (5, *tree, 8),
                    May::Read => (6, *tree, 8),
                    May::Write { generation } => {
                        let at = HEAD_LEN + 8;
                        buf[at..at + 8].copy_from_slice(&generation.to_be_bytes());
                        (7, *tree, 16)
                    }
                }
            }
            Name::Browse { row, node } => {
                buf[HEAD_LEN..HEAD_LEN + 8].copy_from_slice(&node.to_be_bytes());
                (2, *row, 8)
            }
            Name::Synthetic { id } => (3, *id, 0),
            Name::Host { graft, file } => {
                buf[HEAD_LEN..HEAD_LEN + 4].copy_from_slice(&file.kind.to_be_bytes());
                let end = HEAD_LEN + 4 + file.bytes().len();
                buf[HEAD_LEN + 4..end].copy_from_slice(file.bytes());
                (HOST, *graft, 4 + file.bytes().len())
            }
        };
        buf[1] = kind;
        buf[2..HEAD_LEN].copy_from_slice(&id.to_be_bytes());
        let end = HEAD_LEN + rest;
        let mac = self.mac(&buf[..end]);
        buf[end..end + MAC_LEN].copy_from_slice(&mac);
        // At least the head and the MAC, at most FHSIZE: always a handle.
        Fh::new(&buf[..end + MAC_LEN]).unwrap_or_else(|| unreachable!("a handle of {end} bytes"))
    }

    /// A handle that this store did not make is BADHANDLE (RFC 1813 §2.6).
    pub fn decode(&self, fh: &Fh) -> Result<Name, nfsstat3> {
        let bytes = fh.as_bytes();
        let bad = Err(nfsstat3::NFS3ERR_BADHANDLE);
        if bytes.len() < HEAD_LEN + MAC_LEN || bytes[0] != VERSION {
            return bad;
        }
        let (body, mac) = bytes.split_at(bytes.len() - MAC_LEN);
        // Every byte is looked at, whatever differs: no timing tells how far a forgery got.
        let differs = self
            .mac(body)
            .iter()
            .zip(mac)
            .fold(0, |acc, (a, b)| acc | (a ^ b));
        if differs != 0 {
            return bad;
        }
        let word = |at: usize| -> Option<u64> {
            Some(u64::from_be_bytes(body.get(at..at + 8)?.try_into().ok()?))
        };
        let Some(id) = word(2) else { return bad };
        let rest = body.len() - HEAD_LEN;
        match (body[1], rest) {
            (1, 8) => match word(HEAD_LEN) {
                Some(node) => Ok(Name::Work { tree: id, node }),
                None => bad,
            },
            (2, 8) => match word(HEAD_LEN) {
                Some(node) => Ok(Name::Browse { row: id, node }),
                None => bad,
            },
            (kind @ (5 | 6), 8) => match word(HEAD_LEN) {
                Some(node) => Ok(Name::Volume {
                    tree: id,
                    node,
                    may: match kind {
                        6 => May::Read,
                        _ => May::Write { generation: 0 },
                    },
                }),
                None => bad,
            },
            (7, 16) => match (word(HEAD_LEN), word(HEAD_LEN + 8)) {
                (Some(node), Some(generation @ 1..)) => Ok(Name::Volume {
                    tree: id,
                    node,
                    may: May::Write { generation },
                }),
                _ => bad,
            },
            (3, 0) => Ok(Name::Synthetic { id }),
            (HOST, 4..) => {
                let mut kind = [0; 4];
                kind.copy_from_slice(&body[HEAD_LEN..HEAD_LEN + 4]);
                match HostFile::new(i32::from_be_bytes(kind), &body[HEAD_LEN + 4..]) {
                    Some(file) => Ok(Name::Host { graft: id, file }),
                    None => bad,
                }
            }
            _ => bad,
        }
    }

    /// The secret in the path of a writable export: whoever knows the path may mount it.
    pub fn export_secret(&self, kind: &str, id: u64) -> String {
        let mut text = b"export\0".to_vec();
        text.extend_from_slice(kind.as_bytes());
        text.extend_from_slice(&id.to_be_bytes());
        hex::encode(mac(&self.key, &text))
    }
}

fn mac(key: &Key, bytes: &[u8]) -> [u8; MAC_LEN] {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(bytes);
    hasher.finish128().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn may() -> impl Strategy<Value = May> {
        let write = |generation| May::Write { generation };
        prop_oneof![
            Just(May::Read),
            Just(write(0)),
            any::<u64>().prop_map(write)
        ]
    }

    fn names() -> impl Strategy<Value = Name> {
        prop_oneof![
            (any::<u64>(), any::<u64>()).prop_map(|(tree, node)| Name::Work { tree, node }),
            (any::<u64>(), any::<u64>()).prop_map(|(row, node)| Name::Browse { row, node }),
            (any::<u64>(), any::<u64>(), may()).prop_map(|(tree, node, may)| Name::Volume {
                tree,
                node,
                may
            }),
            any::<u64>().prop_map(|id| Name::Synthetic { id }),
            (
                any::<u64>(),
                any::<i32>(),
                proptest::collection::vec(any::<u8>(), 0..=HOST_MAX - 4)
            )
                .prop_filter_map("fits", |(graft, kind, bytes)| {
                    Some(Name::Host {
                        graft,
                        file: HostFile::new(kind, &bytes)?,
                    })
                }),
        ]
    }

    proptest! {
        #[test]
        fn a_handle_names_what_it_was_made_of(name in names()) {
            let codec = Codec::new(&[7; 32]);
            let fh = codec.encode(&name);
            prop_assert_eq!(codec.decode(&fh).ok(), Some(name));
        }

        #[test]
        fn a_changed_bit_is_no_handle(name in names(), at in any::<usize>(), bit in 0..8u8) {
            let codec = Codec::new(&[7; 32]);
            let fh = codec.encode(&name);
            let mut bytes = fh.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let forged = Fh::new(&bytes).expect("same length");
            prop_assert!(codec.decode(&forged).is_err());
        }

        #[test]
        fn who_has_the_grafts_key_makes_their_handles_and_no_others(name in names()) {
            let codec = Codec::apart(&[7; 32]);
            prop_assert_eq!(codec.decode(&codec.encode(&name)).ok(), Some(name));
            let theirs = Codec::of_grafts(codec.graft_key());
            let forged = codec.decode(&theirs.encode(&name));
            match name {
                Name::Host { .. } => prop_assert_eq!(forged.ok(), Some(name)),
                _ => prop_assert!(forged.is_err()),
            }
        }

        #[test]
        fn another_stores_handle_is_no_handle(name in names()) {
            let fh = Codec::new(&[7; 32]).encode(&name);
            prop_assert!(Codec::new(&[8; 32]).decode(&fh).is_err());
        }
    }
}
