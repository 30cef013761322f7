//! `pocker sync` as the server has it: sessions that send or receive one pocker each.

use super::fail::{Fail, Outcome};
use super::leases;
use super::state::Daemon;
use crate::control::api::PutPocker;
use crate::control::hosts::Lease;
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
/// Of these, what one other host may have.
const OF_ONE_HOST: usize = 8;
/// Things that one session may speak of: each is remembered to its end. As many as an archive may have.
const THINGS_MAX: usize = 8_000_000;

#[derive(Default)]
pub struct Sessions {
    open: Mutex<HashMap<u64, Open>>,
}

struct Open {
    session: Arc<Mutex<Session>>,
    /// When it was last heard of.
    heard: Instant,
    /// Of another host's command: nobody else goes on with it, and it ends with that lease.
    lease: Option<Lease>,
    what: String,
}

impl Open {
    fn lives(&self, silence: Duration) -> bool {
        // One that is in the middle of a call is heard of.
        let called = Arc::strong_count(&self.session) > 1;
        called || (self.heard.elapsed() < silence && self.lease.is_none_or(leases::lives))
    }
}

/// A session, and who speaks of it.
pub type Of = (u64, Option<Lease>);

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
        if let Some(open) = self.sessions.open.lock().get_mut(&self.id) {
            open.heard = Instant::now();
        }
    }
}

