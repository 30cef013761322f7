//! Files of a release, out of a directory or from a mirror, verified before anybody reads them.

use super::SetsError;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a mirror may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
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
    Dir(PathBuf),
    Mirror {
        url: String,
        client: reqwest::Client,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Dir(dir) => write!(f, "{}", dir.display()),
            Place::Mirror { url, .. } => f.write_str(url),
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

fn bounded(file: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => Err(io::Error::other(format!("it is longer than {max} bytes"))),
        false => Ok(bytes),
    }
}

/// A download of its own threads, which are gone when this returns: a build forks.
fn wait<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime.block_on(work)
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
    pub fn mirror(url: &str, below: &str, ca: Option<&Path>) -> Result<Place, SetsError> {
        let bad = |why: String| {
            SetsError::new(
                format!("the mirror {url} cannot be used: {why}"),
                "write SETS --from=https://HOST/pub/OpenBSD, or a directory",
            )
        };
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(bad("it is neither https:// nor http://".to_owned()));
        }
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
        Ok(Place::Mirror {
            url: format!("{url}/{below}"),
            client: builder.build().map_err(|e| bad(reason(e)))?,
        })
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
    pub fn small(&self, name: &str, max: u64) -> Result<Vec<u8>, SetsError> {
        let mut bytes = Vec::new();
        let mut put = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            match bytes.len() as u64 > max {
                true => Err(format!("it is longer than {max} bytes")),
                false => Ok(()),
            }
        };
        match self {
            Place::Dir(dir) => small_file(&dir.join(name), max).map_err(|e| self.failed(name, e)),
            Place::Mirror { .. } => {
                self.get(name, &mut put).map_err(|e| self.failed(name, e))?;
                Ok(bytes)
            }
        }
    }

    fn get(
        &self,
        name: &str,
        put: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let Place::Mirror { url, client } = self else {
            return Err("it is not on a mirror".to_owned());
        };
        wait(async {
            let response = client.get(format!("{url}/{name}")).send().await;
            let mut response = response.map_err(reason)?;
            if !response.status().is_success() {
                return Err(format!("the mirror answers {}", response.status()));
            }
            // An answer that ends before its length is an error of the client.
            while let Some(piece) = response.chunk().await.map_err(reason)? {
                put(&piece)?;
            }
            Ok(())
        })
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
            Place::Dir(dir) => read_all(&dir.join(name), &mut put),
            Place::Mirror { .. } => self.get(name, &mut put),
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

fn read_all(path: &Path, put: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(|e| e.to_string())? {
            0 => return Ok(()),
            n => put(&piece[..n])?,
        }
    }
}
