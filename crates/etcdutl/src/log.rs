//! Log lines on stderr in the form that etcd's tool writes for people: fields of the line apart by tabs, then
//! a JSON object.
//!
//! ```text
//! 2006-01-02T15:04:05Z<TAB>info<TAB>restore/mod.rs<TAB>restored snapshot<TAB>{"path": "backup.db"}
//! ```

use std::fmt::{self, Write};

/// Writes one line. `caller` is the source file, without its folder `src`.
pub fn line(level: Level, caller: &str, message: &str, fields: &[(&str, Value)]) {
    eprintln!("{}", render(&now(), level, caller, message, fields));
}

#[derive(Clone, Copy, Debug)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// What a field can hold.
#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Texts(Vec<String>),
    Int(i128),
    Bool(bool),
}

impl Value {
    pub fn text(text: impl fmt::Display) -> Value {
        Value::Text(text.to_string())
    }

    pub fn int(value: impl Into<i128>) -> Value {
        Value::Int(value.into())
    }
}

/// Now, in the local zone.
fn now() -> String {
    let now = jiff::ZonedDateTime::now();
    let zone = match now.offset().is_zero() {
        true => "Z".to_owned(),
        false => now.strftime("%:z").to_string(),
    };
    format!("{}{zone}", now.strftime("%Y-%m-%dT%H:%M:%S"))
}

fn render(time: &str, level: Level, caller: &str, message: &str, fields: &[(&str, Value)]) -> String {
    let level = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let mut out = format!("{time}\t{level}\t{caller}\t{message}");
    if fields.is_empty() {
        return out;
    }
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    out += &format!("\t{{{}}}", fields.join(", "));
    out
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write_text(f, text),
            Value::Texts(texts) => {
                f.write_str("[")?;
                for (i, text) in texts.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    write_text(f, text)?;
                }
                f.write_str("]")
            }
            Value::Int(value) => write!(f, "{value}"),
            Value::Bool(value) => write!(f, "{value}"),
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c < ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_tabs_and_spaced_json() {
        let fields = [
            ("path", Value::text("a \"b\"\n")),
            ("urls", Value::Texts(vec!["http://a:1".to_owned(), "http://b:1".to_owned()])),
            ("size", Value::int(20480_u64)),
            ("learner", Value::Bool(false)),
        ];
        assert_eq!(
            render("2026-01-02T03:04:05Z", Level::Info, "restore/mod.rs", "added member", &fields),
            "2026-01-02T03:04:05Z\tinfo\trestore/mod.rs\tadded member\t\
             {\"path\": \"a \\\"b\\\"\\n\", \"urls\": [\"http://a:1\", \"http://b:1\"], \"size\": 20480, \"learner\": false}"
        );
        assert_eq!(render("t", Level::Warn, "c", "m", &[]), "t\twarn\tc\tm");
    }
}
