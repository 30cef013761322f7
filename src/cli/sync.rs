//! `pocker sync`: pockers from store to store.

use super::args::Sync;
use super::config::Settings;
use super::error::CliError;
use super::{open, text};
use crate::control::{Client, Endpoint, remote};
use crate::sync::remote::SCHEMES;
use crate::sync::{Remote, Served, Way};
use pocker_store::sync::{Named, Sent, Sink, Source, SyncError, transfer};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// A side as it was said.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Local,
    Socket(PathBuf),
    Folder(PathBuf),
    Remote(String),
    /// The server of another host, by its address.
    Host(String),
}

const PLACES: &str = "`local`, pocker://HOST, `remote` (that of --remote), a store's folder, the control socket of another server, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///DIR";

fn place(said: &str) -> Result<Place, CliError> {
    if said == "local" {
        return Ok(Place::Local);
    }
    if said.starts_with(remote::SCHEME) {
        return Ok(Place::Host(said.to_owned()));
    }
    if said.contains("://") {
        if SCHEMES.iter().any(|scheme| said.starts_with(scheme)) {
            return Ok(Place::Remote(said.to_owned()));
        }
        // Not repeated: it may hold a secret.
        let scheme = said.split("://").next().unwrap_or_default();
        return Err(CliError::usage(format!("{scheme}:// is no kind of store")).hint(PLACES));
    }
    let path = std::path::absolute(said).unwrap_or_else(|_| said.into());
    let fail = |why: &str| CliError::new(format!("{said} is no store: {why}")).hint(PLACES);
    let meta = path
        .metadata()
        .map_err(|e| CliError::from_error(format!("cannot use {said}"), &e).hint(PLACES))?;
    if meta.file_type().is_socket() {
        return Ok(Place::Socket(path));
    }
    match meta.is_dir() {
        true if path.join("index.db").exists() => Ok(Place::Folder(path)),
        true => Err(fail("it has no index.db")),
        false => Err(fail("it is a file")),
    }
}

/// A side that can be asked.
enum Side {
    Served(Served),
    Remote(Box<Remote>),
}

impl Side {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Side::Served(served) => served,
            Side::Remote(remote) => &mut **remote,
        }
    }

    fn sink(&mut self) -> &mut dyn Sink {
        match self {
            Side::Served(served) => served,
            Side::Remote(remote) => &mut **remote,
        }
    }

    /// Only a server has an upstream.
    fn lazy(&mut self, from: &str) {
        if let Side::Served(served) = self {
            served.lazy(from);
        }
    }

    fn named(&mut self, name: &str) -> Result<Option<Named>, SyncError> {
        match self {
            Side::Served(served) => served.named(name),
            Side::Remote(remote) => remote.named(name),
        }
    }

    fn names(&mut self) -> Result<Vec<String>, SyncError> {
        match self {
            Side::Served(served) => served.names(),
            Side::Remote(remote) => remote.names(),
        }
    }
}

/// A place, and what is kept for it until the end.
struct Reached {
    place: Place,
    kept: Kept,
    settings: Settings,
    said: String,
}

enum Kept {
    Nothing,
    /// The server that was started for it alone.
    Own(Own),
    /// The lease with another host's.
    Lease(Client),
}

struct Own {
    client: Client,
    _dir: tempfile::TempDir,
}

impl Drop for Own {
    fn drop(&mut self) {
        // One that does not hear leaves when it is idle.
        let _ = self.client.stop();
        let _ = pocker_store::closed(&self.client.endpoint().store);
    }
}

