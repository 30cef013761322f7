//! What is mounted in a run: its tree does not have that.

use super::{Target, path_text};
use crate::cli::error::CliError;
use crate::life::Run;

/// Mount points of a live run, as paths of its own; the root is left out. Nothing where the system
/// does not tell.
pub fn mounts(run: &Run) -> Vec<Vec<u8>> {
    let init = run.state.init.filter(|_| run.live());
    let table = init.map(|init| std::fs::read(format!("/proc/{}/mountinfo", init.pid)));
    let table = table.and_then(Result::ok).unwrap_or_default();
    parse(&table)
}

/// proc_pid_mountinfo(5): the fifth field, in which blanks and backslashes are octal numbers.
fn parse(table: &[u8]) -> Vec<Vec<u8>> {
    let points = table
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4));
    let points = points.map(|point| {
        let mut out = Vec::with_capacity(point.len());
        let mut rest = point;
        while let Some((first, after)) = rest.split_first() {
            let digits = after.get(..3).filter(|_| *first == b'\\');
            let code = digits.and_then(|d| std::str::from_utf8(d).ok());
            match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
                Some(byte) => {
                    out.push(byte);
                    rest = &after[3..];
                }
                None => {
                    out.push(*first);
                    rest = after;
                }
            }
        }
        out
    });
    points.filter(|point| point != b"/").collect()
}

impl Target {
    /// An error where `path` is something that is mounted in the run, or below it.
    pub fn in_its_tree(&self, path: &[u8]) -> Result<(), CliError> {
        let Some(run) = &self.run else {
            return Ok(());
        };
        let names = path.split(|b| *b == b'/');
        let names = names.filter(|n| !n.is_empty() && *n != b".");
        let path = names.fold(Vec::new(), |path, name| [&path, &b"/"[..], name].concat());
        let below = |point: &Vec<u8>| {
            let rest = path.strip_prefix(&point[..]);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let Some(point) = mounts(run).into_iter().find(below) else {
            return Ok(());
        };
        let (shown, point) = (&self.shown, path_text(&point));
        Err(CliError::new(format!(
            "{point} of run {shown} is mounted there, and not in its tree"
        ))
        .hint(format!(
            "`pocker cp {shown}:{} -` reads what the run sees",
            path_text(&path)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let table = b"24 30 0:22 / / rw - fuse x rw\n\
            25 24 0:23 /a /var/www/h\\040t\\134ml rw master:1 - fuse x rw\n26 24 0:5 / /proc rw - proc p rw\n";
        let points = parse(table);
        assert_eq!(points, [&b"/var/www/h t\\ml"[..], b"/proc"]);
    }
}
