//! `pocker create`.

use super::args::{self, Create};
use super::config::Settings;
use super::error::CliError;
use super::progress::Printer;
use super::registry::Registries;
use super::shell::LocalShell;
use super::workshop::Remote;
use super::{defaults, mounting, open, sys, text};
use crate::build::{self, BuildError, BuildRequest, ThisHost, Tools};
use crate::registry::Options;
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
    check_context(&args.context)?;
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
        host: &ThisHost {
            proot: settings.proot.clone(),
        },
        images: &Registries(Options {
            ca: ca.clone(),
            plain_http: args.plain_http,
            ..Options::default()
        }),
    };
    let mut printer = Printer::new(settings.quiet);
    let built = build::build(&request, &tools, &mut printer);
    drop(printer);
    let built = built.map_err(|e| in_file(&path, e))?;
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

/// A line is one of the file.
fn in_file(path: &Path, error: BuildError) -> CliError {
    let line = error.line();
    let error = CliError::from(error);
    match line {
        Some(_) => CliError {
            message: format!("{}: {}", path.display(), error.message),
            ..error
        },
        None => error,
    }
}

/// Where COPY takes files from has to be a directory, whether or not there is a COPY.
fn check_context(context: &Path) -> Result<(), CliError> {
    let shown = context.display();
    match std::fs::metadata(context) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(
            CliError::usage(format!("the context {shown} is not a directory"))
                .hint(format!("a Pockerfile is named with -f {shown}")),
        ),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(CliError::usage(format!(
            "the context {shown} does not exist"
        ))
        .hint("it is the directory that the Pockerfile and what COPY takes are in")),
        Err(e) => Err(CliError::from_error(
            format!("cannot look at the context {shown}"),
            &e,
        )),
    }
}

/// `-f FILE`, else the context's own, else ./Pockerfile.
fn pockerfile(args: &Create) -> Result<(PathBuf, Vec<u8>), CliError> {
    use std::io::Read;
    let path = match &args.file {
        Some(path) => path.clone(),
        None => {
            let own = args.context.join("Pockerfile");
            let here = PathBuf::from("Pockerfile");
            if !own.is_file() && here.is_file() {
                here
            } else {
                own
            }
        }
    };
    let fail = |e: &dyn std::error::Error| {
        CliError::from_error(format!("cannot read the Pockerfile {}", path.display()), e)
            .hint("name it with -f, or give the directory that it is in as CONTEXT")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        assert!(check_context(dir.path()).is_ok());
        let said = |path: &Path| check_context(path).unwrap_err().render();
        assert!(said(&file).contains("is not a directory") && said(&file).contains("hint: "));
        assert!(said(&dir.path().join("n")).contains("n does not exist"));
        // Where there is no file, it is the context's own that is named.
        use clap::Parser;
        let words = ["pocker", "create", "x", &dir.path().display().to_string()];
        let cli = super::args::Cli::try_parse_from(words).unwrap();
        let args::Command::Create(args) = cli.command else {
            panic!("create")
        };
        let said = pockerfile(&args).unwrap_err().render();
        assert!(
            said.contains(&dir.path().join("Pockerfile").display().to_string()),
            "{said}"
        );
    }

    #[test]
    fn a_step_that_failed_is_one_of_a_file() {
        let id = "a".to_owned();
        let error = in_file(Path::new("/c/P"), BuildError::NoSecret { line: 3, id });
        assert!(
            error.message.starts_with("/c/P: line 3: "),
            "{}",
            error.message
        );
        let error = in_file(Path::new("/c/P"), BuildError::Cancelled);
        assert!(error.message.starts_with("interrupted"));
    }
}
