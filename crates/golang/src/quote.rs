//! Go's quoted strings (`%q`), both ways, and words quoted as in a shell.

use std::fmt::Write;

/// The bytes as Go's `%q` shows them.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c, '"');
        }
        for byte in chunk.invalid() {
            push(&mut out, format_args!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// A character as Go's `%q` shows it.
pub fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    push_escaped(&mut out, c, '\'');
    out.push('\'');
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string cannot fail");
}

fn push_escaped(out: &mut String, c: char, quote: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        c if c == quote => {
            out.push('\\');
            out.push(c);
        }
        c if c < ' ' || c == '\u{7f}' => push(out, format_args!("\\x{:02x}", u32::from(c))),
        c if is_printable(c) => out.push(c),
        c if u32::from(c) < 0x10000 => push(out, format_args!("\\u{:04x}", u32::from(c))),
        c => push(out, format_args!("\\U{:08x}", u32::from(c))),
    }
}

/// Go counts marks as printable; Rust does too unless they stand first.
fn is_printable(c: char) -> bool {
    c == '"' || c == '\'' || !format!("a{c}").escape_debug().any(|escaped| escaped == '\\')
}

/// Reads the quoted string that `input` begins with: `"…"` with escapes or `` `…` `` raw. Returns the
/// bytes it means and the rest behind it.
pub fn unquote_prefix(input: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    match input.first() {
        None => Err("unexpected EOF"),
        Some(b'`') => {
            let end = input[1..].iter().position(|&byte| byte == b'`').ok_or("unexpected EOF")?;
            Ok((input[1..1 + end].to_vec(), &input[end + 2..]))
        }
        Some(b'"') => unquote_escaped(&input[1..]),
        Some(_) => Err("expected quoted string"),
    }
}

fn unquote_escaped(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let mut out = Vec::new();
    loop {
        match rest {
            [] => return Err("unexpected EOF"),
            [b'"', after @ ..] => return Ok((out, after)),
            [b'\n', ..] => return Err("invalid syntax"),
            [b'\\', after @ ..] => rest = unescape(after, &mut out).ok_or("invalid syntax")?,
            [byte, after @ ..] => {
                out.push(*byte);
                rest = after;
            }
        }
    }
}

/// Reads what follows a backslash.
fn unescape<'a>(input: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&kind, rest) = input.split_first()?;
    let simple = match kind {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'"' => kind,
        b'x' => {
            out.push(u8::try_from(digits(rest.get(..2)?, 16)?).ok()?);
            return rest.get(2..);
        }
        b'0'..=b'7' => {
            out.push(u8::try_from(digits(input.get(..3)?, 8)?).ok()?);
            return input.get(3..);
        }
        b'u' | b'U' => {
            let count = if kind == b'u' { 4 } else { 8 };
            let c = char::from_u32(digits(rest.get(..count)?, 16)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return rest.get(count..);
        }
        _ => return None,
    };
    out.push(simple);
    Some(rest)
}

fn digits(text: &[u8], radix: u32) -> Option<u32> {
    let all_digits = text.iter().all(u8::is_ascii_hexdigit);
    all_digits.then(|| u32::from_str_radix(std::str::from_utf8(text).ok()?, radix).ok()).flatten()
}

/// Splits a line into words: `'raw'`, `"escaped"`, or plain up to the next white space.
///
/// Compat: `Argify` in etcdctl/ctlv3/command/util.go (3.7.3). A quote without its partner is dropped, and
/// quotes within a plain word stay in it.
pub fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(&first) = rest.first() {
        match first {
            b'\'' => match rest[1..].iter().position(|&byte| byte == b'\'') {
                Some(end) => {
                    words.push(rest[1..1 + end].to_vec());
                    rest = &rest[end + 2..];
                }
                None => rest = &rest[1..],
            },
            b'"' => match closing_quote(&rest[1..]) {
                Some(_) => {
                    let (word, after) = unquote_prefix(rest)?;
                    words.push(word);
                    rest = after;
                }
                None => rest = &rest[1..],
            },
            byte if byte.is_ascii_whitespace() => rest = &rest[1..],
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                words.push(rest[..end].to_vec());
                rest = &rest[end..];
            }
        }
    }
    Ok(words)
}

fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_as_go_does() {
        let cases: [(&[u8], &str); 6] = [
            (b"foo", r#""foo""#),
            (b"a\"b\\c\n\t\x00\x7f", r#""a\"b\\c\n\t\x00\x7f""#),
            (b"\xff\xfe", r#""\xff\xfe""#),
            ("é世\u{a0}\u{200b}😀".as_bytes(), "\"é世\\u00a0\\u200b😀\""),
            ("e\u{301}'".as_bytes(), "\"e\u{301}'\""),
            (b"", r#""""#),
        ];
        for (bytes, quoted) in cases {
            assert_eq!(quote(bytes), quoted);
        }
        assert_eq!((quote_char('x'), quote_char('\'')), ("'x'".into(), "'\\''".into()));
    }

    #[test]
    fn unquoting_turns_quoting_back() {
        for bytes in [&b"plain"[..], b"\x00\xff\"\\\n", "é世\u{200b}".as_bytes()] {
            let quoted = quote(bytes);
            assert_eq!(unquote_prefix(quoted.as_bytes()), Ok((bytes.to_vec(), &b""[..])));
        }
        assert_eq!(unquote_prefix(br#""\101\x42\u0043" rest"#), Ok((b"ABC".to_vec(), &b" rest"[..])));
        assert_eq!(unquote_prefix(br#""a\qb""#), Err("invalid syntax"));
        assert_eq!(unquote_prefix(b"key"), Err("expected quoted string"));
    }

    #[test]
    fn lines_into_words() {
        let split = |line: &str| {
            let words = words(line.as_bytes()).unwrap();
            words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(split(r#"put key1 "a \"b\"" 'it is'"#), ["put", "key1", "a \"b\"", "it is"]);
        assert_eq!(split(r#"  get  a"b c'  "#), ["get", "a\"b", "c'"]);
        assert_eq!(split(r#"put a "" ''"#), ["put", "a", "", ""]);
        assert_eq!(split(r#"put "a"#), ["put", "a"]);
        assert_eq!(words(br#"put "\q""#), Err("invalid syntax"));
    }
}