impl Reached {
    fn at(settings: &Settings, said: &str) -> Result<Reached, CliError> {
        let place = match (said, &settings.remote) {
            ("remote", Some(remote)) => Place::Host(remote.clone()),
            ("remote", None) => {
                return Err(CliError::usage("`remote`: nobody said which")
                    .hint("--remote, POCKER_REMOTE or the settings' `remote` does"));
            }
            _ => place(said)?,
        };
        let mut settings = settings.clone();
        settings.remote = match &place {
            Place::Host(address) => Some(address.clone()),
            _ => None,
        };
        let kept = match &place {
            Place::Local => {
                open::server(&settings)?;
                Kept::Nothing
            }
            Place::Folder(store) => Kept::Own(serve(&settings, store)?),
            Place::Host(_) => {
                let client = open::running_server(&settings)?;
                client.keep_lease()?;
                Kept::Lease(client)
            }
            Place::Socket(_) | Place::Remote(_) => Kept::Nothing,
        };
        Ok(Reached {
            place,
            kept,
            settings,
            said: said.to_owned(),
        })
    }

    fn open(&self, create: bool) -> Result<Side, CliError> {
        let way = match (&self.place, &self.kept) {
            (Place::Remote(url), _) => return Ok(Side::Remote(Remote::open(url, create)?.into())),
            (Place::Socket(socket), _) => Way::Socket(socket.clone()),
            (_, Kept::Own(own)) => Way::Socket(own.client.endpoint().control_socket()),
            (_, Kept::Lease(client)) => match &client.endpoint().remote {
                Some(remote) => Way::Afar(remote.clone()),
                None => Way::Socket(client.endpoint().control_socket()),
            },
            (_, Kept::Nothing) => Way::Socket(self.settings.own_endpoint(false).control_socket()),
        };
        Ok(Side::Served(Served::by(way)?))
    }
}

/// A server for a store that has none.
fn serve(settings: &Settings, store: &Path) -> Result<Own, CliError> {
    open::must_be_root()?;
    let dir = tempfile::Builder::new().prefix("pocker").tempdir();
    let dir = dir.map_err(|e| CliError::from_error("cannot make a folder for sockets", &e))?;
    let endpoint = Endpoint {
        socket_dir: dir.path().to_path_buf(),
        store: store.to_path_buf(),
        ..settings.own_endpoint(true)
    };
    let client = Client::open(endpoint)?;
    Ok(Own { client, _dir: dir })
}

impl From<SyncError> for CliError {
    fn from(error: SyncError) -> CliError {
        CliError {
            hint: error.hint.clone(),
            ..CliError::from_error(error.tried.clone(), &error)
        }
    }
}

pub fn run(settings: &Settings, args: &Sync) -> Result<(), CliError> {
    if args.source == args.destination {
        return Err(CliError::usage("both sides are the same store").hint(PLACES));
    }
    let from = Reached::at(settings, &args.source)?;
    if args.lazy && !matches!(from.place, Place::Remote(_)) {
        return Err(CliError::usage("--lazy: the source is no object store")
            .hint("a server's upstream is one: s3://BUCKET/PREFIX and the like"));
    }
    let to = Reached::at(settings, &args.destination)?;
    if let (Place::Host(_), Place::Host(_)) = (&from.place, &to.place) {
        // One token is shown, and it is of one store.
        return Err(CliError::usage("both sides are servers of other hosts")
            .hint("run it on one of the two, where that side is `local`"));
    }
    if args.lazy && !matches!(to.place, Place::Local | Place::Socket(_) | Place::Host(_)) {
        return Err(
            CliError::usage("--lazy: no server runs for the destination")
                .hint("`local`, pocker://HOST, or a server's control socket"),
        );
    }
    let names = match args.all {
        true => from.open(false)?.names()?,
        false => args.names.clone(),
    };
    let mut done = Vec::new();
    for name in &names {
        crate::build::validate_name(name, &[])?;
        let sent = one(&from, &to, name, args.lazy)?;
        if !args.json {
            text::out(&told(name, &sent))?;
        }
        done.push((name, sent));
    }
    if args.json {
        let all: Vec<_> = done.iter().map(|(name, sent)| json(name, sent)).collect();
        text::out(&format!("{}\n", serde_json::Value::from(all)))?;
    }
    Ok(())
}

