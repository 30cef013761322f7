//! Why an archive or image was not taken.

use std::io;

/// What is wrong, and what to do about it. Travels inside [`io::Error`] where a reader found it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ImageError {
    pub message: String,
    pub hint: String,
}

/// Most of what somebody else wrote that a message repeats.
const QUOTED: usize = 100;

impl ImageError {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> ImageError {
        ImageError {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The one that a reader put into `error`, if one did.
    pub fn inside(error: &io::Error) -> Option<&ImageError> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<ImageError> for io::Error {
    fn from(error: ImageError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// A few words of somebody else's, fit to be shown.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let mut shown: String = text.chars().map(plain).take(QUOTED).collect();
    if text.chars().count() > QUOTED {
        shown.push('…');
    }
    shown
}
