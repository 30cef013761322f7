//! Puts an NFSv3 server under one kind of load and prints one line of JSON: calls, errors,
//! seconds, and the processor time that the server took.

mod link;
mod memory;
mod reads;
mod table;
mod wire;
mod writes;

use clap::{Parser, ValueEnum};
use link::{Link, Load};
use reads::{DIRECTORY, List, REGULAR, Random, Repeat, walk};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use wire::{Fh, Put};
use writes::{Make, Names, put_write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Op {
    Null,
    Getattr,
    Lookup,
    Access,
    Readdir,
    Readdirplus,
    Read4k,
    Read1m,
    Create,
    /// Files of 64 KiB; [`Op::Create`]'s have 4.
    Create64k,
    Remove,
    Rename,
    Setattr,
    Write4k,
    Write1m,
    /// Each WRITE on disk before it is answered (FILE_SYNC).
    Stable4k,
    /// No load: serves READs from memory, as a bound for what a server can do.
    ServeMemory,
    /// No load: the table of the lines on stdin; fails when a goal is missed.
    Table,
}

#[derive(Parser)]
#[command(args_override_self = true)]
struct Args {
    #[arg(value_enum)]
    op: Op,
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where MOUNT is answered, when not on the same port.
    #[arg(long)]
    mount_port: Option<u16>,
    #[arg(long, default_value = "/")]
    export: String,
    /// The root's handle, in hex, where there is no MOUNT to ask.
    #[arg(long)]
    root: Option<String>,
    /// Calls under way on each connection, 64 at most.
    #[arg(long, default_value_t = 16)]
    depth: usize,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// The server's process, for its processor time.
    #[arg(long)]
    pid: Option<u32>,
    /// Nodes to call on, at most.
    #[arg(long, default_value_t = 10_000)]
    nodes: usize,
    /// A path of ten names, for LOOKUP; the file for READ; the directory for READDIR. Without
    /// one, the nodes are called on, in no order.
    #[arg(long, default_value = "")]
    path: String,
    /// In the order of the walk instead.
    #[arg(long)]
    in_order: bool,
    /// Files that REMOVE and RENAME find.
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// How large a file reads and writes of pieces go over, again and again.
    #[arg(long, default_value_t = 64)]
    mib: u64,
    /// Goes into the output as it is.
    #[arg(long, default_value = "")]
    label: String,
    /// Says numbers; by how much they grow while the load runs goes into the output.
    #[arg(long)]
    counter: Option<String>,
    /// Seconds after which a call that is not answered is lost: some servers lose calls that
    /// come together.
    #[arg(long, default_value_t = 2)]
    lost: u64,
}

fn main() {
    let args = Args::parse();
    let done = match args.op {
        Op::ServeMemory => memory::serve(args.port),
        Op::Table => match table::print() {
            Ok(true) => Ok(()),
            Ok(false) => std::process::exit(2),
            Err(e) => Err(e),
        },
        _ => load(&args),
    };
    if let Err(e) = done {
        eprintln!(
            "pocker-load: {:?} of {} on port {}: {e}",
            args.op, args.export, args.port
        );
        std::process::exit(1);
    }
}

fn addr(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// What a connection did: units (calls, entries, bytes), errors, seconds, server's microseconds.
struct Outcome {
    units: u64,
    calls: u64,
    errors: u64,
}

fn load(args: &Args) -> io::Result<()> {
    let root = match &args.root {
        Some(hex) => bytes_of(hex)?,
        None => {
            let port = args.mount_port.unwrap_or(args.port);
            Link::new(addr(port), Duration::from_secs(args.lost))?.mount(&args.export)?
        }
    };
    let ready = std::sync::Barrier::new(args.connections + 1);
    let (outcomes, seconds, cpu, counted) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.connections)
            .map(|n| {
                let (root, ready) = (&root, &ready);
                scope.spawn(move || {
                    let prepared = prepare(args, root, n);
                    ready.wait();
                    ready.wait();
                    let outcome = prepared.and_then(|(link, load)| run(args, link, load));
                    ready.wait();
                    outcome
                })
            })
            .collect();
        ready.wait();
        let before = numbers(args.counter.as_deref());
        ready.wait();
        let (began, cpu) = (Instant::now(), cpu_ticks(args.pid));
        ready.wait();
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_ticks(args.pid) - cpu);
        let counted = before.and_then(|before| {
            let after = numbers(args.counter.as_deref())?;
            Ok(after
                .iter()
                .zip(&before)
                .map(|(a, b)| a - b)
                .collect::<Vec<f64>>())
        });
        let outcomes: io::Result<Vec<Outcome>> = threads
            .into_iter()
            .map(|t| {
                t.join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
            })
            .collect();
        (outcomes, seconds, cpu, counted)
    });
    let (outcomes, counted) = (outcomes?, counted?);
    let sum = |f: fn(&Outcome) -> u64| outcomes.iter().map(f).sum::<u64>();
    let (units, calls, errors) = (sum(|o| o.units), sum(|o| o.calls), sum(|o| o.errors));
    let unit = match args.op {
        Op::Readdir | Op::Readdirplus => "entries",
        Op::Read4k | Op::Read1m | Op::Write4k | Op::Write1m | Op::Stable4k => "bytes",
        Op::Create | Op::Create64k => "files",
        _ => "calls",
    };
    let per = if unit == "files" { units } else { calls };
    let line = serde_json::json!({
        "label": args.label,
        "op": format!("{:?}", args.op).to_lowercase(),
        "depth": args.depth,
        "connections": args.connections,
        "unit": unit,
        "per_second": units as f64 / seconds,
        "server_us": args.pid.map(|_| cpu * 1e6 / per.max(1) as f64),
        "units": units,
        "unit_us": args.pid.map(|_| cpu * 1e6 / units.max(1) as f64),
        "calls": calls,
        "errors": errors,
        "seconds": seconds,
        "counted": counted,
    });
    println!("{line}");
    Ok(())
}

