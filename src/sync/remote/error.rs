//! What object stores' errors mean to a person.

use object_store::Error;
use pocker_store::sync::SyncError;
use std::path::PathBuf;

/// Why an object store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    #[error("it is no place for pockers: {0}")]
    Url(String),
    #[error("it has a user or a password, which everybody can read on a command line")]
    Secret,
    #[error("cannot use the folder {dir}", dir = .dir.display())]
    Folder {
        dir: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot be set up: {0}")]
    Store(#[from] Error),
}

const ENVIRONMENT: &str = "who asks is said in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY";
const REACH: &str = "see that it can be reached: for S3, AWS_ENDPOINT, AWS_REGION, and AWS_ALLOW_HTTP=true where it has no TLS; what was sent is kept, so running the command again goes on";
/// Of what a server said.
const SAID_MAX: usize = 300;
/// What S3 says, with 400, where who asks is not known any more.
const EXPIRED: [&str; 2] = ["<Code>ExpiredToken</Code>", "<Code>InvalidToken</Code>"];

impl NotOpened {
    pub fn sync(self, place: &str) -> SyncError {
        let hint = match &self {
            NotOpened::Url(_) => {
                "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///DIR"
            }
            NotOpened::Secret | NotOpened::Store(_) => ENVIRONMENT,
            NotOpened::Folder { .. } => "see that it is there, and that it can be written to",
        };
        let tried = match self {
            // A secret is not said again, nor what may be one in a URL that is none.
            NotOpened::Secret => "cannot open that object store".to_owned(),
            NotOpened::Url(_) if !place.starts_with("file:") => {
                "cannot open that object store".to_owned()
            }
            _ => format!("cannot open {place}"),
        };
        SyncError::because(tried, self).hint(hint)
    }
}

/// What was tried, the last cause, and what to do.
pub fn failed(place: &str, tried: &str, error: Error) -> SyncError {
    let hint = match &error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => ENVIRONMENT,
        Error::Generic { source, .. } if matches!(refused(&**source), Some(About::Place)) => {
            ENVIRONMENT
        }
        Error::NotFound { .. } => {
            "see that the bucket is there; if it is, an object of it is gone: `pocker sync` from a store that has the pocker to another prefix"
        }
        Error::Generic { source, .. } if local(&**source) => {
            "see that the folder can be written to and that its file system has room; running the command again goes on"
        }
        _ => REACH,
    };
    SyncError::because(format!("{place}: cannot {tried}"), Said::of(&error)).hint(hint)
}

fn local(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(e) = next {
        if e.is::<std::io::Error>() && !e.to_string().contains("onnect") {
            return true;
        }
        next = e.source();
    }
    false
}

/// What an object store said, and whom it is about.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Said {
    text: String,
    pub about: About,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// One object, which is not there.
    Missing,
    /// One object, in another way.
    Object,
    /// All of it: nothing else would be answered either.
    Place,
}

impl Said {
    pub fn of(error: &Error) -> Said {
        Said {
            text: said(error),
            about: about(error),
        }
    }

    pub fn too_slow() -> Said {
        Said {
            text: "it comes too slowly".to_owned(),
            about: About::Place,
        }
    }

    /// The one in an error or its causes.
    pub fn inside<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Said> {
        let mut next = Some(error);
        while let Some(e) = next {
            // What an I/O error holds is not its source.
            let read = match e.downcast_ref() {
                Some(pocker_store::StoreError::Input(read)) => Some(read),
                _ => e.downcast_ref::<std::io::Error>(),
            };
            if let Some(held) = read.and_then(std::io::Error::get_ref) {
                next = Some(held);
                continue;
            }
            if let Some(said) = e.downcast_ref() {
                return Some(said);
            }
            next = e.source();
        }
        None
    }
}

fn about(error: &Error) -> About {
    match error {
        Error::NotFound { .. } => About::Missing,
        // Folders answer at once, and each file for itself.
        Error::Generic { store, .. } if *store == "LocalFileSystem" => About::Object,
        Error::Generic { source, .. } => refused(&**source).unwrap_or(About::Place),
        // Who asks is not known: that is so of all that is asked.
        Error::Unauthenticated { .. } | Error::JoinError { .. } => About::Place,
        _ => About::Object,
    }
}

/// Where the server answered that the request is at fault: what of it. The library's type for it is its own.
fn refused(error: &(dyn std::error::Error + 'static)) -> Option<About> {
    let mut next = Some(error);
    while let Some(e) = next {
        let text = e.to_string();
        let code = text.split("status code: ").nth(1);
        if let Some(code) = code {
            let expired = EXPIRED.iter().any(|word| code.contains(word));
            return match code.starts_with('4') && !code.starts_with("429") {
                true if expired => Some(About::Place),
                true => Some(About::Object),
                // 429 is about all that is asked.
                false => None,
            };
        }
        next = e.source();
    }
    None
}

/// On one line, and bounded: a server's page may be long.
fn said(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().map(plain).take(SAID_MAX).collect();
    if text.chars().count() > SAID_MAX {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_whom_asks_is_about_the_place() {
        let generic = |text: &str| Error::Generic {
            store: "S3",
            source: format!("Server returned non-2xx status code: {text}").into(),
        };
        let path = || "x".to_owned();
        for (error, whom, environment) in [
            (
                Error::Unauthenticated {
                    path: path(),
                    source: "401".into(),
                },
                About::Place,
                true,
            ),
            (
                Error::PermissionDenied {
                    path: path(),
                    source: "403".into(),
                },
                About::Object,
                true,
            ),
            (
                generic("400 Bad Request: <Error><Code>ExpiredToken</Code></Error>"),
                About::Place,
                true,
            ),
            (
                generic("400 Bad Request: <Error><Code>InvalidToken</Code></Error>"),
                About::Place,
                true,
            ),
            (
                generic("400 Bad Request: <Error><Code>Odd</Code></Error>"),
                About::Object,
                false,
            ),
            (generic("429 Too Many Requests: "), About::Place, false),
            (generic("503 Slow Down: "), About::Place, false),
        ] {
            assert_eq!(Said::of(&error).about, whom, "{error}");
            let text = error.to_string();
            let hint = failed("s3://b", "read x", error).hint;
            assert_eq!(hint.as_deref() == Some(ENVIRONMENT), environment, "{text}");
        }
    }
}
