//! Go's durations: signed nanoseconds, read as `1h2m3.5s` and printed the way Go prints them.

use std::fmt;
use std::time::Duration;

/// Signed nanoseconds. Negative values parse; whether one makes sense is the flag's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    pub const ZERO: GoDuration = GoDuration(0);

    pub const fn from_millis(millis: i64) -> GoDuration {
        GoDuration(millis * 1_000_000)
    }

    pub const fn from_secs(secs: i64) -> GoDuration {
        GoDuration(secs * 1_000_000_000)
    }

    /// `None` where Go's `time.ParseDuration` fails.
    pub fn parse(text: &str) -> Option<GoDuration> {
        let (negative, mut rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Some(GoDuration(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let number_len = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
            let (number, tail) = rest.split_at(number_len);
            let unit_len = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
            total = total.checked_add(scaled(number, scale)?)?;
            rest = tail;
        }
        match (negative, total) {
            (true, total) if total <= 1 << 63 => Some(GoDuration((total as i64).wrapping_neg())),
            (_, total) => i64::try_from(total).ok().map(GoDuration),
        }
    }

    /// Zero for a negative duration.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

/// `number` is digits with at most one point and at least one digit; digits past the nanosecond drop.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut nanos = u128::from(whole) * u128::from(scale);
    let mut digit_value = u128::from(scale) * 1_000_000_000;
    for digit in fraction.bytes().take(27) {
        digit_value /= 10;
        nanos += u128::from(digit - b'0') * digit_value / 1_000_000_000;
    }
    u64::try_from(nanos).ok()
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", decimal(nanos, 1_000_000)),
            _ => {
                let secs = nanos / 1_000_000_000;
                let (hours, minutes) = (secs / 3600, secs / 60 % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write!(f, "{}s", decimal(nanos % 60_000_000_000, 1_000_000_000))
            }
        }
    }
}

/// `value / unit` with as many decimals as are needed.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{fraction:0width$}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_go_reads() {
        let read = |text| GoDuration::parse(text).map(|d| d.0);
        assert_eq!(read("5s"), Some(5_000_000_000));
        assert_eq!(read("1h2m3.5s"), Some(3_723_500_000_000));
        assert_eq!(read("-1.5ms"), Some(-1_500_000));
        assert_eq!(read(".5s"), Some(500_000_000));
        assert_eq!(read("1.s"), Some(1_000_000_000));
        assert_eq!(read("1us1µs1μs"), Some(3_000));
        assert_eq!(read("0"), Some(0));
        for bad in ["", "5", "s", ".s", "1.2.3s", "1x", "1s2", "-", "9223372036854775808ns", "1 s"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn prints_as_go_prints() {
        for text in
            ["0s", "1ns", "1.5µs", "100ms", "1s", "1m0s", "1h0m0s", "2562047h47m16.854775807s", "-5m0s"]
        {
            assert_eq!(GoDuration::parse(text).expect(text).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_are_inverse(nanos in any::<i64>()) {
            prop_assert_eq!(GoDuration::parse(&GoDuration(nanos).to_string()), Some(GoDuration(nanos)));
        }
    }
}
