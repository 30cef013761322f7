//! The last step: a clean slate, and execve(2).

use crate::sys::{Attempt, Fault, signals};
use nix::errno::Errno;
use nix::unistd::execve;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What execvp(3) searches where PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the command; returns only why it could not. `home` is HOME unless `env` has one.
pub fn exec(
    argv: &[OsString],
    env: &[(OsString, OsString)],
    home: Option<OsString>,
) -> Result<(), Fault> {
    let name = argv.first().ok_or_else(|| Fault::new("no command"))?;
    let args: Vec<CString> = argv
        .iter()
        .map(|a| c_string(a.as_bytes()))
        .collect::<Result<_, _>>()?;
    let mut variables: Vec<CString> = env
        .iter()
        .map(|(name, value)| variable(name, value))
        .collect::<Result<_, _>>()?;
    if let Some(home) = home
        && !env.iter().any(|(name, _)| name == "HOME")
    {
        variables.push(variable(OsStr::new("HOME"), &home)?);
    }
    let path = env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value);
    signals::reset().attempt("reset the signals")?;
    let mut worst = Errno::ENOENT;
    for candidate in candidates(name, path) {
        let file = c_string(candidate.as_bytes())?;
        let Err(errno) = execve(&file, &args, &variables);
        match errno {
            // As execvp(3): one that may not be executed hides none further on.
            Errno::ENOENT | Errno::ENOTDIR => worst = interpreter_missing(&candidate, worst)?,
            Errno::EACCES => worst = Errno::EACCES,
            errno => return Err(errno).attempt(""),
        }
    }
    Err(worst).attempt("")
}

/// A file that is there and still gives ENOENT lacks its interpreter or its loader.
fn interpreter_missing(candidate: &OsStr, worst: Errno) -> Result<Errno, Fault> {
    match std::fs::metadata(candidate) {
        Ok(_) => Err(Fault {
            detail: format!(
                "{} is there, but the interpreter or loader that it names is not",
                candidate.display()
            ),
            errno: Some(Errno::ENOENT as i32),
        }),
        Err(_) => Ok(worst),
    }
}

/// Where a command may be, in order. An empty PATH element is the working directory.
fn candidates(name: &OsStr, path: &OsStr) -> Vec<OsString> {
    if name.as_bytes().contains(&b'/') {
        return vec![name.to_owned()];
    }
    path.as_bytes()
        .split(|&b| b == b':')
        .map(|dir| {
            let dir = if dir.is_empty() { &b"."[..] } else { dir };
            OsString::from_vec([dir, b"/", name.as_bytes()].concat())
        })
        .collect()
}

fn variable(name: &OsStr, value: &OsStr) -> Result<CString, Fault> {
    c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat())
}

fn c_string(bytes: &[u8]) -> Result<CString, Fault> {
    CString::new(bytes).map_err(|_| Fault::new("a NUL byte in the command or its environment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_as_it_is_and_a_name_searched_in_order() {
        let paths = |name: &str, path: &str| candidates(OsStr::new(name), OsStr::new(path));
        assert_eq!(paths("./x", "/bin"), ["./x"]);
        assert_eq!(
            paths("x", "/bin::/usr/bin"),
            ["/bin/x", "./x", "/usr/bin/x"]
        );
    }
}
