//! `pocker pin`: steps that stay, whatever else refers to them.

use super::clock;
use super::fail::{Fail, Outcome};
use super::state::{Daemon, digest};
use crate::control::api::{NewPin, PinInfo};
use pocker_store::Pinned;

/// A pinner's own words are no longer than this.
const LABEL_MAX: usize = 256;
/// Digits of a key that are enough to mean it.
const DIGITS_MIN: usize = 6;

impl Daemon {
    /// Pins a step; one that is pinned already is pinned anew.
    pub fn pin(&self, new: &NewPin) -> Outcome<PinInfo> {
        if new.label.len() > LABEL_MAX {
            return Err(Fail::bad("a pin's label has 256 bytes at most"));
        }
        let unknown = || {
            let shown: String = new.step.chars().take(80).collect();
            Fail::not_found(format!("there is no step {shown}"))
                .hint("`pocker ls NAME` lists a pocker's steps")
        };
        let failed = |e| Fail::internal("cannot pin the step", &e);
        let found = match new.step.len() >= DIGITS_MIN {
            true => self.store.steps_named(&new.step).map_err(failed)?,
            false => Vec::new(),
        };
        let key = match found[..] {
            [key] => key,
            [] => return Err(unknown()),
            _ => {
                return Err(
                    Fail::bad(format!("more than one step begins with {}", new.step))
                        .hint("give more of its key"),
                );
            }
        };
        let pinned = Pinned {
            key,
            label: new.label.clone().into_bytes(),
            since: clock::now().secs,
        };
        match self.store.pin_step(&pinned).map_err(failed)? {
            true => self.pin_info(&pinned),
            // Collected between the two.
            false => Err(unknown()),
        }
    }

    pub fn unpin(&self, key: &str) -> Outcome<()> {
        let key = digest(key)?;
        let was = self.store.unpin_step(&key);
        match was.map_err(|e| Fail::internal("cannot unpin the step", &e))? {
            true => {
                // Let go of now: `gc --older` counts from here.
                self.store.use_steps(&[key], clock::now().secs);
                Ok(())
            }
            false => Err(Fail::not_found(format!("step {key} is not pinned"))
                .hint("`pocker pin --list` lists what is")),
        }
    }

    /// The longest pinned first.
    pub fn pins(&self) -> Outcome<Vec<PinInfo>> {
        let pinned = self.store.pinned_steps();
        let mut pinned = pinned.map_err(|e| Fail::internal("cannot list pins", &e))?;
        pinned.sort_by_key(|pin| (pin.since, pin.key));
        pinned.iter().map(|pin| self.pin_info(pin)).collect()
    }

    fn pin_info(&self, pinned: &Pinned) -> Outcome<PinInfo> {
        // One whose step cannot be opened is still a pin; `pocker fsck` says what is wrong.
        let step = self.finished(&pinned.key)?;
        let step = step.and_then(|step| self.step_info(&step).ok());
        Ok(PinInfo {
            key: pinned.key.to_string(),
            label: String::from_utf8_lossy(&pinned.label).into_owned(),
            since: pinned.since,
            step,
        })
    }
}
