//! `pocker cp`: files out of trees, and into runs.

use super::{Target, path_text, split_path};
use crate::cli::args::Cp;
use crate::cli::config::Settings;
use crate::cli::error::CliError;
use crate::cli::{open, text};
use crate::control::looking::{NodeInfo, TreeRef};
use crate::control::{Client, ClientError};
use crate::copy::{
    Asked, Below, Found, Host, InsideError, Owner, Place, PlaceError, Source, SourceError, copy_in,
    copy_out, plain,
};
use crate::daemon::archive::{self, ArchiveError};
use crate::life::{Phase, Run};
use crate::sandbox;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One end of a copy.
enum End<'a> {
    Host(&'a OsStr),
    /// Standard input or output, as tar.
    Stream,
    Tree(&'a str, &'a [u8]),
}

fn end(text: &OsString) -> End<'_> {
    match split_path(text) {
        _ if text == "-" => End::Stream,
        Some((name, path)) => End::Tree(name, path),
        None => End::Host(text),
    }
}

pub fn cp(settings: &Settings, args: &Cp) -> Result<(), CliError> {
    let (from, to) = (end(&args.from), end(&args.to));
    if args.json && matches!(to, End::Stream) {
        return Err(
            CliError::usage("an archive and JSON cannot both go to standard output")
                .hint("leave --json out, or name where the copy goes"),
        );
    }
    let devices = copied(settings, args, &from, &to)?;
    if args.json {
        return text::out(&text::json(&serde_json::json!({
            "from": args.from.to_string_lossy(),
            "to": args.to.to_string_lossy(),
            "devices_left_out": devices,
        }))?);
    }
    left_out(settings, devices);
    Ok(())
}

/// How many devices were left out.
fn copied(settings: &Settings, args: &Cp, from: &End<'_>, to: &End<'_>) -> Result<u64, CliError> {
    match (from, to) {
        (End::Tree(..), End::Tree(..)) => Err(CliError::usage(
            "both are in pockers: one end of a copy is on the host",
        )
        .hint("copy it to the host first, or pipe it: `pocker cp A:/x - | pocker cp - B:/`")),
        (End::Tree(name, path), _) => {
            let client = open::server(settings)?;
            let target = Target::find(settings, &client, name)?;
            out(args, &client, &target, path, to)
        }
        (_, End::Tree(name, path)) => {
            let client = open::server(settings)?;
            let target = Target::find(settings, &client, name)?;
            into(args, &client, &target, path, from)
        }
        _ => Err(CliError::usage("neither is in a pocker")
            .hint("NAME:/path says what of a pocker or run: `pocker cp web:/etc/hosts .`")),
    }
}

fn source_of(node: &NodeInfo, path: &[u8]) -> Source {
    let contents = path.ends_with(b"/.") || path == b".";
    let said = path.rsplit(|b| *b == b'/').find(|name| !name.is_empty());
    let said = said.filter(|name| !matches!(*name, b"." | b".."));
    Source {
        is_dir: node.is_dir(),
        name: match contents || node.path.is_empty() {
            true => Vec::new(),
            false => said.unwrap_or(node.name()).to_vec(),
        },
    }
}

