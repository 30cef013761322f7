//! From instructions to planned steps, without effects: arguments and variables are expanded, and what
//! ENV, ARG, USER, WORKDIR and VOLUME say is attached to the steps it concerns.

use super::proot::Model;
use crate::control::api::RunConfig;
use crate::pockerfile::{
    self, From, Instruction, Kind, ParseError, Problem, Secret, Word, absolute_path, package_name,
    pin, set_name, tree_path,
};
use std::path::PathBuf;

/// What `ENV PATH=/opt/bin:$PATH` adds to, and what commands get that set none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// PROOT of a distribution.
    Host,
    /// PROOT of an OpenBSD that has ports' proot(1).
    Ports {
        release: String,
        program: PathBuf,
    },
    /// SETS.
    Sets(SetsPlan),
    Scratch,
    Pocker(String),
    /// An image of a registry, by its whole name.
    Image(String),
    /// `sha256` is 64 lower-case digits.
    Archive {
        path: String,
        sha256: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetsPlan {
    /// As in `7.8`.
    pub release: String,
    /// As OpenBSD names it: amd64.
    pub arch: String,
    /// In the order in which they are unpacked, each once.
    pub sets: Vec<String>,
    /// What `SHA256.sig` must be: more than its signature says.
    pub sha256: Option<String>,
    /// A directory of the context or a mirror, not the host's own.
    pub from: Option<String>,
    /// A public key, relative to the context, that is not the host's own.
    pub key: Option<String>,
}

impl SetsPlan {
    /// The release in the names of files: 78.
    pub fn digits(&self) -> String {
        self.release.replace('.', "")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecPlan {
    pub script: String,
    pub secrets: Vec<Secret>,
    pub caches: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    pub chown: Option<String>,
    /// 12 bits.
    pub chmod: Option<u32>,
    /// Relative to the context; patterns allowed.
    pub sources: Vec<String>,
    /// Absolute; a trailing `/` is kept: it means a directory.
    pub target: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Base(Base),
    Pkg(Vec<String>),
    Exec(ExecPlan),
    Copy(CopyPlan),
    /// The last: RUN's text.
    Run(String),
}

/// What the instructions before a step set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// In order of first appearance, each name once.
    pub env: Vec<(String, String)>,
    pub args: Vec<(String, String)>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub volumes: Vec<String>,
}

/// An instruction that makes a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub line: u32,
    /// The instruction's first line, as written.
    pub text: String,
    /// Expanded, quoted one way, flags that do not matter left out: what the key and `history` hold.
    pub canonical: String,
    pub action: Action,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The base first, RUN last.
    pub steps: Vec<Planned>,
    pub config: RunConfig,
}

/// The base alone: whether a pocker has to be looked up before `plan`, as its config is inherited.
pub fn base(
    all: &[Instruction],
    given: &[(String, String)],
    host: &Model,
) -> Result<(u32, Base), ParseError> {
    let mut planner = Planner::new(given, None, host);
    for instruction in all {
        if let Some(step) = planner.instruction(instruction)?
            && let Action::Base(base) = step.action
        {
            return Ok((instruction.line, base));
        }
    }
    Err(ParseError::new(1, Problem::Empty))
}

/// A `--build-arg` that no ARG declares.
pub fn undeclared<'a>(all: &[Instruction], given: &'a [(String, String)]) -> Option<&'a str> {
    let declared = |wanted: &str| {
        all.iter()
            .any(|i| matches!(&i.kind, Kind::Arg { name, .. } if name == wanted))
    };
    given
        .iter()
        .map(|(name, _)| name.as_str())
        .find(|name| !declared(name))
}

