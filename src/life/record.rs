//! What the files of a run say.

use crate::control::api::RunConfig;
use crate::sys::process::Started;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Arguments as they were given: text where they are that, else bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words(Vec<Word>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Bytes(Vec<u8>),
}

impl Words {
    pub fn of(words: &[OsString]) -> Words {
        let word = |w: &OsString| match w.to_str() {
            Some(text) => Word::Text(text.to_owned()),
            None => Word::Bytes(w.as_bytes().to_vec()),
        };
        Words(words.iter().map(word).collect())
    }

    pub fn get(&self) -> Vec<OsString> {
        let word = |w: &Word| match w {
            Word::Text(text) => text.into(),
            Word::Bytes(bytes) => OsString::from_vec(bytes.clone()),
        };
        self.0.iter().map(word).collect()
    }
}

/// `run.json`: what was asked for. Only its name ever changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub name: String,
    pub pocker: String,
    /// Seconds since the epoch.
    pub created: i64,
    pub detached: bool,
    /// Forgotten when it ends.
    pub remove: bool,
    /// Started by `pocker boot`.
    pub boot: bool,
    /// All words of its `pocker run`, and where it was said.
    pub words: Words,
    pub dir: PathBuf,
    /// The volume that is its tree, of the name that it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

impl Record {
    /// The volume that is the tree of a run that began as `name`.
    pub fn kept_of(name: &str) -> String {
        format!("{name}.kept")
    }

    /// Of a run whose file cannot be read: it goes by its id.
    pub fn lost(id: &str, detached: bool) -> Record {
        Record {
            id: id.to_owned(),
            name: id.to_owned(),
            pocker: "?".to_owned(),
            created: 0,
            detached,
            remove: false,
            boot: false,
            words: Words::default(),
            dir: PathBuf::from("/"),
            kept: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Starting,
    Running,
    /// Waits before it starts again.
    Restarting,
    Ended,
    /// What was written cannot be read.
    Damaged,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// As a shell would say it.
    pub status: i32,
    /// Seconds since the epoch.
    pub at: i64,
    /// Why, where the command is not to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Starting,
    Healthy,
    Unhealthy,
}

/// What `--health-cmd` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub verdict: Verdict,
    /// Failures in a row.
    pub failures: u64,
    /// When the last one ended, in seconds since the epoch, and how.
    pub checked: Option<i64>,
    pub status: Option<i32>,
}

/// `supervisor.json`: who answers for a run, should its state be damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub boot: String,
    pub supervisor: Started,
}

/// `state.json`: what its supervisor last wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub phase: Phase,
    /// Of which boot of the machine everything here is.
    pub boot: String,
    pub supervisor: Started,
    /// The sandbox's processes on the host: the one that answers for it, the first of its
    /// namespaces, the command.
    pub stage: Option<Started>,
    pub init: Option<Started>,
    pub command: Option<Started>,
    /// The server's number of the run, which is its tree's.
    pub run: Option<u64>,
    /// When the command last started, in seconds since the epoch.
    pub started: Option<i64>,
    /// How often it started.
    pub starts: u64,
    /// How the last start ended.
    pub end: Option<End>,
    /// When it starts again, in milliseconds since the epoch.
    pub again: Option<i64>,
    pub health: Option<Health>,
    /// What the pocker said when the run last started: `exec` goes by it.
    pub config: Option<RunConfig>,
    /// What its command line, and the files that it named, added to the environment then.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Control groups that are the run's alone.
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
}

impl State {
    /// Of a run that `supervisor` is about to start.
    pub fn new(supervisor: Started) -> State {
        State {
            phase: Phase::Starting,
            boot: this_boot(),
            supervisor,
            stage: None,
            init: None,
            command: None,
            run: None,
            started: None,
            starts: 0,
            end: None,
            again: None,
            health: None,
            config: None,
            env: Vec::new(),
            cgroups: Vec::new(),
        }
    }

    /// Of a run whose file cannot be read, until somebody writes it anew.
    pub fn damaged(owner: Option<Owner>) -> State {
        let unknown = || Owner {
            boot: this_boot(),
            supervisor: Started {
                pid: 0,
                start: None,
            },
        };
        let Owner { boot, supervisor } = owner.unwrap_or_else(unknown);
        State {
            phase: Phase::Damaged,
            boot,
            // It may have run, so it is never forgotten as one that did not come to run.
            starts: 1,
            ..State::new(supervisor)
        }
    }

    pub fn owner(&self) -> Owner {
        Owner {
            boot: self.boot.clone(),
            supervisor: self.supervisor,
        }
    }

    /// Neither how it is can be read, nor who answers for it.
    pub fn unknown(&self) -> bool {
        self.phase == Phase::Damaged && self.supervisor.start.is_none()
    }

    /// Somebody sees to it.
    pub fn live(&self) -> bool {
        self.phase != Phase::Ended && self.boot == this_boot() && self.supervisor.lives()
    }
}

/// Names this boot of the machine.
pub fn this_boot() -> String {
    let id = crate::control::sys::boot_id();
    match std::str::from_utf8(&id) {
        Ok(text) if !text.is_empty() => text.to_owned(),
        _ => hex::encode(&id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were() {
        let words = ["run".into(), OsString::from_vec(vec![b'a', 0xff])];
        let json = serde_json::to_string(&Words::of(&words)).expect("JSON");
        assert_eq!(json, r#"["run",[97,255]]"#);
        let back: Words = serde_json::from_str(&json).expect("words");
        assert_eq!(back.get(), words);
    }

    #[test]
    fn a_state_of_another_boot_or_of_a_reused_pid_is_not_live() {
        let mut state = State::new(Started::me());
        assert!(state.live());
        state.boot = "another".to_owned();
        assert!(!state.live());
        state.boot = this_boot();
        state.supervisor.start = state.supervisor.start.map(|s| s + 1);
        assert!(!state.live());
    }
}