fn out(
    args: &Cp,
    client: &Client,
    target: &Target,
    path: &[u8],
    to: &End<'_>,
) -> Result<u64, CliError> {
    if matches!(to, End::Stream) && std::io::stdout().is_terminal() {
        return Err(CliError::usage("an archive would garble the terminal")
            .hint("redirect the output, or name a file in place of -"));
    }
    let goes = |source: &Source| match to {
        End::Host(to) => place(to, source),
        _ => Ok(Place {
            dir: Vec::new(),
            name: source.name.clone(),
        }),
    };
    if let Some(inside) = target.run.as_ref().and_then(inside) {
        return out_live(args, &inside?, target, path, to, goes);
    }
    let node = client.stat(&target.tree, path, args.follow_link);
    let node = node.map_err(|e| target.refused(e))?;
    let node = node.ok_or_else(|| target.missing(path))?;
    let place = goes(&source_of(&node, path))?;
    let ask = (path, args.follow_link);
    let End::Host(to) = to else {
        let mut stdout = super::cat::Out::default();
        return match client.tar(&target.tree, ask, &place.name, &mut stdout) {
            Err(_) if stdout.closed => Ok(0),
            Err(e) => Err(stdout.failed(e, target)),
            Ok(_) => Ok(0),
        };
    };
    let mut below = below(args, to, &place)?;
    let (mut reader, mut writer) =
        std::io::pipe().map_err(|e| CliError::from_error("cannot make a pipe", &e))?;
    // The client writes, so what reads is a thread of its own.
    let (sent, made) = std::thread::scope(|threads| {
        let making = threads
            .spawn(move || archive::read(&mut reader, &mut below).and_then(|_| below.finish()));
        let sent = client.tar(&target.tree, ask, &place.name, &mut writer);
        drop(writer);
        (sent, making.join())
    });
    let made = made.unwrap_or_else(|_| {
        Err(ArchiveError::Read(std::io::Error::other(
            "the copy ended in the middle",
        )))
    });
    match (sent, made) {
        (Err(ClientError::Archive(_)) | Ok(_), Err(e)) => Err(stored(to, e)),
        (Err(e), _) => Err(target.refused(e)),
        (Ok(_), Ok(devices)) => Ok(devices),
    }
}

/// Where a run is, if one can go there; else its tree is looked into.
fn inside(run: &Run) -> Option<Result<sandbox::Target, CliError>> {
    let entered = match &run.state {
        state if state.phase != Phase::Running || !run.live() => None,
        state => state.init.zip(state.command),
    };
    let (init, command) = entered?;
    let target = sandbox::Target::open(init, command);
    let name = &run.record.name;
    Some(target.map_err(|fault| CliError::new(format!("cannot enter run {name}: {fault}"))))
}

fn below(args: &Cp, to: &OsStr, place: &Place) -> Result<Below, CliError> {
    let owner = match args.archive {
        true => Owner::Kept,
        false => Owner::Is(
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        ),
    };
    let dir = File::open(OsStr::from_bytes(&place.dir)).map_err(|e| cannot(to, &e))?;
    Ok(Below::new(OwnedFd::from(dir), owner))
}

fn out_live(
    args: &Cp,
    inside: &sandbox::Target,
    target: &Target,
    path: &[u8],
    to: &End<'_>,
    goes: impl Fn(&Source) -> Result<Place, CliError>,
) -> Result<u64, CliError> {
    let placed = std::cell::OnceCell::new();
    let begin = |source: &Source| {
        let place = goes(source).map_err(Failed::Here)?;
        let name = place.name.clone();
        let _ = placed.set(place);
        Ok(name)
    };
    let take = |archive: &mut dyn Read| match (to, placed.get()) {
        (End::Host(to), Some(place)) => {
            let mut below = below(args, to, place).map_err(Failed::Here)?;
            let made = archive::read(archive, &mut below).and_then(|_| below.finish());
            made.map_err(|e| Failed::Here(stored(to, e)))
        }
        _ => {
            let mut stdout = super::cat::Out::default();
            match std::io::copy(archive, &mut stdout) {
                Err(_) if stdout.closed => Ok(0),
                Err(e) => Err(Failed::Here(CliError::from_error(
                    "cannot write to standard output",
                    &e,
                ))),
                Ok(_) => Ok(0),
            }
        }
    };
    let done = copy_out(inside, (path, args.follow_link), begin, take);
    done.map_err(|failed| match failed {
        Failed::Here(e) => e,
        Failed::Inside(InsideError::Failed(_, Some(libc::ENOENT | libc::ENOTDIR))) => {
            target.missing(path)
        }
        Failed::Inside(e) => {
            let (shown, path) = (&target.shown, path_text(path));
            CliError::from_error(format!("cannot copy {path} of run {shown}"), &e)
                .hint("what was copied before is there")
        }
    })
}

