//! The folder of runs: one folder each, made and removed in one step, written by one
//! process at a time.

use super::error::{LifeError, io_error};
use super::file::{private, read_json, write_json};
use super::record::{End, Owner, Phase, Record, State, Words};
use crate::sys::process::Started;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const RECORD: &str = "run.json";
const STATE: &str = "state.json";
const OWNER: &str = "supervisor.json";
/// Empty until the run has ended: who holds it open reads there how, also once it is removed.
const EXIT: &str = "exit";
/// There while somebody wants the run to start again when its command ends.
const AGAIN: &str = "again";
/// There once nobody wants it to start again, whatever its policy.
const ENOUGH: &str = "enough";
/// Folders that are not there yet, and no longer.
const NEW: &str = ".new-";
const GONE: &str = ".gone-";
const ID_BYTES: usize = 6;
/// Names that are tried for a run of no name.
const NAMES_MAX: u32 = 10_000;

/// What a run is begun with.
pub struct Asked<'a> {
    pub pocker: &'a str,
    pub name: Option<&'a str>,
    pub detached: bool,
    pub remove: bool,
    pub boot: bool,
    /// Its tree is a volume.
    pub keep: bool,
    pub words: Words,
    pub dir: PathBuf,
    /// Seconds since the epoch.
    pub now: i64,
}

/// All runs that this host knows.
#[derive(Clone, Debug)]
pub struct Runs {
    dir: PathBuf,
}

/// One run, as its files said it when it was read.
#[derive(Clone, Debug)]
pub struct Run {
    dir: PathBuf,
    pub record: Record,
    pub state: State,
    /// Which of its files cannot be read.
    pub damaged: Option<&'static str>,
}

/// What dead supervisors had left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Runs that had not ended by themselves.
    pub runs: Vec<String>,
    pub cgroups: Vec<PathBuf>,
}

impl Runs {
    pub fn of(socket_dir: &Path) -> Runs {
        Runs {
            dir: socket_dir.join("runs"),
        }
    }

    /// What people call the run that this process supervises.
    pub fn called(socket_dir: &Path, supervisor: u32) -> Option<String> {
        let all = Runs::of(socket_dir).all().ok()?;
        let mut of = all
            .into_iter()
            .filter(|run| run.state.supervisor.pid == supervisor);
        of.find(Run::live).map(|run| run.record.name)
    }

