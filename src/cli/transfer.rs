//! A pocker's step, as a person names it.

use super::error::CliError;
use crate::control::api::{PockerInfo, StepInfo};

/// NAME, NAME@2, NAME@step2, NAME@run or NAME@<key or its beginning>.
pub fn find_step<'a>(pocker: &'a PockerInfo, step: Option<&str>) -> Result<&'a StepInfo, CliError> {
    let last = pocker.steps.last();
    let found = match step {
        None | Some("run") => last,
        Some(text) => {
            let number = text
                .strip_prefix("step")
                .unwrap_or(text)
                .parse::<usize>()
                .ok();
            let by_number = number
                .filter(|_| text.len() < 8)
                .and_then(|n| pocker.steps.get(n.checked_sub(1)?));
            by_number.or_else(|| {
                let key = text.rsplit('-').next().unwrap_or(text);
                let mut matching = pocker.steps.iter().filter(|s| s.key.starts_with(key));
                match (key.len() >= 6, matching.next(), matching.next()) {
                    (true, found, None) => found,
                    _ => None,
                }
            })
        }
    };
    found.ok_or_else(|| {
        CliError::new(format!(
            "{} has no step {}",
            pocker.name,
            step.unwrap_or("run")
        ))
        .hint(format!("`pocker ls {}` lists its steps", pocker.name))
    })
}

/// Splits NAME[@STEP].
pub fn split_step(what: &str) -> (&str, Option<&str>) {
    match what.split_once('@') {
        Some((name, step)) => (name, Some(step)),
        None => (what, None),
    }
}
