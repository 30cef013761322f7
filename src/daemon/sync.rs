//! `pocker sync` as the server has it: sessions that send or receive one pocker each.

use super::fail::{Fail, Outcome};
use super::leases;
use super::state::Daemon;
use crate::control::api::PutPocker;
use crate::control::hosts::Lease;
use crate::sync::named::NamedInfo;
use crate::sync::served::{ReceiveBegun, SendBegun};
use parking_lot::Mutex;
use pocker_nfs::place::counted_as;
use pocker_store::sync::{Named, Receipt, Room, Want};
use pocker_store::types::Digest;
use pocker_store::{SealedTree, Step, StoreError};
use std::collections::HashMap;
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A session that was not heard of for so long is over. What it had received stays until a
/// collection, so the next try goes on.
const SILENCE: Duration = Duration::from_secs(600);
/// Sessions at once: each holds memory for what it looked at.
const SESSIONS_MAX: usize = 64;
/// Of these, what one other host may have; one address, as a host's number is of its own making; and all other
/// hosts, which leave some to the server's own.
const OF_ONE_HOST: usize = 8;
const OF_ADDRESS: usize = 16;
const OF_OTHERS: usize = 48;
/// Things that one session may speak of: each is remembered to its end. As many as an archive may have.
const THINGS_MAX: usize = 8_000_000;

pub struct Sessions {
    open: Mutex<HashMap<u64, Open>>,
    /// For what all sessions of other hosts speak of: no more together than one alone.
    others: Arc<Room>,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions {
            open: Mutex::default(),
            others: Arc::new(Room::new(THINGS_MAX)),
        }
    }
}

struct Open {
    session: Arc<Mutex<Session>>,
    /// When it was last heard of.
    heard: Instant,
    /// Of another host's command: nobody else goes on with it, and it ends with that lease.
    lease: Option<Lease>,
    /// Where that host is.
    from: Option<IpAddr>,
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
        let from = lease.and_then(leases::from);
        let mut all = self.open.lock();
        if let Some(most) = full(&all, lease, from) {
            return Err(Fail::busy(format!("{most} syncs are under way already"))
                .hint("try again when one has ended"));
        }
        let open = Open {
            session: Arc::new(Mutex::new(session)),
            heard: Instant::now(),
            lease,
            from,
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

/// The bound that another session would pass.
fn full(all: &HashMap<u64, Open>, lease: Option<Lease>, from: Option<IpAddr>) -> Option<usize> {
    let from = from.map(counted_as);
    let others = || {
        all.values()
            .filter_map(|open| open.lease.map(|l| (l.host, open.from)))
    };
    let bounds = match lease {
        None => [(all.len(), SESSIONS_MAX)].to_vec(),
        Some(Lease { host, .. }) => vec![
            (others().filter(|(of, _)| *of == host).count(), OF_ONE_HOST),
            (
                others()
                    .filter(|(_, at)| from.is_some() && at.map(counted_as) == from)
                    .count(),
                OF_ADDRESS,
            ),
            (others().count(), OF_OTHERS),
            (all.len(), SESSIONS_MAX),
        ],
    };
    let passed = bounds.into_iter().find(|(have, most)| have >= most);
    passed.map(|(_, most)| most)
}

fn store(tried: &'static str) -> impl Fn(StoreError) -> Fail {
    move |e| match e {
        StoreError::Input(e) => Fail::bad(format!("{tried}: it was cut short: {e}"))
            .hint("run the command again: it goes on after what was sent"),
        e @ (StoreError::Differs { .. } | StoreError::BlobSize { .. }) => {
            Fail::bad(format!("{tried}: {e}"))
                .hint("`pocker fsck` on the source says what is damaged")
        }
        e @ StoreError::TooMany { .. } => Fail::bad(format!("{tried}: {e}")),
        e @ StoreError::NoRoom { .. } => Fail::too_many(format!("{tried}: {e}"))
            .hint("try again when another host's sync has ended: it goes on after what was sent"),
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
        }
        .within(THINGS_MAX, lease.map(|_| self.syncs.others.clone()));
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
        // Nobody who goes one call after the other meets himself, save one whose connection broke. Waiting
        // here would hold a thread.
        let Some(mut session) = heard.session.try_lock() else {
            return Err(
                Fail::busy("another call of this sync is under way").hint("try again in a moment")
            );
        };
        match &mut *session {
            Session::Receive(receive) => what(receive),
            Session::Send { .. } => Err(Fail::bad("that sync sends, and receives nothing")),
        }
    }

    pub fn sync_lacks(&self, session: Of, wants: &[Want]) -> Outcome<Vec<bool>> {
        self.receiving(session, |receive| {
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

    #[test]
    fn an_address_has_a_few_whatever_its_hosts_call_themselves_and_this_host_always_some() {
        use crate::control::hosts::Id;
        let sessions = Arc::new(Sessions::default());
        let add = |lease| {
            let send = Session::Send { _trees: Vec::new() };
            sessions.add(send, "sync of x".into(), lease).is_ok()
        };
        let began = |address: u8| {
            let lease = Lease {
                host: Id::draw().expect("random"),
                id: Id::draw().expect("random"),
            };
            leases::renew(lease, false, IpAddr::from([10, 1, 1, address]));
            add(Some(lease))
        };
        for address in 0..3 {
            for _ in 0..OF_ADDRESS {
                assert!(began(address));
            }
            assert!(!began(address));
        }
        assert!(!began(3), "the rest is this host's");
        for _ in OF_OTHERS..SESSIONS_MAX {
            assert!(add(None));
        }
        assert!(!add(None));
    }

    #[test]
    fn a_call_beside_another_of_its_sync_is_refused_and_holds_no_thread() {
        let world = crate::daemon::tests::world();
        let d = &world.d;
        let sent = d.sync_send("box", None).expect("begun");
        d.sync_end((sent.session, None)).expect("ended");
        let begun = d.sync_receive(&sent.named, None, None).expect("begun");
        let of = (begun.session, None);
        let heard = d.sync_heard(of).expect("there");
        let streams = heard.session.lock();
        assert!(d.sync_lacks(of, &[]).is_err());
        drop(streams);
        assert!(d.sync_lacks(of, &[]).is_ok());
    }
}
