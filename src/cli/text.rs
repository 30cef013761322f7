//! Shared output: sizes, ages, JSON, and the pages generated from the command line itself.

use super::args::{Cli, Json};
use super::error::CliError;
use clap::CommandFactory;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Writes a command's result. A reader that has seen enough (`| head`) is no failure.
pub fn out(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::from_error("cannot write to standard output", &e))
        }
        _ => Ok(()),
    }
}

/// Bytes in decimal units.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A span in its largest unit.
pub fn age(secs: i64) -> String {
    match secs {
        ..60 => format!("{} s", secs.max(0)),
        60..3600 => format!("{} min", secs / 60),
        3600..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} d", secs / 86_400),
    }
}

/// A span as people write it: a number and s, m, h, d or w. In seconds.
pub fn span(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err("a number and its unit: 90s, 30m, 12h, 7d or 2w".to_string()),
    };
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number = number.parse::<u64>().ok().filter(|_| digits);
    let span = number.and_then(|number| number.checked_mul(unit));
    // What the control socket and its clock count in.
    span.filter(|span| i64::try_from(*span).is_ok())
        .ok_or_else(|| "no such span: 90s, 30m, 12h, 7d and 2w are some".to_string())
}

pub fn json<T: serde::Serialize>(value: &T) -> Result<String, CliError> {
    serde_json::to_string_pretty(value)
        .map(|mut text| {
            text.push('\n');
            text
        })
        .map_err(|e| CliError::from_error("cannot write JSON", &e))
}

pub fn version(args: &Json) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        out(&json(&serde_json::json!({ "version": version }))?)
    } else {
        out(&format!("pocker {version}\n"))
    }
}

pub fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::refused::visible(), "pocker", &mut script);
    out(&String::from_utf8_lossy(&script))
}

pub fn man(dir: &Path) -> Result<(), CliError> {
    clap_mangen::generate_to(Cli::command(), dir).map_err(|e| {
        CliError::from_error(
            format!("cannot write manual pages to {}", dir.display()),
            &e,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_read_well() {
        let sizes: Vec<String> = [0, 999, 1000, 999_949, 999_950, 217_400_000]
            .iter()
            .map(|n| bytes(*n))
            .collect();
        assert_eq!(
            sizes,
            ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "217.4 MB"]
        );
        let ages: Vec<String> = [-5, 59, 60, 7200, 200_000]
            .iter()
            .map(|s| age(*s))
            .collect();
        let spans: Vec<_> = ["0s", "90s", "30m", "12h", "7d", "2w"]
            .map(|s| span(s).ok())
            .into();
        let secs = [0, 90, 1800, 43_200, 604_800, 1_209_600];
        assert_eq!(spans, secs.map(Some));
        for none in [
            "",
            "d",
            "7",
            "+7d",
            "-1d",
            "7 d",
            "1y",
            "é",
            "99999999999999999999s",
            "9999999999999999w",
        ] {
            assert!(span(none).is_err(), "{none}");
        }
        assert_eq!(ages, ["0 s", "59 s", "1 min", "2 h", "2 d"]);
    }
}
