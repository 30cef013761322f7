//! `--chown`: names become numbers by the tree's own passwd and group.

/// Numbers as tar and the store take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    pub const ROOT: Owner = Owner { uid: 0, gid: 0 };
}

/// `USER[:GROUP]`. A user's name alone brings its own group, a number alone stands for both.
/// The error says which name is missing where.
pub fn resolve(text: &str, passwd: Option<&[u8]>, group: Option<&[u8]>) -> Result<Owner, String> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (uid, own_group) = match user.parse::<u32>() {
        Ok(uid) => (uid, uid),
        Err(_) => {
            let missing = || format!("no user `{user}` in the tree's /etc/passwd");
            let fields = entry(passwd, user).ok_or_else(missing)?;
            (
                number(&fields, 2).ok_or_else(missing)?,
                number(&fields, 3).ok_or_else(missing)?,
            )
        }
    };
    let gid = match wanted_group {
        None => own_group,
        Some(name) => match name.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => entry(group, name)
                .and_then(|fields| number(&fields, 2))
                .ok_or_else(|| format!("no group `{name}` in the tree's /etc/group"))?,
        },
    };
    Ok(Owner { uid, gid })
}

/// A user's home directory (passwd(5), sixth field), by name or number.
pub fn home(user: &str, passwd: &[u8]) -> Option<String> {
    let user = user.split(':').next()?;
    let fields = entry(Some(passwd), user).or_else(|| {
        user.parse::<u32>().ok()?;
        lines(passwd).find(|fields| fields.get(2).is_some_and(|uid| *uid == user.as_bytes()))
    })?;
    let home = String::from_utf8(fields.get(5)?.to_vec()).ok()?;
    home.starts_with('/').then_some(home)
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|b| *b == b'\n')
        .map(|line| line.split(|b| *b == b':').collect())
}

fn entry<'a>(file: Option<&'a [u8]>, name: &str) -> Option<Vec<&'a [u8]>> {
    lines(file?).find(|fields| fields.first() == Some(&name.as_bytes()))
}

fn number(fields: &[&[u8]], at: usize) -> Option<u32> {
    std::str::from_utf8(fields.get(at)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:34::/var/www:/bin/false\n";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:www-data\n";

    #[test]
    fn names_numbers_and_defaults() {
        let of = |text| resolve(text, Some(PASSWD), Some(GROUP)).map(|o| (o.uid, o.gid));
        assert_eq!(of("www-data"), Ok((33, 34)));
        assert_eq!(of("www-data:adm"), Ok((33, 4)));
        assert_eq!(of("1000"), Ok((1000, 1000)));
        assert_eq!(of("0:adm"), Ok((0, 4)));
        assert_eq!(
            of("nobody"),
            Err("no user `nobody` in the tree's /etc/passwd".to_owned())
        );
        assert_eq!(
            of("0:x"),
            Err("no group `x` in the tree's /etc/group".to_owned())
        );
        assert_eq!(resolve("5:6", None, None), Ok(Owner { uid: 5, gid: 6 }));
    }

    #[test]
    fn homes() {
        assert_eq!(home("www-data:adm", PASSWD).as_deref(), Some("/var/www"));
        assert_eq!(home("33", PASSWD).as_deref(), Some("/var/www"));
        assert_eq!(home("nobody", PASSWD), None);
    }
}
