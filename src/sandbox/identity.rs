//! Who the command runs as, looked up in the tree's own passwd(5) and group(5).
//! Read as plain files, without the name services of host or tree.

use crate::sys::{Attempt, Fault};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// A system with a hundred thousand users has about this much; more is no passwd file.
const MAX_FILE: u64 = 8 << 20;
/// How an error ends that is about the file and not about who is looked for.
pub const NO_FILE: &str = "is not a plain file of at most 8 MiB";
/// Linux's NGROUPS_MAX; other systems take fewer and say so.
const MAX_GROUPS: usize = 65_536;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// All of them, `gid` included.
    pub groups: Vec<u32>,
    pub home: OsString,
}

impl Identity {
    /// Where a chroot is all the wall, user 0 is refused by its number: a name of any spelling may have it.
    pub fn allowed(self, no_root: bool) -> Result<Identity, Fault> {
        match no_root && self.uid == 0 {
            true => Err(Fault::new(super::plan::PlanError::Root.to_string())),
            false => Ok(self),
        }
    }
}

/// In the tree that is `/` now. `user` is `name`, `uid`, or either with `:group` or
/// `:gid`; none is root.
pub fn look_up(user: Option<&str>) -> Result<Identity, Fault> {
    let passwd = read("/etc/passwd")?;
    let group = read("/etc/group")?;
    identify(user.unwrap_or("0"), &passwd, &group)
}

/// A missing file is an empty one.
fn read(path: &str) -> Result<Vec<u8>, Fault> {
    // Whatever a hostile tree has there: a fifo is not waited for, a terminal does not become ours.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let doing = format!("read the tree's {path}");
    let odd = || Fault::new(format!("the tree's {path} {NO_FILE}"));
    let file = match open(Path::new(path), flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        // A device on a mount that opens none, a socket, a link to itself.
        Err(Errno::EACCES | Errno::ENXIO | Errno::ELOOP) => return Err(odd()),
        Err(errno) => return Err(errno).attempt(doing),
    };
    let found = file.metadata().attempt(&doing)?;
    if !found.is_file() || found.len() > MAX_FILE {
        return Err(odd());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .attempt(&doing)?;
    // It may grow meanwhile.
    match bytes.len() as u64 > MAX_FILE {
        true => Err(odd()),
        false => Ok(bytes),
    }
}

/// Pure part of [`look_up`]. A name is looked for first, then a number, as chown(1) does;
/// a number needs no entry and then has itself as group. With a group given, that is the only one.
pub fn identify(user: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, Fault> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group_name)) => (name, Some(group_name)),
        None => (user, None),
    };
    let entry = find_user(name, passwd);
    let uid = match (&entry, number(name.as_bytes())) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) => {
            return Err(Fault::new(format!(
                "the tree's /etc/passwd has no user {name:?}"
            )));
        }
    };
    let gid = match group_name {
        Some(group_name) => find_group(group_name, group)?,
        None => entry.as_ref().map_or(uid, |entry| entry.gid),
    };
    let mut groups = vec![gid];
    if let (Some(entry), None) = (&entry, group_name) {
        add_memberships(entry.name, group, &mut groups);
    }
    let home = entry.map_or(&b""[..], |entry| entry.home);
    let home = if home.is_empty() { b"/" } else { home };
    Ok(Identity {
        uid,
        gid,
        groups,
        home: OsString::from_vec(home.to_vec()),
    })
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

fn find_user<'a>(wanted: &str, passwd: &'a [u8]) -> Option<User<'a>> {
    let users = || records(passwd).filter_map(|fields| user(&fields));
    users()
        .find(|user| user.name == wanted.as_bytes())
        .or_else(|| {
            let uid = number(wanted.as_bytes())?;
            users().find(|user| user.uid == uid)
        })
}

/// passwd(5): name, password, uid, gid, comment, home, shell.
fn user<'a>(fields: &[&'a [u8]]) -> Option<User<'a>> {
    Some(User {
        name: fields.first().filter(|name| !name.is_empty())?,
        uid: number(fields.get(2)?)?,
        gid: number(fields.get(3)?)?,
        home: fields.get(5)?,
    })
}

