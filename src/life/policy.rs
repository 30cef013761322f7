//! `--restart`: whether, and after how long.

use std::time::Duration;

/// The first wait; each is twice the last, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A command that ran for so long did start: what comes next is a first failure again.
const STEADY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    No,
    /// After another status than 0; at most so often in a row.
    OnFailure(Option<u64>),
    /// Whatever its status, and after the machine's start.
    Always,
}

impl std::str::FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|n| digits && *n > 0)
        };
        match text.split_once(':') {
            None if text == "no" => Ok(Policy::No),
            None if text == "always" => Ok(Policy::Always),
            None if text == "on-failure" => Ok(Policy::OnFailure(None)),
            Some(("on-failure", times)) if number(times).is_some() => {
                Ok(Policy::OnFailure(number(times)))
            }
            _ => Err("no, on-failure, on-failure:TIMES or always".to_owned()),
        }
    }
}

/// The starts of one run.
#[derive(Debug)]
pub struct Restarts {
    policy: Policy,
    in_a_row: u32,
}

impl Restarts {
    pub fn new(policy: Policy) -> Restarts {
        Restarts {
            policy,
            in_a_row: 0,
        }
    }

    /// After a command that ran for `ran` and ended with `status`: how long to wait before the
    /// next start; none where there is none.
    pub fn next(&mut self, status: i32, ran: Duration) -> Option<Duration> {
        if ran >= STEADY {
            self.in_a_row = 0;
        }
        let more = match self.policy {
            Policy::No => false,
            Policy::Always => true,
            Policy::OnFailure(most) => {
                status != 0 && most.is_none_or(|most| u64::from(self.in_a_row) < most)
            }
        };
        let wait = FIRST
            .saturating_mul(1 << self.in_a_row.min(20))
            .min(LONGEST);
        self.in_a_row = self.in_a_row.saturating_add(1);
        more.then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);

    #[test]
    fn a_policy_is_one_of_four_words() {
        let parse = |text: &str| text.parse::<Policy>().ok();
        assert_eq!(parse("no"), Some(Policy::No));
        assert_eq!(parse("always"), Some(Policy::Always));
        assert_eq!(parse("on-failure"), Some(Policy::OnFailure(None)));
        assert_eq!(parse("on-failure:3"), Some(Policy::OnFailure(Some(3))));
        for none in [
            "",
            "on-failure:",
            "on-failure:0",
            "on-failure:+1",
            "always:2",
            "yes",
        ] {
            assert_eq!(parse(none), None, "{none}");
        }
    }

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_steady_run() {
        let mut restarts = Restarts::new(Policy::Always);
        let waits: Vec<u128> = (0..12)
            .map(|_| restarts.next(0, SHORT).expect("always").as_millis())
            .collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[10..], [60_000, 60_000]);
        assert_eq!(restarts.next(0, STEADY), Some(FIRST));
    }

    #[test]
    fn failures_are_counted_and_success_ends() {
        let mut restarts = Restarts::new(Policy::OnFailure(Some(2)));
        assert!(restarts.next(1, SHORT).is_some());
        assert!(restarts.next(137, SHORT).is_some());
        assert!(restarts.next(1, SHORT).is_none());
        assert!(
            Restarts::new(Policy::OnFailure(None))
                .next(0, SHORT)
                .is_none()
        );
        assert!(Restarts::new(Policy::No).next(1, SHORT).is_none());
    }
}
