//! The processes of a sandbox: each performs its part of the plan, and supervises
//! the next. This runs after fork, and leaves by exec or _exit only.

use super::bounds::{Enclosure, Rlimit};
use super::follow::Followed;
use super::identity::{self, Identity};
use super::laid::Laid;
use super::mounter::{Force, TreeFlags, TreeMount, TreeMounter};
use super::plan::{Action, Role, Source};
use super::privileges::Privileges;
use super::spec::{HostFlags, NfsMount, Stdio};
use super::{exec, report, supervise, workdir};
use crate::sys::os::{Ground, Target};
use crate::sys::process::{self, Forked};
use crate::sys::tty::{self, Terminal};
use crate::sys::{Attempt, Fault, signals};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{
    Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown, setgid, setgroups, setsid,
};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// Status of a process of ours that failed and said so.
const FAILED: i32 = 1;
/// What the command and everything made for it start with.
const UMASK: u32 = 0o022;

/// Descriptors a sandbox's processes hold, besides the mounter's.
pub struct Lines {
    /// Failures; see [`report`]. Gone once the next process has it.
    pub report: Option<OwnedFd>,
    /// How the command ended.
    pub ended: OwnedFd,
    /// /dev/null, from before there was another root.
    pub null: OwnedFd,
    /// Where captured output goes.
    pub output: Option<OwnedFd>,
    /// Where captured errors go, if not there.
    pub errors: Option<OwnedFd>,
}

pub struct Child<'a> {
    pub mounter: &'a mut dyn TreeMounter,
    pub lines: Lines,
    /// The caller's, if its standard input is one.
    pub terminal: Option<Terminal>,
    /// The running sandbox that is entered, where none is made.
    pub target: Option<Target>,
    ground: Ground,
    /// Where this process's arguments lie: what is inside shall not read its caller's there.
    arguments: Option<Range<usize>>,
    role: Option<Role>,
    root_mounted: bool,
    /// Without mounts of a sandbox's own: what is in the tree for this run, mounts of the host too.
    laid: Option<Laid>,
    slave: Option<OwnedFd>,
    /// Where the command's end is not the run's.
    followed: Option<Followed>,
    /// HOME of who the command runs as.
    home: Option<std::ffi::OsString>,
}

