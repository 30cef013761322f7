//! Points in time as RFC 3339 has them, in UTC.

/// Seconds and nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    pub secs: i64,
    pub nanos: u32,
}

impl Stamp {
    /// Nine digits of a second, so that all are of one length.
    pub fn rfc3339(self) -> String {
        let days = self.secs.div_euclid(86_400);
        let of_day = self.secs.rem_euclid(86_400);
        let (year, month, day) = date(days);
        format!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
            of_day / 3600,
            of_day / 60 % 60,
            of_day % 60,
            self.nanos
        )
    }

    /// A date, or a date and a time with or without a fraction; `Z` or an offset at the end, else UTC.
    pub fn parse(text: &str) -> Option<Stamp> {
        let number = |part: &str, length: usize| {
            let digits = part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
            part.parse::<i64>().ok().filter(|_| digits)
        };
        let (day, rest) = (text.get(..10)?, text.get(10..)?);
        let mut parts = day.split('-');
        let year = number(parts.next()?, 4)?;
        let month = number(parts.next()?, 2).filter(|m| (1..=12).contains(m))?;
        let of_month = number(parts.next()?, 2).filter(|d| (1..=31).contains(d))?;
        let midnight = days(year, month, of_month) * 86_400;
        if rest.is_empty() {
            return Some(Stamp {
                secs: midnight,
                nanos: 0,
            });
        }
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        let mut clock = rest.get(..8)?.split(':');
        let hour = number(clock.next()?, 2).filter(|h| *h < 24)?;
        let minute = number(clock.next()?, 2).filter(|m| *m < 60)?;
        let second = number(clock.next()?, 2).filter(|s| *s <= 60)?;
        let mut rest = rest.get(8..)?;
        let mut nanos = 0;
        if let Some(fraction) = rest.strip_prefix('.') {
            let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
            let digits = format!("{:0<9}", &fraction[..length]);
            nanos = digits.get(..9)?.parse().ok().filter(|_| length > 0)?;
            rest = &fraction[length..];
        }
        let offset = match rest {
            "" | "Z" | "z" => 0,
            _ => {
                let sign = if rest.starts_with('-') { -1 } else { 1 };
                let (hours, minutes) = rest.strip_prefix(['+', '-'])?.split_once(':')?;
                sign * (number(hours, 2)? * 3600 + number(minutes, 2)? * 60)
            }
        };
        Some(Stamp {
            secs: midnight + hour * 3600 + minute * 60 + second - offset,
            nanos,
        })
    }
}

/// Days since the epoch to a date of the Gregorian calendar. Years begin in March here, so that
/// the leap day is a year's last.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (secs, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 5, "2000-02-29T00:00:00.000000005Z"),
            (1_700_000_000, 120_000_000, "2023-11-14T22:13:20.120000000Z"),
            (-1, 0, "1969-12-31T23:59:59.000000000Z"),
        ] {
            let stamp = Stamp { secs, nanos };
            assert_eq!(stamp.rfc3339(), text);
            assert_eq!(Stamp::parse(text), Some(stamp));
        }
        for day in -800_000..800_000 {
            let (y, m, d) = date(day);
            assert_eq!(days(y, m, d), day);
        }
    }

    #[test]
    fn people_write_less() {
        let secs = |text: &str| Stamp::parse(text).map(|s| s.secs);
        assert_eq!(secs("2023-11-14"), Some(1_699_920_000));
        assert_eq!(secs("2023-11-14 22:13:20"), Some(1_700_000_000));
        assert_eq!(secs("2023-11-14T23:13:20+01:00"), Some(1_700_000_000));
        assert_eq!(secs("2023-11-14T22:13:20.5Z"), Some(1_700_000_000));
        for none in [
            "",
            "2023",
            "2023-13-01",
            "2023-11-14T",
            "2023-11-14T25:00:00",
            "2023-11-14T22:13:20.Z",
            "2023-11-1é",
        ] {
            assert_eq!(Stamp::parse(none), None, "{none}");
        }
    }
}
