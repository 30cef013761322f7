//! The changed files of a seal, hashed and handed to the batch.

use super::Sealing;
use crate::StoreError;
use crate::blob::SMALL;
use crate::failpoint;
use crate::object::Body;
use crate::sealed::BaseEntry;
use crate::types::{Digest, Errno, Node};
use crate::work::area::failed;
use crate::work::node::{Content, Node as Inode, What};
use crate::work::staged::Staged;

impl Sealing<'_> {
    /// A changed node's body; `old` is its entry in the base.
    pub(super) fn body(
        &mut self,
        n: Node,
        node: &Inode,
        old: Option<&BaseEntry>,
    ) -> Result<Body, Errno> {
        match &node.what {
            What::Dir(_) => old.ok_or(Errno::Io)?.body(),
            What::File(content) => self.file(n, content),
            What::Symlink(target) => Ok(Body::Symlink(target.to_vec())),
            What::Fifo => Ok(Body::Fifo),
            What::Socket => Ok(Body::Socket),
            What::Char(r) => Ok(Body::Char(*r)),
            What::Block(r) => Ok(Body::Block(*r)),
        }
    }

    fn file(&mut self, n: Node, content: &Content) -> Result<Body, Errno> {
        if let Some(body) = self.bodies.get(&n) {
            return Ok(body.clone());
        }
        let (blob, size) = match content {
            Content::Blob(blob) => (blob.digest, blob.size),
            Content::Inline(small) => {
                let digest = self.batch.put_small_blob(small.to_vec()?);
                (digest.map_err(StoreError::log)?, small.len())
            }
            Content::Staged(staged) => self.store(staged)?,
        };
        if !matches!(content, Content::Blob(_)) {
            self.files += 1;
            self.bytes += size;
        }
        let body = Body::File { blob, size };
        self.bodies.insert(n, body.clone());
        Ok(body)
    }

    fn store(&mut self, staged: &Staged) -> Result<(Digest, u64), Errno> {
        let area = self.area;
        if let Some(shots) = &mut self.shots {
            return shots.store(area, &mut self.batch, staged.key.1);
        }
        let (digest, size) = staged.complete(area)?;
        if size <= SMALL {
            let mut bytes = Vec::with_capacity(size as usize);
            staged.read(area, 0, size as u32, &mut bytes)?;
            self.batch.put_small_blob(bytes).map_err(StoreError::log)?;
            return Ok((digest, size));
        }
        let path = area.path(staged.key);
        let link = path.with_extension("seal");
        // Of a seal that failed.
        let _ = std::fs::remove_file(&link);
        failpoint::hit("seal.link.before")
            .and_then(|()| std::fs::hard_link(&path, &link))
            .map_err(|e| failed("link staged file", &link, &e))?;
        failpoint::pass("seal.link.after");
        self.batch
            .put_large(link, digest, size)
            .map_err(StoreError::log)?;
        Ok((digest, size))
    }
}
