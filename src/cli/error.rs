//! One error for every command, and the one place that renders it.

use crate::control::api::ApiError;
use std::fmt::Write as _;

/// What was tried and why it failed, and what to do about it.
#[derive(Debug)]
pub struct CliError {
    pub message: String,
    /// The causes, outermost first.
    pub causes: Vec<String>,
    pub hint: Option<String>,
    /// The process's exit status.
    pub status: i32,
    /// What was asked for is not there: asking again is no use.
    pub gone: bool,
    /// The server that answers has another store than the one that was asked for.
    pub wrong_server: bool,
}

/// An operation failed.
pub const FAILED: i32 = 1;
/// The command line itself was wrong (as clap has it).
pub const USAGE: i32 = 2;
/// `run` and `exec` failed and not the command (as docker and env(1) have it).
pub const OWN_FAILURE: i32 = 125;

impl CliError {
    pub fn new(message: impl Into<String>) -> CliError {
        CliError {
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            status: FAILED,
            gone: false,
            wrong_server: false,
        }
    }

    /// Another process of ours has said why.
    pub fn said(status: i32) -> CliError {
        CliError {
            status,
            ..CliError::new("")
        }
    }

    pub fn usage(message: impl Into<String>) -> CliError {
        CliError {
            status: USAGE,
            ..CliError::new(message)
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }

    /// An error and all its sources under a sentence that says what was tried.
    pub fn from_error(tried: impl Into<String>, error: &dyn std::error::Error) -> CliError {
        let mut out = CliError::new(tried);
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            // Many an error's own text ends with its cause's.
            let before = out.causes.last().unwrap_or(&out.message);
            if !before.ends_with(&text) {
                out.causes.push(text);
            }
            next = cause.source();
        }
        out
    }

    /// The exit status of a command that otherwise ends as another program did.
    pub fn own_status(&self) -> i32 {
        match self.status {
            FAILED | USAGE => OWN_FAILURE,
            status => status,
        }
    }

    /// A signal ended it.
    pub fn interrupted(&self) -> bool {
        self.status > 128
    }

    /// All but the hint, as one line.
    pub fn line(&self) -> String {
        let parts: Vec<&str> = std::iter::once(&self.message)
            .chain(&self.causes)
            .flat_map(|part| part.lines())
            .collect();
        parts.join(": ")
    }

    /// "error: …", a line a cause, and the hint on a line of its own.
    pub fn render(&self) -> String {
        if self.message.is_empty() {
            return String::new();
        }
        let mut text = format!("error: {}", self.message);
        for cause in &self.causes {
            let _ = write!(text, "\n  because: {}", cause.replace('\n', "\n    "));
        }
        if let Some(hint) = &self.hint {
            let _ = write!(text, "\nhint: {hint}");
        }
        text.push('\n');
        text
    }
}

impl From<ApiError> for CliError {
    fn from(error: ApiError) -> CliError {
        CliError {
            hint: error.hint,
            ..CliError::new(error.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_causes_and_its_hint() {
        let io = std::io::Error::other("disk on fire");
        let error = CliError::from_error("cannot open the store /s", &io).hint("put it out");
        insta::assert_snapshot!(error.render(), @r"
        error: cannot open the store /s
          because: disk on fire
        hint: put it out
        ");
    }

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("read /s: {0}")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("disk on fire"));
        let error = CliError::from_error("cannot open the store /s", &error);
        assert_eq!(error.causes, ["read /s: disk on fire"]);
    }
}