/// All steps in order. `given` are the build's arguments, `inherited` the config of the pocker that FROM names,
/// `host` what PROOT models.
pub fn plan(
    all: &[Instruction],
    given: &[(String, String)],
    inherited: Option<&RunConfig>,
    host: &Model,
) -> Result<Plan, ParseError> {
    let mut planner = Planner::new(given, inherited, host);
    let mut steps = Vec::new();
    for instruction in all {
        steps.extend(planner.instruction(instruction)?);
    }
    let command = match steps.last().map(|step| &step.action) {
        Some(Action::Run(command)) => command.clone(),
        _ => return Err(ParseError::new(1, Problem::NoRun)),
    };
    let openbsd = match steps.first().map(|step| &step.action) {
        Some(Action::Base(Base::Sets(sets))) => Some(sets.release.clone()),
        Some(Action::Base(Base::Ports { release, .. })) => Some(release.clone()),
        _ => inherited.and_then(|base| base.openbsd.clone()),
    };
    let state = planner.state;
    let config = RunConfig {
        command,
        argv: Vec::new(),
        env: state.env,
        user: state.user,
        workdir: state.workdir,
        volumes: state.volumes,
        image: inherited.map(|base| base.image.clone()).unwrap_or_default(),
        openbsd,
    };
    Ok(Plan { steps, config })
}

/// PROOT. On OpenBSD without ports' proot(1) it is the release's own base set.
pub(super) fn of_host(host: &Model) -> (String, Action) {
    let release = match host {
        Model::Distribution => return ("PROOT".to_owned(), Action::Base(Base::Host)),
        Model::Ports { release, program } => {
            let (release, program) = (release.clone(), program.clone());
            return (
                "PROOT".to_owned(),
                Action::Base(Base::Ports { release, program }),
            );
        }
        Model::Sets(release) => release,
    };
    let arch = openbsd_arch(std::env::consts::ARCH);
    let plan = SetsPlan {
        release: release.to_owned(),
        arch: arch.to_owned(),
        sets: vec!["base".to_owned()],
        sha256: None,
        from: None,
        key: None,
    };
    (
        format!("SETS {release} {arch} base"),
        Action::Base(Base::Sets(plan)),
    )
}

struct Planner<'a> {
    given: &'a [(String, String)],
    host: &'a Model,
    state: State,
}

