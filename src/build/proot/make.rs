//! Making the root: mmdebstrap, or debootstrap and tar, as a stream. No archive lies on disk; the work
//! folder is a tmpfs in a mount namespace of its own where memory allows, so that even kill -9 leaves neither
//! mounts nor files in it.

use super::child::ChildStream;
use super::ports::{self, Choice, Kernel, Model, Ports};
use super::release::{self, Release};
use crate::build::BuildError;
use crate::build::tools::{Event, Host, Progress, Sink};
use crate::control::api::ArchiveDone;
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

/// A minimal root with its packages' archives takes about 600 MiB while it is made.
const TMPFS_MIB: u64 = 1536;
/// Below this much available memory the work folder stays on disk.
const MEMORY_MIB: u64 = 3072;
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// How to make a root.
#[derive(Debug)]
pub struct Bootstrap<'a> {
    pub ca: Option<&'a Path>,
    pub source_date_epoch: Option<i64>,
    /// http_proxy and its like.
    pub proxies: &'a [(OsString, OsString)],
    /// A directory of this host for work folders; made if missing.
    pub work_dir: &'a Path,
}

/// The host this process runs on.
#[derive(Debug, Default)]
pub struct ThisHost {
    /// `proot` in the settings.
    pub proot: Choice,
}

impl Host for ThisHost {
    fn model(&self) -> Model {
        let var = |name: &str| std::env::var_os(name);
        let path = var("PATH").unwrap_or_default();
        match nix::sys::utsname::uname() {
            Ok(host) => Model::of(
                &host.sysname().to_string_lossy(),
                &host.release().to_string_lossy(),
                &self.proot,
                var("PORTSDIR").as_deref(),
                &path,
            ),
            Err(_) => Model::Distribution,
        }
    }

    fn ports(&self, release: &str, program: &Path) -> Result<Ports, BuildError> {
        let host = nix::sys::utsname::uname();
        let host =
            host.map_err(|e| BuildError::io("ask the kernel of", Path::new("/"), e.into()))?;
        let kernel = Kernel {
            release: release.to_owned(),
            version: host.version().to_string_lossy().into_owned(),
        };
        Ports::read(Path::new("/"), kernel, program)
    }

    fn populate(
        &self,
        ports: &Ports,
        options: &Bootstrap<'_>,
        progress: &mut dyn Progress,
        cancelled: &AtomicBool,
        sink: Sink<'_>,
    ) -> Result<ArchiveDone, BuildError> {
        ports::populate(ports, options, progress, cancelled, sink)
    }

    fn release(&self) -> Result<Release, BuildError> {
        release::read(Path::new("/"), std::env::consts::OS, std::env::consts::ARCH)
    }

