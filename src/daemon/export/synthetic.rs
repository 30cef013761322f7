//! The directories and links that the browse view makes up: its root, one
//! directory a pocker, and `run`.

use super::browse::{NameRow, Place, ROOT_ID};
use super::handle::Name;
use super::{Exports, FSID_BROWSE, convert};
use pocker_nfs::proto::*;
use pocker_nfs::vfs::{DirDone, Entry, Fh, Found, Result};
use pocker_store::types::{Attr, Kind, ROOT, Rdev, Time};

const STALE: nfsstat3 = nfsstat3::NFS3ERR_STALE;

/// One entry of a synthetic directory.
struct Shown {
    name: String,
    fh: Fh,
    attr: fattr3,
}

fn made_up(kind: Kind, mode: u32, nlink: u32, size: u64, time: Time, fileid: u64) -> fattr3 {
    let attr = Attr {
        node: fileid,
        kind,
        mode,
        nlink,
        uid: 0,
        gid: 0,
        size,
        used: 0,
        rdev: Rdev::default(),
        atime: time,
        mtime: time,
        ctime: time,
    };
    convert::attr(&attr, FSID_BROWSE, fileid)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX - 2)
}

impl Exports {
    pub(super) fn synthetic_attr(&self, id: u64) -> Result<fattr3> {
        let table = self.browse.read();
        if id == ROOT_ID {
            let nlink = 2 + count(table.names.len());
            return Ok(made_up(
                Kind::Dir,
                0o755,
                nlink,
                4096,
                table.root_time(),
                ROOT_ID,
            ));
        }
        match table.place(id) {
            Some(Place::Name(name)) => {
                let row = table.names.get(name).ok_or(STALE)?;
                let nlink = 2 + count(row.rows.len());
                Ok(made_up(Kind::Dir, 0o755, nlink, 4096, row.time(), id))
            }
            Some(Place::Link(name)) => {
                let row = table.names.get(name).ok_or(STALE)?;
                Ok(link_attr(row))
            }
            _ => Err(STALE),
        }
    }

    fn shown(&self, id: u64) -> Result<Vec<Shown>> {
        let names: Vec<(String, NameRow)> = {
            let table = self.browse.read();
            if id == ROOT_ID {
                table
                    .names
                    .iter()
                    .map(|(n, r)| (n.clone(), r.clone()))
                    .collect()
            } else {
                match table.place(id) {
                    Some(Place::Name(name)) => {
                        let row = table.names.get(name).ok_or(STALE)?.clone();
                        drop(table);
                        return self.steps_shown(&row);
                    }
                    Some(Place::Link(_)) => return Err(nfsstat3::NFS3ERR_NOTDIR),
                    _ => return Err(STALE),
                }
            }
        };
        names
            .into_iter()
            .map(|(name, row)| {
                let fh = self.codec.encode(&Name::Synthetic { id: row.id });
                Ok(Shown {
                    name,
                    fh,
                    attr: self.synthetic_attr(row.id)?,
                })
            })
            .collect()
    }

    fn steps_shown(&self, row: &NameRow) -> Result<Vec<Shown>> {
        let mut out = Vec::with_capacity(row.rows.len() + 1);
        for step in &row.rows {
            let (tree, _) = self.row_tree(step.id)?;
            let attr = pocker_store::tree::Tree::getattr(&*tree, ROOT).map_err(convert::status)?;
            let fileid = Exports::browse_fileid(step.id, ROOT);
            out.push(Shown {
                name: step.dir.clone(),
                fh: self.codec.encode(&Name::Browse {
                    row: step.id,
                    node: ROOT,
                }),
                attr: convert::attr(&attr, FSID_BROWSE, fileid),
            });
        }
        out.push(Shown {
            name: "run".to_string(),
            fh: self.codec.encode(&Name::Synthetic { id: row.link_id }),
            attr: link_attr(row),
        });
        Ok(out)
    }

    pub(super) fn synthetic_lookup(&self, id: u64, name: &[u8]) -> Result<Found> {
        let dir = self.synthetic_attr(id)?;
        if !matches!(dir.ftype, ftype3::NF3DIR) {
            return Err(nfsstat3::NFS3ERR_NOTDIR);
        }
        let own = |id: u64| -> Result<Found> {
            let fh = self.codec.encode(&Name::Synthetic { id });
            Ok(Found {
                fh,
                attr: self.synthetic_attr(id)?,
                dir,
            })
        };
        match name {
            b"." => own(id),
            b".." => own(ROOT_ID),
            name => {
                let found = self
                    .shown(id)?
                    .into_iter()
                    .find(|s| s.name.as_bytes() == name);
                let found = found.ok_or(nfsstat3::NFS3ERR_NOENT)?;
                Ok(Found {
                    fh: found.fh,
                    attr: found.attr,
                    dir,
                })
            }
        }
    }

    pub(super) fn synthetic_readlink(&self, id: u64) -> Result<(Vec<u8>, fattr3)> {
        let table = self.browse.read();
        match table.place(id) {
            Some(Place::Link(name)) => {
                let row = table.names.get(name).ok_or(STALE)?;
                Ok((row.run().as_bytes().to_vec(), link_attr(row)))
            }
            Some(_) => Err(nfsstat3::NFS3ERR_INVAL),
            None if id == ROOT_ID => Err(nfsstat3::NFS3ERR_INVAL),
            None => Err(STALE),
        }
    }

    /// A cookie is the fileid of the entry it follows: entries are listed by fileid, so a
    /// name that comes or goes between two calls moves none of the others.
    pub(super) fn synthetic_readdir(
        &self,
        id: u64,
        cookie: u64,
        plus: bool,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<DirDone> {
        let attr = self.synthetic_attr(id)?;
        let mut entries = self.shown(id)?;
        entries.sort_by_key(|s| s.attr.fileid);
        let own = self.codec.encode(&Name::Synthetic { id });
        let dots = [(1u64, &b"."[..], id), (2, &b".."[..], ROOT_ID)];
        for (at, name, fileid) in dots {
            if cookie < at {
                let entry = Entry {
                    fileid,
                    name,
                    cookie: at,
                    plus: plus.then_some((own, attr)).filter(|_| at == 1),
                };
                if !emit(entry) {
                    return Ok(DirDone { attr, eof: false });
                }
            }
        }
        for shown in entries.iter().filter(|s| s.attr.fileid > cookie.max(2)) {
            let entry = Entry {
                fileid: shown.attr.fileid,
                name: shown.name.as_bytes(),
                cookie: shown.attr.fileid,
                plus: plus.then_some((shown.fh, shown.attr)),
            };
            if !emit(entry) {
                return Ok(DirDone { attr, eof: false });
            }
        }
        Ok(DirDone { attr, eof: true })
    }
}

fn link_attr(row: &NameRow) -> fattr3 {
    made_up(
        Kind::Symlink,
        0o777,
        1,
        row.run().len() as u64,
        row.time(),
        row.link_id,
    )
}