impl<'a> Planner<'a> {
    fn new(
        given: &'a [(String, String)],
        inherited: Option<&RunConfig>,
        host: &'a Model,
    ) -> Planner<'a> {
        let mut state = State::default();
        if let Some(config) = inherited {
            for (name, value) in &config.env {
                set(&mut state.env, name, value.clone());
            }
            state.user = config.user.clone();
            state.workdir = config.workdir.clone();
            state.volumes = config.volumes.clone();
        }
        Planner { given, host, state }
    }

    /// Changes the state, or gives a step.
    fn instruction(&mut self, i: &Instruction) -> Result<Option<Planned>, ParseError> {
        self.kind(&i.kind)
            .map(|step| {
                step.map(|(canonical, action)| Planned {
                    line: i.line,
                    text: i.text.clone(),
                    canonical,
                    action,
                    state: self.state.clone(),
                })
            })
            .map_err(|problem| ParseError::new(i.line, problem))
    }

    fn kind(&mut self, kind: &Kind) -> Result<Option<(String, Action)>, Problem> {
        match kind {
            Kind::Proot => Ok(Some(of_host(self.host))),
            Kind::Sets(sets) => self.sets(sets).map(Some),
            Kind::From(from) => self.from(from).map(Some),
            Kind::Pkg(words) => self.pkg(words).map(Some),
            Kind::Exec(exec) => {
                let action = Action::Exec(ExecPlan {
                    script: exec.script.clone(),
                    secrets: exec.secrets.clone(),
                    caches: exec.caches.clone(),
                });
                Ok(Some((format!("EXEC {}", exec.script), action)))
            }
            Kind::Run(command) => {
                let action = Action::Run(command.clone());
                Ok(Some((format!("RUN {command}"), action)))
            }
            Kind::Copy(copy) => self.copy(copy).map(Some),
            other => self.set_state(other).map(|()| None),
        }
    }

    fn set_state(&mut self, kind: &Kind) -> Result<(), Problem> {
        match kind {
            Kind::Env(pairs) => {
                // As a whole: `ENV A=1 B=$A` takes A's value from before this line.
                let values: Vec<String> = pairs
                    .iter()
                    .map(|(_, word)| self.expand(word))
                    .collect::<Result<_, _>>()?;
                for ((name, _), value) in pairs.iter().zip(values) {
                    set(&mut self.state.env, name, value);
                }
            }
            Kind::Arg { name, default } => {
                let given = self.given.iter().rev().find(|(given, _)| given == name);
                let value = match (given, default) {
                    (Some((_, value)), _) => Some(value.clone()),
                    (None, Some(word)) => Some(self.expand(word)?),
                    (None, None) => None,
                };
                if let Some(value) = value {
                    set(&mut self.state.args, name, value);
                }
            }
            Kind::User(word) => self.state.user = Some(user(self.expand(word)?)?),
            Kind::Workdir(word) => {
                let path = self.expand(word)?;
                tree_path(&path)?;
                self.state.workdir = Some(self.absolute(&path));
            }
            Kind::Volume(words) => {
                for word in words {
                    let path = self.expand(word)?;
                    absolute_path(&path)?;
                    let path = self.absolute(&path);
                    if !self.state.volumes.contains(&path) {
                        self.state.volumes.push(path);
                    }
                }
            }
            Kind::Proot
            | Kind::Sets(_)
            | Kind::From(_)
            | Kind::Pkg(_)
            | Kind::Run(_)
            | Kind::Exec(_)
            | Kind::Copy(_) => {}
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Option<String> {
        let find = |list: &[(String, String)]| {
            list.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        };
        find(&self.state.env)
            .or_else(|| find(&self.state.args))
            .or_else(|| (name == "PATH").then(|| DEFAULT_PATH.to_owned()))
    }

    fn expand(&self, word: &Word) -> Result<String, Problem> {
        word.expand(&|name| self.value(name))
    }

    /// Below WORKDIR where relative; no doubled or trailing `/`, no `.`.
    fn absolute(&self, path: &str) -> String {
        let base = match path.starts_with('/') {
            true => "",
            false => self.state.workdir.as_deref().unwrap_or_default(),
        };
        let parts: Vec<&str> = base
            .split('/')
            .chain(path.split('/'))
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        format!("/{}", parts.join("/"))
    }

    fn from(&self, from: &From) -> Result<(String, Action), Problem> {
        let (canonical, base) = match from {
            From::Scratch => ("FROM scratch".to_owned(), Base::Scratch),
            From::Pocker(word) => {
                let name = self.expand(word)?;
                let base = match crate::registry::is_image(&name) {
                    true => Base::Image(name.clone()),
                    false => Base::Pocker(name.clone()),
                };
                (format!("FROM {name}"), base)
            }
            From::Archive { path, sha256 } => {
                let path = self.expand(path)?;
                let sha256 = pin(&self.expand(sha256)?)?;
                if path.is_empty() || path.contains("://") {
                    let why = "it must be a file of this host; fetch it first";
                    return Err(Problem::BadPath { path, why });
                }
                // Where the archive lies says nothing about the tree.
                let canonical = format!("FROM sha256:{sha256}");
                (canonical, Base::Archive { path, sha256 })
            }
        };
        Ok((canonical, Action::Base(base)))
    }

    fn sets(&self, sets: &pockerfile::Sets) -> Result<(String, Action), Problem> {
        let given = |word: &Option<Word>| word.as_ref().map(|w| self.expand(w)).transpose();
        let release = self.expand(&sets.release)?;
        pockerfile::release(&release)?;
        let arch = match given(&sets.arch)? {
            Some(arch) => arch,
            None => openbsd_arch(std::env::consts::ARCH).to_owned(),
        };
        pockerfile::arch_name(&arch)?;
        let mut names: Vec<String> = Vec::new();
        let mut sha256 = None;
        for word in &sets.sets {
            for name in self.expand(word)?.split_whitespace() {
                if name.starts_with("sha256:") && sha256.is_none() {
                    sha256 = Some(pin(name)?);
                    continue;
                }
                set_name(name)?;
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
        }
        if names.is_empty() {
            return Err(Problem::Missing {
                keyword: "SETS",
                what: "a release and its sets",
            });
        }
        // Where they come from and who vouches for them says nothing of the tree: their digests do.
        let canonical = format!("SETS {release} {arch} {}", names.join(" "));
        let plan = SetsPlan {
            release,
            arch,
            sets: names,
            sha256,
            from: given(&sets.from)?,
            key: given(&sets.key)?,
        };
        Ok((canonical, Action::Base(Base::Sets(plan))))
    }

    fn pkg(&self, words: &[Word]) -> Result<(String, Action), Problem> {
        let mut names = Vec::new();
        for word in words {
            let value = self.expand(word)?;
            names.extend(value.split_whitespace().map(str::to_owned));
        }
        names.sort();
        names.dedup();
        for name in &names {
            package_name(name)?;
        }
        if names.is_empty() {
            return Err(Problem::Missing {
                keyword: "PKG",
                what: "a package's name",
            });
        }
        Ok((format!("PKG {}", names.join(" ")), Action::Pkg(names)))
    }

    fn copy(&self, copy: &pockerfile::Copy) -> Result<(String, Action), Problem> {
        let chown = copy.chown.as_ref().map(|w| user(self.expand(w)?));
        let chmod = copy.chmod.as_ref().map(|w| mode(&self.expand(w)?));
        let mut sources = Vec::new();
        for word in &copy.sources {
            let source = self.expand(word)?;
            tree_path(&source)?;
            sources.push(source);
        }
        let written = self.expand(&copy.target)?;
        tree_path(&written)?;
        let mut target = self.absolute(&written);
        let directory = written.ends_with('/') || written.ends_with("/.") || written == ".";
        if directory && target != "/" {
            target.push('/');
        }
        let plan = CopyPlan {
            chown: chown.transpose()?,
            chmod: chmod.transpose()?,
            sources,
            target,
        };
        Ok((plan.canonical(), Action::Copy(plan)))
    }
}

/// Rust's name of a machine to OpenBSD's.
fn openbsd_arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        other => other,
    }
}

