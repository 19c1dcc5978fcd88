//! The few log lines on stderr: one JSON object each, in the shape of etcd's own.

use std::time::{SystemTime, UNIX_EPOCH};

use golang::json::Json;

/// Writes one line. `fields` follow the message in their order.
pub fn line(
    level: &str,
    logger: Option<&str>,
    caller: &str,
    message: &str,
    fields: &[(&'static str, String)],
) {
    let mut object = vec![("level", Json::text(level)), ("ts", Json::text(&timestamp(SystemTime::now())))];
    object.extend(logger.map(|logger| ("logger", Json::text(logger))));
    object.push(("caller", Json::text(caller)));
    object.push(("msg", Json::text(message)));
    object.extend(fields.iter().map(|(name, value)| (*name, Json::text(value))));
    eprintln!("{}", Json::Object(object));
}

/// `2006-01-02T15:04:05.000000Z`, always in UTC.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, secs) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a number of days since 1970, counted in years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps() {
        let at = |micros| timestamp(UNIX_EPOCH + Duration::from_micros(micros));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(1_709_209_845_000_042), "2024-02-29T12:30:45.000042Z");
        assert_eq!(at(1_767_225_599_999_999), "2025-12-31T23:59:59.999999Z");
    }
}
