//! What the builder needs of others: the server, a sandbox, this host, and a place for progress.

use super::BuildError;
use super::plan::Planned;
use super::proot::{Bootstrap, Model, Ports, Release};
use crate::control::api::{ArchiveDone, PockerInfo, RunConfig, SealRequest, StepInfo, TreeInfo};
use crate::image::ImageError;
use crate::image::source::Image;
use crate::sandbox;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The right to build a step, or the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    Done(StepInfo),
    /// Ends by a seal or put that names it, or by `release`.
    Yours(u64),
}

/// The server, as the builder sees it. Digests and keys are 64 hexadecimal digits; paths are absolute in a tree.
pub trait Workshop {
    fn step(&self, key: &str) -> Result<Option<StepInfo>, BuildError>;
    /// Blocks while another process builds the step. With `rebuild` a finished step does not count,
    /// and what is sealed under the claim takes its place.
    fn claim(&self, key: &str, rebuild: bool) -> Result<Claim, BuildError>;
    fn release(&self, claim: u64);
    /// A tar stream becomes a sealed tree. When `tar` fails, nothing is kept and its error is given back.
    fn ingest(&self, tar: &mut dyn Read, clamp: Option<i64>) -> Result<ArchiveDone, BuildError>;
    /// The layers of an image, framed, become a sealed tree; as `ingest`. Those that are `trusted` may hold
    /// device nodes of any kind.
    fn ingest_layers(
        &self,
        layers: &mut dyn Read,
        clamp: Option<i64>,
        trusted: bool,
    ) -> Result<ArchiveDone, BuildError>;
    fn put_step(
        &self,
        key: &str,
        snapshot: &str,
        seal: SealRequest,
    ) -> Result<StepInfo, BuildError>;
    /// A writable clone; none = an empty tree.
    fn new_tree(&self, base: Option<&str>, label: &str) -> Result<TreeInfo, BuildError>;
    /// Puts a tar stream's entries below `dest`, which is made (755, root) if missing. Links on the way
    /// to `dest` are followed inside the tree; a directory that exists keeps its owner and mode, and an entry that is a
    /// directory goes into a link that leads to one.
    fn apply_archive(
        &self,
        tree: u64,
        dest: &str,
        tar: &mut dyn Read,
    ) -> Result<ArchiveDone, BuildError>;
    fn seal(&self, tree: u64, seal: SealRequest) -> Result<StepInfo, BuildError>;
    fn drop_tree(&self, tree: u64);
    /// A failed step's tree stays, for `pocker debug NAME`.
    fn keep_tree(&self, tree: u64, name: &str) -> Result<(), BuildError>;
    /// A small file of a sealed tree, links followed inside it; none where no file is.
    fn file(&self, snapshot: &str, path: &str) -> Result<Option<Vec<u8>>, BuildError>;
    /// Whether `path` is a directory of a sealed tree, links followed inside it.
    fn is_dir(&self, snapshot: &str, path: &str) -> Result<bool, BuildError>;
    fn pocker(&self, name: &str) -> Result<Option<PockerInfo>, BuildError>;
    fn put_pocker(
        &self,
        name: &str,
        steps: &[String],
        config: &RunConfig,
    ) -> Result<(), BuildError>;
}

/// Runs a command in a tree and waits for it. `Cancelled` when the build was interrupted meanwhile;
/// the command's processes are gone when this returns.
pub trait Shell {
    fn exec(
        &self,
        spec: sandbox::Spec,
        on_output: &mut dyn FnMut(&[u8]),
    ) -> Result<sandbox::Exit, BuildError>;
}

/// Where a root archive goes.
pub type Sink<'a> = &'a mut dyn FnMut(&mut dyn Read) -> Result<ArchiveDone, BuildError>;

/// This host, as PROOT sees it.
pub trait Host {
    fn model(&self) -> Model;
    /// Of a distribution: what PROOT would model, from files alone.
    fn release(&self) -> Result<Release, BuildError>;
    /// Identifies what the mirrors hold now.
    fn upstream(&self, release: &Release) -> Result<String, BuildError>;
    /// Makes a root and hands it to `sink` as a tar stream.
    fn bootstrap(
        &self,
        release: &Release,
        options: &Bootstrap<'_>,
        progress: &mut dyn Progress,
        cancelled: &AtomicBool,
        sink: Sink<'_>,
    ) -> Result<ArchiveDone, BuildError>;
    /// Of OpenBSD: what proot would copy, from files alone.
    fn ports(&self, release: &str, program: &Path) -> Result<Ports, BuildError>;
    /// Has proot make a root and hands it to `sink` as layers.
    fn populate(
        &self,
        ports: &Ports,
        options: &Bootstrap<'_>,
        progress: &mut dyn Progress,
        cancelled: &AtomicBool,
        sink: Sink<'_>,
    ) -> Result<ArchiveDone, BuildError>;
}

/// Registries of images.
pub trait Images {
    /// The digest that the image of that name has now; a name with a digest is not asked for.
    fn resolve(&self, name: &str) -> Result<String, ImageError>;
    /// The image of that digest. It has threads as long as it lives: nothing may fork meanwhile.
    fn open(&self, name: &str, digest: &str) -> Result<Image, ImageError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there.
    Cached,
    Built,
    /// Another build finished it while this one waited.
    Shared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A root archive on its way into the store.
    Ingest,
    /// COPY's files on their way into the tree.
    Copy,
    /// The server seals the step; no bytes are known.
    Seal,
}

/// What happens, in order. Steps count from 1; the last is RUN's.
#[derive(Debug)]
pub enum Event<'a> {
    Step {
        number: usize,
        of: usize,
        step: &'a Planned,
    },
    /// Why the step was taken from the cache or is built (`--explain`).
    Why {
        number: usize,
        why: &'a str,
    },
    /// A line of the step's output, without control characters.
    Output(&'a str),
    Note(&'a str),
    Bytes {
        phase: Phase,
        done: u64,
        total: Option<u64>,
    },
    Done {
        number: usize,
        info: &'a StepInfo,
        outcome: Outcome,
    },
}

/// Where progress goes; only the command line prints.
pub trait Progress {
    fn event(&mut self, event: Event<'_>);
}