fn one(from: &Reached, to: &Reached, name: &str, lazy: bool) -> Result<Sent, CliError> {
    let mut source = from.open(false)?;
    let Some(named) = source.named(name)? else {
        return Err(unknown(&mut source, &from.said, name));
    };
    let mut sink = to.open(true)?;
    if lazy {
        sink.lazy(&from.said);
    }
    Ok(transfer(source.source(), sink.sink(), &named)?)
}

fn unknown(source: &mut Side, said: &str, name: &str) -> CliError {
    /// Names in a hint.
    const SHOWN: usize = 10;
    let error = CliError::new(format!("{said} has no pocker named {name}"));
    match source.names() {
        Ok(names) if names.is_empty() => error.hint("it has none at all"),
        Ok(names) => {
            let more = if names.len() > SHOWN { ", …" } else { "" };
            let some = &names[..names.len().min(SHOWN)];
            error.hint(format!("it has {}{more}", some.join(", ")))
        }
        Err(_) => error,
    }
}

fn told(name: &str, sent: &Sent) -> String {
    let steps = |n: u64| if n == 1 { "step" } else { "steps" };
    if sent.objects + sent.blobs == 0 {
        let count = sent.steps + sent.had;
        return format!("{name}: {count} {}, all of it was there\n", steps(count));
    }
    let had = match sent.had {
        0 => String::new(),
        n => format!(", {n} were there"),
    };
    format!(
        "{name}: {} {}{had}; sent {} {} and {} {}, {}\n",
        sent.steps,
        steps(sent.steps),
        sent.objects,
        if sent.objects == 1 {
            "directory"
        } else {
            "directories"
        },
        sent.blobs,
        if sent.blobs == 1 { "file" } else { "files" },
        text::bytes(sent.bytes)
    )
}

fn json(name: &str, sent: &Sent) -> serde_json::Value {
    serde_json::json!({
        "name": name,
        "steps": sent.steps,
        "steps_there": sent.had,
        "objects": sent.objects,
        "blobs": sent.blobs,
        "bytes": sent.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        assert_eq!(place("local").expect("local"), Place::Local);
        let host = "pocker://store.test";
        assert_eq!(place(host).expect("a host"), Place::Host(host.into()));
        let url = "s3://bucket/prefix";
        assert_eq!(place(url).expect("a URL"), Place::Remote(url.into()));
        let _socket = std::os::unix::net::UnixListener::bind(at("sock")).expect("bound");
        assert_eq!(
            place(&at("sock")).expect("a socket"),
            Place::Socket(at("sock").into())
        );
        std::fs::create_dir(at("store")).expect("made");
        assert!(place(&at("store")).is_err_and(|e| e.message.contains("no index.db")));
        std::fs::write(at("store/index.db"), "").expect("written");
        assert_eq!(
            place(&at("store")).expect("a store"),
            Place::Folder(at("store").into())
        );
        assert!(place(&at("store/index.db")).is_err_and(|e| e.message.contains("is a file")));
        assert!(place(&at("none")).is_err_and(|e| e.message.contains("none")));
        let error = place("ftp://me:hush@host").expect_err("refused").render();
        assert!(
            error.contains("ftp:// is no kind") && !error.contains("hush"),
            "{error}"
        );
    }

    #[test]
    fn what_was_done_is_said() {
        let sent = |steps, had| Sent {
            steps,
            had,
            objects: 12,
            blobs: 345,
            bytes: 6_789_000,
        };
        let none = Sent {
            had: 3,
            ..Sent::default()
        };
        let all = [sent(3, 0), sent(1, 2), none].map(|sent| told("web", &sent));
        insta::assert_snapshot!(all.concat(), @r"
        web: 3 steps; sent 12 directories and 345 files, 6.8 MB
        web: 1 step, 2 were there; sent 12 directories and 345 files, 6.8 MB
        web: 3 steps, all of it was there
        ");
    }
}
