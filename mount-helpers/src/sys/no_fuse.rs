//! FUSE's place on systems where this package does not speak it.

use crate::helper::{
    MakeSecure, MountError, MountHelper, Phase, Probe, RestartCommand, Server, Session,
};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

const WHY: &str = "FUSE is used on Linux only";

#[derive(Clone, Debug, Default)]
pub struct FuseHelper;

impl FuseHelper {
    pub fn new() -> FuseHelper {
        FuseHelper
    }

    pub fn with_program(_program: PathBuf, _args: Vec<OsString>) -> FuseHelper {
        FuseHelper
    }
}

impl MountHelper for FuseHelper {
    fn name(&self) -> &'static str {
        "fuse"
    }

    fn takes(&self, _server: &Server) -> bool {
        true
    }

    fn probe(&self) -> Probe {
        Probe::no(WHY, None)
    }

    fn session(
        &self,
        server: &Server,
        _restart: Option<RestartCommand>,
    ) -> Result<Box<dyn Session>, MountError> {
        let cause = io::Error::new(io::ErrorKind::Unsupported, WHY);
        Err(MountError::of_server(Phase::Device, server, cause))
    }
}

/// The helper process's main; there is none here.
pub fn fuse_helper_main(_secure: Option<MakeSecure>) -> i32 {
    eprintln!("pocker mount-helper: {WHY}");
    1
}
