//! The builder's server: its trait over the control client.

use crate::build::{BuildError, Claim, Workshop};
use crate::cli::error::CliError;
use crate::control::api::*;
use crate::control::{Client, ClientError};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

/// Speaks to the server for one build.
pub struct Remote<'a> {
    pub client: &'a Client,
    pub cancelled: &'a AtomicBool,
}

/// What the server said, in the builder's words.
pub fn server(error: ClientError) -> BuildError {
    let error = CliError::from(error);
    let mut message = error.message;
    for cause in error.causes {
        message.push_str(": ");
        message.push_str(&cause);
    }
    BuildError::Server {
        message,
        hint: error.hint,
    }
}

impl Workshop for Remote<'_> {
    fn step(&self, key: &str) -> Result<Option<StepInfo>, BuildError> {
        self.client.step(key).map_err(server)
    }

    fn claim(&self, key: &str, rebuild: bool) -> Result<Claim, BuildError> {
        let request = ClaimRequest {
            pid: std::process::id(),
            rebuild,
        };
        loop {
            match self.client.claim(key, &request).map_err(server)? {
                ClaimReply::Done(step) => return Ok(Claim::Done(step)),
                ClaimReply::Yours { claim } => return Ok(Claim::Yours(claim)),
                ClaimReply::Busy { .. } if self.cancelled.load(Ordering::SeqCst) => {
                    return Err(BuildError::Cancelled);
                }
                ClaimReply::Busy { .. } => {}
            }
        }
    }

    fn release(&self, claim: u64) {
        // A claim ends with its process anyway.
        let _ = self.client.release(claim);
    }

    fn ingest(&self, tar: &mut dyn Read, clamp: Option<i64>) -> Result<ArchiveDone, BuildError> {
        self.client.ingest(tar, clamp).map_err(server)
    }

    fn ingest_layers(
        &self,
        layers: &mut dyn Read,
        clamp: Option<i64>,
        trusted: bool,
    ) -> Result<ArchiveDone, BuildError> {
        self.client
            .ingest_layers(layers, clamp, trusted)
            .map_err(server)
    }

    fn put_step(
        &self,
        key: &str,
        snapshot: &str,
        seal: SealRequest,
    ) -> Result<StepInfo, BuildError> {
        let put = PutStep {
            snapshot: snapshot.to_string(),
            seal,
        };
        self.client.put_step(key, &put).map_err(server)
    }

    fn new_tree(&self, base: Option<&str>, label: &str) -> Result<TreeInfo, BuildError> {
        let new = NewTree {
            base: base.map(str::to_string),
            purpose: Purpose::Build,
            label: label.to_string(),
            pid: std::process::id(),
        };
        self.client.new_tree(&new).map_err(server)
    }

    fn apply_archive(
        &self,
        tree: u64,
        dest: &str,
        tar: &mut dyn Read,
    ) -> Result<ArchiveDone, BuildError> {
        self.client.apply_archive(tree, dest, tar).map_err(server)
    }

    fn seal(&self, tree: u64, seal: SealRequest) -> Result<StepInfo, BuildError> {
        self.client.seal(tree, &seal).map_err(server)
    }

    fn drop_tree(&self, tree: u64) {
        // A tree whose builder is gone is dropped by the server.
        let _ = self.client.drop_tree(tree);
    }

    fn keep_tree(&self, tree: u64, name: &str) -> Result<(), BuildError> {
        self.client.keep_tree(tree, name).map_err(server)
    }

    fn file(&self, snapshot: &str, path: &str) -> Result<Option<Vec<u8>>, BuildError> {
        self.client.file_of(snapshot, path).map_err(server)
    }

    fn is_dir(&self, snapshot: &str, path: &str) -> Result<bool, BuildError> {
        self.client.is_dir(snapshot, path).map_err(server)
    }

    fn pocker(&self, name: &str) -> Result<Option<PockerInfo>, BuildError> {
        self.client.pocker(name).map_err(server)
    }

    fn put_pocker(
        &self,
        name: &str,
        steps: &[String],
        config: &RunConfig,
    ) -> Result<(), BuildError> {
        let put = PutPocker {
            steps: steps.to_vec(),
            config: config.clone(),
        };
        self.client.put_pocker(name, &put).map(drop).map_err(server)
    }
}
