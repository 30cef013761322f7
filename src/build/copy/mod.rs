//! COPY: what is taken from the context, what identifies it, and how it lies below the target.

pub mod context;
mod glob;
mod ignore;
mod owner;
mod stream;
#[cfg(test)]
mod tests;

pub use context::{Context, Names, NodeKind};
pub use owner::{Owner, home, resolve as resolve_owner};
pub use stream::{Placement, stream};

use super::BuildError;
use super::key::Fields;
use super::plan::CopyPlan;
use context::{MAX_DEPTH, Refused, show};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

/// The list of what is copied is held in memory.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Between two looks at whether the build was interrupted.
const CHUNK: usize = 256 << 10;

/// One node to copy.
#[derive(Debug)]
pub struct Item {
    /// Where it is, from the context.
    pub from: Names,
    /// Where it goes, below the target: at least one name.
    pub to: Names,
    /// 12 bits, `--chmod` applied.
    pub mode: u32,
    pub mtime: i64,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    File { size: u64, sha256: [u8; 32] },
    Dir,
    Symlink(Vec<u8>),
}

/// Everything one COPY takes.
#[derive(Debug)]
pub struct Manifest {
    pub items: Vec<Item>,
    /// Regular files' bytes.
    pub bytes: u64,
    /// The target must be, or become, a directory.
    pub into_dir: bool,
    /// A single directory's own mode, for a target that has to be made.
    pub dir_mode: u32,
}

impl Manifest {
    /// What the key holds: names, modes, contents, link targets; no times, no owners.
    pub fn digest(&self) -> String {
        let mut fields = Fields::new("pocker copy 1");
        fields.add("into", &[u8::from(self.into_dir)]);
        fields.add("mode", &self.dir_mode.to_be_bytes());
        for item in &self.items {
            fields.add("name", &item.to.join(&b'/'));
            match &item.body {
                Body::File { sha256, .. } => fields.add("file", sha256),
                Body::Dir => fields.add("dir", b""),
                Body::Symlink(target) => fields.add("link", target),
            }
            fields.add("mode", &item.mode.to_be_bytes());
        }
        fields.hex()
    }
}

/// Finds, lists and hashes all that `plan` names.
pub fn collect(
    context: &Context,
    line: u32,
    plan: &CopyPlan,
    cancelled: &AtomicBool,
) -> Result<Manifest, BuildError> {
    let mut collector = Collector {
        context,
        line,
        chmod: plan.chmod,
        cancelled,
        items: Vec::new(),
        bytes: 0,
        chunk: vec![0; CHUNK],
    };
    let mut roots = Vec::new();
    let mut many = plan.sources.len() > 1;
    for source in &plan.sources {
        many |= glob::is_pattern(source);
        roots.extend(collector.sources(source)?);
    }
    if many && !plan.target.ends_with('/') {
        return Err(refuse(
            line,
            &plan.target,
            "several sources or a pattern need a directory",
            Some("end the target in `/`"),
        ));
    }
    let mut into_dir = many || plan.target.ends_with('/');
    let mut dir_mode = 0o755;
    for (from, name) in roots {
        let stat = collector.stat(&from)?;
        if stat.kind == NodeKind::Dir {
            into_dir = true;
            if !many {
                dir_mode = plan.chmod.unwrap_or(stat.mode);
            }
            collector.walk(from, Vec::new())?;
        } else {
            collector.node(from, vec![name])?;
        }
    }
    Ok(Manifest {
        items: collector.items,
        bytes: collector.bytes,
        into_dir,
        dir_mode,
    })
}

fn refuse(line: u32, what: &str, why: impl ToString, hint: Option<&'static str>) -> BuildError {
    BuildError::Copy {
        line,
        what: what.to_owned(),
        why: why.to_string(),
        hint,
    }
}

struct Collector<'a> {
    context: &'a Context,
    line: u32,
    chmod: Option<u32>,
    cancelled: &'a AtomicBool,
    items: Vec<Item>,
    bytes: u64,
    chunk: Vec<u8>,
}

