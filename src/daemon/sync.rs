//! `pocker sync` as the server has it: sessions that send or receive one pocker each.

use super::fail::{Fail, Outcome};
use super::state::Daemon;
use crate::control::api::PutPocker;
use crate::sync::named::NamedInfo;
use crate::sync::served::{ReceiveBegun, SendBegun};
use parking_lot::Mutex;
use pocker_store::sync::{Named, Receipt, Want};
use pocker_store::types::Digest;
use pocker_store::{SealedTree, Step, StoreError};
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A session that was not heard of for so long is over. What it had received stays until a
/// collection, so the next try goes on.
const SILENCE: Duration = Duration::from_secs(600);
/// Sessions at once: each holds memory for what it looked at.
const SESSIONS_MAX: usize = 64;

#[derive(Default)]
pub struct Sessions {
    open: Mutex<HashMap<u64, Heard>>,
}

/// A session, and when it was last heard of.
type Heard = (Arc<Mutex<Session>>, Instant);

enum Session {
    /// Held open, so that no collection takes them.
    Send {
        _trees: Vec<Arc<SealedTree>>,
    },
    Receive(Box<Receive>),
}

struct Receive {
    named: Named,
    config: crate::control::api::RunConfig,
    wanted: Vec<Step>,
    receipt: Receipt,
}

/// A call of a session under way: it is heard of until its end.
pub struct Hearing {
    sessions: Arc<Sessions>,
    id: u64,
    session: Arc<Mutex<Session>>,
}

impl Drop for Hearing {
    fn drop(&mut self) {
        if let Some((_, heard)) = self.sessions.open.lock().get_mut(&self.id) {
            *heard = Instant::now();
        }
    }
}

impl Sessions {
    fn add(&self, session: Session) -> Outcome<u64> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|e| Fail::internal("cannot begin", &e))?;
        // A number that JSON has in every program that reads it.
        let id = u64::from_le_bytes(id) >> 12;
        let mut open = self.open.lock();
        if open.len() >= SESSIONS_MAX {
            return Err(
                Fail::busy(format!("{SESSIONS_MAX} syncs are under way already"))
                    .hint("try again when one has ended"),
            );
        }
        open.insert(id, (Arc::new(Mutex::new(session)), Instant::now()));
        Ok(id)
    }

    fn find(self: &Arc<Self>, id: u64) -> Outcome<Hearing> {
        match self.open.lock().get_mut(&id) {
            Some((session, heard)) => {
                *heard = Instant::now();
                Ok(Hearing {
                    sessions: self.clone(),
                    id,
                    session: session.clone(),
                })
            }
            None => Err(
                Fail::bad("that sync is not known here: the server was started again")
                    .hint("run the command again: it goes on after what was sent"),
            ),
        }
    }

    /// How many are under way; those of which nothing is heard any more end.
    pub fn live(&self) -> usize {
        self.heard_within(SILENCE)
    }

    fn heard_within(&self, silence: Duration) -> usize {
        let mut open = self.open.lock();
        // One that is in the middle of a call is heard of.
        open.retain(|_, (session, heard)| {
            heard.elapsed() < silence || Arc::strong_count(session) > 1
        });
        open.len()
    }
}

fn store(tried: &'static str) -> impl Fn(StoreError) -> Fail {
    move |e| match e {
        StoreError::Input(e) => Fail::bad(format!("{tried}: it was cut short: {e}"))
            .hint("run the command again: it goes on after what was sent"),
        e @ (StoreError::Differs { .. } | StoreError::BlobSize { .. }) => {
            Fail::bad(format!("{tried}: {e}"))
                .hint("`pocker fsck` on the source says what is damaged")
        }
        e => Fail::internal(tried, &e),
    }
}

impl Daemon {
    pub fn sync_send(&self, name: &str) -> Outcome<SendBegun> {
        let tried = store("cannot read the pocker");
        let pocker = self.store.pocker(name.as_bytes()).map_err(&tried)?;
        let pocker = pocker.ok_or_else(|| {
            Fail::not_found(format!("there is no pocker named {name}"))
                .hint("`pocker ls` lists them")
        })?;
        let (mut steps, mut trees) = (Vec::new(), Vec::new());
        for key in &pocker.steps {
            let step = self.finished(key)?;
            let step = step.ok_or_else(|| {
                Fail::bad(format!("{name} has lost its step {key}"))
                    .hint("`pocker create` makes it anew")
            })?;
            trees.push(self.store.sealed(&step.snapshot).map_err(&tried)?);
            steps.push(step);
        }
        let named = NamedInfo::of(&Named { pocker, steps });
        let named = named.map_err(|e| Fail::internal("cannot send the pocker", &e))?;
        let session = self.syncs.add(Session::Send { _trees: trees })?;
        Ok(SendBegun { session, named })
    }

