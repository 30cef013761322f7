//! `pocker serve`, and `pocker serve --stop`.

use super::args::{LogFormat, Serve};
use super::config::Settings;
use super::error::CliError;
use super::{args, bounds, certs, defaults, open, server_user};
use crate::control::connect::make_socket_dir;
use crate::control::hosts::RpcTls;
use crate::control::sys::process_start;
use crate::daemon::{Portmap, ServeOptions, TlsFiles, Upstream, serve};
use crate::tls;
use pocker_store::StoreError;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often `--stop` looks whether the server is gone.
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub fn run(settings: &Settings, args: &Serve) -> Result<i32, CliError> {
    if let Some(command) = &args.command {
        return certs::run(command).map(|()| 0);
    }
    if args.stop && settings.remote.is_some() {
        return stop_afar(settings).map(|()| 0);
    }
    if args.stop {
        let stopped = stop(settings);
        // A run that had to be killed, supervisor and all, leaves this.
        bounds::sweep(settings);
        return stopped.map(|()| 0);
    }
    if args.stats {
        return super::stats::run(settings, args.json).map(|()| 0);
    }
    open::must_be_root()?;
    let outcome = start(settings, args);
    if args.auto
        && let Err(error) = &outcome
    {
        // The command that started this server shows it.
        let mut said = error.message.clone();
        for cause in &error.causes {
            said = format!("{said}: {cause}");
        }
        if let Some(hint) = &error.hint {
            said = format!("{said}\nhint: {hint}");
        }
        say(&format!("error: {said}"));
        return Ok(error.status);
    }
    outcome.map(|()| 0)
}

/// To the command that started this server; it may be gone by now.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn start(settings: &Settings, args: &Serve) -> Result<(), CliError> {
    let listen = args.listen.as_ref().or(settings.listen.as_ref());
    let options = ServeOptions {
        store: settings.store.clone(),
        socket_dir: settings.socket_dir.clone(),
        listen: listen.map(|text| address(text)).transpose()?,
        allow: match args.allow.is_empty() {
            true => settings.allow.clone(),
            false => args.allow.clone(),
        },
        tls: tls_files(settings, args),
        rpc_tls: settings.rpc_tls(),
        lease_term: Duration::from_secs(args.lease),
        metrics: args.metrics.or(settings.metrics),
        portmap: match args.portmap {
            args::Portmap::Off => Portmap::Off,
            args::Portmap::Builtin => Portmap::Builtin,
            args::Portmap::Register => Portmap::Register,
        },
        read_only: args.read_only,
        verify_reads: args.verify_reads || settings.verify_reads,
        upstream: upstream(settings, args),
        graft_below: graft_below(settings, args)?,
        user: None,
        take_back: server_user::is_root(settings, args),
        auto: args.auto,
        idle_timeout: Duration::from_secs(args.idle_timeout),
    };
    let user = server_user::of(settings, args, &options)?;
    let options = ServeOptions { user, ..options };
    if options.portmap != Portmap::Off && options.listen.is_none() {
        return Err(CliError::usage("--portmap: there is nothing to tell of")
            .hint("it is for other hosts: give --listen ADDR too"));
    }
    if !options.allow.is_empty() && options.listen.is_none() {
        return Err(
            CliError::usage("--allow: this server serves no other hosts")
                .hint("give --listen ADDR too"),
        );
    }
    if options.listen.is_some() && options.tls.is_none() && options.rpc_tls >= RpcTls::Require {
        return Err(
            CliError::usage("--rpc-tls: there is no certificate to show other hosts")
                .hint("`pocker serve init-tls HOST` makes one, or name yours with --tls-cert and --tls-key"),
        );
    }
    make_socket_dir(&settings.own_endpoint(false))?;
    log_to_stderr(args.log);
    if args.auto {
        // Ctrl-C in the terminal of the command that started it is not for the server.
        let _ = nix::unistd::setsid();
    }
    let auto = args.auto;
    let served = serve(options, || {
        if auto {
            say("ready");
            super::sys::close_stdout();
        }
    });
    served.map_err(|e| {
        let hint = e.hint();
        let mut error = CliError::from_error("the server cannot run", &e);
        error.message = error.causes.remove(0);
        error.hint = hint;
        error
    })
}