impl Collector<'_> {
    fn refused(&self, what: &str, why: Refused) -> BuildError {
        let hint = match why {
            Refused::Missing => {
                Some("sources are relative to the context: pocker create NAME CONTEXT")
            }
            Refused::Outside => Some("copy the file into the context"),
            _ => None,
        };
        refuse(self.line, what, why, hint)
    }

    fn stat(&self, names: &Names) -> Result<context::Stat, BuildError> {
        self.context
            .stat(names)
            .map_err(|why| self.refused(&show(names), why))
    }

    /// The nodes that one source of COPY names, links followed, each with the name it was called by.
    fn sources(&self, source: &str) -> Result<Vec<(Names, Vec<u8>)>, BuildError> {
        let found = match glob::is_pattern(source) {
            true => self.search(source)?,
            false => vec![source.as_bytes().to_vec()],
        };
        let mut out = Vec::new();
        for path in found {
            let resolved = self.context.resolve(&path);
            let names = resolved.map_err(|why| self.refused(source, why))?;
            if self.context.ignored(&names) {
                let dir = self.stat(&names)?.kind == NodeKind::Dir;
                if !(dir && self.context.ignore.may_keep()) {
                    let hint = Some("a line of .pockerignore keeps it out");
                    return Err(refuse(self.line, source, "it is ignored", hint));
                }
            }
            let named = path.split(|b| *b == b'/').rfind(|c| !c.is_empty());
            out.push((names, named.unwrap_or_default().to_vec()));
        }
        Ok(out)
    }

    /// Paths that fit a pattern, component by component, ignored ones left out.
    fn search(&self, source: &str) -> Result<Vec<Vec<u8>>, BuildError> {
        let mut found: Vec<Names> = vec![Vec::new()];
        for component in source.split('/').filter(|c| !c.is_empty() && *c != ".") {
            let mut next = Vec::new();
            for above in found {
                let at = above.join(&b'/');
                let Ok(names) = self.context.resolve(&at) else {
                    continue;
                };
                for name in self.context.list(&names).unwrap_or_default() {
                    if glob::matches_name(component.as_bytes(), &name) {
                        next.push(above.iter().cloned().chain([name]).collect());
                    }
                    if next.len() > MAX_ENTRIES {
                        return Err(self.too_many(source));
                    }
                }
            }
            found = next;
        }
        found.retain(|names: &Names| !self.context.ignored(names));
        if found.is_empty() {
            return Err(refuse(
                self.line,
                source,
                "nothing in the context fits",
                None,
            ));
        }
        Ok(found.into_iter().map(|names| names.join(&b'/')).collect())
    }

    fn too_many(&self, what: &str) -> BuildError {
        let why = format!("more than {MAX_ENTRIES} files");
        refuse(
            self.line,
            what,
            why,
            Some("keep some out with .pockerignore"),
        )
    }

    /// A directory's contents, below `to`.
    fn walk(&mut self, from: Names, to: Names) -> Result<(), BuildError> {
        if from.len() > MAX_DEPTH {
            return Err(self.refused(&show(&from), Refused::TooDeep));
        }
        let listed = self.context.list(&from);
        let names = listed.map_err(|why| self.refused(&show(&from), why))?;
        for name in names {
            let child: Names = from.iter().cloned().chain([name.clone()]).collect();
            let target: Names = to.iter().cloned().chain([name]).collect();
            if !self.context.ignored(&child) {
                self.node(child, target)?;
            } else if self.context.ignore.may_keep() && self.stat(&child)?.kind == NodeKind::Dir {
                // Something below may be taken back: the directory comes along only then.
                let at = self.items.len();
                self.node(child, target)?;
                if self.items.len() == at + 1 {
                    self.items.truncate(at);
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, from: Names, to: Names) -> Result<(), BuildError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(BuildError::Cancelled);
        }
        if self.items.len() == MAX_ENTRIES {
            return Err(self.too_many(&show(&from)));
        }
        let stat = self.stat(&from)?;
        let body = match stat.kind {
            NodeKind::File => self.file(&from)?,
            NodeKind::Dir => Body::Dir,
            NodeKind::Symlink => {
                let target = self.context.link(&from);
                Body::Symlink(target.map_err(|why| self.refused(&show(&from), why))?)
            }
            NodeKind::Other => {
                let why = "it is a fifo, socket or device";
                let hint = Some("keep it out with a line in .pockerignore");
                return Err(refuse(self.line, &show(&from), why, hint));
            }
        };
        if let Body::File { size, .. } = body {
            self.bytes += size;
        }
        let mode = match (&body, self.chmod) {
            (Body::Symlink(_), _) => 0o777,
            (_, Some(mode)) => mode,
            (_, None) => stat.mode,
        };
        let below = matches!(body, Body::Dir).then(|| (from.clone(), to.clone()));
        self.items.push(Item {
            from,
            to,
            mode,
            mtime: stat.mtime,
            body,
        });
        match below {
            Some((from, to)) => self.walk(from, to),
            None => Ok(()),
        }
    }

    fn file(&mut self, from: &Names) -> Result<Body, BuildError> {
        let opened = self.context.open_file(from);
        let mut file = opened.map_err(|why| self.refused(&show(from), why))?;
        let mut hash = Sha256::new();
        let mut size = 0;
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(BuildError::Cancelled);
            }
            let count = file.read(&mut self.chunk);
            let count = count.map_err(|e| self.refused(&show(from), Refused::Io(e)))?;
            if count == 0 {
                break;
            }
            hash.update(&self.chunk[..count]);
            size += count as u64;
        }
        Ok(Body::File {
            size,
            sha256: hash.finalize().into(),
        })
    }
}
