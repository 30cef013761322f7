//! `pocker export`: a tree as a tar archive, an OCI image or a directory.

use super::args::{Export, Format};
use super::config::Settings;
use super::error::CliError;
use super::image::{LATEST, image};
use super::import::unreadable;
use super::transfer::{find_step, split_step};
use super::watched::{Watched, reason};
use super::{ls, open, text, unpack};
use crate::control::Client;
use crate::control::api::{PockerInfo, StepInfo};
use crate::image::source::spool;
use crate::image::write::{Made, beside};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub fn export(settings: &Settings, args: &Export) -> Result<(), CliError> {
    let (name, step) = split_step(&args.what);
    if args.format != Format::Oci && args.tag.is_some() {
        return Err(CliError::usage("only an image has a tag").hint("add --format oci"));
    }
    if args.format != Format::Oci && args.squash {
        return Err(CliError::usage("only an image has layers").hint("add --format oci"));
    }
    let client = open::server(settings)?;
    let pocker = client.pocker(name)?.ok_or_else(|| ls::unknown(name))?;
    let step = find_step(&pocker, step)?;
    let Some(path) = &args.output else {
        return match args.format {
            Format::Dir => Err(CliError::usage("a directory has to be named").hint("add -o DIR")),
            Format::Tar => to_stdout(|out| Ok(client.export_tar(&step.snapshot, out)?)),
            Format::Oci => {
                let mut made = whole(&client, &pocker, step, args, &spool())?;
                let fail = |e| CliError::from_error("cannot write the image", &e);
                to_stdout(|out| made.write_tar(out).map(|()| 0).map_err(fail))
            }
        };
    };
    let said = |written: u64| {
        if !settings.quiet {
            eprintln!("{}: {} written", path.display(), text::bytes(written));
        }
        Ok(())
    };
    match args.format {
        Format::Tar => said(to_file(path, |out| {
            Ok(client.export_tar(&step.snapshot, out)?)
        })?),
        Format::Dir => said(unpack::to_dir(&client, &step.snapshot, path)?),
        Format::Oci if path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir() => {
            let fail = |e| unreadable(&path.display().to_string(), e);
            made_dir(path)?;
            let mut made = whole(&client, &pocker, step, args, &spool())?;
            made.write_dir(path).map_err(fail)?;
            said(made.size())
        }
        Format::Oci => said(to_file(path, |out| {
            let mut made = whole(&client, &pocker, step, args, beside(path))?;
            let fail = |e| CliError::from_error("cannot write the image", &e);
            made.write_tar(out).map_err(fail)?;
            Ok(made.size())
        })?),
    }
}

/// All layers of it are made.
fn whole(
    client: &Client,
    pocker: &PockerInfo,
    step: &StepInfo,
    args: &Export,
    dir: &Path,
) -> Result<Made, CliError> {
    let tag = args.tag.as_deref().unwrap_or(LATEST);
    let imaged = image(client, pocker, step, (tag, args.squash), dir, |_| Ok(false))?;
    Ok(imaged.made)
}

pub fn to_stdout(
    write: impl FnOnce(&mut dyn Write) -> Result<u64, CliError>,
) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        return Err(CliError::usage("an archive would garble the terminal")
            .hint("name a file with -o, or redirect the output"));
    }
    write(&mut out)?;
    out.flush()
        .map_err(|e| CliError::from_error("cannot write the archive", &e))
}

/// The folder that `path` goes into has to be there.
pub fn made_dir(path: &Path) -> Result<&Path, CliError> {
    let dir = beside(path);
    match dir.exists() {
        true => Ok(dir),
        false => {
            let (path, dir) = (path.display(), dir.display());
            let why = format!("cannot write {path}: there is no directory {dir}");
            Err(CliError::new(why).hint(format!("make it first: mkdir -p {dir}")))
        }
    }
}

/// The file appears whole or not at all.
pub fn to_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<u64, CliError>,
) -> Result<u64, CliError> {
    let fail = |e: &dyn std::error::Error| {
        CliError::from_error(format!("cannot write {}", path.display()), e)
    };
    if path.is_dir() {
        let why = format!("cannot write {}: it is a directory", path.display());
        return Err(CliError::new(why).hint("name the archive's file"));
    }
    let dir = made_dir(path)?;
    // Before there is anything that it could leave.
    super::sys::interrupts();
    // Its own text names a file that nobody asked for.
    let mut file =
        tempfile::NamedTempFile::new_in(dir).map_err(|e| fail(&std::io::Error::from(e.kind())))?;
    let mut early = Early {
        file: file.as_file_mut(),
        since: 0,
    };
    let written = reason(write(&mut Watched::new(&mut early)))?;
    file.as_file().sync_all().map_err(|e| fail(&e))?;
    file.persist(path).map_err(|e| fail(&e.error))?;
    Ok(written)
}

/// A file whose sync at the end finds little left.
struct Early<'a> {
    file: &'a mut std::fs::File,
    since: usize,
}

impl Write for Early<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        /// Fewer at once would keep the disk from doing much at once.
        const AT_ONCE: usize = 8 << 20;
        let written = self.file.write(bytes)?;
        self.since += written;
        if self.since >= AT_ONCE {
            super::sys::begin_writing(self.file);
            self.since = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_cannot_be_written_is_named_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let said = |path: &Path| {
            let error = to_file(path, |_| panic!("written")).unwrap_err().render();
            assert!(
                error.contains(&format!("cannot write {}: ", path.display())),
                "{error}"
            );
            assert!(error.contains("\nhint: "), "{error}");
            error
        };
        assert!(said(dir.path()).contains("it is a directory"));
        assert!(said(&dir.path().join("no/x.tar")).contains("mkdir -p"));
    }
}