/// What was named, or what `init-tls` made.
fn tls_files(settings: &Settings, args: &Serve) -> Option<TlsFiles> {
    let named = args.tls_cert.clone().zip(args.tls_key.clone());
    let named = named.or(settings.tls_cert.clone().zip(settings.tls_key.clone()));
    let made = || {
        let dir = Path::new(defaults::TLS_DIR);
        let (cert, key) = (dir.join(tls::SERVER_CERT), dir.join(tls::SERVER_KEY));
        (cert.exists() && key.exists()).then_some((cert, key))
    };
    named.or_else(made).map(|(cert, key)| TlsFiles {
        ca: Some(cert.with_file_name(tls::CA_CERT)).filter(|ca| ca.exists()),
        revoked: cert.with_file_name(tls::REVOKED),
        cert,
        key,
    })
}

/// Another host's server, which its own host waits for.
fn stop_afar(settings: &Settings) -> Result<(), CliError> {
    let client = open::running_server(settings)?;
    let stopped = client.stop()?;
    if !settings.quiet {
        for run in &stopped.runs {
            eprintln!("stopped {run}");
        }
        eprintln!("the server of {} leaves", stopped.store);
    }
    Ok(())
}

fn upstream(settings: &Settings, args: &Serve) -> Option<Upstream> {
    let url = args.upstream.clone().or(settings.upstream.clone())?;
    let cache = args.upstream_cache.or(settings.upstream_cache);
    Some(Upstream {
        url,
        cache: cache.unwrap_or(defaults::UPSTREAM_CACHE),
        timeout: Duration::from_secs(args.upstream_timeout),
    })
}

/// By their real paths. Those that nobody named need not be there.
fn graft_below(settings: &Settings, args: &Serve) -> Result<Vec<PathBuf>, CliError> {
    let named = match args.graft_below.is_empty() {
        true => &settings.graft_below,
        false => &args.graft_below,
    };
    if *named == defaults::graft_below() {
        return Ok(named.clone());
    }
    let real = |dir: &PathBuf| {
        let shown = dir.display();
        let refused = |e: std::io::Error| {
            let error =
                CliError::from_error(format!("--graft-below {shown}: cannot look at it"), &e);
            error.hint(format!(
                "name a directory that is there, or make it: mkdir -p {shown}"
            ))
        };
        let real = dir.canonicalize().map_err(refused)?;
        match real.is_dir() {
            true => Ok(real),
            false => Err(
                CliError::usage(format!("--graft-below {shown}: not a directory"))
                    .hint("name the directory that it is in"),
            ),
        }
    };
    named.iter().map(real).collect()
}

fn log_to_stderr(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("POCKER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}

/// ADDR, ADDR:PORT, [V6] or [V6]:PORT; the port is 2049 unless said.
fn address(text: &str) -> Result<SocketAddr, CliError> {
    let bare = text.trim_matches(['[', ']']);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, defaults::NFS_PORT));
    }
    if text == "localhost" {
        return Ok(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            defaults::NFS_PORT,
        ));
    }
    text.parse().map_err(|_| {
        CliError::usage(format!("--listen {text}: not an address"))
            .hint("an address and perhaps a port, e.g. 192.0.2.1 or [2001:db8::1]:2049")
    })
}