/// On the host.
fn place(to: &OsStr, source: &Source) -> Result<Place, CliError> {
    let found = match std::fs::metadata(to) {
        Ok(meta) if meta.is_dir() => Found::Dir,
        Ok(_) => Found::Other,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => match std::fs::symlink_metadata(to) {
            Ok(_) => Found::Dangling,
            Err(_) => Found::Nothing,
        },
        Err(e) => return Err(cannot(to, &e)),
    };
    let to_text = Path::new(to).display();
    let place = Place::of(to.as_bytes(), &found, source)
        .map_err(|e| CliError::new(format!("cannot copy to {to_text}: {e}")).hint(hint(e)))?;
    let dir = Path::new(OsStr::from_bytes(&place.dir));
    match dir.is_dir() {
        true => Ok(place),
        false => Err(CliError::new(format!(
            "cannot copy to {to_text}: there is no directory {}",
            dir.display()
        ))
        .hint(format!("make it first: mkdir -p {}", dir.display()))),
    }
}

fn hint(e: PlaceError) -> &'static str {
    match e {
        PlaceError::DirOntoFile => "name a directory, or a name that is not there yet",
        PlaceError::Dangling => "remove it first, or name what it is to lead to",
        PlaceError::NoDir => "make it first, or leave the slash at its end out",
    }
}

fn cannot(to: &OsStr, e: &std::io::Error) -> CliError {
    CliError::from_error(format!("cannot copy to {}", Path::new(to).display()), e)
        .hint("name a directory that is there")
}

/// What of a copy could not be made, on the host.
fn stored(to: &OsStr, e: ArchiveError) -> CliError {
    let e = plain(e);
    let mut error =
        CliError::from_error(format!("cannot copy to {}", Path::new(to).display()), &*e);
    error.hint = room(None, "what was copied before is there");
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&*e);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            error.hint = room(io.raw_os_error(), "what was copied before is there");
        }
        next = cause.source();
    }
    error
}

/// What to do about an errno of writing.
fn room(errno: Option<i32>, otherwise: &str) -> Option<String> {
    use nix::errno::Errno;
    Some(match errno.map(Errno::from_raw) {
        Some(Errno::ENOSPC) => "free space there, and copy it again".to_owned(),
        Some(Errno::EDQUOT) => "the run's --disk or --inodes is used up".to_owned(),
        Some(Errno::EROFS) => {
            "that is read-only (--read-only, or a graft or volume with `:ro`)".to_owned()
        }
        _ => otherwise.to_owned(),
    })
}

fn left_out(settings: &Settings, devices: u64) {
    if devices > 0 && !settings.quiet {
        let s = if devices == 1 { "" } else { "s" };
        eprintln!("left out {devices} device{s}: cp makes none");
    }
}

fn into(
    args: &Cp,
    client: &Client,
    target: &Target,
    path: &[u8],
    from: &End<'_>,
) -> Result<u64, CliError> {
    let Some(run) = &target.run else {
        let shown = &target.shown;
        let name = shown.split('@').next().unwrap_or(shown);
        return Err(
            CliError::new(format!("{shown} is sealed: nothing can be copied into it")).hint(
                format!("COPY in its Pockerfile does that, and a run takes it: `pocker run --detach {name}`"),
            ),
        );
    };
    let host = match from {
        End::Host(from) => Some(Host::open(Path::new(from), args.follow_link)?),
        _ => None,
    };
    if host.is_none() && std::io::stdin().is_terminal() {
        return Err(
            CliError::usage("standard input is a terminal, and no archive")
                .hint("`tar -c DIR | pocker cp - NAME:/path`"),
        );
    }
    match run.live() {
        true => into_live(args, run, path, host.as_ref()),
        // Where a host's files come from no devices do, and an archive's are made in a tree.
        false => into_ended(args, client, target, path, host.as_ref()).map(|()| 0),
    }
}

enum Failed {
    Inside(InsideError),
    Here(CliError),
}

impl From<InsideError> for Failed {
    fn from(e: InsideError) -> Failed {
        Failed::Inside(e)
    }
}

impl From<SourceError> for CliError {
    fn from(e: SourceError) -> CliError {
        CliError::from_error("cannot copy", &e).hint("what is copied has to be there, and readable")
    }
}

