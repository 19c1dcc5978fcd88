//! Lines and words as people type them, for `testing/fuzz`. Not in shipped builds: feature `fuzzing`.

use super::watch::Environment;
use super::{ROOT, txn, watch};
use crate::cli::parse::parse;
use crate::golang::quote::{quote, unquote_prefix, words};
use crate::golang::{duration, number};

/// A line of `txn` or of `watch -i`.
///
/// Holds: what is quoted is read back as it was.
pub fn line(line: &[u8]) {
    let _ = txn::compare(line);
    let _ = txn::operation_or_usage(line, |_, _| {});
    if let Ok(words) = words(line) {
        for key in [None, Some(b"key".to_vec())] {
            let environment = Environment { range_end: key.clone(), key };
            let _ = watch::typed(&words, &environment);
        }
    }
    let quoted = quote(line);
    assert_eq!(unquote_prefix(quoted.as_bytes()), Ok((line.to_vec(), &b""[..])), "{quoted}");
    let _ = unquote_prefix(line);
}

/// The words of a command line.
pub fn command_line(words: &[Vec<u8>]) {
    match parse(&ROOT, words) {
        Ok(_) => {}
        Err(failure) => assert!(!failure.text().is_empty(), "a refusal without a word"),
    }
}

/// Numbers and durations.
///
/// Holds: a duration is read back as it was printed.
pub fn value(text: &[u8]) {
    for radix in [0, 10, 16] {
        let _ = number::parse_int(text, radix);
        let _ = number::parse_uint(text, radix);
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    let _ = number::parse_bool(text);
    if let Ok(length) = duration::parse(text)
        // Beyond that, a float does not hold every nanosecond.
        && length.as_nanos() < 1 << 53
    {
        assert_eq!(duration::parse(&duration::format(length)), Ok(length), "{text}");
    }
}
