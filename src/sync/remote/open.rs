//! An object store by its URL. Where it is and who asks is said as its own tools have it, in the
//! environment: never on a command line, and never in a message of ours.

use super::error::NotOpened;
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// What begins with one of these is an object store.
pub const SCHEMES: [&str; 4] = ["file://", "s3://", "gs://", "az://"];

/// How long a request that the environment says nothing of may take: to connect, in silence, in all.
const DEFAULTS: [(ClientConfigKey, &str, &str); 3] = [
    (
        ClientConfigKey::ConnectTimeout,
        "CONNECT_TIMEOUT",
        "5 seconds",
    ),
    (ClientConfigKey::ReadTimeout, "READ_TIMEOUT", "60 seconds"),
    (ClientConfigKey::Timeout, "TIMEOUT", "600 seconds"),
];

/// An object store and where in it.
pub struct Opened {
    pub store: Arc<dyn ObjectStore>,
    pub prefix: Path,
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(60),
    }
}

fn defaults(prefix: &str) -> impl Iterator<Item = (ClientConfigKey, &'static str)> {
    let unset = move |name: &str| std::env::var_os(format!("{prefix}_{name}")).is_none();
    let all = DEFAULTS.into_iter().filter(move |(_, name, _)| unset(name));
    all.map(|(key, _, value)| (key, value))
}

/// `create`: a folder is made where there is none.
pub fn open(text: &str, create: bool) -> Result<Opened, NotOpened> {
    let url = Url::parse(text).map_err(|e| NotOpened::Url(e.to_string()))?;
    // As `az://container@account` has it, a user there names no secret.
    if url.password().is_some() || (url.scheme() != "az" && !url.username().is_empty()) {
        return Err(NotOpened::Secret);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(NotOpened::Url("it has a `?` or a `#`".into()));
    }
    if url.scheme() == "file" {
        return folder(&url, create);
    }
    // TLS is ring's everywhere; another part of this process may have said so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bucket = url.host_str().unwrap_or_default();
    if bucket.is_empty() {
        return Err(NotOpened::Url("it names no bucket".into()));
    }
    let prefix = Path::from_url_path(url.path()).map_err(|e| NotOpened::Url(e.to_string()))?;
    let store: Arc<dyn ObjectStore> = match url.scheme() {
        "s3" => {
            let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
            for (key, value) in defaults("AWS") {
                builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
            }
            Arc::new(builder.with_retry(retry()).build()?)
        }
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            for (key, value) in defaults("GOOGLE") {
                builder = builder.with_config(GoogleConfigKey::Client(key), value);
            }
            Arc::new(builder.with_retry(retry()).build()?)
        }
        "az" => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(format!(
                "az://{}{bucket}/",
                match url.username() {
                    "" => String::new(),
                    container => format!("{container}@"),
                }
            ));
            for (key, value) in defaults("AZURE") {
                builder = builder.with_config(AzureConfigKey::Client(key), value);
            }
            Arc::new(builder.with_retry(retry()).build()?)
        }
        other => return Err(NotOpened::Url(format!("{other}:// is not known"))),
    };
    Ok(Opened { store, prefix })
}

fn folder(url: &Url, create: bool) -> Result<Opened, NotOpened> {
    let dir: PathBuf = url
        .to_file_path()
        .map_err(|()| NotOpened::Url("a folder is named from the root on: file:///DIR".into()))?;
    let made = match create {
        true => std::fs::create_dir_all(&dir),
        false => std::fs::read_dir(&dir).map(drop),
    };
    made.map_err(|source| NotOpened::Folder {
        dir: dir.clone(),
        source,
    })?;
    // Durable when it is acknowledged, as of the others.
    let store = LocalFileSystem::new_with_prefix(&dir)?.with_fsync(true);
    Ok(Opened {
        store: Arc::new(store),
        prefix: Path::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_place_is_refused_and_no_secret_is_repeated() {
        let said = |text: &str| match open(text, false) {
            Ok(_) => panic!("{text} was opened"),
            Err(e) => e.to_string(),
        };
        assert!(said("s3://").contains("names no bucket") || said("s3://").contains("host"));
        assert!(said("ftp://host/x").contains("ftp:// is not known"));
        assert!(said("file://host/x").contains("from the root on"));
        assert!(said("s3://bucket/x?y").contains("`?`"));
        for with in [
            "s3://key:hush@bucket/x",
            "s3://hush@bucket",
            "az://a:hush@b/c",
        ] {
            let said = said(with);
            assert!(
                said.contains("on a command line") && !said.contains("hush"),
                "{said}"
            );
        }
        assert!(said("file:///no/such/folder").contains("/no/such/folder"));
    }
}