fn into_live(args: &Cp, run: &Run, path: &[u8], host: Option<&Host>) -> Result<u64, CliError> {
    let name = &run.record.name;
    let Some(target) = inside(run) else {
        return Err(CliError::new(format!("run {name} cannot be entered just now")).hint(
            "`pocker ps` says whether it runs; one that was started with --unsafe-plain never can",
        ));
    };
    let target = target?;
    let asked = Asked {
        to: path.to_vec(),
        source: host.map(Host::source),
        owner: match args.archive {
            true => Owner::Kept,
            false => Owner::InTree(0, 0),
        },
    };
    let done = copy_in(&target, &asked, |name, to| match host {
        Some(host) => host
            .write(name, None, to)
            .map_err(|e| Failed::Here(e.into())),
        None => copy_stdin(to).map_err(Failed::Here),
    });
    let to = path_text(path);
    let tried = format!("cannot copy to {to} of run {name}");
    done.map_err(|failed| match failed {
        Failed::Here(e) => e,
        Failed::Inside(e) => {
            let look = format!("`pocker tree {name}` lists what is there");
            let hint = match &e {
                InsideError::Failed(_, errno) => room(*errno, &look),
                _ => Some(look),
            };
            CliError {
                hint,
                ..CliError::from_error(tried.clone(), &e)
            }
        }
    })
}

fn copy_stdin(to: &mut dyn Write) -> Result<(), CliError> {
    let copied = std::io::copy(&mut std::io::stdin().lock(), to);
    copied
        .map(drop)
        .map_err(|e| CliError::from_error("cannot pass standard input on", &e))
}

/// The tree that an ended run left.
fn into_ended(
    args: &Cp,
    client: &Client,
    target: &Target,
    path: &[u8],
    host: Option<&Host>,
) -> Result<(), CliError> {
    let shown = &target.shown;
    let TreeRef::Work(id) = &target.tree else {
        return Err(CliError::new(format!("the tree of run {shown} is a volume"))
            .hint(format!("`pocker restart {shown}` first, or mount it: `pocker mount --volume {shown}.kept DIR`")));
    };
    let refused = |e: ClientError| target.refused(e);
    let node = client.stat(&target.tree, path, true).map_err(refused)?;
    let found = match &node {
        Some(node) if node.is_dir() => Found::Dir,
        Some(_) => Found::Other,
        None => match client.stat(&target.tree, path, false).map_err(refused)? {
            Some(_) => Found::Dangling,
            None => Found::Nothing,
        },
    };
    let to = path_text(path);
    let tried = |e: PlaceError| {
        CliError::new(format!("cannot copy to {to} of run {shown}: {e}")).hint(hint(e))
    };
    let absolute = [b"/", path].concat();
    let place = match host {
        Some(host) => Place::of(&absolute, &found, &host.source()).map_err(tried)?,
        None if found == Found::Dir => Place {
            dir: absolute,
            name: Vec::new(),
        },
        None => return Err(tried(PlaceError::NoDir)),
    };
    let above = client.stat(&target.tree, &place.dir, true);
    if !above.map_err(refused)?.is_some_and(|node| node.is_dir()) {
        return Err(tried(PlaceError::NoDir));
    }
    let owner = (!args.archive).then_some((0, 0));
    let Some(host) = host else {
        let mut stdin = std::io::stdin().lock();
        return applied(client, *id, &place.dir, &mut stdin, target);
    };
    // The client reads, so what writes is a thread of its own.
    let (mut reader, writer) =
        std::io::pipe().map_err(|e| CliError::from_error("cannot make a pipe", &e))?;
    std::thread::scope(|threads| {
        let writing = threads.spawn(|| {
            let mut writer = writer;
            host.write(&place.name, owner, &mut writer)
        });
        let done = applied(client, *id, &place.dir, &mut reader, target);
        drop(reader);
        match (writing.join(), done) {
            // The server went first, and says why.
            (Ok(Err(e)), Err(done)) if e.source.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(done)
            }
            (Ok(Err(e)), _) => Err(e.into()),
            (_, done) => done,
        }
    })
}

fn applied(
    client: &Client,
    id: u64,
    dir: &[u8],
    archive: &mut dyn Read,
    target: &Target,
) -> Result<(), CliError> {
    let done = client.apply_archive(id, dir, archive);
    done.map(drop).map_err(|e| target.refused(e))
}