impl Sessions {
    fn add(&self, session: Session, what: String, lease: Option<Lease>) -> Outcome<u64> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|e| Fail::internal("cannot begin", &e))?;
        // A number that JSON has in every program that reads it.
        let id = u64::from_le_bytes(id) >> 12;
        self.heard_within(SILENCE);
        let mut all = self.open.lock();
        let same =
            |open: &&Open| lease.is_some() && open.lease.map(|l| l.host) == lease.map(|l| l.host);
        let (many, most) = match all.values().filter(same).count() {
            of_it if of_it >= OF_ONE_HOST => (true, OF_ONE_HOST),
            _ => (all.len() >= SESSIONS_MAX, SESSIONS_MAX),
        };
        if many {
            return Err(Fail::busy(format!("{most} syncs are under way already"))
                .hint("try again when one has ended"));
        }
        let open = Open {
            session: Arc::new(Mutex::new(session)),
            heard: Instant::now(),
            lease,
            what,
        };
        all.insert(id, open);
        Ok(id)
    }

    fn find(self: &Arc<Self>, (id, lease): Of) -> Outcome<Hearing> {
        match self.open.lock().get_mut(&id) {
            Some(open) if open.lease == lease => {
                open.heard = Instant::now();
                Ok(Hearing {
                    sessions: self.clone(),
                    id,
                    session: open.session.clone(),
                })
            }
            _ => Err(
                Fail::bad("that sync is not known here: the server was started again")
                    .hint("run the command again: it goes on after what was sent"),
            ),
        }
    }

    /// What other hosts' commands have under way.
    pub fn leased(&self) -> Vec<(Lease, String)> {
        let all = self.open.lock();
        let of = |open: &Open| open.lease.map(|lease| (lease, open.what.clone()));
        all.values().filter_map(of).collect()
    }

    /// How many are under way; those of which nothing is heard any more end.
    pub fn live(&self) -> usize {
        self.heard_within(SILENCE)
    }

    fn heard_within(&self, silence: Duration) -> usize {
        let mut all = self.open.lock();
        let over = all.extract_if(|_, open| !open.lives(silence));
        let over: Vec<(u64, Open)> = over.collect();
        let left = all.len();
        drop(all);
        // What they received is made durable, which takes a while.
        drop(over);
        left
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
    pub fn sync_send(&self, name: &str, lease: Option<Lease>) -> Outcome<SendBegun> {
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
        let session = Session::Send { _trees: trees };
        let session = self.syncs.add(session, format!("sync of {name}"), lease)?;
        Ok(SendBegun { session, named })
    }

    /// It goes on as long as this is held; an error where there is no such session.
    pub fn sync_heard(&self, session: Of) -> Outcome<Hearing> {
        self.syncs.find(session)
    }

    pub fn sync_receive(
        &self,
        info: &NamedInfo,
        lazy: Option<&str>,
        lease: Option<Lease>,
    ) -> Outcome<ReceiveBegun> {
        // It is in what other hosts are told of.
        crate::build::check_name(&info.name).map_err(|e| Fail::bad(e.to_string()))?;
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
        let what = format!("sync of {}", info.name);
        let session = Session::Receive(Box::new(receive));
        let session = self.syncs.add(session, what, lease)?;
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
        session: Of,
        what: impl FnOnce(&mut Receive) -> Outcome<T>,
    ) -> Outcome<T> {
        let heard = self.syncs.find(session)?;
        let mut session = heard.session.lock();
        match &mut *session {
            Session::Receive(receive) => what(receive),
            Session::Send { .. } => Err(Fail::bad("that sync sends, and receives nothing")),
        }
    }

    pub fn sync_lacks(&self, session: Of, wants: &[Want]) -> Outcome<Vec<bool>> {
        self.receiving(session, |receive| {
            few(&receive.receipt).map_err(store("cannot look for what is there"))?;
            let lacks = |want| receive.receipt.lacks(want);
            let all: Result<Vec<bool>, StoreError> = wants.iter().map(lacks).collect();
            all.map_err(store("cannot look for what is there"))
        })
    }

    /// Takes what the frames hold.
    pub fn sync_take(&self, session: Of, frames: &mut dyn Read) -> Outcome<()> {
        self.receiving(session, |receive| {
            let receipt = &mut receive.receipt;
            let read = crate::sync::frames::read(frames, StoreError::Input, |want, bytes| {
                few(receipt)?;
                receipt.put(want, bytes)
            });
            if read.is_err() {
                // The next try goes on after it, whatever becomes of this session.
                let _ = receipt.settle();
            }
            read.map_err(store("cannot take what was sent"))
        })
    }

    /// From here on the pocker is there.
    pub fn sync_finish(&self, session: Of) -> Outcome<()> {
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

    pub fn sync_end(&self, session: Of) -> Outcome<()> {
        let heard = self.syncs.find(session)?;
        let open = self.syncs.open.lock().remove(&session.0);
        drop((heard, open));
        Ok(())
    }
}

fn few(receipt: &Receipt) -> Result<(), StoreError> {
    match receipt.held() < THINGS_MAX {
        true => Ok(()),
        false => Err(StoreError::Input(std::io::Error::other(format!(
            "it is of more than {THINGS_MAX} files and directories"
        )))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_lives_while_a_call_of_it_does_and_from_its_end() {
        let sessions = Arc::new(Sessions::default());
        let send = || Session::Send { _trees: Vec::new() };
        let id = sessions.add(send(), "sync of x".into(), None);
        let Ok(id) = id else {
            panic!("it is the first")
        };
        let Ok(heard) = sessions.find((id, None)) else {
            panic!("it is there")
        };
        let when = || sessions.open.lock().get(&id).map(|open| open.heard);
        let begun = when();
        assert_eq!(sessions.heard_within(Duration::ZERO), 1, "it streams");
        drop(heard);
        assert!(when() > begun, "heard of to its end");
        assert_eq!(sessions.heard_within(Duration::MAX), 1);
        assert_eq!(sessions.heard_within(Duration::ZERO), 0);
    }

    #[test]
    fn a_session_is_of_who_began_it_and_a_host_has_a_few() {
        use crate::control::hosts::Id;
        let lease = |host, id| Lease {
            host: Id([host; 16]),
            id: Id([id; 16]),
        };
        let sessions = Arc::new(Sessions::default());
        let add = |lease| {
            let send = Session::Send { _trees: Vec::new() };
            sessions.add(send, "sync of x".into(), lease)
        };
        let Ok(id) = add(Some(lease(1, 1))) else {
            panic!("it is the first")
        };
        assert!(sessions.find((id, Some(lease(1, 1)))).is_ok());
        for other in [None, Some(lease(1, 2)), Some(lease(2, 1))] {
            assert!(sessions.find((id, other)).is_err());
        }
        for n in 2..=OF_ONE_HOST as u8 {
            assert!(add(Some(lease(1, n))).is_ok());
        }
        assert!(add(Some(lease(1, 99))).is_err(), "it has enough");
        assert!(add(Some(lease(2, 100))).is_ok() && add(None).is_ok());
        // What it began ends with its lease.
        leases::end(lease(1, 1));
        assert!(add(Some(lease(1, 99))).is_ok());
        assert!(sessions.find((id, Some(lease(1, 1)))).is_err());
        assert_eq!(sessions.leased().len(), OF_ONE_HOST + 1);
    }
}
