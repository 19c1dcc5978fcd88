//! `grpc-timeout`: at most eight digits and a unit.

use std::time::Duration;

use http::HeaderMap;

use super::status::{Code, Status};

/// The time the client gives this call.
///
/// # Errors
/// A value that is none. Compat: grpc-go answers Internal.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    parse(text).map(Some).ok_or_else(|| {
        let why = match text.len() {
            0 | 1 => format!("transport: timeout string is too short: {text:?}"),
            10.. => format!("transport: timeout string is too long: {text:?}"),
            _ => format!("transport: timeout unit is not recognized: {text:?}"),
        };
        Status::new(Code::Internal, format!("malformed grpc-timeout: {why}"))
    })
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(parse("4999999u"), Some(Duration::from_micros(4_999_999)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "1", "S", "1x", "-1S", "123456789S", "1ü"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
