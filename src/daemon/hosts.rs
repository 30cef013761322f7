//! Other hosts that use this store: who they are, and what they hold for how long.

use super::clock;
use super::docs::{self, Doc, MountDoc, Owner, RunDoc, TreeDoc};
use super::fail::{Fail, Outcome};
use super::leases;
use super::state::Daemon;
use crate::control::api::{Purpose, VolumeUse};
use crate::control::hosts::{HostInfo, Id, Lease, LeaseInfo};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::IpAddr;

/// How old what is recorded of a host may be, in seconds: not each call is a write.
const NOTED: i64 = 60;
/// A host that holds nothing and did not call for so many seconds is forgotten.
const FORGOTTEN: i64 = 30 * 86_400;
const HOSTS_MAX: usize = 10_000;
/// Of them those that showed one token last; tests fill a small one.
pub const HOSTS_OF_TOKEN: usize = if cfg!(test) { 6 } else { 256 };
/// One that holds nothing makes room after so many seconds.
const IDLE: i64 = 3600;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostDoc {
    id: Id,
    name: String,
    address: IpAddr,
    token: String,
    since: i64,
    seen: i64,
}

impl Doc for HostDoc {
    const KIND: &'static str = "host";
    fn key(&self) -> Vec<u8> {
        self.id.0.to_vec()
    }
}

impl Daemon {
    /// A server that was started anew knows again where its hosts are, and whose trees are whose.
    pub fn know_hosts(&self) {
        for host in docs::all::<HostDoc>(&self.store).unwrap_or_default() {
            leases::is_seen_at(host.id, host.address, &host.token, host.seen);
        }
        let trees = docs::all::<TreeDoc>(&self.store).unwrap_or_default();
        let trees = trees.into_iter().filter(|tree| tree.kept_for.is_none());
        let trees = trees.map(|tree| (tree.id, tree.owner));
        let runs = docs::all::<RunDoc>(&self.store).unwrap_or_default();
        let runs = runs.into_iter().map(|run| (run.id, run.owner));
        for (tree, owner) in trees.chain(runs) {
            self.exports
                .lease(tree, owner.lease.map(|lease| lease.host));
        }
        for volume in self.exports.volumes.list() {
            let hosts = self.writers_of(&volume.name);
            if !hosts.is_empty() {
                self.exports.written_by(volume.id, hosts);
            }
        }
    }

    /// Whether a host is known, or may be. One that shows another token than before is new to that one.
    pub fn room_for_host(&self, id: Id, token: &str) -> Outcome<()> {
        let fail = |e| Fail::internal("cannot list hosts", &e);
        let known = docs::get::<HostDoc>(&self.store, &id.0).map_err(fail)?;
        let before = leases::token_of(id).or(known.map(|host| host.token));
        if before.as_deref() == Some(token) {
            return Ok(());
        }
        let full = || -> Outcome<(bool, bool)> {
            let (seen, seen_with) = leases::known(token);
            let all = docs::all::<HostDoc>(&self.store).map_err(fail)?;
            let of_token = match self.options.read_only {
                // Nothing is written down there: what is in memory is all that is known.
                true => seen_with,
                false => all.iter().filter(|host| host.token == token).count(),
            };
            let many = before.is_none() && all.len().max(seen) >= HOSTS_MAX;
            Ok((many, of_token >= HOSTS_OF_TOKEN))
        };
        let mut found = full()?;
        if found != (false, false) {
            self.forget_unseen_for(IDLE);
            found = full()?;
        }
        let idle = "a host of which nothing is left makes room an hour after its last call, and `pocker reset NAME` drops what its runs and builds left";
        match found {
            (false, false) => Ok(()),
            (true, _) => {
                Err(Fail::too_many(format!("{HOSTS_MAX} hosts use this store already")).hint(idle))
            }
            (_, true) => Err(Fail::too_many(format!(
                "{HOSTS_OF_TOKEN} hosts use token {token} already"
            ))
            .hint(format!(
                "`pocker token create` makes another where the server is; {idle}"
            ))),
        }
    }

    /// A host calls, for which there is room.
    pub fn host_calls(&self, id: Id, name: &str, address: IpAddr, token: &str) -> Outcome<()> {
        let now = clock::now().secs;
        leases::is_seen_at(id, address, token, now);
        let fail = |e| Fail::internal("cannot record the host", &e);
        let known = docs::get::<HostDoc>(&self.store, &id.0).map_err(fail)?;
        let noted = known.as_ref().is_some_and(|host| {
            host.name == name
                && host.address == address
                && host.token == token
                && now - host.seen < NOTED
        });
        if noted || self.options.read_only {
            return Ok(());
        }
        if known.is_none() {
            tracing::info!(host = id.short(), name, %address, token, "a host calls for the first time");
        }
        let doc = HostDoc {
            id,
            name: name.to_owned(),
            address,
            token: token.to_owned(),
            since: known.map_or(now, |host| host.since),
            seen: now,
        };
        docs::save(&self.store, &doc).map_err(fail)
    }