    /// SHA-256 over the digests of the suites' InRelease files, fetched with apt's own helper so that
    /// apt's proxies and transports apply.
    fn upstream(&self, release: &Release) -> Result<String, BuildError> {
        let dir =
            tempfile::tempdir().map_err(|e| BuildError::io("make", &std::env::temp_dir(), e))?;
        let mut all = Sha256::new();
        for (at, source) in release.sources.iter().enumerate() {
            let url = format!("{}/dists/{}/InRelease", source.uri, source.suite);
            let file = dir.path().join(at.to_string());
            let output = Command::new(APT_HELPER)
                .args(["-q", "download-file", &url])
                .arg(&file)
                .stdin(Stdio::null())
                .output()
                .map_err(|e| BuildError::io("start", Path::new(APT_HELPER), e))?;
            let bytes = match output.status.success() {
                true => std::fs::read(&file).map_err(|e| BuildError::io("read", &file, e))?,
                false => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    return Err(BuildError::Program {
                        program: "apt-helper",
                        how: format!("fetching {url}"),
                        tail: said.lines().take(10).map(str::to_owned).collect(),
                    });
                }
            };
            all.update(Sha256::digest(&bytes));
        }
        Ok(hex::encode(all.finalize()))
    }

    fn bootstrap(
        &self,
        release: &Release,
        options: &Bootstrap<'_>,
        progress: &mut dyn Progress,
        cancelled: &AtomicBool,
        sink: Sink<'_>,
    ) -> Result<ArchiveDone, BuildError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let tool = Tool::find(&path)?;
        std::fs::create_dir_all(options.work_dir)
            .map_err(|e| BuildError::io("make", options.work_dir, e))?;
        let work = tempfile::Builder::new()
            .prefix("proot-")
            .tempdir_in(options.work_dir)
            .map_err(|e| BuildError::io("make a work folder in", options.work_dir, e))?;
        let in_memory = memory_allows() && can_unshare();
        progress.event(Event::Note(&format!(
            "{} {} {} with {}",
            release.id,
            release.codename,
            release.arch,
            tool.name()
        )));
        let mut command = Command::new("unshare");
        match in_memory {
            true => {
                command.args([
                    "--mount",
                    "--propagation",
                    "private",
                    "--",
                    "sh",
                    "-c",
                    IN_MEMORY,
                ]);
                command.arg(work.path()).arg(format!("{TMPFS_MIB}m"));
            }
            false => {
                command = Command::new("env");
            }
        }
        command.args(tool.arguments(release, options, work.path()));
        // Packages' own scripts are none of those that it is for.
        command.env_remove("POCKER_TOKEN");
        command.env("TMPDIR", work.path()).env("LC_ALL", "C.UTF-8");
        command.envs(options.proxies.iter().map(|(name, value)| (name, value)));
        if let Some(epoch) = options.source_date_epoch {
            command.env("SOURCE_DATE_EPOCH", epoch.to_string());
        }
        let mut stream = ChildStream::spawn(tool.name(), command, progress, cancelled)?;
        stream.prime()?;
        let done = sink(&mut stream).map_err(|e| stream.failure(e))?;
        stream.verify()?;
        Ok(done)
    }
}

/// `$0` is the work folder, `$1` its size, the rest the program. Without the right to mount it stays on disk.
const IN_MEMORY: &str = "mount -t tmpfs -o \"mode=0755,size=$1\" pocker-proot \"$0\" 2>/dev/null; shift; cd /; exec \"$@\"";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Mmdebstrap(PathBuf),
    Debootstrap(PathBuf),
}

