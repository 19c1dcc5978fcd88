//! One record as one line of text.

use std::fmt::Write;

use serde_json::Value;

use super::Level;

pub struct Record<'a> {
    pub level: Level,
    pub logger: Option<&'a str>,
    pub caller: Caller<'a>,
    pub message: &'a str,
    pub fields: &'a [(String, Value)],
}

/// Where in the source a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    pub file: &'a str,
    pub line: u32,
}

impl Caller<'_> {
    /// The crate, or for a file in a subdirectory that directory.
    pub fn package(&self) -> &str {
        self.parts().0
    }

    /// Directory and file name; `src` says nothing, so the directory above stands for it.
    fn parts(&self) -> (&str, &str) {
        let mut parts = self.file.rsplit(['/', '\\']);
        let file = parts.next().unwrap_or(self.file);
        let directory = match parts.next() {
            Some("src") => parts.next(),
            other => other,
        };
        (directory.unwrap_or("src"), file)
    }

    fn text(&self) -> String {
        let (directory, file) = self.parts();
        format!("{directory}/{file}:{}", self.line)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Console,
}

impl Format {
    pub fn parse(text: &str) -> Result<Format, String> {
        match text {
            "json" | "" => Ok(Format::Json),
            "console" => Ok(Format::Console),
            other => Err(format!("unknown log format: {other}, supported values json, console")),
        }
    }
}

pub fn encode(record: &Record<'_>, format: Format) -> String {
    let timestamp = timestamp(&jiff::ZonedDateTime::now());
    let caller = record.caller.text();
    let level = record.level.as_str();
    let mut out = String::with_capacity(256);
    match format {
        Format::Json => {
            out.push('{');
            pair(&mut out, "level", &level.into());
            out.push(',');
            pair(&mut out, "ts", &timestamp.into());
            out.push(',');
            if let Some(logger) = record.logger {
                pair(&mut out, "logger", &logger.into());
                out.push(',');
            }
            pair(&mut out, "caller", &caller.into());
            out.push(',');
            pair(&mut out, "msg", &record.message.into());
            for (key, value) in record.fields {
                out.push(',');
                pair(&mut out, key, value);
            }
            out.push_str("}\n");
        }
        Format::Console => {
            let logger = record.logger.map(|logger| format!("{logger}\t")).unwrap_or_default();
            // A message of several lines stays one line, as a record is one line.
            let message = record.message.replace('\n', "\\n");
            let _ = write!(out, "{timestamp}\t{level}\t{logger}{caller}\t{message}");
            if !record.fields.is_empty() {
                out.push_str("\t{");
                for (index, (key, value)) in record.fields.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    let _ = write!(out, "{separator}{}: {}", Value::from(key.as_str()), spaced(value));
                }
                out.push('}');
            }
            out.push('\n');
        }
    }
    out
}

fn pair(out: &mut String, key: &str, value: &Value) {
    let _ = write!(out, "{}:{value}", Value::from(key));
}

/// Lists with a blank after each comma.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(spaced).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// Go's `2006-01-02T15:04:05.000000Z0700`: always six digits, `Z` for UTC.
fn timestamp(now: &jiff::ZonedDateTime) -> String {
    let offset = now.offset().seconds();
    let date = now.strftime("%Y-%m-%dT%H:%M:%S.%6f");
    if offset == 0 {
        return format!("{date}Z");
    }
    let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs() / 60);
    format!("{date}{sign}{:02}{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_look_like_zaps() {
        let fields = [("error".to_owned(), Value::from("a\"b")), ("urls".to_owned(), vec!["x", "y"].into())];
        let record = Record {
            level: Level::Warn,
            logger: Some("raft"),
            caller: Caller { file: "crates/etcd/src/main.rs", line: 7 },
            message: "hello",
            fields: &fields,
        };
        let json = encode(&record, Format::Json);
        assert!(json.starts_with("{\"level\":\"warn\",\"ts\":\"20"), "{json}");
        assert!(
            json.ends_with(",\"logger\":\"raft\",\"caller\":\"etcd/main.rs:7\",\"msg\":\"hello\",\"error\":\"a\\\"b\",\"urls\":[\"x\",\"y\"]}\n"),
            "{json}"
        );
        let console = encode(&record, Format::Console);
        assert!(
            console.ends_with(
                "\twarn\traft\tetcd/main.rs:7\thello\t{\"error\": \"a\\\"b\", \"urls\": [\"x\", \"y\"]}\n"
            ),
            "{console}"
        );
    }

    #[test]
    fn callers_are_named_by_their_nearest_telling_directory() {
        let text = |file| Caller { file, line: 1 }.text();
        assert_eq!(text("crates/server/src/bootstrap.rs"), "server/bootstrap.rs:1");
        assert_eq!(text("crates/api/src/grpc/frame.rs"), "grpc/frame.rs:1");
        assert_eq!(text("main.rs"), "src/main.rs:1");
    }

    #[test]
    fn timestamps_have_six_digits_and_gos_zone() {
        let at = |zone: &str| {
            let text = format!("2026-11-24T02:03:04.000005[{zone}]");
            timestamp(&text.parse::<jiff::ZonedDateTime>().expect(zone))
        };
        assert_eq!(at("UTC"), "2026-11-24T02:03:04.000005Z");
        assert_eq!(at("+05:30"), "2026-11-24T02:03:04.000005+0530");
        assert_eq!(at("-03:00"), "2026-11-24T02:03:04.000005-0300");
    }
}