/// What the counter says.
fn numbers(command: Option<&str>) -> io::Result<Vec<f64>> {
    let Some(command) = command else {
        return Ok(Vec::new());
    };
    let bad = |why: String| io::Error::other(format!("--counter {command}: {why}"));
    let shell = std::process::Command::new("sh")
        .arg("-c")
        .arg(command)
        .output()?;
    if !shell.status.success() {
        return Err(bad(shell.status.to_string()));
    }
    let said = String::from_utf8_lossy(&shell.stdout);
    let number = |word: &str| {
        word.parse()
            .map_err(|_| bad(format!("{word} is no number")))
    };
    said.split_whitespace().map(number).collect()
}

fn bytes_of(hex: &str) -> io::Result<Fh> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    if digits.is_empty() || digits.len() != hex.len() || !digits.len().is_multiple_of(2) {
        return Err(io::Error::other(format!("--root {hex}: not bytes in hex")));
    }
    let byte = |pair: &[u32]| (pair[0] << 4 | pair[1]) as u8;
    Ok(digits.chunks(2).map(byte).collect())
}

/// Seconds of processor time that a process and its threads, also those that ended, took.
fn cpu_ticks(pid: Option<u32>) -> f64 {
    let read = |pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let Some(stat) = pid.and_then(read) else {
        return 0.0;
    };
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

enum Prepared {
    Repeat(Repeat),
    List(List),
    Make(Make),
    Names(Names),
}

fn find(link: &mut Link, root: &Fh, path: &str) -> io::Result<Vec<(Fh, Vec<u8>)>> {
    let mut at = root.clone();
    let mut steps = Vec::new();
    for name in path.split('/').filter(|n| !n.is_empty()) {
        let next = link.lookup(&at, name.as_bytes())?;
        steps.push((std::mem::replace(&mut at, next), name.as_bytes().to_vec()));
    }
    steps.push((at, Vec::new()));
    Ok(steps)
}

fn prepare(args: &Args, root: &Fh, n: usize) -> io::Result<(Link, Prepared)> {
    let mut link = Link::new(addr(args.port), Duration::from_secs(args.lost))?;
    let far = Instant::now() + Duration::from_secs(3600);
    let one = |fh: &Fh, more: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        out.opaque(fh);
        more(&mut out);
        out
    };
    let repeat = |procedure: u32, arguments: Vec<Vec<u8>>, in_order: bool| {
        Prepared::Repeat(Repeat {
            procedure,
            arguments,
            until: far,
            random: Random(0x9e37_79b9_7f4a_7c15 ^ (n as u64 + 1)),
            sent: 0,
            in_order,
            status: procedure != 0,
            bytes: 0,
        })
    };
    let place = find(&mut link, root, &args.path)?;
    let last = place.last().map_or(root.clone(), |(fh, _)| fh.clone());
    let prepared = match args.op {
        Op::Null => repeat(0, vec![Vec::new()], true),
        Op::Getattr | Op::Access => {
            let found = walk(&mut link, root, args.nodes)?;
            let access = args.op == Op::Access;
            let arguments = found
                .iter()
                .map(|node| {
                    one(&node.fh, &|out| {
                        if access {
                            out.u32(0x3f)
                        }
                    })
                })
                .collect();
            repeat(if access { 4 } else { 1 }, arguments, args.in_order)
        }
        Op::Lookup if place.len() > 1 => {
            let steps = &place[..place.len() - 1];
            let arguments = steps
                .iter()
                .map(|(dir, name)| one(dir, &|out| out.opaque(name)));
            repeat(3, arguments.collect(), true)
        }
        Op::Lookup => {
            let found = walk(&mut link, root, args.nodes)?;
            let arguments = found
                .iter()
                .map(|node| one(&node.parent, &|out| out.opaque(&node.name)));
            repeat(3, arguments.collect(), args.in_order)
        }
        Op::Readdir | Op::Readdirplus => {
            let mut dirs = vec![last];
            if args.path.is_empty() {
                let found = walk(&mut link, root, args.nodes)?.into_iter();
                let below = found.filter(|node| node.kind == Some(DIRECTORY));
                dirs.extend(below.map(|node| node.fh));
            }
            Prepared::List(List {
                plus: args.op == Op::Readdirplus,
                places: (0..64).map(|slot| (slot % dirs.len(), (0, 0))).collect(),
                dirs,
                random: Random(n as u64 + 1),
                until: far,
                entries: 0,
            })
        }
        Op::Read4k if args.path.is_empty() => {
            let found = walk(&mut link, root, args.nodes)?.into_iter();
            let files = found.filter(|node| node.kind == Some(REGULAR));
            let arguments = files.map(|node| {
                one(&node.fh, &|out| {
                    out.u64(0);
                    out.u32(4 << 10);
                })
            });
            repeat(6, arguments.collect(), args.in_order)
        }
        Op::Read4k | Op::Read1m => {
            let size: u32 = if args.op == Op::Read4k {
                4 << 10
            } else {
                1 << 20
            };
            let arguments = (0..(args.mib << 20) / u64::from(size)).map(|i| {
                one(&last, &|out| {
                    out.u64(i * u64::from(size));
                    out.u32(size);
                })
            });
            repeat(6, arguments.collect(), args.op == Op::Read1m)
        }
        Op::Create | Op::Create64k | Op::Remove | Op::Rename | Op::Setattr => {
            let dir = link.mkdir(root, fresh(n).as_bytes())?;
            let size = match args.op {
                Op::Create64k => 64 << 10,
                Op::Create | Op::Remove => 4 << 10,
                _ => 0,
            };
            if matches!(args.op, Op::Create | Op::Create64k) {
                let make = Make::new(dir, far, u64::MAX, size);
                return Ok((link, Prepared::Make(make)));
            }
            let mut make = Make::new(dir.clone(), far, args.count, size);
            link.run(16, &mut make)?;
            if make.made < args.count {
                return Err(io::Error::other(format!(
                    "only {} of {} files could be made",
                    make.made, args.count
                )));
            }
            if args.op == Op::Setattr {
                let found = walk(&mut link, &dir, args.count as usize)?;
                let arguments = found.iter().map(|node| {
                    one(&node.fh, &|out| {
                        wire::sattr(out, 0o600);
                        out.u32(0);
                    })
                });
                repeat(2, arguments.collect(), false)
            } else {
                Prepared::Names(Names {
                    dir,
                    rename: args.op == Op::Rename,
                    from: 0,
                    to: args.count,
                    until: far,
                })
            }
        }
        Op::Write4k | Op::Write1m | Op::Stable4k => {
            let stable = if args.op == Op::Stable4k { 2 } else { 0 };
            let dir = link.mkdir(root, fresh(n).as_bytes())?;
            link.run(1, &mut Make::new(dir.clone(), far, 1, 4 << 10))?;
            let file = link.lookup(&dir, &writes::name(0))?;
            let pieces = |size: usize, stable: u32| {
                let data = vec![b'y'; size];
                let piece = |i: u64| {
                    let mut out = Vec::with_capacity(size + 100);
                    put_write(&mut out, &file, i * size as u64, stable, &data);
                    out
                };
                (0..(args.mib << 20) / size as u64)
                    .map(piece)
                    .collect::<Vec<_>>()
            };
            let large = pieces(1 << 20, 0);
            for args in &large {
                let write = |out: &mut Vec<u8>| out.extend_from_slice(args);
                link.ask(wire::NFS, 7, write, |mut r| (r.u32() == 0).then_some(()))?;
            }
            if stable != 0 {
                let commit = |out: &mut Vec<u8>| writes::put_commit(out, &file);
                link.ask(wire::NFS, 21, commit, |mut r| (r.u32() == 0).then_some(()))?;
            }
            repeat(
                7,
                if args.op == Op::Write1m {
                    large
                } else {
                    pieces(4 << 10, stable)
                },
                args.op == Op::Write1m,
            )
        }
        Op::ServeMemory | Op::Table => return Err(io::Error::other("not a load")),
    };
    Ok((link, prepared))
}

