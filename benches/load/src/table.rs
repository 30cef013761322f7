//! The table of `scripts/bench nfs`, from the lines that the loads printed.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

/// What issue and design ask of this server: operation, depth, contestant, at least so many a
/// second (bytes for reads and writes of data), at most so many microseconds of its processor.
type Goal = (&'static str, u64, &'static str, f64, Option<f64>);

const GOALS: &[Goal] = &[
    ("getattr", 16, "sealed", 400e3, Some(2.0)),
    ("getattr", 16, "build", 400e3, Some(2.0)),
    ("lookup", 16, "sealed", 400e3, Some(2.5)),
    ("lookup", 16, "build", 400e3, Some(2.5)),
    ("readdirplus", 16, "sealed", 3e6, None),
    ("create", 16, "build", 30e3, None),
    ("remove", 16, "build", 60e3, None),
    ("create", 1, "build", 12e3, None),
    ("remove", 1, "build", 15e3, None),
    ("read4k", 16, "sealed", 1e9, None),
    ("read1m", 16, "sealed", 4e9, None),
    ("write1m", 16, "build", 4.3e9, None),
];

/// What a server that answers from memory does is the measure of these.
const OF_MEMORY: &[(&str, f64)] = &[("read1m", 0.9)];

#[derive(Clone, Copy)]
struct Cell {
    rate: f64,
    server_us: Option<f64>,
    errors: f64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Load {
    op: usize,
    connections: u64,
    depth: u64,
}

/// The order in which operations are shown: the issue's.
const OPS: &[&str] = &[
    "null",
    "getattr",
    "lookup",
    "access",
    "readdir",
    "readdirplus",
    "read4k",
    "read1m",
    "create",
    "create64k",
    "remove",
    "rename",
    "setattr",
    "write4k",
    "write1m",
    "stable4k",
];

fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
}

/// Lines on stdin to a table on stdout; contestants in the order in which they first appear.
/// `Ok(false)` when a goal is missed.
pub fn print() -> io::Result<bool> {
    let mut lines: Vec<Value> = Vec::new();
    for line in io::stdin().lock().lines() {
        lines.push(serde_json::from_str(&line?).map_err(io::Error::other)?);
    }
    let mut contestants: Vec<String> = Vec::new();
    let mut seen: BTreeMap<Load, BTreeMap<String, Vec<Cell>>> = BTreeMap::new();
    for line in &lines {
        let number = |key: &str| line[key].as_f64();
        let text = |key: &str| line[key].as_str().unwrap_or("?").to_owned();
        let (op, label) = (text("op"), text("label"));
        let load = Load {
            op: OPS.iter().position(|o| *o == op).unwrap_or(OPS.len()),
            connections: number("connections").unwrap_or(0.0) as u64,
            depth: number("depth").unwrap_or(0.0) as u64,
        };
        if !contestants.contains(&label) {
            contestants.push(label.clone());
        }
        let calls = number("calls").unwrap_or(0.0).max(1.0);
        seen.entry(load)
            .or_default()
            .entry(label)
            .or_default()
            .push(Cell {
                rate: number("per_second").unwrap_or(0.0),
                server_us: number("server_us"),
                errors: number("errors").unwrap_or(0.0) / calls,
            });
    }
    let mut out = io::stdout().lock();
    write!(out, "{:<12} {:>2} {:>2} ", "", "c", "d")?;
    for who in &contestants {
        write!(out, " {who:>19}")?;
    }
    writeln!(out)?;
    let mut met = true;
    for (load, cells) in &seen {
        let op = OPS.get(load.op).copied().unwrap_or("?");
        let middle = |who: &str| cells.get(who).map(|cells| middle(cells));
        write!(out, "{op:<12} {:>2} {:>2} ", load.connections, load.depth)?;
        for who in &contestants {
            write!(
                out,
                " {:>19}",
                middle(who).map_or("-".into(), |c| shown(op, c))
            )?;
        }
        let alone = load.connections == 1;
        for (_, _, who, least, most) in GOALS
            .iter()
            .filter(|g| alone && g.0 == op && g.1 == load.depth)
        {
            let Some(cell) = middle(who) else { continue };
            let reached = cell.rate >= *least
                && most.is_none_or(|m| cell.server_us.is_some_and(|us| us <= m));
            met &= reached;
            let limit = most.map_or(String::new(), |m| format!(", <= {m} us"));
            write!(
                out,
                "  {who} >= {}{limit}: {}",
                rate(op, *least),
                verdict(reached)
            )?;
        }
        for (_, share) in OF_MEMORY
            .iter()
            .filter(|o| alone && load.depth == 16 && o.0 == op)
        {
            let (Some(memory), Some(ours)) = (middle("memory"), middle("sealed")) else {
                continue;
            };
            let part = ours.rate / memory.rate;
            met &= part >= *share;
            write!(
                out,
                "  {:.0} % of memory, >= {:.0} %: {}",
                part * 100.0,
                share * 100.0,
                verdict(part >= *share)
            )?;
        }
        writeln!(out)?;
    }
    Ok(met)
}

fn verdict(reached: bool) -> &'static str {
    if reached { "met" } else { "MISSED" }
}

fn middle(cells: &[Cell]) -> Cell {
    let of = |f: &dyn Fn(&Cell) -> Option<f64>| median(cells.iter().filter_map(f).collect());
    Cell {
        rate: of(&|c| Some(c.rate)).unwrap_or(0.0),
        server_us: of(&|c| c.server_us),
        errors: of(&|c| Some(c.errors)).unwrap_or(0.0),
    }
}

fn rate(op: &str, per_second: f64) -> String {
    match op {
        "read4k" | "read1m" | "write4k" | "write1m" | "stable4k" if per_second >= 1e9 => {
            format!("{:.2} GB/s", per_second / 1e9)
        }
        "read4k" | "read1m" | "write4k" | "write1m" | "stable4k" => {
            format!("{:.0} MB/s", per_second / 1e6)
        }
        _ if per_second >= 1e6 => format!("{:.2} M/s", per_second / 1e6),
        _ if per_second >= 1e4 => format!("{:.0} k/s", per_second / 1e3),
        _ => format!("{per_second:.0} /s"),
    }
}

/// A contestant that answers most calls with an error does not do this at all.
const REFUSED: f64 = 0.5;

fn shown(op: &str, cell: Cell) -> String {
    if cell.errors > REFUSED {
        return "refused".into();
    }
    let us = cell.server_us.map_or(String::new(), |us| match us {
        us if us >= 10.0 => format!(" {us:.0} us"),
        us => format!(" {us:.1} us"),
    });
    let errors = if cell.errors > 0.0 { "!" } else { "" };
    format!("{}{us}{errors}", rate(op, cell.rate))
}
