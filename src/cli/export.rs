//! `pocker export`: a tree as a tar archive, an OCI image or a directory.

use super::args::{Export, Format};
use super::config::Settings;
use super::error::CliError;
use super::import::unreadable;
use super::transfer::{find_step, split_step};
use super::watched::{Watched, reason};
use super::{ls, open, text, unpack};
use crate::control::api::{PockerInfo, StepInfo};
use crate::control::{Client, ClientError};
use crate::image::source::spool;
use crate::image::write::{About, Made, Stager, beside};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub const LATEST: &str = "latest";

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
                let mut made = image(&client, &pocker, step, (tag(args), args.squash), &spool())?;
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
            let mut made = image(&client, &pocker, step, (tag(args), args.squash), &spool())?;
            made.write_dir(path).map_err(fail)?;
            said(made.size())
        }
        Format::Oci => said(to_file(path, |out| {
            let mut made = image(
                &client,
                &pocker,
                step,
                (tag(args), args.squash),
                beside(path),
            )?;
            let fail = |e| CliError::from_error("cannot write the image", &e);
            made.write_tar(out).map_err(fail)?;
            Ok(made.size())
        })?),
    }
}

fn tag(args: &Export) -> &str {
    args.tag.as_deref().unwrap_or(LATEST)
}

/// More than this many layers no tool lays on one another: the first steps then share one.
const LAYERS_MAX: usize = 120;

/// Of each step the tree to make a layer of, and the one that it lies on; none where it makes none.
fn layers(steps: &[StepInfo], squash: bool) -> Vec<Option<(&str, Option<&str>)>> {
    let mut below = None;
    let mut layers: Vec<_> = steps
        .iter()
        .map(|step| {
            let tree = step.snapshot.as_str();
            let layer = (below != Some(tree)).then_some((tree, below));
            below = Some(tree);
            layer
        })
        .collect();
    let many = layers.iter().flatten().count();
    let most = if squash { 1 } else { LAYERS_MAX };
    // The last of those that share one has it, made of nothing.
    let mut shared = (many + 1).saturating_sub(most);
    for layer in layers.iter_mut().filter(|layer| layer.is_some()) {
        match shared {
            0 => break,
            1 => *layer = layer.map(|(tree, _)| (tree, None)),
            _ => *layer = None,
        }
        shared -= 1;
    }
    layers
}

/// A pocker's step as an image, its layers put aside in `dir`.
pub fn image(
    client: &Client,
    pocker: &PockerInfo,
    step: &StepInfo,
    (tag, squash): (&str, bool),
    dir: &Path,
) -> Result<Made, CliError> {
    let fail = |e| {
        CliError::from_error(
            format!("cannot put the image aside in {}", dir.display()),
            &e,
        )
    };
    let upto = pocker.steps.iter().position(|s| s.key == step.key);
    let steps = &pocker.steps[..=upto.unwrap_or_default()];
    let mut made = Vec::new();
    let mut history = Vec::new();
    for (step, layer) in steps.iter().zip(layers(steps, squash)) {
        history.push((step.instruction.as_str(), layer.is_some()));
        let Some((tree, below)) = layer else {
            continue;
        };
        let mut stager = Stager::new(dir).map_err(fail)?;
        let written = client.export_layer(tree, below, &mut Watched::new(&mut stager));
        reason(written.map_err(|e| match e {
            ClientError::Archive(e) => fail(e),
            other => other.into(),
        }))?;
        made.push(stager.finish().map_err(fail)?);
    }
    let about = About {
        name: &pocker.name,
        tag,
        run: &pocker.config,
        history: &history,
    };
    Made::new(made, &about).map_err(fail)
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

    fn steps(trees: &[&str]) -> Vec<StepInfo> {
        let step = |(at, tree): (usize, &&str)| StepInfo {
            key: at.to_string(),
            snapshot: (*tree).to_owned(),
            parent: None,
            instruction: String::new(),
            created: 0,
            nodes: 0,
            bytes: 0,
            upstream: None,
        };
        trees.iter().enumerate().map(step).collect()
    }

    #[test]
    fn a_step_is_a_layer_unless_it_made_nothing() {
        let steps = steps(&["a", "a", "b", "c", "c", "a"]);
        let of = |squash| layers(&steps, squash);
        let each = [
            Some(("a", None)),
            None,
            Some(("b", Some("a"))),
            Some(("c", Some("b"))),
            None,
            Some(("a", Some("c"))),
        ];
        assert_eq!(of(false), each);
        assert_eq!(of(true), [None, None, None, None, None, Some(("a", None))]);
    }

    #[test]
    fn the_first_of_very_many_steps_share_a_layer() {
        let trees: Vec<String> = (0..LAYERS_MAX + 3).map(|n| n.to_string()).collect();
        let trees: Vec<&str> = trees.iter().map(String::as_str).collect();
        let steps = steps(&trees);
        let made = layers(&steps, false);
        assert_eq!(made[..3], [None; 3]);
        assert_eq!(made[3], Some(("3", None)));
        assert_eq!(made[4], Some(("4", Some("3"))));
        assert_eq!(made.iter().flatten().count(), LAYERS_MAX);
        assert_eq!(layers(&steps[..LAYERS_MAX], false)[0], Some(("0", None)));
        assert_eq!(
            layers(&steps[..LAYERS_MAX], false)[1],
            Some(("1", Some("0")))
        );
    }

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
