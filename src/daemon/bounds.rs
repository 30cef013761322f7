//! How much of the server's records one host may have; this one is one of them. Others count by the token that they
//! show, and by their place, which has more: a host's number is of its own making.

use super::fail::{Fail, Outcome};
use super::leases::{self, Full, OF_PLACE};
use crate::control::api::{MountRecord, NewRun, NewTree};
use crate::control::hosts::Id;

/// Tests fill what is small.
const fn of_one(most: usize) -> usize {
    if cfg!(test) { 12 } else { most }
}

/// Of one host: runs, ended ones too; work trees of builds and mounts; mounts; services; steps that are
/// being built.
pub const RUNS: usize = of_one(4096);
pub const TREES: usize = of_one(4096);
pub const MOUNTS: usize = of_one(4096);
pub const SERVICES: usize = of_one(1024);
pub const CLAIMS: usize = of_one(1024);
/// Bytes of a service's record.
const SERVICE_MAX: usize = 256 << 10;
/// Directories and volumes of one run.
const PLACES_MAX: usize = 256;
/// Bytes of a path, as Linux has it; and of what says in a list what something is.
const PATH_MAX: usize = 4096;
const LABEL_MAX: usize = 512;

/// What helps where a place is full.
pub const THERE: &str =
    "other hosts at this address have them: `pocker hosts` where the server is shows which";

/// Whether there is room for one more of `host`, as these belong to.
pub fn room(
    what: &str,
    host: Option<Id>,
    owners: impl IntoIterator<Item = Option<Id>>,
    most: usize,
    hint: &str,
) -> Outcome<()> {
    let said = |who: &str, most: usize, hint: &str| {
        Err(Fail::too_many(format!("{who} {most} {what} already")).hint(hint))
    };
    match (leases::kin(host).full(owners, most), host) {
        (None, _) => Ok(()),
        (Some(_), None) => said("this host has", most, hint),
        (Some(Full::Token), Some(_)) => {
            said("this host, with others of its token, has", most, hint)
        }
        (Some(Full::Place), Some(_)) => {
            said("the hosts at this address have", OF_PLACE * most, THERE)
        }
    }
}

fn within(what: &str, size: usize, most: usize) -> Outcome<()> {
    match size <= most {
        true => Ok(()),
        false => Err(Fail::bad(format!(
            "{what}: {size} bytes are more than the server keeps"
        ))
        .hint(format!("{most} bytes are the most"))),
    }
}

pub fn run(new: &NewRun) -> Outcome<()> {
    let places = new.grafts.len() + new.volumes.len();
    if places > PLACES_MAX {
        return Err(
            Fail::bad(format!("a run with {places} directories and volumes")).hint(format!(
                "{PLACES_MAX} are the most: graft one directory above several"
            )),
        );
    }
    let grafts = new.grafts.iter().map(|graft| graft.host.as_str());
    let volumes = new.volumes.iter().map(|volume| volume.name.as_str());
    let all = grafts.chain(volumes).chain(new.kept.as_deref());
    let mut all = all.chain([new.name.as_str()]);
    all.try_for_each(|name| within("a run's name or place", name.len(), PATH_MAX))
}

pub fn tree(new: &NewTree) -> Outcome<()> {
    within("what a tree is called", new.label.len(), LABEL_MAX)
}

pub fn mount(record: &MountRecord) -> Outcome<()> {
    within("where it is mounted", record.target.len(), PATH_MAX)?;
    within("what is mounted", record.what.len(), LABEL_MAX)?;
    let volume = record.volume.as_ref().map_or(0, |used| used.name.len());
    within("a volume's name", volume, LABEL_MAX)
}

pub fn service(name: &str, record: &[u8]) -> Outcome<()> {
    within(
        &format!("the record of service {name}"),
        record.len(),
        SERVICE_MAX,
    )
}