    /// It goes on as long as this is held; an error where there is no such session.
    pub fn sync_heard(&self, session: u64) -> Outcome<Hearing> {
        self.syncs.find(session)
    }

    pub fn sync_receive(&self, info: &NamedInfo, lazy: Option<&str>) -> Outcome<ReceiveBegun> {
        let named = info.named().map_err(|e| Fail::bad(e.to_string()))?;
        let tried = store("cannot look for the steps");
        let mut receipt = match lazy {
            Some(url) => {
                self.is_upstream(url)?;
                Receipt::lazy(self.store.clone())
            }
            None => Receipt::new(self.store.clone()),
        };
        let mut wanted = Vec::new();
        for step in &named.steps {
            wanted.push(!receipt.has_step(step.key).map_err(&tried)?);
        }
        let pairs = named.steps.iter().zip(&wanted);
        let receive = Receive {
            wanted: pairs.filter(|(_, w)| **w).map(|(s, _)| s.clone()).collect(),
            config: info.config.clone(),
            named,
            receipt,
        };
        let session = self.syncs.add(Session::Receive(Box::new(receive)))?;
        Ok(ReceiveBegun { session, wanted })
    }

    /// Files that are left there can be fetched from there.
    fn is_upstream(&self, url: &str) -> Outcome<()> {
        let same = |a: &str, b: &str| a.trim_end_matches('/') == b.trim_end_matches('/');
        match &self.options.upstream {
            Some(upstream) if same(&upstream.url, url) => Ok(()),
            Some(upstream) => Err(Fail::bad(format!(
                "this server's upstream is {}, not {url}",
                upstream.url
            ))
            .hint("leave out --lazy, and all of it is taken; or sync from the upstream")),
            None => Err(Fail::bad("this server has no upstream to fetch files from")
                .hint(format!(
                    "start it with `pocker serve --upstream {url}`, or say so in the settings: upstream = \"{url}\""
                ))),
        }
    }

    fn receiving<T>(
        &self,
        session: u64,
        what: impl FnOnce(&mut Receive) -> Outcome<T>,
    ) -> Outcome<T> {
        let heard = self.syncs.find(session)?;
        let mut session = heard.session.lock();
        match &mut *session {
            Session::Receive(receive) => what(receive),
            Session::Send { .. } => Err(Fail::bad("that sync sends, and receives nothing")),
        }
    }

    pub fn sync_lacks(&self, session: u64, wants: &[Want]) -> Outcome<Vec<bool>> {
        self.receiving(session, |receive| {
            let lacks = |want| receive.receipt.lacks(want);
            let all: Result<Vec<bool>, StoreError> = wants.iter().map(lacks).collect();
            all.map_err(store("cannot look for what is there"))
        })
    }

    /// Takes what the frames hold.
    pub fn sync_take(&self, session: u64, frames: &mut dyn Read) -> Outcome<()> {
        self.receiving(session, |receive| {
            let receipt = &mut receive.receipt;
            let read = crate::sync::frames::read(frames, StoreError::Input, |want, bytes| {
                receipt.put(want, bytes)
            });
            read.map_err(store("cannot take what was sent"))
        })
    }

    /// From here on the pocker is there.
    pub fn sync_finish(&self, session: u64) -> Outcome<()> {
        self.receiving(session, |receive| {
            let taken = receive.receipt.steps(&receive.wanted);
            taken.map_err(store("cannot keep what was sent"))?;
            let name = String::from_utf8_lossy(&receive.named.pocker.name);
            let steps = receive.named.pocker.steps.iter().map(Digest::to_string);
            let put = PutPocker {
                steps: steps.collect(),
                config: receive.config.clone(),
            };
            self.put_pocker(&name, &put).map(drop)
        })
    }

    pub fn sync_end(&self, session: u64) {
        self.syncs.open.lock().remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lives_while_a_call_of_it_does_and_from_its_end() {
        let sessions = Arc::new(Sessions::default());
        let id = sessions.add(Session::Send { _trees: Vec::new() });
        let Ok(id) = id else {
            panic!("it is the first")
        };
        let Ok(heard) = sessions.find(id) else {
            panic!("it is there")
        };
        let when = || sessions.open.lock().get(&id).map(|(_, heard)| *heard);
        let begun = when();
        assert_eq!(sessions.heard_within(Duration::ZERO), 1, "it streams");
        drop(heard);
        assert!(when() > begun, "heard of to its end");
        assert_eq!(sessions.heard_within(Duration::MAX), 1);
        assert_eq!(sessions.heard_within(Duration::ZERO), 0);
    }
}
