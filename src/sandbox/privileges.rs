//! What a command may do beyond its user id. Pure.

use crate::sys::{Capabilities, Capability};

/// What services use to set up files, users and low ports. Not among them: MKNOD and
/// SYS_ADMIN, which reach the host's disks, SETFCAP, which outlives the run in a graft, and
/// NET_RAW, as the network may be the host's.
const SERVICE: Capabilities = Capabilities::of(&[
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::FOWNER,
    Capability::FSETID,
    Capability::KILL,
    Capability::SETGID,
    Capability::SETUID,
    Capability::SETPCAP,
    Capability::NET_BIND_SERVICE,
    Capability::SYS_CHROOT,
    Capability::AUDIT_WRITE,
]);

/// What package managers need besides: packages bring device nodes (no mount of a build
/// lets them be opened) and files with capabilities.
const PACKAGES: Capabilities = Capabilities::of(&[Capability::MKNOD, Capability::SETFCAP]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// What user 0 has.
    pub root: Capabilities,
    /// What another user has: nothing that was not asked for by name.
    pub others: Capabilities,
    /// Files with a setuid bit or capabilities are in force.
    pub setuid: bool,
}

impl Privileges {
    pub const RUN: Privileges = Privileges {
        root: SERVICE,
        others: Capabilities::NONE,
        setuid: false,
    };

    /// An EXEC of a `USER` may call sudo or su, as with every other builder.
    pub const BUILD: Privileges = Privileges {
        root: SERVICE.and(PACKAGES),
        others: Capabilities::NONE,
        setuid: true,
    };

    /// As whoever started it: what a bare chroot leaves.
    pub const HOST: Privileges = Privileges {
        root: Capabilities::ALL,
        others: Capabilities::NONE,
        setuid: true,
    };

    /// First `drop` goes, then `add` comes, whatever their order on the command line. Both
    /// take names in any case, with or without `CAP_`, and ALL.
    pub fn changed(self, add: &[String], drop: &[String]) -> Result<Privileges, UnknownCapability> {
        let (add, drop) = (set(add)?, set(drop)?);
        Ok(Privileges {
            root: self.root.without(drop).and(add),
            others: self.others.without(drop).and(add),
            ..self
        })
    }
}

fn set(names: &[String]) -> Result<Capabilities, UnknownCapability> {
    let mut all = Capabilities::NONE;
    for name in names {
        all = match (name.eq_ignore_ascii_case("ALL"), Capability::named(name)) {
            (true, _) => Capabilities::ALL,
            (_, Some(one)) => all.with(one),
            (_, None) => return Err(UnknownCapability { name: name.clone() }),
        };
    }
    Ok(all)
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no capability")]
pub struct UnknownCapability {
    pub name: String,
}

impl UnknownCapability {
    /// The one that is meant, if one is near.
    pub fn hint(&self) -> String {
        let upper = self.name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let nearest = Capability::all()
            .map(|one| (distance(bare, one.name()), one.name()))
            .min();
        match nearest {
            Some((far, name)) if far <= 3 && far < bare.len() => format!("did you mean {name}?"),
            _ => "capabilities(7) lists them; they are written like NET_BIND_SERVICE".to_owned(),
        }
    }
}

/// How many letters have to be changed, put in or left out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let best = (corner + usize::from(x != y))
                .min(row[j] + 1)
                .min(row[j + 1] + 1);
            corner = row[j + 1];
            row[j + 1] = best;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(add: &[&str], drop: &[&str]) -> Result<Privileges, UnknownCapability> {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Privileges::RUN.changed(&own(add), &own(drop))
    }

    #[test]
    fn what_is_dropped_goes_first_and_what_is_added_is_anyones() {
        let p = changed(&["cap_net_raw", "Kill"], &["ALL"]).unwrap();
        assert_eq!(format!("{:?}", p.root), "KILL+NET_RAW");
        assert_eq!(p.others, p.root);
        let p = changed(&[], &["CHOWN"]).unwrap();
        assert!(!p.root.has(Capability::CHOWN) && p.root.has(Capability::SETUID));
        assert!(p.others.is_empty());
        assert_eq!(changed(&["all"], &[]).unwrap().root, Capabilities::ALL);
        assert_eq!(changed(&[], &[]), Ok(Privileges::RUN));
    }

    #[test]
    fn what_reaches_the_host_is_not_among_the_defaults() {
        for one in [
            Capability::SYS_ADMIN,
            Capability::MKNOD,
            Capability::NET_RAW,
        ] {
            assert!(!Privileges::RUN.root.has(one), "{}", one.name());
        }
        assert!(!Privileges::BUILD.root.has(Capability::SYS_ADMIN));
        assert!(Privileges::BUILD.root.has(Capability::MKNOD));
    }

    #[test]
    fn an_unknown_one_is_named_with_the_one_that_is_near() {
        let error = changed(&["NET_RAWW"], &[]).unwrap_err();
        assert_eq!(error.to_string(), "\"NET_RAWW\" is no capability");
        assert_eq!(error.hint(), "did you mean NET_RAW?");
        let hint = |name: &str| changed(&[], &[name]).unwrap_err().hint();
        assert_eq!(hint("cap_sysadmin"), "did you mean SYS_ADMIN?");
        assert!(hint("").starts_with("capabilities(7)"));
        assert!(hint("éé").starts_with("capabilities(7)"));
        assert!(hint("everything-there-is").starts_with("capabilities(7)"));
    }
}