    /// Held by whoever makes, removes, renames or takes over.
    pub fn lock(&self) -> Result<Flock<File>, LifeError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(io_error("make", &self.dir))?;
        let path = self.dir.join(".lock");
        let file = private(&path, OpenOptions::new().write(true).create(true))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| io_error("lock", &path)(errno.into()))
    }

    /// Begins a run, of which this process answers until another takes it over.
    pub fn begin(&self, asked: Asked<'_>) -> Result<Run, LifeError> {
        let _one = self.lock()?;
        if let Some(name) = asked.name {
            crate::build::check_name(name)?;
        }
        let there = self.all()?;
        let name = self.free_name(&asked, &there)?;
        let kept = asked.keep.then(|| Record::kept_of(&name));
        let others = there.iter().filter(|run| run.record.name != name);
        let mut same = others.filter(|run| kept.is_some() && run.record.kept == kept);
        if let (Some(volume), Some(other)) = (&kept, same.next()) {
            return Err(LifeError::Kept {
                volume: volume.clone(),
                name: other.record.name.clone(),
            });
        }
        let record = Record {
            id: new_id()?,
            name,
            pocker: asked.pocker.to_owned(),
            created: asked.now,
            detached: asked.detached,
            remove: asked.remove,
            boot: asked.boot,
            words: asked.words,
            dir: asked.dir,
            kept,
        };
        self.make(record)
    }

    /// It runs: ended runs that had its name are forgotten, and not before.
    pub fn replace_by(&self, run: &Run) -> Result<(), LifeError> {
        let _one = self.lock()?;
        let Some(run) = run.again() else {
            return Ok(());
        };
        let named =
            |old: &Run| old.record.name == run.record.name && old.record.id != run.record.id;
        for old in self.all()?.iter().filter(|old| named(old) && !old.live()) {
            old.remove()?;
        }
        Ok(())
    }

    /// The same run again, as it was recorded. What an earlier start left is there until it runs.
    pub fn begin_recorded(&self, record: Record) -> Result<Run, LifeError> {
        let _one = self.lock()?;
        let mut there = self.all()?;
        there.retain(|old| old.record.name == record.name || old.record.id == record.id);
        if let Some(live) = there.iter().find(|old| old.live()) {
            return Err(in_use(live));
        }
        match there.into_iter().find(|old| old.record.id == record.id) {
            Some(mut own) => {
                own.record = record;
                own.save_record()?;
                own.renew()?;
                Ok(own)
            }
            None => self.make(record),
        }
    }

    fn make(&self, record: Record) -> Result<Run, LifeError> {
        let dir = self.dir.join(&record.id);
        let new = self.dir.join(format!("{NEW}{}", record.id));
        DirBuilder::new()
            .mode(0o700)
            .create(&new)
            .map_err(io_error("make", &new))?;
        let run = Run {
            dir: new.clone(),
            state: State::new(Started::me()),
            record,
            damaged: None,
        };
        let made = run.save_record().and_then(|()| run.save_owner());
        let made = made
            .and_then(|()| run.new_exit())
            .and_then(|()| std::fs::rename(&new, &dir).map_err(io_error("make", &dir)));
        if let Err(e) = made {
            let _ = std::fs::remove_dir_all(&new);
            return Err(e);
        }
        Ok(Run { dir, ..run })
    }

    /// A name of no live run: an ended one's is free to those who ask for it, or whose log it
    /// would replace by their own.
    fn free_name(&self, asked: &Asked<'_>, there: &[Run]) -> Result<String, LifeError> {
        let taken = |name: &str, ended: bool| {
            let mut same = there.iter().filter(|run| run.record.name == name);
            same.find(|run| ended || run.live())
        };
        if let Some(name) = asked.name {
            return match taken(name, false) {
                Some(run) => Err(in_use(run)),
                None => Ok(name.to_owned()),
            };
        }
        let numbered = (2..NAMES_MAX).map(|n| format!("{}-{n}", asked.pocker));
        let mut names = std::iter::once(asked.pocker.to_owned()).chain(numbered);
        names
            .find(|name| taken(name, !asked.detached).is_none())
            .ok_or_else(|| LifeError::InUse {
                name: asked.pocker.to_owned(),
                id: "and so are its numbers".to_owned(),
            })
    }

    /// Every run, the newest first.
    pub fn all(&self) -> Result<Vec<Run>, LifeError> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io_error("list", &self.dir)(e)),
        };
        let mut runs: Vec<Run> = entries
            .filter_map(|entry| Run::read(&entry.ok()?.path()))
            .collect();
        runs.sort_by(|a, b| {
            let key = |run: &Run| (run.record.created, run.record.name.clone());
            key(b).cmp(&key(a))
        });
        Ok(runs)
    }

    /// By name, a live one first; else by id or its beginning.
    pub fn find(&self, text: &str) -> Result<Run, LifeError> {
        let all = self.all()?;
        let mut named: Vec<&Run> = all.iter().filter(|r| r.record.name == text).collect();
        named.sort_by_key(|run| !run.live());
        if let Some(run) = named.first() {
            return Ok((*run).clone());
        }
        let hex = text.len() >= 4 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let mut begun = all.iter().filter(|r| hex && r.record.id.starts_with(text));
        match (begun.next(), begun.next()) {
            (Some(run), None) => Ok(run.clone()),
            (Some(_), Some(_)) => Err(LifeError::Ambiguous(text.to_owned())),
            (None, _) => Err(LifeError::Unknown(shown(text))),
        }
    }

    pub fn rename(&self, text: &str, name: &str) -> Result<Run, LifeError> {
        let _one = self.lock()?;
        crate::build::check_name(name)?;
        let mut run = self.find(text)?;
        if let Some(file) = run.damaged {
            let id = run.record.id;
            return Err(LifeError::Damaged { id, file });
        }
        let mut same = self.all()?.into_iter().filter(|r| r.record.name == name);
        if let Some(other) = same.find(|r| r.record.id != run.record.id) {
            return Err(in_use(&other));
        }
        run.record.name = name.to_owned();
        run.save_record()?;
        Ok(run)
    }

    /// Sees to the runs whose supervisor is gone, and to folders that were not finished.
    pub fn sweep(&self, now: i64) -> Result<Found, LifeError> {
        let mut found = Found::default();
        if !self.dir.exists() {
            return Ok(found);
        }
        let _one = self.lock()?;
        for entry in std::fs::read_dir(&self.dir)
            .map_err(io_error("list", &self.dir))?
            .flatten()
        {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(NEW) || name.starts_with(GONE) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        for run in self.all()? {
            if let Some(mut run) = run.lost() {
                found.cgroups.extend(run.clean());
                found.runs.push(run.record.name.clone());
                run.settle(now)?;
            }
        }
        Ok(found)
    }
}

