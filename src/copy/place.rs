//! Where a copy goes: as `docker cp` has it.

use serde::{Deserialize, Serialize};

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub is_dir: bool,
    /// Its own name; none where what it holds is copied and not itself: it ends in `/.`, or is a root.
    pub name: Vec<u8>,
}

/// What is at the destination, links followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    Dir,
    Other,
    /// A link that leads to nothing.
    Dangling,
}

/// The directory that entries go into, and the name that they begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub dir: Vec<u8>,
    pub name: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error("a directory cannot be copied onto what is none")]
    DirOntoFile,
    #[error("there is no such directory")]
    NoDir,
    #[error("it is a link that leads nowhere")]
    Dangling,
}

impl Place {
    pub fn of(to: &[u8], found: &Found, source: &Source) -> Result<Place, PlaceError> {
        let slash = to.ends_with(b"/") || to.ends_with(b"/.");
        match found {
            Found::Dir => Ok(Place {
                dir: to.to_vec(),
                name: source.name.clone(),
            }),
            Found::Dangling => Err(PlaceError::Dangling),
            Found::Other if source.is_dir => Err(PlaceError::DirOntoFile),
            Found::Other if slash => Err(PlaceError::NoDir),
            Found::Nothing if slash && !source.is_dir => Err(PlaceError::NoDir),
            Found::Other | Found::Nothing => Ok(split(to)),
        }
    }
}

/// The directory of a path, and its last name.
fn split(path: &[u8]) -> Place {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let path = &path[..end];
    let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(0) => (&b"/"[..], &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b"."[..], path),
    };
    Place {
        dir: dir.to_vec(),
        name: name.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(
        to: &str,
        found: Found,
        is_dir: bool,
        name: &str,
    ) -> Result<(String, String), PlaceError> {
        let name = name.as_bytes().to_vec();
        let place = Place::of(to.as_bytes(), &found, &Source { is_dir, name })?;
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Ok((text(place.dir), text(place.name)))
    }

    #[test]
    fn a_copy_goes_where_people_of_docker_expect_it() {
        let goes = |dir: &str, name: &str| Ok((dir.to_owned(), name.to_owned()));
        use Found::*;
        // A file: to a new name, over a file, into a directory.
        assert_eq!(at("/a/b", Nothing, false, "f"), goes("/a", "b"));
        assert_eq!(at("b", Other, false, "f"), goes(".", "b"));
        assert_eq!(at("/b", Other, false, "f"), goes("/", "b"));
        assert_eq!(at("/a", Dir, false, "f"), goes("/a", "f"));
        assert_eq!(at("/a/", Nothing, false, "f"), Err(PlaceError::NoDir));
        assert_eq!(at("/a/", Other, false, "f"), Err(PlaceError::NoDir));
        // A directory: as a new one, into one, and what it holds into one.
        assert_eq!(at("/a/b/", Nothing, true, "d"), goes("/a", "b"));
        assert_eq!(at("/a", Dir, true, "d"), goes("/a", "d"));
        assert_eq!(at("/a", Dir, true, ""), goes("/a", ""));
        assert_eq!(at("/a", Dangling, false, "f"), Err(PlaceError::Dangling));
        assert_eq!(at("/a", Other, true, "d"), Err(PlaceError::DirOntoFile));
    }
}
