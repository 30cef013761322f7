//! A mutation: what is there before it, and its steps, each acknowledged when it returns.

use crate::state::{Opened, State};
use pocker_testing::image::{Empty, copy, folder};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub type Step = fn(&Opened) -> Result<(), String>;

pub struct Script {
    pub name: &'static str,
    /// What is there before; `None`: no store.
    pub prepare: Option<fn(&Opened)>,
    /// Damages the closed store, which the steps repair.
    pub hurt: Option<fn(&Path)>,
    /// Puts into the closed store what a killed process left.
    pub left: Option<fn(&Path)>,
    /// Faults begin with opening the store, not with the first step.
    pub from_open: bool,
    /// After a failed sync nothing more is taken until the store is opened again.
    pub restarts: bool,
    /// From this many acknowledged steps on what has this name may be there after all, whole.
    pub may_stay: Option<(usize, &'static str)>,
    pub steps: Vec<Step>,
}

impl Script {
    pub fn new(name: &'static str, prepare: fn(&Opened), steps: &[Step]) -> Script {
        Script {
            name,
            prepare: Some(prepare),
            hurt: None,
            left: None,
            from_open: false,
            restarts: false,
            may_stay: None,
            steps: steps.to_vec(),
        }
    }
}

/// A script with what it starts from and comes to.
pub struct Known {
    pub script: Script,
    dir: TempDir,
    /// Before the first step, and after each.
    pub states: Vec<State>,
}

impl Known {
    pub fn of(script: Script) -> Known {
        let dir = folder();
        let known = Known {
            states: Vec::new(),
            dir,
            script,
        };
        if let Some(prepare) = known.script.prepare {
            prepare(&open(&known.template()));
        }
        for change in [known.script.hurt, known.script.left].into_iter().flatten() {
            change(&known.template());
        }
        let (_clean, place) = known.place();
        let opened = open(&place);
        let mut states = vec![opened.state()];
        for (n, step) in known.script.steps.iter().enumerate() {
            step(&opened).unwrap_or_else(|e| panic!("{}, step {n}: {e}", known.script.name));
            states.push(opened.state());
        }
        Known { states, ..known }
    }

    fn template(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// A fresh store to run on.
    pub fn place(&self) -> (TempDir, PathBuf) {
        let dir = folder();
        let place = dir.path().join("store");
        if self.template().exists() {
            copy(&self.template(), &place, Empty::Copied);
        }
        (dir, place)
    }
}

pub fn open(dir: &Path) -> Opened {
    Opened::at(dir).expect("the store opens")
}