fn fresh(n: usize) -> String {
    format!("load-{}-{n}", std::process::id())
}

fn run(args: &Args, mut link: Link, prepared: Prepared) -> io::Result<Outcome> {
    let until = Instant::now() + Duration::from_secs_f64(args.seconds);
    let depth = args.depth.clamp(1, 64);
    let mut drive = |load: &mut dyn Load| link.run(depth, load);
    let (units, (calls, errors)) = match prepared {
        Prepared::Repeat(mut load) => {
            load.until = until;
            let (calls, errors) = drive(&mut load)?;
            let units = match args.op {
                Op::Read4k | Op::Read1m => load.bytes,
                Op::Write4k | Op::Stable4k => (calls - errors) * (4 << 10),
                Op::Write1m => (calls - errors) * (1 << 20),
                _ => calls - errors,
            };
            (units, (calls, errors))
        }
        Prepared::List(mut load) => {
            load.until = until;
            let done = drive(&mut load)?;
            (load.entries, done)
        }
        Prepared::Make(mut load) => {
            load.until = until;
            let done = drive(&mut load)?;
            (load.made, done)
        }
        Prepared::Names(mut load) => {
            load.until = until;
            let (calls, errors) = drive(&mut load)?;
            (calls - errors, (calls, errors))
        }
    };
    Ok(Outcome {
        units,
        calls,
        errors,
    })
}