fn in_use(run: &Run) -> LifeError {
    LifeError::InUse {
        name: run.record.name.clone(),
        id: run.record.id.clone(),
    }
}

/// What somebody typed, for an error's line.
fn shown(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    clean.take(80).collect()
}

/// As [`new_id`] makes them: another folder is none of ours.
fn is_id(name: &str) -> bool {
    name.len() == 2 * ID_BYTES && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn new_id() -> Result<String, LifeError> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|e| io_error("read", Path::new("random numbers"))(io::Error::other(e)))?;
    Ok(hex::encode(bytes))
}

impl Run {
    fn read(dir: &Path) -> Option<Run> {
        let id = dir.file_name()?.to_str().filter(|name| is_id(name))?;
        // Who removes or replaces a folder renames it, so what cannot be read twice is damaged.
        let whole = |run: &Run| run.damaged.is_none();
        let first = Run::parts(dir, id);
        let run = match whole(&first) {
            true => first,
            false => Run::parts(dir, id),
        };
        (whole(&run) || dir.is_dir()).then_some(run)
    }

    /// What can be read of it, and in place of the rest what can be said all the same.
    fn parts(dir: &Path, id: &str) -> Run {
        let record: Option<Record> = read_json(&dir.join(RECORD));
        let record = record.filter(|record| record.id == id);
        let state: Option<State> = read_json(&dir.join(STATE));
        let damaged = match (&record, &state) {
            (Some(_), Some(_)) => None,
            (None, _) => Some(RECORD),
            (_, None) => Some(STATE),
        };
        Run {
            record: record.unwrap_or_else(|| Record::lost(id, super::log::exists(dir))),
            state: state.unwrap_or_else(|| State::damaged(read_json::<Owner>(&dir.join(OWNER)))),
            dir: dir.to_owned(),
            damaged,
        }
    }

    /// As its files say it now; none once it is removed.
    pub fn again(&self) -> Option<Run> {
        Run::read(&self.dir)
    }