    /// A host is about to write to a volume: those that write there already, and it, may.
    pub fn host_writes(&self, volume: &str, host: Option<Id>) {
        let Some(volume) = self.exports.volumes.find(volume) else {
            return;
        };
        let mut hosts = self.writers_of(&volume.name);
        if !hosts.contains(&host) {
            hosts.push(host);
        }
        self.exports.written_by(volume.id, hosts);
    }

    fn writers_of(&self, volume: &str) -> Vec<Option<Id>> {
        let writes = |used: &VolumeUse| used.name == volume && !used.read_only;
        let runs = self.runs().unwrap_or_default().into_iter();
        let runs = runs.filter(|run| run.live() && run.volumes.iter().any(writes));
        let mounts = docs::all::<MountDoc>(&self.store).unwrap_or_default();
        let mounts = mounts.into_iter();
        let mounts = mounts.filter(|mount| mount.record.volume.as_ref().is_some_and(writes));
        let mounts = mounts.map(|mount| mount.maker.and_then(|maker| maker.host()));
        runs.map(|run| run.owner.host()).chain(mounts).collect()
    }

    /// What people call a host.
    pub fn host_name(&self, id: Id) -> String {
        let known = docs::get::<HostDoc>(&self.store, &id.0).ok().flatten();
        known.map_or_else(|| id.short(), |host| host.name)
    }

    /// The leases that something is recorded under, each with what that is.
    fn leased(&self) -> Outcome<Vec<(Lease, String)>> {
        let fail = |e| Fail::internal("cannot list what hosts hold", &e);
        let mut all: Vec<(Lease, String)> = Vec::new();
        let mut add = |owner: Owner, what: String| {
            all.extend(owner.lease.map(|lease| (lease, what)));
        };
        for run in self.runs()? {
            if !run.ended {
                add(run.owner, format!("run {} of {}", run.id, run.name));
            }
        }
        for tree in docs::all::<TreeDoc>(&self.store).map_err(fail)? {
            if tree.kept_for.is_none() {
                let what = match tree.purpose {
                    Purpose::Build => "build of ",
                    _ => "",
                };
                add(tree.owner, format!("{what}{}", tree.label));
            }
        }
        for mount in docs::all::<MountDoc>(&self.store).map_err(fail)? {
            if let Some(maker) = mount.maker {
                add(maker, format!("mount of {}", mount.record.what));
            }
        }
        for (owner, key) in self.claims.held() {
            let key: String = key.chars().take(12).collect();
            add(owner, format!("build of step {key}"));
        }
        all.extend(self.syncs.leased());
        Ok(all)
    }

    /// The hosts of which something is recorded, ended or not: it counts for their token as long as they are known.
    fn recorded(&self) -> Outcome<Vec<Id>> {
        let fail = |e| Fail::internal("cannot list what hosts have", &e);
        let runs = self.runs()?;
        let trees = docs::all::<TreeDoc>(&self.store).map_err(fail)?;
        let mounts = docs::all::<MountDoc>(&self.store).map_err(fail)?;
        let runs = runs.iter().map(|run| run.owner.host());
        let trees = trees.iter().map(|tree| tree.owner.host());
        let mounts = mounts.iter().map(|mount| mount.maker?.host());
        let all = runs.chain(trees).chain(mounts);
        let services = self.service_hosts()?;
        Ok(all.chain(services).flatten().collect())
    }

    pub fn hosts(&self) -> Outcome<Vec<HostInfo>> {
        let all = docs::all::<HostDoc>(&self.store);
        let all = all.map_err(|e| Fail::internal("cannot list hosts", &e))?;
        let leased = self.leased()?;
        let mut out: Vec<HostInfo> = Vec::new();
        for host in all {
            let mut ids = leases::of(host.id);
            for (lease, _) in leased.iter().filter(|(lease, _)| lease.host == host.id) {
                if !ids.contains(lease) {
                    ids.push(*lease);
                }
            }
            let leases = ids.into_iter().map(|lease| {
                let holds = leased.iter().filter(|(of, _)| *of == lease);
                LeaseInfo {
                    id: lease.id.short(),
                    holds: holds.map(|(_, what)| what.clone()).collect(),
                    left: leases::left(lease).as_secs(),
                }
            });
            // What holds nothing is a call's, not a thing to wait for.
            let mut leases: Vec<LeaseInfo> = leases.filter(|l| !l.holds.is_empty()).collect();
            leases.sort_by(|a, b| (&a.holds, &a.id).cmp(&(&b.holds, &b.id)));
            out.push(HostInfo {
                id: host.id.short(),
                name: host.name,
                address: host.address.to_string(),
                token: host.token,
                since: host.since,
                seen: host.seen,
                leases,
            });
        }
        out.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(out)
    }

    /// A lease is given back: what is left of it goes at once.
    pub fn end_lease(&self, lease: Lease) {
        leases::end(lease);
        self.reap();
    }

    /// Hosts that are gone for good are listed no more.
    pub fn forget_hosts(&self) {
        self.forget_unseen_for(FORGOTTEN);
    }

