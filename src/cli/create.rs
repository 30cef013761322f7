//! `pocker create`.

use super::args::{self, Create};
use super::config::Settings;
use super::error::CliError;
use super::progress::Printer;
use super::shell::LocalShell;
use super::workshop::Remote;
use super::{defaults, mounting, open, sys, text};
use crate::build::{self, BuildError, BuildRequest, ThisHost, Tools};
use std::path::{Path, PathBuf};

/// A Pockerfile larger than this is none.
const FILE_MAX: u64 = 1 << 20;
/// Ctrl-C, as shells say it.
const INTERRUPTED: i32 = 130;

impl From<BuildError> for CliError {
    fn from(error: BuildError) -> CliError {
        let status = match &error {
            BuildError::Cancelled => INTERRUPTED,
            _ => super::error::FAILED,
        };
        CliError {
            hint: error.hint(),
            status,
            ..CliError::new(error.to_string())
        }
    }
}

pub fn run(settings: &Settings, args: &Create) -> Result<(), CliError> {
    open::must_be_root()?;
    build::validate_name(&args.name, &args::command_names())?;
    let (path, bytes) = pockerfile(args)?;
    let build_args = args
        .build_args
        .iter()
        .map(|a| pair(a, "--build-arg", "NAME=VALUE"));
    let build_args = build_args.collect::<Result<Vec<_>, _>>()?;
    let secrets = args
        .secrets
        .iter()
        .map(|s| secret(s))
        .collect::<Result<Vec<_>, _>>()?;
    let ca = args.ca.as_deref().map(absolute).transpose()?;
    // What is wrong in the file is said before a server is started for it.
    crate::pockerfile::parse(&bytes).map_err(|error| {
        CliError::from(BuildError::Parse {
            file: path.clone(),
            error,
        })
    })?;
    let client = open::server(settings)?;
    if !args.no_browse {
        mounting::must_be_seen(&client)
            .map_err(|e| e.hint("`pocker create --no-browse` leaves the browse view as it is"))?;
    }
    let cancelled = sys::interrupts();
    let request = BuildRequest {
        name: &args.name,
        reserved: &args::command_names(),
        file: &bytes,
        file_path: &path,
        context: &args.context,
        args: &build_args,
        secrets: &secrets,
        no_cache: args.no_cache,
        pull: args.pull,
        explain: args.explain,
        source_date_epoch: args.source_date_epoch,
        ca: ca.as_deref(),
        proxies: &build::proxies(std::env::vars_os()),
        cache_dir: Path::new(defaults::CACHE),
        etc: Path::new("/etc"),
        cancelled,
    };
    let tools = Tools {
        workshop: &Remote {
            client: &client,
            cancelled,
        },
        shell: &LocalShell {
            settings,
            client: &client,
            cancelled,
        },
        host: &ThisHost,
    };
    let mut printer = Printer::new(settings.quiet);
    let built = build::build(&request, &tools, &mut printer);
    drop(printer);
    let built = built?;
    if !args.no_browse {
        let dir = args.browse_dir.as_deref().unwrap_or(&settings.browse);
        mounting::browse(settings, &client, &absolute(dir)?)?;
    }
    if args.json {
        let pocker = client.pocker(&args.name)?;
        text::out(&text::json(&pocker)?)?;
    } else if !settings.quiet {
        let (size, files) = built
            .steps
            .last()
            .map_or((0, 0), |(s, _)| (s.bytes, s.nodes));
        eprintln!(
            "{}: {} steps, {files} files, {}; start it with `pocker run {}`",
            built.name,
            built.steps.len(),
            text::bytes(size),
            built.name
        );
    }
    Ok(())
}

/// `-f FILE`, else the context's own, else ./Pockerfile.
fn pockerfile(args: &Create) -> Result<(PathBuf, Vec<u8>), CliError> {
    use std::io::Read;
    let path = match &args.file {
        Some(path) => path.clone(),
        None => {
            let own = args.context.join("Pockerfile");
            if own.is_file() {
                own
            } else {
                PathBuf::from("Pockerfile")
            }
        }
    };
    let fail = |e: &dyn std::error::Error| {
        CliError::from_error(format!("cannot read the Pockerfile {}", path.display()), e)
            .hint("name it with -f, or run this where a file named Pockerfile is")
    };
    let file = std::fs::File::open(&path).map_err(|e| fail(&e))?;
    let mut bytes = Vec::new();
    // One byte more than is taken, so that the parser sees that it is too long.
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| fail(&e))?;
    Ok((path, bytes))
}

fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path)
        .map_err(|e| CliError::from_error(format!("cannot resolve {}", path.display()), &e))
}

fn pair(text: &str, flag: &str, shape: &str) -> Result<(String, String), CliError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err(CliError::usage(format!(
            "{flag} {text}: not of the form {shape}"
        ))),
    }
}

/// `id=ID,src=FILE`; without src, a file named like the id.
fn secret(text: &str) -> Result<(String, PathBuf), CliError> {
    let wrong = || {
        CliError::usage("a --secret is not of the form id=ID,src=FILE")
            .hint("pocker create --secret id=token,src=./token …")
    };
    let (mut id, mut src) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("id", value)) if !value.is_empty() => id = Some(value.to_string()),
            Some(("src" | "source", value)) if !value.is_empty() => {
                src = Some(PathBuf::from(value))
            }
            _ => return Err(wrong()),
        }
    }
    let id = id.ok_or_else(wrong)?;
    let src = absolute(&src.unwrap_or_else(|| PathBuf::from(&id)))?;
    if !src.is_file() {
        return Err(CliError::usage(format!(
            "--secret {id}: there is no file {}",
            src.display()
        )));
    }
    Ok((id, src))
}
