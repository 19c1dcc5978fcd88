//! Durations in Go's notation: `1h0m0s`, `2.5s`, `100ms`, `1µs`.

use std::time::Duration;

use super::quote::quote;

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

/// A duration as flags take it. Negative ones count as zero: everything they are given for then
/// happens at once, as with Go.
pub fn parse(text: &str) -> Result<Duration, String> {
    let quoted = || quote(text.as_bytes());
    let invalid = || format!("time: invalid duration {}", quoted());
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..number_len].parse().map_err(|_| invalid())?;
        rest = &rest[number_len..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = &rest[..unit_len];
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted()));
        }
        let Some((_, unit_nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("time: unknown unit {} in duration {}", quote(unit.as_bytes()), quoted()));
        };
        nanos += number * *unit_nanos as f64;
        rest = &rest[unit_len..];
    }
    if nanos > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { Duration::ZERO } else { Duration::from_nanos(nanos.round() as u64) })
}

/// A duration as Go prints it.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000) + "µs",
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000) + "ms",
        _ => {
            let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
            let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000) + "s";
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// `nanos` in units of `unit` nanoseconds, without trailing zeros.
fn fraction(nanos: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let digits = format!("{:0width$}", nanos % unit);
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("{}{point}{digits}", nanos / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let cases = [
            ("0s", 0),
            ("1ns", 1),
            ("1.5µs", 1_500),
            ("100ms", 100_000_000),
            ("6.67508ms", 6_675_080),
            ("2s", 2_000_000_000),
            ("1m0.5s", 60_500_000_000),
            ("1h0m0s", 3_600_000_000_000),
        ];
        for (text, nanos) in cases {
            assert_eq!(format(Duration::from_nanos(nanos)), text);
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(parse("3"), Err("time: missing unit in duration \"3\"".into()));
        assert_eq!(parse("3y"), Err("time: unknown unit \"y\" in duration \"3y\"".into()));
        assert_eq!(parse("x"), Err("time: invalid duration \"x\"".into()));
        assert_eq!(parse("-1s"), Ok(Duration::ZERO));
    }
}
