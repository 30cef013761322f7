//! What a test wants to happen at which point of the store and of the NFS server. The file
//! that `POCKER_FAILPOINTS` names holds a line for each, `NAME TIMES ACTION`; the first line
//! counts, and is gone once it was acted on. Of a build without points nothing here is left.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use parking_lot::Mutex;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static FILE: OnceLock<PathBuf> = OnceLock::new();
/// Held while the file is read and written.
static ONE: Mutex<()> = Mutex::new(());

pub fn listen() {
    if !(pocker_store::failpoint::COMPILED && pocker_nfs::failpoint::COMPILED) {
        return;
    }
    if let Some(file) = std::env::var_os("POCKER_FAILPOINTS") {
        let _ = FILE.set(file.into());
        pocker_store::failpoint::set(hit);
        pocker_nfs::failpoint::set(hit);
    }
}

/// Acts where the first line says so, at the hit that brings its count to nothing.
fn hit(name: &str) -> io::Result<()> {
    let Some(file) = FILE.get() else {
        return Ok(());
    };
    let one = ONE.lock();
    let Ok(text) = std::fs::read_to_string(file) else {
        return Ok(());
    };
    let (line, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let mut words = line.split(' ');
    if words.next() != Some(name) {
        return Ok(());
    }
    let times: u32 = words.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let action = words.next().unwrap_or("kill");
    if times > 1 {
        let _ = rewrite(file, &format!("{name} {} {action}\n{rest}", times - 1));
        return Ok(());
    }
    // Gone is how the test knows. One that took the line back meanwhile counts on it.
    let acted_on = match rest {
        "" => std::fs::remove_file(file),
        rest => rewrite(file, rest),
    };
    drop(one);
    if acted_on.is_err() {
        return Ok(());
    }
    let errno = match action {
        "EIO" => Errno::EIO,
        "ENOSPC" => Errno::ENOSPC,
        _ => {
            let _ = kill(nix::unistd::getpid(), Signal::SIGKILL);
            unreachable!("a killed process goes on")
        }
    };
    Err(errno.into())
}

/// Only where the file is still there.
fn rewrite(file: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).truncate(true).open(file)?;
    file.write_all(text.as_bytes())
}
