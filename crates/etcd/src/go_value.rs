//! How Go reads and prints the values of flags: its texts are what users and scripts know.

/// Why a number was not taken; the two texts of Go's `flag` package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    Syntax,
    Range,
}

impl NumberError {
    pub fn text(self) -> &'static str {
        match self {
            NumberError::Syntax => "parse error",
            NumberError::Range => "value out of range",
        }
    }

    /// The longer text of Go's `strconv`, which a few flags show unchanged.
    pub fn strconv_text(self, function: &str, input: &str) -> String {
        let why = match self {
            NumberError::Syntax => "invalid syntax",
            NumberError::Range => "value out of range",
        };
        format!("strconv.{function}: parsing {}: {why}", quote(input))
    }
}

/// Go's spellings of a truth value; nothing else is one (`yes` is an error).
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// An unsigned integer of at most `max`, with Go's prefixes `0x`, `0o`, `0b`, a leading zero for
/// octal, and `_` between digits.
pub fn parse_uint(text: &str, max: u64) -> Result<u64, NumberError> {
    let (radix, digits, prefixed) = split_radix(text);
    let digits = strip_underscores(digits, prefixed)?;
    if digits.is_empty() || !digits.bytes().all(|b| (b as char).is_digit(radix)) {
        return Err(NumberError::Syntax);
    }
    match u64::from_str_radix(&digits, radix) {
        Ok(value) if value <= max => Ok(value),
        _ => Err(NumberError::Range),
    }
}

pub fn parse_int(text: &str) -> Result<i64, NumberError> {
    let (negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = parse_uint(magnitude, 1 << 63)?;
    match (negative, magnitude) {
        (true, magnitude) => Ok((magnitude as i64).wrapping_neg()),
        (false, magnitude) => i64::try_from(magnitude).map_err(|_| NumberError::Range),
    }
}

fn split_radix(text: &str) -> (u32, &str, bool) {
    let bytes = text.as_bytes();
    if bytes.len() >= 2 && bytes[0] == b'0' {
        return match bytes[1] {
            b'x' | b'X' => (16, &text[2..], true),
            b'o' | b'O' => (8, &text[2..], true),
            b'b' | b'B' => (2, &text[2..], true),
            _ => (8, &text[1..], true),
        };
    }
    (10, text, false)
}

/// An underscore may stand between two digits, or between a prefix and the first digit.
fn strip_underscores(digits: &str, prefixed: bool) -> Result<String, NumberError> {
    if !digits.contains('_') {
        return Ok(digits.to_owned());
    }
    let misplaced = digits.ends_with('_') || digits.contains("__") || (digits.starts_with('_') && !prefixed);
    if misplaced { Err(NumberError::Syntax) } else { Ok(digits.replace('_', "")) }
}

/// Go's `%q`: double quotes, with escapes for what a terminal must not see.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{07}' => out.push_str("\\a"),
            '\u{08}' => out.push_str("\\b"),
            '\u{0b}' => out.push_str("\\v"),
            '\u{0c}' => out.push_str("\\f"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An error of the operating system in Go's words: lowercase, without the number.
pub fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_gos_prefixes_and_nothing_else() {
        assert_eq!(parse_uint("0x10", u64::MAX), Ok(16));
        assert_eq!(parse_uint("010", u64::MAX), Ok(8));
        assert_eq!(parse_uint("0", u64::MAX), Ok(0));
        assert_eq!(parse_uint("1_000", u64::MAX), Ok(1000));
        assert_eq!(parse_uint("1__0", u64::MAX), Err(NumberError::Syntax));
        assert_eq!(parse_uint("-1", u64::MAX), Err(NumberError::Syntax));
        assert_eq!(parse_uint("", u64::MAX), Err(NumberError::Syntax));
        assert_eq!(parse_uint("4294967296", u64::from(u32::MAX)), Err(NumberError::Range));
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), Err(NumberError::Range));
        assert_eq!(parse_int("+5"), Ok(5));
        assert_eq!(parse_int("--5"), Err(NumberError::Syntax));
    }

    #[test]
    fn quoting_escapes_what_a_terminal_must_not_see() {
        assert_eq!(quote("a\"b\\c\n\u{1}"), "\"a\\\"b\\\\c\\n\\x01\"");
    }
}