impl<'a> Child<'a> {
    pub fn new(
        mounter: &'a mut dyn TreeMounter,
        lines: Lines,
        terminal: Option<Terminal>,
    ) -> Child<'a> {
        Child {
            mounter,
            lines,
            terminal,
            target: None,
            ground: Ground::default(),
            role: None,
            arguments: None,
            root_mounted: false,
            laid: None,
            slave: None,
            followed: None,
            home: None,
        }
    }

    /// Performs `actions` in order. A panic is a failure like another: nothing may
    /// unwind into the caller's code in this process.
    pub fn run(mut self, tie: OwnedFd, actions: &[Action]) -> ! {
        let performed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if process::tie_to_parent(tie).is_err() || signals::let_end().is_err() {
                return;
            }
            // The command, as root, can look at the processes that supervise it.
            process::forget_environment();
            self.arguments = crate::sys::os::arguments();
            umask(Mode::from_bits_truncate(UMASK as _));
            for action in actions {
                if let Err(fault) = self.perform(action) {
                    self.fail(action, &fault);
                    return;
                }
            }
        }));
        if performed.is_err()
            && let Some(socket) = &self.lines.report
        {
            let fault = Fault::new("internal error (a panic)");
            report::send_failure(socket, false, "make the sandbox", &fault);
        }
        self.clean();
        process::exit_now(FAILED)
    }

    fn fail(&self, action: &Action, fault: &Fault) {
        if let Some(socket) = &self.lines.report {
            let exec = matches!(action, Action::Exec { .. });
            report::send_failure(socket, exec, &action.to_string(), fault);
        }
    }

    fn perform(&mut self, action: &Action) -> Result<(), Fault> {
        match action {
            Action::Unshare { net } => self.ground.unshare(*net),
            Action::Join => match &self.target {
                Some(target) => target.join(),
                None => Err(Fault::new("there is none")),
            },
            Action::Terminal => self.own_terminal(),
            Action::Scratch => self.ground.scratch(),
            Action::MountRoot { tree, flags } => self.mount_root(tree, *flags),
            Action::Mount { target, source, .. } => self.mount(target, source),
            Action::MountPoint { target } => self.ground.mount_point(target),
            Action::Hostname(name) => self.ground.hostname(name),
            Action::UnshareMounts => self.ground.unshare_mounts(),
            Action::Enter => self.ground.enter(),
            Action::EnterPlain => self.ground.enter_plain(),
            Action::SealRoot => self.ground.seal_root(),
            Action::Fork(role) => self.fork(*role),
            Action::Follow => {
                self.followed = Some(Followed::begin()?);
                Ok(())
            }
            Action::MountProc => self.ground.proc(),
            Action::Enclose(Enclosure {
                groups,
                memory,
                hidden,
                net,
            }) => self.ground.enclose(groups, *memory, *hidden, *net),
            Action::Limit(limit) => set_limit(limit),
            Action::Session => self.session(),
            Action::Stdio(stdio) => self.stdio(*stdio),
            Action::Workdir { dir, make } => workdir::enter(dir, *make),
            Action::Confine(p) => self.ground.confine(p.root.and(p.others), p.setuid),
            Action::LoginClass(class) => crate::sys::bsd::login_class(class),
            Action::Promise(promises) => crate::sys::bsd::promise(promises),
            Action::Identity {
                user,
                no_root,
                privileges,
            } => self.become_user(user.as_deref(), *no_root, *privileges),
            Action::Exec { argv, env } => {
                process::close_except(&self.report_fd());
                exec::exec(argv, &env.0, self.home.take())
            }
        }
    }

    fn report_fd(&self) -> Vec<RawFd> {
        self.lines.report.iter().map(AsRawFd::as_raw_fd).collect()
    }

    fn mount_root(&mut self, tree: &NfsMount, flags: TreeFlags) -> Result<(), Fault> {
        self.mounter.mount(&TreeMount {
            export: tree.export.as_bytes(),
            target: self.ground.root_point(),
            flags,
        })?;
        self.root_mounted = true;
        self.ground.adopt_root()
    }

    fn mount(&mut self, target: &Path, source: &Source) -> Result<(), Fault> {
        if !crate::sys::os::NAMESPACES {
            return self.lay(target, source);
        }
        match source {
            Source::Devices { .. } => self.stage_devices()?,
            Source::Tree { tree, flags } => self.mounter.mount(&TreeMount {
                export: tree.export.as_bytes(),
                target: self.ground.stage_point(),
                flags: *flags,
            })?,
            Source::BindDir(host) => self.ground.stage_bind_dir(host)?,
            Source::HostDir { host, flags } => {
                let HostFlags {
                    read_only,
                    suid,
                    dev,
                } = *flags;
                self.ground.stage_host_dir(host, read_only, suid, dev)?;
            }
            Source::Tmpfs { mode, size } => self.ground.stage_tmpfs(*mode, *size)?,
            Source::BindFile(host) => {
                self.ground.stage_bind_file(host)?;
                return self.ground.attach_file(target);
            }
        }
        self.ground.attach_dir(target)
    }

    fn lay(&mut self, target: &Path, source: &Source) -> Result<(), Fault> {
        let laid = match &mut self.laid {
            Some(laid) => laid,
            none => none.insert(Laid::new(self.ground.root_point()).attempt("open the root")?),
        };
        let done = match source {
            Source::Tree { tree, flags } => {
                let at = laid
                    .mount_point(target)
                    .map_err(|e| Fault::new(e.to_string()))?;
                self.mounter.mount(&TreeMount {
                    export: tree.export.as_bytes(),
                    target: &at,
                    flags: *flags,
                })?;
                laid.mounted(target)
            }
            Source::BindFile(host) => laid.file(host, target),
            // What is kept of it between builds is not here: it begins empty.
            Source::BindDir(_) => laid.empty(target, 0o755),
            Source::Tmpfs { mode, .. } => laid.empty(target, *mode),
            // Nothing is bound here, and a server elsewhere has no directories of this host.
            Source::HostDir { host, .. } => {
                return Err(Fault::new(format!(
                    "{} is this host's, and only a server here can serve it: leave out --remote, or keep the data in a volume",
                    host.display()
                )));
            }
            Source::Devices { .. } => Ok(()),
        };
        done.map_err(|e| Fault::new(e.to_string()))
    }

    fn stage_devices(&mut self) -> Result<(), Fault> {
        match self.ground.stage_devices(self.terminal.as_ref())? {
            Some(pair) => self.hand_over(pair),
            None => Ok(()),
        }
    }

    fn own_terminal(&mut self) -> Result<(), Fault> {
        let like = self.terminal.as_ref();
        let like = like.ok_or_else(|| Fault::new("there is none to make one like"))?;
        let pair = self.ground.terminal(like)?;
        self.hand_over(pair)
    }

    fn hand_over(&mut self, (master, slave): (OwnedFd, OwnedFd)) -> Result<(), Fault> {
        let socket = self.lines.report.as_ref();
        let socket = socket.ok_or_else(|| Fault::new("nobody is there to take the terminal"))?;
        report::send_terminal(socket, &master).attempt("hand over the terminal")?;
        self.slave = Some(slave);
        Ok(())
    }

    /// The child goes on with the plan; the parent stays to supervise it, and never returns.
    fn fork(&mut self, role: Role) -> Result<(), Fault> {
        signals::block_all().attempt("")?;
        match process::fork_tied().attempt("")? {
            Forked::Child { tie } => {
                self.role = Some(role);
                // What finds the tree from outside is not the command's.
                self.laid = None;
                self.followed = None;
                process::forget_arguments(&self.arguments);
                if let Some(socket) = &self.lines.report {
                    report::send_role(socket, role);
                }
                process::tie_to_parent(tie).attempt("")?;
                match role {
                    Role::Command => self.ground.not_spared(),
                    Role::Init => Ok(()),
                }
            }
            Forked::Parent { child, tie } => {
                self.lines.report = None;
                let mut keep = self.ground.descriptors();
                keep.extend(self.laid.iter().flat_map(Laid::descriptors));
                keep.extend(self.followed.iter().flat_map(Followed::descriptors));
                keep.extend([tie.as_raw_fd(), self.lines.ended.as_raw_fd()]);
                // Whoever reads the command's output shall see its end, not ours.
                let _ = connect(&self.lines.null, [true; 3]);
                // What owned the others is never used or dropped again in this process.
                process::close_except(&keep);
                // It may be another user's process, which the kernel does not end with this one:
                // that is for this one to do.
                if self.role.is_none() && role == Role::Command {
                    let _ = crate::sys::os::told_of_parents_end(signals::END);
                }
                if self.role == Some(Role::Init) && self.ground.confine_supervisor().is_err() {
                    process::exit_now(FAILED);
                }
                let exit = match self.followed.as_mut().filter(|_| role == Role::Command) {
                    Some(followed) => followed.until_the_end(child),
                    None => supervise::until_end(child, role, &mut |_, _| {}),
                };
                if role == Role::Command {
                    let _ = nix::unistd::write(&self.lines.ended, &report::encode_exit(exit));
                }
                self.clean();
                process::exit_now(0)
            }
        }
    }

    /// By the first process only, once the others are gone.
    fn clean(&mut self) {
        if self.role.is_some() {
            return;
        }
        // What stays of its mounts goes with the root's, which is forced where it is in use.
        if let Some(mut laid) = self.laid.take() {
            laid.clear(&mut |at| {
                let _ = self.mounter.unmount(at, Force::Never);
            });
        }
        if self.root_mounted && !crate::sys::os::NAMESPACES {
            let _ = self.mounter.unmount(self.ground.root_point(), Force::InUse);
        }
        self.ground.clean();
    }

    fn session(&self) -> Result<(), Fault> {
        setsid().attempt("")?;
        match &self.slave {
            Some(slave) => tty::control(slave.as_fd()).attempt("take the terminal"),
            None => Ok(()),
        }
    }

    fn stdio(&self, stdio: Stdio) -> Result<(), Fault> {
        let errors = self.lines.errors.as_ref();
        match (stdio, &self.lines.output, &self.slave, &self.terminal) {
            (Stdio::Captured | Stdio::Apart, Some(output), _, _) => {
                dup2_stdin(&self.lines.null).attempt("")?;
                dup2_stdout(output).attempt("")?;
                dup2_stderr(errors.unwrap_or(output)).attempt("")?;
            }
            (Stdio::NoInput, ..) => dup2_stdin(&self.lines.null).attempt("")?,
            (Stdio::Inherit, _, Some(slave), Some(terminal)) => {
                connect(slave, terminal.on).attempt("")?;
            }
            _ => {}
        }
        refuse_directories()?;
        self.own_null()?;
        self.close_others();
        Ok(())
    }

    /// In place of the host's: whoever has that open can change its mode and owner.
    fn own_null(&self) -> Result<(), Fault> {
        let hosts = fstat(&self.lines.null)
            .attempt("look at /dev/null")?
            .st_rdev;
        let is_null = |fd: BorrowedFd<'_>| {
            fstat(fd).is_ok_and(|stat| {
                let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
                kind == SFlag::S_IFCHR && stat.st_rdev == hosts
            })
        };
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let on = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].map(is_null);
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let opened = open("/dev/null", flags, Mode::empty());
        match opened {
            _ if on == [false; 3] => Ok(()),
            Ok(null) if is_null(null.as_fd()) => connect(&null, on).attempt(""),
            // Systems that mount nothing have what the tree has.
            _ if !crate::sys::os::NAMESPACES => Ok(()),
            _ => Err(Fault::new("/dev/null is not that of the sandbox")),
        }
    }

    /// What is opened from here on is named by the tree: a path of its that leads through
    /// /proc/self/fd shall find nothing of the host's there.
    fn close_others(&self) {
        let lines = &self.lines;
        let keep = [&lines.report, &lines.output, &lines.errors, &self.slave];
        let keep: Vec<RawFd> = keep.into_iter().flatten().map(AsRawFd::as_raw_fd).collect();
        // What owned the others is never used or dropped again in this process.
        process::close_except(&keep);
    }

    fn become_user(
        &mut self,
        user: Option<&str>,
        no_root: bool,
        privileges: Privileges,
    ) -> Result<(), Fault> {
        let Identity {
            uid,
            gid,
            groups,
            home,
        } = identity::look_up(user)?.allowed(no_root)?;
        // What this sandbox made for the command's output is the user's to reopen
        // (/dev/stderr); what it inherited stays as it is.
        let (output, errors) = (&self.lines.output, &self.lines.errors);
        for made in [&self.slave, output, errors].into_iter().flatten() {
            fchown(made, Some(Uid::from_raw(uid)), None).attempt("hand over the output")?;
        }
        let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
        setgroups(&groups).attempt("set the groups")?;
        // As root, these set the real, effective and saved ids alike.
        setgid(Gid::from_raw(gid)).attempt("set the group")?;
        if uid != 0 {
            let Privileges {
                root,
                others,
                setuid,
            } = privileges;
            let bound = if setuid { root.and(others) } else { others };
            self.ground.become_user(Uid::from_raw(uid), others, bound)?;
        }
        // Whoever becomes another user lives on without his parent, unless he asks anew.
        crate::sys::os::die_with_parent().attempt("")?;
        self.home = Some(home);
        Ok(())
    }
}

fn connect(to: &OwnedFd, which: [bool; 3]) -> nix::Result<()> {
    if which[0] {
        dup2_stdin(to)?;
    }
    if which[1] {
        dup2_stdout(to)?;
    }
    if which[2] {
        dup2_stderr(to)?;
    }
    Ok(())
}

/// A directory among descriptors 0–2 would be a way out of the root: fchdir(2).
fn refuse_directories() -> Result<(), Fault> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let fds = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    for (number, fd) in fds.iter().enumerate() {
        let Ok(stat) = fstat(fd) else { continue };
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
            return Err(Fault::new(format!(
                "descriptor {number} is a directory, which would lead out of the root"
            )));
        }
    }
    Ok(())
}

fn set_limit(limit: &Rlimit) -> Result<(), Fault> {
    let set = nix::sys::resource::setrlimit(limit.resource, limit.soft, limit.hard);
    set.attempt(format!("set it to {}:{}", limit.soft, limit.hard))
}
