//! Files of a release, out of a directory or from a mirror, verified before anybody reads them.

use super::SetsError;
use crate::build::copy::context::{Context, Refused};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a mirror may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// How long a list may take in all, however it drips.
const LIST_TIME: Duration = Duration::from_secs(60);
/// How often a wait looks whether it was interrupted.
const LOOK: Duration = Duration::from_millis(50);
/// The largest sets have a tenth.
const SET_MAX: u64 = 4 << 30;
const PIECE: usize = 256 << 10;

/// A set whose digest was found right.
#[derive(Debug)]
pub struct Fetched {
    file: File,
}

impl Fetched {
    /// Its bytes from the beginning. Nobody else has a name for them where they came from a mirror.
    pub fn open(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }
}

/// Where a release's files for one architecture lie.
pub enum Place {
    /// A directory of the context, and none that a link makes of it.
    Dir(Within),
    Mirror {
        /// With a name and password, where there are any: it is not shown.
        url: reqwest::Url,
        shown: String,
        client: reqwest::Client,
    },
}

/// A path of the context.
pub struct Within {
    context: Context,
    /// As it is shown: the context's own path first.
    dir: PathBuf,
    below: PathBuf,
}

impl Within {
    /// Refused where the path is none of the context's.
    pub fn new(context: &Path, path: &str) -> Result<Within, SetsError> {
        let hint = "copy it into the context: a Pockerfile reads nothing else of this host";
        if path.starts_with('/') {
            return Err(SetsError::new(
                format!("{path} is not in the context"),
                hint,
            ));
        }
        let opened = Context::open(context).map_err(|e| {
            let shown = context.display();
            SetsError::new(format!("cannot read the context {shown}: {e}"), "")
        })?;
        let within = Within {
            context: opened,
            dir: context.to_owned(),
            below: PathBuf::from(path),
        };
        match within.context.resolve(path.as_bytes()) {
            Err(Refused::Outside) => Err(SetsError::new(
                format!("{} leads out of the context", within.shown()),
                hint,
            )),
            // What is missing is said when it is read.
            _ => Ok(within),
        }
    }

    pub fn shown(&self) -> String {
        self.dir.join(&self.below).display().to_string()
    }

    pub fn below(mut self, path: &str) -> Within {
        self.below.push(path);
        self
    }

    /// The file there, or `name` in the directory there.
    pub fn open(&self, name: Option<&str>) -> io::Result<File> {
        let path = match name {
            Some(name) => self.below.join(name),
            None => self.below.clone(),
        };
        let names = self.context.resolve(path.as_os_str().as_bytes());
        let file = names.and_then(|names| self.context.open_file(&names));
        file.map_err(|e| match e {
            Refused::Missing => io::Error::from_raw_os_error(libc::ENOENT),
            Refused::Io(e) => e,
            other => io::Error::other(other.to_string()),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Dir(dir) => f.write_str(&dir.shown()),
            Place::Mirror { shown, .. } => f.write_str(shown),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A file of at most so many bytes.
pub fn small_file(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    bounded(File::open(path)?, max)
}

pub fn bounded(file: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => Err(io::Error::other(format!("it is longer than {max} bytes"))),
        false => Ok(bytes),
    }
}

/// A download of its own threads, which are gone when this returns: a build forks. It ends when it is
/// interrupted, whatever the mirror does, and after `time` where there is one. A name that is being looked up is waited
/// for all the same, on a thread that nothing stops (getaddrinfo(3)): as long as resolv.conf(5) lets that take.
fn wait<T>(
    work: impl Future<Output = Result<T, String>>,
    cancelled: &AtomicBool,
    time: Option<Duration>,
) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let watch = async {
        let begun = std::time::Instant::now();
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return "interrupted".to_owned();
            }
            if time.is_some_and(|time| begun.elapsed() >= time) {
                return format!("it takes longer than {} s", begun.elapsed().as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            done = work => done,
            why = watch => Err(why),
        }
    })
}

/// What an error of the client is about, its causes too, without the address that is named beside it.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut out = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        out = format!("{out}: {inner}");
        cause = inner.source();
    }
    out
}

