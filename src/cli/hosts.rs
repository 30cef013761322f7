//! `pocker hosts`: who else uses this store.

use super::args::Json;
use super::config::Settings;
use super::error::CliError;
use super::{open, text};
use crate::control::hosts::HostInfo;
use std::fmt::Write as _;

pub fn run(settings: &Settings, args: &Json) -> Result<(), CliError> {
    let hosts = open::server(settings)?.hosts()?;
    text::out(&match args.json {
        true => text::json(&hosts)?,
        false => table(&hosts, crate::daemon::clock::now().secs),
    })
}

/// A line a host, and a line for each lease below it.
fn table(hosts: &[HostInfo], now: i64) -> String {
    let mut out = String::new();
    if hosts.is_empty() {
        return out;
    }
    let width = |of: fn(&HostInfo) -> usize, least: usize| {
        hosts.iter().map(of).max().unwrap_or(0).max(least)
    };
    let (name, addr) = (width(|h| h.name.len(), 4), width(|h| h.address.len(), 7));
    let token = width(|h| h.token.len(), 5);
    let _ = writeln!(
        out,
        "{:name$}  {:8}  {:addr$}  {:token$}  {:>8}  HOLDS",
        "NAME", "ID", "ADDRESS", "TOKEN", "SEEN"
    );
    for host in hosts {
        let first = format!(
            "{:name$}  {:8}  {:addr$}  {:token$}  {:>8}",
            host.name,
            host.id,
            host.address,
            host.token,
            text::age(now - host.seen)
        );
        let blank = " ".repeat(first.len());
        if host.leases.is_empty() {
            let _ = writeln!(out, "{first}  nothing");
        }
        for (i, lease) in host.leases.iter().enumerate() {
            let before = if i == 0 { &first } else { &blank };
            let holds = lease.holds.join(", ");
            let _ = match lease.left {
                0 => writeln!(out, "{before}  {holds} (its lease is over)"),
                left => writeln!(out, "{before}  {holds} (for {left} s more)"),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::hosts::LeaseInfo;

    #[test]
    fn hosts_are_a_table_with_their_leases() {
        let host = |n: u8, name: &str, leases| HostInfo {
            id: format!("{n:08x}"),
            name: name.into(),
            address: format!("10.0.0.{n}"),
            token: "lab".into(),
            since: 0,
            seen: 1000,
            leases,
        };
        let lease = |holds: &[&str], left| LeaseInfo {
            id: "09".into(),
            holds: holds.iter().map(|s| (*s).to_owned()).collect(),
            left,
        };
        let all = [
            host(
                1,
                "alpha",
                vec![lease(&["run 7 of web"], 48), lease(&["web@step2"], 0)],
            ),
            host(2, "b", Vec::new()),
        ];
        insta::assert_snapshot!(table(&all, 1012), @r"
        NAME   ID        ADDRESS   TOKEN      SEEN  HOLDS
        alpha  00000001  10.0.0.1  lab        12 s  run 7 of web (for 48 s more)
                                                    web@step2 (its lease is over)
        b      00000002  10.0.0.2  lab        12 s  nothing
        ");
        assert_eq!(table(&[], 0), "");
    }
}
