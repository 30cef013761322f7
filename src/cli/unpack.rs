//! A tree as a directory of the host, made below one that nobody else reaches.

use super::error::CliError;
use super::export::made_dir;
use super::watched::{Watched, reason};
use crate::control::{Client, ClientError};
use crate::copy::Below;
use crate::daemon::archive;
use std::fs::File;
use std::io;
use std::path::Path;

/// The directory appears whole or not at all; how many bytes went into it.
pub fn to_dir(client: &Client, snapshot: &str, dir: &Path) -> Result<u64, CliError> {
    let shown = dir.display();
    match std::fs::read_dir(dir).map(|mut names| names.next().is_some()) {
        Ok(false) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(CliError::from_error(format!("cannot write {shown}"), &e)),
        Ok(true) => {
            let why = format!("cannot write {shown}: there is something in it");
            return Err(CliError::new(why).hint("name a new directory"));
        }
    }
    let fail = |e: &dyn std::error::Error| CliError::from_error(format!("cannot write {shown}"), e);
    let beside = made_dir(dir)?;
    // Before there is anything that it could leave.
    super::sys::interrupts();
    let made = tempfile::Builder::new()
        .prefix(".pocker")
        .tempdir_in(beside);
    let made = made.map_err(|e| fail(&e))?;
    let root = File::open(made.path()).map_err(|e| fail(&e))?;
    let (mut reader, mut writer) = io::pipe().map_err(|e| fail(&e))?;
    let (written, unpacked) = std::thread::scope(|scope| {
        let unpacking = scope.spawn(move || {
            let mut below = Below::fresh(root.into());
            archive::read(&mut reader, &mut below).and_then(|_| below.finish())
        });
        let written = client.export_tar(snapshot, &mut Watched::new(&mut writer));
        drop(writer);
        (written, unpacking.join())
    });
    let unpacked = unpacked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let written = reason(match (written, unpacked) {
        // The reader went first, and says why.
        (Err(ClientError::Archive(_)), Err(e)) => Err(fail(&e)),
        (Err(e), _) => Err(e.into()),
        (Ok(_), Err(e)) => Err(fail(&e)),
        (Ok(written), Ok(_)) => Ok(written),
    })?;
    std::fs::rename(made.path(), dir).map_err(|e| fail(&e))?;
    // It has another name now.
    let _ = made.keep();
    Ok(written)
}
