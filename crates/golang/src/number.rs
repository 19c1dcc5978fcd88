//! Numbers as Go's `strconv` reads them, with its texts for errors, and sizes for people.

use super::quote::quote;

/// `strconv.ParseInt` for 64 bits. Radix 0 reads prefixes (`0x`, `0o`, `0b`, `0`) and underscores.
pub fn parse_int(text: &[u8], radix: u32) -> Result<i64, String> {
    let fail = |reason: &str| format!("strconv.ParseInt: parsing {}: {reason}", quote(text));
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let magnitude = magnitude(digits, radix).map_err(fail)?;
    let signed = i128::from(magnitude) * if negative { -1 } else { 1 };
    i64::try_from(signed).map_err(|_| fail(OUT_OF_RANGE))
}

/// `strconv.ParseUint` for 64 bits.
pub fn parse_uint(text: &[u8], radix: u32) -> Result<u64, String> {
    let value = magnitude(text, radix);
    value.map_err(|reason| format!("strconv.ParseUint: parsing {}: {reason}", quote(text)))
}

const SYNTAX: &str = "invalid syntax";
const OUT_OF_RANGE: &str = "value out of range";

fn magnitude(digits: &[u8], radix: u32) -> Result<u64, &'static str> {
    let text = std::str::from_utf8(digits).map_err(|_| SYNTAX)?;
    let (text, radix) = match radix {
        0 => prefixed(text)?,
        radix => (text.to_owned(), radix),
    };
    if text.is_empty() || !text.chars().all(|c| c.is_digit(radix)) {
        return Err(SYNTAX);
    }
    u64::from_str_radix(&text, radix).map_err(|_| OUT_OF_RANGE)
}

fn prefixed(text: &str) -> Result<(String, u32), &'static str> {
    let lower = text.to_ascii_lowercase();
    let (rest, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    // Underscores stand between digits, or between a prefix and digits.
    let misplaced = rest.ends_with('_') || rest.contains("__") || (radix == 10 && rest.starts_with('_'));
    if misplaced { Err(SYNTAX) } else { Ok((rest.replace('_', ""), radix)) }
}

/// `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text.as_bytes()))),
    }
}

/// A size in decimal units: `25 kB`, `2.1 GB`. One digit behind the point below ten.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut exponent = 0;
    let mut unit = 1u64;
    while bytes / unit >= 1000 {
        unit *= 1000;
        exponent += 1;
    }
    let value = (bytes as f64 / unit as f64 * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(parse_int(b"-12", 10), Ok(-12));
        assert_eq!(parse_int(b"0x10", 0), Ok(16));
        assert_eq!(parse_int(b"1_000", 0), Ok(1000));
        assert_eq!(parse_int(b"7fffffffffffffff", 16), Ok(i64::MAX));
        assert_eq!(parse_int(b"x", 10), Err("strconv.ParseInt: parsing \"x\": invalid syntax".into()));
        let large = parse_int(b"9223372036854775808", 10);
        assert_eq!(
            large,
            Err("strconv.ParseInt: parsing \"9223372036854775808\": value out of range".into())
        );
        assert_eq!(parse_uint(b"", 16), Err("strconv.ParseUint: parsing \"\": invalid syntax".into()));
    }

    #[test]
    fn sizes() {
        let cases = [(0, "0 B"), (9, "9 B"), (999, "999 B"), (24576, "25 kB"), (2147483648, "2.1 GB")];
        for (bytes, text) in cases {
            assert_eq!(human_bytes(bytes), text);
        }
        assert_eq!(human_bytes(u64::MAX), "18 EB");
    }
}