    pub fn live(&self) -> bool {
        self.state.live()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// As it is now, where its supervisor is gone and did not say how it ended. One that was
    /// there when the files were read may have written its last since, so they are read again.
    fn lost(&self) -> Option<Run> {
        let open = |run: &Run| {
            let State { phase, .. } = run.state;
            phase != Phase::Ended && !run.live() && !run.state.unknown()
        };
        open(self).then(|| self.again()).flatten().filter(open)
    }

    fn save_record(&self) -> Result<(), LifeError> {
        write_json(&self.dir, RECORD, &self.record)
    }

    pub fn save_state(&self) -> Result<(), LifeError> {
        write_json(&self.dir, STATE, &self.state)
    }

    /// Also that this process answers for it.
    fn save_owner(&self) -> Result<(), LifeError> {
        write_json(&self.dir, OWNER, &self.state.owner())?;
        self.save_state()
    }

    fn new_exit(&self) -> Result<(), LifeError> {
        let path = self.dir.join(EXIT);
        let _ = std::fs::remove_file(&path);
        private(&path, OpenOptions::new().write(true).create_new(true)).map(drop)
    }

    /// Held open, it tells how this run ended, whatever becomes of its folder.
    pub fn exit(&self) -> Result<Exit, LifeError> {
        let path = self.dir.join(EXIT);
        let file = File::open(&path).map_err(io_error("read", &path))?;
        Ok(Exit(file))
    }

    /// The calling process answers for this run from here on, in place of the one that began it.
    pub fn take_over(&mut self, runs: &Runs) -> Result<(), LifeError> {
        let _one = runs.lock()?;
        let now = self.again();
        let now = now.filter(|now| now.state.phase == Phase::Starting);
        let now = now.ok_or_else(|| LifeError::Taken(self.record.id.clone()))?;
        self.state = State {
            starts: now.state.starts,
            ..State::new(Started::me())
        };
        self.save_owner()
    }

    /// Of an ended run: it begins again, and this process answers for it.
    pub fn begin_again(&mut self, runs: &Runs) -> Result<(), LifeError> {
        let _one = runs.lock()?;
        let now = self.again().filter(|now| !now.live());
        let now = now.ok_or_else(|| LifeError::Taken(self.record.id.clone()))?;
        self.state = now.state;
        self.renew()
    }

    fn renew(&mut self) -> Result<(), LifeError> {
        self.state = State {
            starts: self.state.starts,
            ..State::new(Started::me())
        };
        for wish in [AGAIN, ENOUGH] {
            let _ = std::fs::remove_file(self.dir.join(wish));
        }
        self.new_exit()?;
        self.save_owner()
    }

    /// Asks for another start once the command has ended.
    pub fn want_again(&self) -> Result<(), LifeError> {
        let _ = std::fs::remove_file(self.dir.join(ENOUGH));
        let path = self.dir.join(AGAIN);
        private(&path, OpenOptions::new().write(true).create(true)).map(drop)
    }

    /// Asks for no other start.
    pub fn want_end(&self) -> Result<(), LifeError> {
        let path = self.dir.join(ENOUGH);
        private(&path, OpenOptions::new().write(true).create(true)).map(drop)
    }

    pub fn wanted_end(&self) -> bool {
        self.dir.join(ENOUGH).exists()
    }

    /// Whether another start was asked for, and not yet made.
    pub fn wanted_again(&self) -> bool {
        self.dir.join(AGAIN).exists()
    }

    pub fn take_wanted(&self) -> bool {
        std::fs::remove_file(self.dir.join(AGAIN)).is_ok()
    }

    /// It did not come to run: one that never did is forgotten.
    pub fn give_up(&mut self, end: End) -> Result<(), LifeError> {
        match self.state.starts {
            0 => self.remove(),
            _ => self.finish(end),
        }
    }

    /// Records the end, and tells those who wait for it; forgets the run where it should be.
    pub fn finish(&mut self, end: End) -> Result<(), LifeError> {
        let status = end.status;
        self.state = State {
            phase: Phase::Ended,
            stage: None,
            init: None,
            command: None,
            again: None,
            cgroups: Vec::new(),
            end: Some(end),
            ..self.state.clone()
        };
        self.save_state()?;
        let path = self.dir.join(EXIT);
        let mut exit = private(&path, OpenOptions::new().write(true).create(true))?;
        exit.write_all(format!("{status}\n").as_bytes())
            .map_err(io_error("write", &path))?;
        match self.record.remove {
            true => self.remove(),
            false => Ok(()),
        }
    }

    /// What its supervisor can no longer do: the end of what it left. Those of its control groups
    /// that are empty go.
    fn clean(&self) -> Vec<PathBuf> {
        if self.state.boot != super::record::this_boot() {
            return Vec::new();
        }
        let left = [self.state.stage, self.state.init, self.state.command];
        for handle in left.iter().flatten().filter_map(Started::handle) {
            let _ = handle.signal(libc::SIGKILL);
            handle.ends_within(std::time::Duration::from_secs(5));
        }
        let groups = self.state.cgroups.iter();
        let gone = groups.filter(|dir| std::fs::remove_dir(dir).is_ok());
        gone.cloned().collect()
    }

    fn settle(&mut self, now: i64) -> Result<(), LifeError> {
        let why = match (self.damaged, self.state.boot == super::record::this_boot()) {
            (Some(STATE), _) => "its state.json could not be read, and its supervisor is gone",
            (_, true) => "the process that supervised it was killed",
            (_, false) => "the machine went down",
        };
        let _ = self.take_wanted();
        self.finish(End {
            status: 137,
            at: now,
            error: Some(why.to_owned()),
        })
    }

    pub fn remove(&self) -> Result<(), LifeError> {
        let Some(parent) = self.dir.parent() else {
            return Ok(());
        };
        let gone = parent.join(format!("{GONE}{}", self.record.id));
        std::fs::rename(&self.dir, &gone).map_err(io_error("remove", &self.dir))?;
        std::fs::remove_dir_all(&gone).map_err(io_error("remove", &gone))
    }
}

/// See [`Run::exit`].
pub struct Exit(File);

impl Exit {
    pub fn status(&self) -> Option<i32> {
        let mut text = [0; 16];
        let length = nix::sys::uio::pread(&self.0, &mut text, 0).ok()?;
        std::str::from_utf8(&text[..length])
            .ok()?
            .trim()
            .parse()
            .ok()
    }
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
