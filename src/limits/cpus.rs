//! Processors, in hundredths.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus(u64);

impl Cpus {
    pub fn hundredths(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 100 {
            0 => write!(f, "{}", self.0 / 100),
            part => write!(f, "{}.{part:02}", self.0 / 100),
        }
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Cpus, String> {
        let wrong = || "a number of processors, from 0.01 on: 2, 0.5".to_owned();
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || whole.len() > 5 {
            return Err(wrong());
        }
        let hundredths = format!("{part:0<2}");
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let part: u64 = hundredths[..2].parse().map_err(|_| wrong())?;
        match whole * 100 + part {
            0 => Err(wrong()),
            all => Ok(Cpus(all)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_to_the_hundredth() {
        let all = [
            ("2", 200, "2"),
            ("0.5", 50, "0.50"),
            ("1.25", 125, "1.25"),
            ("0.019", 1, "0.01"),
        ];
        for (text, hundredths, shown) in all {
            let cpus: Cpus = text.parse().unwrap();
            assert_eq!(
                (cpus.hundredths(), cpus.to_string()),
                (hundredths, shown.to_owned())
            );
        }
        for text in ["", "0", "0.001", "-1", "1e3", ".5", "1.", "999999"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }
}