    fn forget_unseen_for(&self, secs: i64) {
        let now = clock::now().secs;
        let Ok(mut docs) = docs::all::<HostDoc>(&self.store) else {
            return;
        };
        // Of a read-only server none is written, and what it found says nothing of who called since.
        if self.options.read_only {
            docs.clear();
        }
        let known: HashSet<Id> = docs.iter().map(|host| host.id).collect();
        let mut seen = leases::unseen_since(now - secs);
        seen.retain(|id| !known.contains(id));
        docs.retain(|host| now - host.seen > secs);
        if docs.is_empty() && seen.is_empty() {
            return;
        }
        // Nobody is forgotten of whom it cannot be told what is there.
        let (Ok(leased), Ok(recorded)) = (self.leased(), self.recorded()) else {
            return;
        };
        let mut holds: HashSet<Id> = leased.iter().map(|(lease, _)| lease.host).collect();
        holds.extend(recorded);
        let gone = |id: &Id| !holds.contains(id) && leases::of(*id).is_empty();
        for host in docs.iter().filter(|host| gone(&host.id)) {
            if docs::delete(&self.store, host).is_ok() {
                leases::forget(host.id);
            }
        }
        for id in seen.into_iter().filter(gone) {
            leases::forget(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lease, world, world_of};
    use super::*;

    #[test]
    fn hosts_that_hold_nothing_make_room() {
        let world = world();
        let d = &world.d;
        let host = |n: i64, age: i64| HostDoc {
            id: lease().host,
            name: format!("h{n}"),
            address: IpAddr::from([10, 9, 7, 1]),
            token: "t".into(),
            since: 0,
            seen: clock::now().secs - age,
        };
        let mut hosts: Vec<HostDoc> = (1..HOSTS_OF_TOKEN as i64).map(|n| host(n, 10)).collect();
        hosts.push(host(0, 2 * IDLE));
        hosts
            .iter()
            .for_each(|host| docs::save(&d.store, host).expect("saved"));
        let idle = hosts.last().expect("the last").id;
        let holds = Lease {
            host: idle,
            id: lease().id,
        };
        leases::renew(holds, false, IpAddr::from([10, 9, 7, 1]));
        assert!(
            d.room_for_host(lease().host, "t").is_err(),
            "all have something or are new"
        );
        assert!(d.room_for_host(idle, "t").is_ok(), "it is known");
        assert!(d.room_for_host(lease().host, "u").is_ok());
        // It is known, and new to the other token: to that one it counts as any other.
        assert!(d.room_for_host(idle, "u").is_ok());
        let mut other = host(0, 10);
        other.token = "u".into();
        docs::save(&d.store, &other).expect("saved");
        assert!(d.room_for_host(other.id, "u").is_ok(), "as before");
        let full = d.room_for_host(other.id, "t");
        assert!(full.is_err(), "another token than before");
        docs::delete(&d.store, &other).expect("deleted");
        leases::end(holds);
        assert!(d.room_for_host(lease().host, "t").is_ok());
        assert_eq!(d.hosts().expect("a list").len(), hosts.len() - 1);
    }

    #[test]
    fn nobody_is_forgotten_where_it_cannot_be_told_what_is_there() {
        let world = world();
        let d = &world.d;
        let idle = HostDoc {
            id: lease().host,
            name: "h".into(),
            address: IpAddr::from([10, 9, 7, 3]),
            token: lease().host.short(),
            since: 0,
            seen: clock::now().secs - 2 * FORGOTTEN,
        };
        docs::save(&d.store, &idle).expect("saved");
        let known = || docs::get::<HostDoc>(&d.store, &idle.id.0).expect("read");
        let index = d.options.store.join("index.db");
        let index = rusqlite::Connection::open(index).expect("the index");
        for kind in [RunDoc::KIND, TreeDoc::KIND, MountDoc::KIND] {
            let odd = "INSERT INTO record (kind, id, bytes) VALUES (?1, 'text', 'no bytes')";
            index.execute(odd, [kind]).expect("damaged");
            d.forget_hosts();
            assert!(known().is_some(), "{kind}");
            let mended = "DELETE FROM record WHERE kind = ?1";
            index.execute(mended, [kind]).expect("mended");
        }
        d.forget_hosts();
        assert!(known().is_none());
    }

    #[test]
    fn a_read_only_server_bounds_and_forgets_who_calls_too() {
        let world = world_of(|options| options.read_only = true);
        let d = &world.d;
        let at = IpAddr::from([10, 9, 7, 2]);
        let token = lease().host.short();
        let calls = |id| {
            d.room_for_host(id, &token)?;
            d.host_calls(id, "h", at, &token)
        };
        let idle = lease().host;
        leases::is_seen_at(idle, at, &token, clock::now().secs - 2 * IDLE);
        let first = lease().host;
        assert!(calls(first).is_ok());
        for _ in 2..HOSTS_OF_TOKEN {
            assert!(calls(lease().host).is_ok());
        }
        assert!(leases::token_of(idle).is_some());
        assert!(calls(lease().host).is_ok(), "what is idle makes room");
        assert!(leases::token_of(idle).is_none());
        assert!(calls(lease().host).is_err());
        assert!(calls(first).is_ok(), "it is known");
        assert!(d.room_for_host(lease().host, &lease().host.short()).is_ok());
    }
}
