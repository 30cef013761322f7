//! `pocker pin` and `unpin`.

use super::args::{Pin, Unpin};
use super::config::Settings;
use super::error::CliError;
use super::transfer::{find_step, split_step};
use super::{ls, open, text};
use crate::control::api::{NewPin, PinInfo, PockerInfo, StepInfo};
use crate::control::{Client, ClientError};
use std::fmt::Write as _;

/// Digits of a key that are enough to mean it.
const DIGITS_MIN: usize = 6;

pub fn pin(settings: &Settings, args: &Pin) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let Some(what) = &args.what else {
        let pins = client.pins()?;
        return text::out(&if args.json {
            text::json(&pins)?
        } else {
            table(&pins, crate::daemon::clock::now().secs)
        });
    };
    let (step, label) = match named(&client, what)? {
        Some((pocker, step)) => (step.key.clone(), label(&pocker, &step)),
        None => (what.to_lowercase(), what.clone()),
    };
    let pinned = match client.pin(&NewPin { step, label }) {
        Err(ClientError::NotFound(message)) => {
            return Err(CliError::new(message)
                .hint("`pocker ls` lists pockers, `pocker ls NAME` one pocker's steps"));
        }
        other => other?,
    };
    match args.json {
        true => text::out(&text::json(&pinned)?),
        false => text::out(&format!("pinned {}\n", pinned.key)),
    }
}

pub fn unpin(settings: &Settings, args: &Unpin) -> Result<(), CliError> {
    let client = open::server(settings)?;
    let what = &args.what;
    let pins = client.pins()?;
    let named = named(&client, what).ok().flatten();
    let is = |pin: &&PinInfo| match &named {
        Some((_, step)) => pin.key == step.key,
        None => false,
    };
    // What the name means now, else what it meant then, else a key.
    let mut found: Vec<&PinInfo> = pins.iter().filter(is).collect();
    if found.is_empty() {
        let then = |pin: &&PinInfo| pin.label == *what || pin.label == format!("{what}@run");
        found = pins.iter().filter(then).collect();
    }
    if found.is_empty() && what.len() >= DIGITS_MIN {
        let digits = what.to_lowercase();
        found = pins.iter().filter(|p| p.key.starts_with(&digits)).collect();
    }
    match found[..] {
        [pin] => match client.unpin(&pin.key) {
            // Somebody else was faster.
            Err(ClientError::NotFound(_)) => Ok(()),
            other => Ok(other?),
        },
        [] => Err(CliError::new(format!("{what} is not pinned"))
            .hint("`pocker pin --list` lists what is")),
        _ => {
            let keys: Vec<&str> = found.iter().map(|pin| &pin.key[..12]).collect();
            Err(CliError::new(format!(
                "{what} was pinned more than once: {}",
                keys.join(", ")
            ))
            .hint("give the key of the one to unpin"))
        }
    }
}

/// The pocker and its step, where such a pocker is there.
fn named(client: &Client, what: &str) -> Result<Option<(PockerInfo, StepInfo)>, CliError> {
    let (name, step) = split_step(what);
    if crate::build::validate_name(name, &[]).is_err() {
        return Ok(None);
    }
    match client.pocker(name)? {
        Some(pocker) => {
            let step = find_step(&pocker, step)?.clone();
            Ok(Some((pocker, step)))
        }
        None if step.is_some() => Err(ls::unknown(name)),
        None => Ok(None),
    }
}

fn label(pocker: &PockerInfo, step: &StepInfo) -> String {
    let last = pocker.steps.len();
    let at = pocker.steps.iter().position(|s| s.key == step.key);
    match at.map_or(last, |at| at + 1) {
        n if n == last => format!("{}@run", pocker.name),
        n => format!("{}@step{n}", pocker.name),
    }
}

pub fn table(pins: &[PinInfo], now: i64) -> String {
    let mut out = String::new();
    if pins.is_empty() {
        return out;
    }
    let width = pins.iter().map(|p| p.label.len()).max().unwrap_or(0).max(6);
    let _ = writeln!(
        out,
        "{:width$}  {:12}  {:>9}  {:>8}  INSTRUCTION",
        "PINNED", "KEY", "SIZE", "SINCE"
    );
    for pin in pins {
        let (size, instruction) = match &pin.step {
            Some(step) => (
                text::bytes(step.bytes),
                step.instruction.lines().next().unwrap_or_default(),
            ),
            None => ("?".to_string(), "cannot be read: see `pocker fsck`"),
        };
        let _ = writeln!(
            out,
            "{:width$}  {}  {size:>9}  {:>8}  {instruction}",
            pin.label,
            pin.key.get(..12).unwrap_or(&pin.key),
            text::age(now - pin.since),
        );
    }
    out
}
