//! Sizes and numbers as people write them.

use std::str::FromStr;

/// Bytes: a number and k, m, g or t (powers of 1024), as in 512M; a trailing b or ib is taken too.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || "a size is a number with K, M, G or T: 512M, 2G".to_owned();
    let lower = text.to_ascii_lowercase();
    let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = lower.split_at(digits);
    let power = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(1 << (10 * power))
        // What file systems and cgroups count in.
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| "no disk and no memory has so many bytes".to_owned())
}

/// A number of things, or any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Of(u64),
    Unlimited,
}

impl Count {
    pub fn limit(self) -> Option<u64> {
        match self {
            Count::Of(n) => Some(n),
            Count::Unlimited => None,
        }
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Count, String> {
        if text == "unlimited" {
            return Ok(Count::Unlimited);
        }
        let n = text.parse::<u64>().ok();
        let n = n.filter(|n| (1..=u64::from(u32::MAX)).contains(n));
        n.map(Count::Of)
            .ok_or_else(|| "a number from 1 on, or `unlimited`".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_powers_of_1024() {
        let sizes = [
            ("0", 0),
            ("17", 17),
            ("1k", 1024),
            ("512M", 512 << 20),
            ("2GiB", 2 << 30),
            ("3tb", 3 << 40),
        ];
        for (text, bytes) in sizes {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "1.5G",
            "1 G",
            "1P",
            "99999999999999999999",
            "9999999T",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_begin_at_one() {
        assert_eq!("7".parse(), Ok(Count::Of(7)));
        assert_eq!("unlimited".parse(), Ok(Count::Unlimited));
        for text in ["0", "-1", "", "1k", "4294967296"] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
    }
}
