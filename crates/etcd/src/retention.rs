//! `--auto-compaction-retention`: how much history stays, in the unit of its mode.

use std::time::Duration;

use crate::go_duration::GoDuration;
use crate::go_value::quote;
use crate::settings::Settings;

/// History that compaction by itself leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Nothing is compacted.
    Off,
    Period(Duration),
    Revisions(u64),
}

/// Reads `--auto-compaction-retention` by the rules of its mode: a bare number is hours or revisions.
pub fn read(settings: &Settings) -> Result<Retention, String> {
    let text =
        if settings.auto_compaction_retention.is_empty() { "0" } else { &settings.auto_compaction_retention };
    let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
    let revision_mode = settings.auto_compaction_mode == "revision";
    let retention = match (number, revision_mode) {
        (Some(number), true) => GoDuration(number),
        (Some(hours), false) => {
            GoDuration::from_secs(hours.saturating_mul(3600).min(i64::MAX / 1_000_000_000))
        }
        (None, _) => GoDuration::parse(text).ok_or_else(|| {
            format!("error parsing CompactionRetention: time: invalid duration {}", quote(text))
        })?,
    };
    match retention.0 {
        0 => Ok(Retention::Off),
        negative if negative < 0 => Err(format!(
            "error parsing CompactionRetention: a negative retention keeps nothing: {}",
            quote(text)
        )),
        // Compat: a duration in revision mode counts its nanoseconds as revisions.
        count if revision_mode => Ok(Retention::Revisions(count.unsigned_abs())),
        nanos => Ok(Retention::Period(Duration::from_nanos(nanos.unsigned_abs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_hours_revisions_or_a_duration() {
        let read = |mode: &str, retention: &str| {
            let settings = Settings {
                auto_compaction_mode: mode.to_owned(),
                auto_compaction_retention: retention.to_owned(),
                ..Settings::default()
            };
            super::read(&settings)
        };
        assert_eq!(read("periodic", "0"), Ok(Retention::Off));
        assert_eq!(read("periodic", ""), Ok(Retention::Off));
        assert_eq!(read("periodic", "2"), Ok(Retention::Period(Duration::from_secs(7200))));
        assert_eq!(read("periodic", "5m"), Ok(Retention::Period(Duration::from_secs(300))));
        assert_eq!(read("revision", "1000"), Ok(Retention::Revisions(1000)));
        assert_eq!(
            read("periodic", "x"),
            Err("error parsing CompactionRetention: time: invalid duration \"x\"".to_owned())
        );
        assert!(read("periodic", "-5m").is_err());
    }
}