impl CopyPlan {
    fn canonical(&self) -> String {
        let mut out = String::from("COPY");
        if let Some(owner) = &self.chown {
            out.push_str(&format!(" --chown={}", quoted(owner)));
        }
        if let Some(mode) = self.chmod {
            out.push_str(&format!(" --chmod={mode:o}"));
        }
        for path in self.sources.iter().chain([&self.target]) {
            out.push(' ');
            out.push_str(&quoted(path));
        }
        out
    }
}

/// One word in one spelling.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,@%=*?".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn set(list: &mut Vec<(String, String)>, name: &str, value: String) {
    match list.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => list.push((name.to_owned(), value)),
    }
}

/// `name`, `uid`, `name:group`, `uid:gid`.
fn user(text: String) -> Result<String, Problem> {
    let good = |part: &str| {
        !part.is_empty()
            && part.len() <= 64
            && !part.starts_with('-')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-$@".contains(&b))
    };
    let fits = match text.split_once(':') {
        Some((user, group)) => good(user) && good(group),
        None => good(&text),
    };
    match fits {
        true => Ok(text),
        false => Err(Problem::BadName {
            name: text.chars().take(80).collect(),
            why: "write a user, or user:group, by names or numbers",
        }),
    }
}

fn mode(text: &str) -> Result<u32, Problem> {
    let octal =
        !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o7777 => Ok(mode),
        _ => Err(Problem::BadFlag {
            flag: format!("--chmod={}", text.chars().take(20).collect::<String>()),
            why: "a mode is octal, at most 7777",
        }),
    }
}
