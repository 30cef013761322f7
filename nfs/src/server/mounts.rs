//! Who mounted what, as MOUNT's DUMP tells it (RFC 1813 §5.2.2). It is a hint and no more:
//! a client that crashed never said UMNT.

use crate::vfs::Peer;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Rows kept; the oldest makes room.
const ROWS_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The client's address, or `local`.
    pub client: String,
    /// The export as others may see it: without a secret.
    pub path: Vec<u8>,
}

/// Each row, and how often it is mounted: one client may have a path at several places.
#[derive(Debug, Default)]
pub struct Mounts(Mutex<VecDeque<(Mounted, u32)>>);

pub fn client(peer: &Peer) -> String {
    match peer {
        Peer::Tcp(addr) | Peer::Udp(addr) => addr.ip().to_string(),
        Peer::Unix { .. } => "local".to_string(),
        Peer::Memory => "memory".to_string(),
    }
}

impl Mounts {
    pub fn list(&self) -> Vec<Mounted> {
        self.0.lock().iter().map(|(row, _)| row.clone()).collect()
    }

    pub(super) fn add(&self, peer: &Peer, path: Vec<u8>) {
        let row = Mounted {
            client: client(peer),
            path,
        };
        tracing::info!(client = row.client, path = %row.path.escape_ascii(), "mounted");
        let mut rows = self.0.lock();
        if let Some((_, times)) = rows.iter_mut().find(|(known, _)| *known == row) {
            *times = times.saturating_add(1);
            return;
        }
        if rows.len() == ROWS_MAX {
            rows.pop_front();
        }
        rows.push_back((row, 1));
    }

    /// Forgets a mount of `path` by the client, or, without a path, all of its.
    pub(super) fn remove(&self, peer: &Peer, path: Option<&[u8]>) {
        let client = client(peer);
        self.0.lock().retain_mut(|(row, times)| {
            if row.client != client || path.is_some_and(|path| path != row.path) {
                return true;
            }
            tracing::info!(client, path = %row.path.escape_ascii(), "unmounted");
            *times -= 1;
            path.is_some() && *times > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_bounded_and_belong_to_their_client() {
        let mounts = Mounts::default();
        let here = Peer::Tcp(([192, 0, 2, 1], 700).into());
        let there = Peer::Udp(([192, 0, 2, 2], 800).into());
        mounts.add(&here, b"/a".to_vec());
        mounts.add(&here, b"/a".to_vec());
        mounts.add(&here, b"/b".to_vec());
        mounts.add(&there, b"/a".to_vec());
        assert_eq!(mounts.list().len(), 3);
        mounts.remove(&there, Some(b"/b"));
        mounts.remove(&here, Some(b"/a"));
        // It was mounted twice.
        assert_eq!(mounts.list().len(), 3);
        mounts.remove(&here, Some(b"/a"));
        assert_eq!(mounts.list().len(), 2);
        mounts.remove(&there, None);
        assert_eq!(mounts.list()[0].path, b"/b");
        for n in 0..2 * ROWS_MAX {
            mounts.add(&here, n.to_string().into_bytes());
        }
        assert_eq!(mounts.list().len(), ROWS_MAX);
    }
}
