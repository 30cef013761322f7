//! `pocker volume export` and `import`: a volume as a tar archive.

use super::{free_name, moment_of, named, new, split};
use crate::cli::args::{VolumeExport, VolumeImport};
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::export::{to_file, to_stdout};
use crate::cli::import::{say, unreadable, untaken};
use crate::cli::{open, text};
use crate::image::source::{self, Opened};

pub fn export(settings: &Settings, args: &VolumeExport) -> Result<(), CliError> {
    let (name, snapshot) = split(&args.what)?;
    let client = open::server(settings)?;
    let tree = moment_of(&client, name, snapshot)?;
    let Some(path) = &args.output else {
        return to_stdout(|out| Ok(client.export_tar(&tree, out)?));
    };
    let written = to_file(path, |out| Ok(client.export_tar(&tree, out)?))?;
    if !settings.quiet {
        eprintln!("{}: {} written", path.display(), text::bytes(written));
    }
    Ok(())
}

/// The archive becomes a tree first, of which nobody knows; the volume begins as that.
pub fn import(settings: &Settings, args: &VolumeImport) -> Result<(), CliError> {
    named(&args.name)?;
    let what = match args.archive.as_os_str() == "-" {
        true => "standard input".to_owned(),
        false => args.archive.display().to_string(),
    };
    let opened = source::open(&args.archive, None).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            unreadable(&what, e).hint("name a tar archive, or - for one on standard input")
        }
        _ => unreadable(&what, e),
    })?;
    let Opened::Tree(mut tar) = opened else {
        return Err(
            CliError::new(format!("cannot take {what}: it is an image, and no archive of files"))
                .hint("`pocker import` makes a pocker of it, and `pocker volume create --from` a volume of that"),
        );
    };
    let client = open::server(settings)?;
    free_name(&client, &args.name)?;
    let done = client.ingest_outside(&mut *tar, args.trusted);
    let done = done.map_err(|e| untaken(&what, e))?;
    new(&client, &args.name, done.snapshot.clone(), args.shared)?;
    say(settings, &args.name, &done);
    Ok(())
}