impl Tool {
    /// The better tool of those on `path` and in the places of root's programs.
    pub fn find(path: &OsStr) -> Result<Tool, BuildError> {
        let dirs = || {
            std::env::split_paths(path).chain(["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from))
        };
        let program = |name: &str| dirs().map(|dir| dir.join(name)).find(|file| file.is_file());
        if let Some(found) = program("mmdebstrap") {
            return Ok(Tool::Mmdebstrap(found));
        }
        if let Some(found) = program("debootstrap") {
            return Ok(Tool::Debootstrap(found));
        }
        Err(BuildError::Proot {
            why: "neither mmdebstrap nor debootstrap is installed".to_owned(),
            hint: "apt-get install --no-install-recommends mmdebstrap".to_owned(),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Tool::Mmdebstrap(_) => "mmdebstrap",
            Tool::Debootstrap(_) => "debootstrap",
        }
    }

    /// The program and its arguments; a tar archive on standard output.
    pub fn arguments(
        &self,
        release: &Release,
        options: &Bootstrap<'_>,
        work: &Path,
    ) -> Vec<OsString> {
        match self {
            Tool::Mmdebstrap(program) => mmdebstrap(program, release, options),
            Tool::Debootstrap(program) => debootstrap(program, release, options, work),
        }
    }
}

/// What mmdebstrap leaves of this host in the root: emptied or removed, so that equal inputs make equal roots.
const TIDY: &str = "rm -f \"$1/etc/hostname\" \"$1/etc/apt/apt.conf.d/99mmdebstrap\"; : > \"$1/etc/resolv.conf\"; chmod 644 \"$1/etc/resolv.conf\"";

fn mmdebstrap(program: &Path, release: &Release, options: &Bootstrap<'_>) -> Vec<OsString> {
    let mut out: Vec<OsString> = vec![program.into()];
    let mut add = |text: String| out.push(text.into());
    add("--mode=root".to_owned());
    add("--variant=minbase".to_owned());
    add("--format=tar".to_owned());
    add(format!("--architectures={}", release.arch));
    if let Some(ca) = options.ca {
        add(format!(
            "--aptopt=Acquire::https::CAInfo \"{}\"",
            ca.display()
        ));
    }
    add(format!("--customize-hook={TIDY}"));
    add(release.codename.clone());
    add("-".to_owned());
    for line in release.lines() {
        add(line);
    }
    out
}

/// debootstrap knows one suite; updates and fixes come by an upgrade inside. `$1` root, `$2` suite, `$3` mirror,
/// `$4` arch, `$5` debootstrap, `$6` components, `$7` keyring or nothing, `$8` CA or nothing, `$9` epoch or nothing; then the sources.
const DEBOOTSTRAP: &str = r#"set -e
root=$1 suite=$2 mirror=$3 arch=$4 program=$5 components=$6 keyring=$7 ca=$8 epoch=$9
shift 9
mkdir -p "$root"
if [ -n "$ca" ]; then export SSL_CERT_FILE="$ca" CURL_CA_BUNDLE="$ca"; fi
"$program" --variant=minbase --arch="$arch" --components="$components" ${keyring:+--keyring="$keyring"} "$suite" "$root" "$mirror" >&2
printf '%s\n' "$@" > "$root/etc/apt/sources.list"
cp /etc/resolv.conf "$root/etc/resolv.conf"
if [ -n "$ca" ]; then cp "$ca" "$root/pocker-ca.pem"; fi
run() { DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get ${ca:+-o Acquire::https::CAInfo=/pocker-ca.pem} "$@" >&2; }
run update
run -y dist-upgrade
run clean
rm -rf "$root/pocker-ca.pem" "$root/etc/hostname" "$root/debootstrap"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/apt/* "$root"/var/log/*.log "$root"/tmp/*
: > "$root/etc/resolv.conf"
chmod 644 "$root/etc/resolv.conf"
exec tar --numeric-owner --xattrs --xattrs-include='*' --sort=name ${epoch:+--mtime="@$epoch" --clamp-mtime} -C "$root" -c .
"#;

fn debootstrap(
    program: &Path,
    release: &Release,
    options: &Bootstrap<'_>,
    work: &Path,
) -> Vec<OsString> {
    let main = release.sources.iter().find(|s| s.suite == release.codename);
    let mirror = main.map(|s| s.uri.clone()).unwrap_or_default();
    let components = main.map(|s| s.components.join(",")).unwrap_or_default();
    let mut out: Vec<OsString> = ["sh", "-c", DEBOOTSTRAP, "pocker-debootstrap"]
        .map(OsString::from)
        .to_vec();
    out.push(work.join("root").into());
    out.extend([&release.codename, &mirror, &release.arch].map(OsString::from));
    out.push(program.into());
    out.push(components.into());
    out.push(release.keyring.clone().unwrap_or_default().into());
    out.push(options.ca.map(OsString::from).unwrap_or_default());
    let epoch = options.source_date_epoch.map(|epoch| epoch.to_string());
    out.push(epoch.unwrap_or_default().into());
    out.extend(release.lines().into_iter().map(OsString::from));
    out
}

/// From /proc/meminfo; a system without it keeps the work folder on disk.
fn memory_allows() -> bool {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    available.is_some_and(|kib| kib >= MEMORY_MIB << 10)
}

/// Whether a mount namespace can be made here (not in every container).
fn can_unshare() -> bool {
    Command::new("unshare")
        .args(["--mount", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
