//! `peer-nfsserve PORT DIR`: the nfsserve crate over a file system in memory, filled from a
//! directory. The crate ships no example; this one does as little as it can.

use async_trait::async_trait;
use nfsserve::nfs::*;
use nfsserve::tcp::{NFSTcp, NFSTcpListener};
use nfsserve::vfs::{DirEntry, NFSFileSystem, ReadDirResult, VFSCapabilities};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

struct Node {
    attr: fattr3,
    data: Vec<u8>,
    names: BTreeMap<Vec<u8>, fileid3>,
}

#[derive(Default)]
struct Memory(Mutex<Vec<Option<Node>>>);

const GONE: nfsstat3 = nfsstat3::NFS3ERR_STALE;

fn get(nodes: &mut [Option<Node>], id: fileid3) -> Result<&mut Node, nfsstat3> {
    nodes
        .get_mut(id as usize)
        .and_then(Option::as_mut)
        .ok_or(GONE)
}

fn add(
    nodes: &mut Vec<Option<Node>>,
    dir: fileid3,
    name: &[u8],
    ftype: ftype3,
    data: Vec<u8>,
) -> fileid3 {
    let id = nodes.len() as fileid3;
    let attr = fattr3 {
        ftype,
        mode: 0o755,
        nlink: 1,
        size: data.len() as u64,
        used: data.len() as u64,
        fileid: id,
        ..fattr3::default()
    };
    nodes.push(Some(Node {
        attr,
        data,
        names: BTreeMap::new(),
    }));
    if let Ok(dir) = get(nodes, dir) {
        dir.names.insert(name.to_vec(), id);
    }
    id
}

impl Memory {
    fn fill(&self, dir: &Path, at: fileid3) -> std::io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry
                .file_name()
                .to_string_lossy()
                .into_owned()
                .into_bytes();
            if entry.file_type()?.is_dir() {
                let id = add(
                    &mut self.0.lock().unwrap(),
                    at,
                    &name,
                    ftype3::NF3DIR,
                    Vec::new(),
                );
                self.fill(&entry.path(), id)?;
            } else {
                let data = std::fs::read(entry.path())?;
                add(&mut self.0.lock().unwrap(), at, &name, ftype3::NF3REG, data);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl NFSFileSystem for Memory {
    fn capabilities(&self) -> VFSCapabilities {
        VFSCapabilities::ReadWrite
    }
    fn root_dir(&self) -> fileid3 {
        1
    }
    async fn lookup(&self, dir: fileid3, name: &filename3) -> Result<fileid3, nfsstat3> {
        let mut nodes = self.0.lock().unwrap();
        let id = get(&mut nodes, dir)?.names.get(&name.0).copied();
        id.ok_or(nfsstat3::NFS3ERR_NOENT)
    }
    async fn getattr(&self, id: fileid3) -> Result<fattr3, nfsstat3> {
        Ok(get(&mut self.0.lock().unwrap(), id)?.attr)
    }
    async fn setattr(&self, id: fileid3, new: sattr3) -> Result<fattr3, nfsstat3> {
        let mut nodes = self.0.lock().unwrap();
        let node = get(&mut nodes, id)?;
        if let set_mode3::mode(mode) = new.mode {
            node.attr.mode = mode;
        }
        Ok(node.attr)
    }
    async fn read(
        &self,
        id: fileid3,
        offset: u64,
        count: u32,
    ) -> Result<(Vec<u8>, bool), nfsstat3> {
        let mut nodes = self.0.lock().unwrap();
        let data = &get(&mut nodes, id)?.data;
        let from = (offset as usize).min(data.len());
        let to = (from + count as usize).min(data.len());
        Ok((data[from..to].to_vec(), to == data.len()))
    }
    async fn write(&self, id: fileid3, offset: u64, data: &[u8]) -> Result<fattr3, nfsstat3> {
        let mut nodes = self.0.lock().unwrap();
        let node = get(&mut nodes, id)?;
        let end = offset as usize + data.len();
        if node.data.len() < end {
            node.data.resize(end, 0);
        }
        node.data[offset as usize..end].copy_from_slice(data);
        node.attr.size = node.data.len() as u64;
        Ok(node.attr)
    }
    async fn create(
        &self,
        dir: fileid3,
        name: &filename3,
        _: sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        let mut nodes = self.0.lock().unwrap();
        let id = add(&mut nodes, dir, &name.0, ftype3::NF3REG, Vec::new());
        Ok((id, get(&mut nodes, id)?.attr))
    }
    async fn create_exclusive(&self, dir: fileid3, name: &filename3) -> Result<fileid3, nfsstat3> {
        Ok(add(
            &mut self.0.lock().unwrap(),
            dir,
            &name.0,
            ftype3::NF3REG,
            Vec::new(),
        ))
    }
    async fn mkdir(&self, dir: fileid3, name: &filename3) -> Result<(fileid3, fattr3), nfsstat3> {
        let mut nodes = self.0.lock().unwrap();
        let id = add(&mut nodes, dir, &name.0, ftype3::NF3DIR, Vec::new());
        Ok((id, get(&mut nodes, id)?.attr))
    }
    async fn remove(&self, dir: fileid3, name: &filename3) -> Result<(), nfsstat3> {
        let mut nodes = self.0.lock().unwrap();
        let id = get(&mut nodes, dir)?
            .names
            .remove(&name.0)
            .ok_or(nfsstat3::NFS3ERR_NOENT)?;
        nodes[id as usize] = None;
        Ok(())
    }
    async fn rename(
        &self,
        from: fileid3,
        name: &filename3,
        to: fileid3,
        new: &filename3,
    ) -> Result<(), nfsstat3> {
        let mut nodes = self.0.lock().unwrap();
        let id = get(&mut nodes, from)?
            .names
            .remove(&name.0)
            .ok_or(nfsstat3::NFS3ERR_NOENT)?;
        get(&mut nodes, to)?.names.insert(new.0.clone(), id);
        Ok(())
    }
    async fn readdir(
        &self,
        dir: fileid3,
        after: fileid3,
        most: usize,
    ) -> Result<ReadDirResult, nfsstat3> {
        let mut nodes = self.0.lock().unwrap();
        let names: Vec<_> = get(&mut nodes, dir)?
            .names
            .iter()
            .map(|(n, i)| (n.clone(), *i))
            .collect();
        let skip = names
            .iter()
            .position(|(_, id)| *id == after)
            .map_or(0, |at| at + 1);
        let mut entries = Vec::new();
        for (name, id) in names.iter().skip(skip).take(most) {
            entries.push(DirEntry {
                fileid: *id,
                name: name.as_slice().into(),
                attr: get(&mut nodes, *id)?.attr,
            });
        }
        let end = skip + entries.len() == names.len();
        Ok(ReadDirResult { entries, end })
    }
    async fn symlink(
        &self,
        _: fileid3,
        _: &filename3,
        _: &nfspath3,
        _: &sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }
    async fn readlink(&self, _: fileid3) -> Result<nfspath3, nfsstat3> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let memory = Memory::default();
    {
        let mut nodes = memory.0.lock().unwrap();
        nodes.push(None);
        add(&mut nodes, 0, b"", ftype3::NF3DIR, Vec::new());
    }
    memory.fill(Path::new(&args[2]), 1)?;
    NFSTcpListener::bind(&format!("127.0.0.1:{}", args[1]), memory)
        .await?
        .handle_forever()
        .await
}
