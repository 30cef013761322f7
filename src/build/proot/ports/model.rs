//! What PROOT is on a host: decided by its system, its settings, and what is installed. No program is started.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where OpenBSD has its ports.
pub const PORTS_DIR: &str = "/usr/ports";
const PROOT: &str = "infrastructure/bin/proot";

/// `proot` in the settings: what PROOT is on OpenBSD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Ports' proot where it is there, else the base set.
    #[default]
    WhenPresent,
    /// `sets`: the base set, whatever is there.
    Sets,
    /// This proot.
    Program(PathBuf),
}

impl Choice {
    /// None where it is neither `sets` nor an absolute path.
    pub fn parse(text: &str) -> Option<Choice> {
        match text {
            "sets" => Some(Choice::Sets),
            path if path.starts_with('/') => Some(Choice::Program(path.into())),
            _ => None,
        }
    }
}

/// What PROOT models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    /// A distribution's own release, made by its own tools.
    Distribution,
    /// OpenBSD's base set, of this release.
    Sets(String),
    /// The installed base of this release of OpenBSD, by ports' proot(1).
    Ports { release: String, program: PathBuf },
}

impl Model {
    /// proot is known by the system, not by its name: Debian's is another program. `ports_dir` and `path` are
    /// PORTSDIR and PATH.
    pub fn of(
        system: &str,
        release: &str,
        choice: &Choice,
        ports_dir: Option<&OsStr>,
        path: &OsStr,
    ) -> Model {
        if system != "OpenBSD" {
            return Model::Distribution;
        }
        let program = match choice {
            Choice::Sets => None,
            Choice::Program(program) => Some(program.clone()),
            Choice::WhenPresent => {
                let dirs = ports_dir.map(Path::new).into_iter();
                let trees = dirs.chain([Path::new(PORTS_DIR)]);
                let mut places = trees
                    .map(|dir| dir.join(PROOT))
                    .chain(std::env::split_paths(path).map(|dir| dir.join("proot")));
                places.find(|file| file.is_absolute() && is_program(file))
            }
        };
        let release = release.to_owned();
        match program {
            Some(program) => Model::Ports { release, program },
            None => Model::Sets(release),
        }
    }
}

fn is_program(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