fn stop(settings: &Settings) -> Result<(), CliError> {
    let client = open::running_server(settings);
    if let Err(error) = client
        && error.wrong_server
    {
        return Err(error);
    }
    super::life::stop_waiting(settings, None)?;
    let Ok(client) = open::running_server(settings) else {
        if !settings.quiet {
            eprintln!("no server runs at {}", settings.socket_dir.display());
        }
        // One that is about to leave answers no more, and has the store yet.
        return wait_until_closed(settings, &settings.store, None);
    };
    let building = client.stats().is_ok_and(|stats| stats.leases.claims > 0);
    let stopped = client.stop()?;
    if !settings.quiet {
        for run in &stopped.runs {
            eprintln!("stopped {run}");
        }
        for target in &stopped.mounts {
            eprintln!("unmounted {target}");
        }
    }
    wait_until_closed(settings, Path::new(&stopped.store), Some(stopped.pid))?;
    if building {
        eprintln!("a build is running: it starts another server, which has the store open again");
    }
    if !stopped.left.is_empty() {
        return Err(CliError::new(format!(
            "still mounted: {}",
            stopped.left.join(", ")
        )));
    }
    Ok(())
}

/// Waits for the server's end, and for the lock of its store, which its last thread gives up:
/// from then on the store can be copied.
fn wait_until_closed(settings: &Settings, store: &Path, pid: Option<u32>) -> Result<(), CliError> {
    let deadline = Instant::now() + settings.server_timeout;
    let mut told = settings.quiet || pid.is_some();
    loop {
        let used = match pocker_store::closed(store) {
            // The stopped one is gone as far as the store goes.
            Err(StoreError::InUse {
                pid: Some(next), ..
            }) if pid.is_some_and(|pid| pid != next && process_start(pid).is_none()) => {
                return Err(CliError::new(format!(
                    "the server is stopped, and a command under way, such as a build, has started another (process {next})"
                ))
                .hint("end that command first, then stop the server again; do not copy the store yet"));
            }
            Err(e @ StoreError::InUse { .. }) => e.to_string(),
            // What cannot be looked at is no store that a server had.
            _ => match pid {
                Some(pid) if process_start(pid).is_some() => format!("process {pid} is there yet"),
                _ => return Ok(()),
            },
        };
        if !std::mem::replace(&mut told, true) {
            eprintln!("{used}: waiting for its end");
        }
        if Instant::now() >= deadline {
            let waited = settings.server_timeout.as_secs();
            let failed = CliError::new(format!("the server is not gone after {waited} s"));
            let hint = "do not copy the store yet; the same command waits again, for --server-timeout SECONDS";
            return Err(CliError {
                causes: vec![used],
                ..failed.hint(hint)
            });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use nix::fcntl::{Flock, FlockArg};

    #[test]
    fn a_successor_is_not_waited_for_and_the_store_is_not_said_to_be_closed() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = dir.path().join("lock");
        std::fs::write(&lock, std::process::id().to_string()).expect("write");
        let file = std::fs::File::open(&lock).expect("open");
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("nobody has it");
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let stopped = child.id();
        child.wait().expect("ended");
        let config = dir.path().join("conf");
        std::fs::write(&config, "server_timeout = 600\n").expect("write");
        let words = ["pocker".as_ref(), "--config".as_ref(), config.as_os_str()];
        let words = words.into_iter().chain(["version".as_ref()]);
        let cli = super::args::Cli::try_parse_from(words).expect("parsed");
        let settings = Settings::load(&cli.global).expect("loaded");
        let wait = || wait_until_closed(&settings, dir.path(), Some(stopped));
        let error = wait().expect_err("another has it");
        assert!(error.message.contains("has started another"), "{error:?}");
        // For good: the child of another test may have a copy of it.
        drop(held.unlock().expect("let go"));
        wait().expect("closed");
    }

    #[test]
    fn an_address_may_leave_out_its_port() {
        let text = |a: &str| address(a).map(|a| a.to_string()).map_err(|e| e.message);
        assert_eq!(text("127.0.0.1"), Ok("127.0.0.1:2049".into()));
        assert_eq!(text("127.0.0.1:3049"), Ok("127.0.0.1:3049".into()));
        assert_eq!(text("[::1]"), Ok("[::1]:2049".into()));
        assert_eq!(text("[::1]:9"), Ok("[::1]:9".into()));
        assert!(text("here").is_err());
    }
}