fn find_group(wanted: &str, group: &[u8]) -> Result<u32, Fault> {
    records(group)
        .find(|fields| fields[0] == wanted.as_bytes())
        .and_then(|fields| number(fields.get(2)?))
        .or_else(|| number(wanted.as_bytes()))
        .ok_or_else(|| Fault::new(format!("the tree's /etc/group has no group {wanted:?}")))
}

/// group(5): name, password, gid, members.
fn add_memberships(user: &[u8], group: &[u8], groups: &mut Vec<u32>) {
    let mut known: HashSet<u32> = groups.iter().copied().collect();
    for fields in records(group) {
        let (Some(gid), Some(members)) = (fields.get(2).and_then(|gid| number(gid)), fields.get(3))
        else {
            continue;
        };
        let member = members.split(|&b| b == b',').any(|name| name == user);
        if member && groups.len() < MAX_GROUPS && known.insert(gid) {
            groups.push(gid);
        }
    }
}

fn records(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|&b| b == b'\n')
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| line.split(|&b| b == b':').collect())
}

/// A uid or gid. The largest u32 means "no change" to the system calls, so it is none.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number != u32::MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        broken\n\
        bad:x:abc:1::/:\n\
        www:x:33:34:web:/var/www:/bin/false\n\
        1000:x:7:8::/odd:\n\
        nohome:x:50:50:::\n";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:34:\nadm:x:4:www,other\nssl:x:5:other,www\n\
        near:x:6:wwww,ww\nagain:x:34:www\nshort:x\n";

    fn ids(user: &str) -> (u32, u32, Vec<u32>, String) {
        let found = identify(user, PASSWD, GROUP).unwrap();
        let home = found.home.into_string().unwrap();
        (found.uid, found.gid, found.groups, home)
    }

    #[test]
    fn names_and_numbers_find_the_same_entry_with_its_groups() {
        let www = (33, 34, vec![34, 4, 5], "/var/www".to_owned());
        assert_eq!(ids("www"), www);
        assert_eq!(ids("33"), www);
        assert_eq!(ids("root"), (0, 0, vec![0], "/root".to_owned()));
    }

    #[test]
    fn a_given_group_is_the_only_one() {
        assert_eq!(ids("www:adm"), (33, 4, vec![4], "/var/www".to_owned()));
        assert_eq!(ids("www:77"), (33, 77, vec![77], "/var/www".to_owned()));
        assert_eq!(ids("12:13"), (12, 13, vec![13], "/".to_owned()));
    }

    #[test]
    fn a_number_needs_no_entry_and_a_name_of_digits_is_a_name() {
        assert_eq!(ids("4711"), (4711, 4711, vec![4711], "/".to_owned()));
        assert_eq!(ids("1000"), (7, 8, vec![8], "/odd".to_owned()));
        assert_eq!(ids("nohome").3, "/");
    }

    #[test]
    fn a_user_is_in_a_group_once_and_in_no_more_than_there_may_be() {
        let lines = (0..70_000).map(|gid| format!("g:x:{}:www\n", gid % 69_000));
        let group: String = lines.collect();
        let found = identify("www", PASSWD, group.as_bytes()).unwrap();
        assert_eq!(found.groups.len(), MAX_GROUPS);
        let distinct: HashSet<u32> = found.groups.iter().copied().collect();
        assert_eq!(distinct.len(), MAX_GROUPS);
    }

    #[test]
    fn user_0_is_refused_by_whatever_name_where_asked() {
        let passwd = b"app:x:0:0::/:\nwww:x:33:34::/:\n";
        let allowed = |user, no_root| identify(user, passwd, b"")?.allowed(no_root);
        for user in ["app", "app:33", "0", "00", "000:5"] {
            let refused = allowed(user, true).expect_err(user).to_string();
            assert!(refused.contains("keeps no root in"), "{refused}");
            assert_eq!(allowed(user, false).expect(user).uid, 0);
        }
        assert_eq!(allowed("www", true).expect("another").uid, 33);
    }

    #[test]
    fn who_is_unknown_is_named() {
        let text = |user| identify(user, PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(text("eve"), "the tree's /etc/passwd has no user \"eve\"");
        assert_eq!(
            text("www:eve"),
            "the tree's /etc/group has no group \"eve\""
        );
        assert!(text("").contains("no user"));
        assert!(text("bad").contains("no user"));
        assert!(text("4294967295").contains("no user"));
        assert!(text("0:4294967295").contains("no group"));
        assert!(text("-1").contains("no user"));
    }
}