impl Place {
    /// The mirror, and its address as others may see it: without a name and a password.
    pub fn mirror(url: &str, below: &str, ca: Option<&Path>) -> Result<(Place, String), SetsError> {
        let (mut full, open) = match addresses(url) {
            Ok(found) => found,
            Err(why) => {
                return Err(SetsError::new(
                    format!("the mirror that SETS names cannot be used: {why}"),
                    "write SETS --from=https://HOST/pub/OpenBSD, or a directory",
                ));
            }
        };
        let bad = |why: String| {
            SetsError::new(
                format!("the mirror {open} cannot be used: {why}"),
                "write SETS --from=https://HOST/pub/OpenBSD, or a directory",
            )
        };
        if !matches!(full.scheme(), "https" | "http") {
            return Err(bad("it is neither https:// nor http://".to_owned()));
        }
        if full.query().is_some() || full.fragment().is_some() {
            return Err(bad(
                "it has a ? or a #, and files' names go behind it".to_owned()
            ));
        }
        let path = format!("{}/{below}/", full.path().trim_end_matches('/'));
        full.set_path(&path);
        // Where one is installed already, that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .user_agent(concat!("pocker/", env!("CARGO_PKG_VERSION")));
        if let Some(ca) = ca {
            let pem = std::fs::read(ca).map_err(|e| bad(format!("{}: {e}", ca.display())))?;
            let certificate = reqwest::Certificate::from_pem(&pem);
            let certificate = certificate.map_err(|e| bad(reason(e)))?;
            builder = builder.tls_certs_merge([certificate]);
        }
        let place = Place::Mirror {
            url: full,
            shown: format!("{open}/{below}"),
            client: builder.build().map_err(|e| bad(reason(e)))?,
        };
        Ok((place, open))
    }

    fn failed(&self, name: &str, why: impl fmt::Display) -> SetsError {
        let hint = match self {
            Place::Dir(_) => {
                "SETS --from names a directory with a release's files, below RELEASE/ARCH or as it is"
            }
            Place::Mirror { .. } => {
                "is the mirror reachable from this host? SETS --from names another, or a directory"
            }
        };
        SetsError::new(format!("cannot read {self}/{name}: {why}"), hint)
    }

    /// A small file, unverified.
    pub fn small(
        &self,
        name: &str,
        max: u64,
        cancelled: &AtomicBool,
    ) -> Result<Vec<u8>, SetsError> {
        let mut bytes = Vec::new();
        let mut put = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            match bytes.len() as u64 > max {
                true => Err(format!("it is longer than {max} bytes")),
                false => Ok(()),
            }
        };
        match self {
            Place::Dir(dir) => {
                let read = dir.open(Some(name)).and_then(|file| bounded(file, max));
                read.map_err(|e| self.failed(name, e))
            }
            Place::Mirror { .. } => {
                self.get(name, cancelled, Some(LIST_TIME), &mut put)
                    .map_err(|e| self.failed(name, e))?;
                Ok(bytes)
            }
        }
    }

    fn get(
        &self,
        name: &str,
        cancelled: &AtomicBool,
        time: Option<Duration>,
        put: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let Place::Mirror { url, client, .. } = self else {
            return Err("it is not on a mirror".to_owned());
        };
        let url = url.join(name).map_err(|e| e.to_string())?;
        let work = async {
            let response = client.get(url).send().await;
            let mut response = response.map_err(reason)?;
            if !response.status().is_success() {
                return Err(format!("the mirror answers {}", response.status()));
            }
            // An answer that ends before its length is an error of the client.
            while let Some(piece) = response.chunk().await.map_err(reason)? {
                put(&piece)?;
            }
            Ok(())
        };
        wait(work, cancelled, time)
    }

    /// A set whose SHA-256 is `sha256`; nothing of it is left where it is another.
    pub fn fetch(
        &self,
        name: &str,
        sha256: &str,
        aside: &Path,
        cancelled: &AtomicBool,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Fetched, SetsError> {
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut see = |piece: &[u8]| {
            hash.update(piece);
            size += piece.len() as u64;
            on_bytes(piece.len() as u64);
            match (cancelled.load(Ordering::Relaxed), size > SET_MAX) {
                (true, _) => Err("interrupted".to_owned()),
                (_, true) => Err(format!("it is longer than {SET_MAX} bytes")),
                _ => Ok(()),
            }
        };
        // A private copy either way: what was verified is what is unpacked.
        let mut copy = tempfile::tempfile_in(aside).map_err(|e| self.failed(name, e))?;
        let mut put = |piece: &[u8]| {
            see(piece)?;
            copy.write_all(piece).map_err(|e| e.to_string())
        };
        match self {
            Place::Dir(dir) => read_all(dir.open(Some(name)), &mut put),
            Place::Mirror { .. } => self.get(name, cancelled, None, &mut put),
        }
        .map_err(|e| self.failed(name, e))?;
        let found = hex::encode(hash.finalize());
        if found != sha256 {
            return Err(SetsError::new(
                format!("{self}/{name}: its SHA-256 is {found}, but the release signed {sha256}"),
                "it is cut short, damaged or not the release's: fetch it again, or from another mirror",
            ));
        }
        Ok(Fetched { file: copy })
    }
}

/// A mirror's address as it is asked, and as it is shown and sealed.
fn addresses(url: &str) -> Result<(reqwest::Url, String), String> {
    let full = reqwest::Url::parse(url.trim_end_matches('/')).map_err(|e| e.to_string())?;
    let mut open = full.clone();
    if open.set_username("").is_err() || open.set_password(None).is_err() {
        return Err("its address has no host".to_owned());
    }
    let open = open.as_str().trim_end_matches('/').to_owned();
    Ok((full, open))
}

fn read_all(
    file: io::Result<File>,
    put: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut file = file.map_err(|e| e.to_string())?;
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(|e| e.to_string())? {
            0 => return Ok(()),
            n => put(&piece[..n])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_it_is_interrupted_and_when_its_time_is_over() {
        let never = || std::future::pending::<Result<(), String>>();
        let soon = AtomicBool::new(false);
        let why = std::thread::scope(|scope| {
            scope.spawn(|| soon.store(true, Ordering::Relaxed));
            wait(never(), &soon, None).expect_err("interrupted")
        });
        assert_eq!(why, "interrupted");
        let none = AtomicBool::new(false);
        let why = wait(never(), &none, Some(Duration::ZERO)).expect_err("too long");
        assert_eq!(why, "it takes longer than 0 s");
        assert_eq!(wait(async { Ok(7) }, &none, None), Ok(7));
    }

    #[test]
    fn a_mirrors_password_is_used_and_not_shown() {
        let (place, open) =
            Place::mirror("https://me:secret@host/pub/", "7.8/amd64", None).expect("a mirror");
        assert_eq!(
            (open.as_str(), place.to_string().as_str()),
            ("https://host/pub", "https://host/pub/7.8/amd64")
        );
        assert!(!format!("{place:?}").contains("secret"));
        let Place::Mirror { url, .. } = place else {
            panic!("no mirror")
        };
        let asked = url.join("SHA256.sig").expect("an address");
        assert_eq!(
            asked.as_str(),
            "https://me:secret@host/pub/7.8/amd64/SHA256.sig"
        );
        for (bad, why) in [
            ("https://me:secret@host/pub?x", "it has a ? or a #"),
            ("ftp://me:secret@host/pub", "neither https:// nor http://"),
            ("https://me:secret@", "empty host"),
        ] {
            let error = Place::mirror(bad, "7.8/amd64", None)
                .map(drop)
                .expect_err(bad);
            assert!(
                error.why.contains(why) && !error.why.contains("secret"),
                "{error:?}"
            );
        }
    }
}
