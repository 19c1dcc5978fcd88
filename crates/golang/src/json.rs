//! JSON as Go's `encoding/json` writes it: fields in order, bytes in base64, `<`, `>` and `&` escaped.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

#[derive(Clone, Debug)]
pub enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(String),
    Bytes(Bytes),
    Array(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    pub fn text(text: &str) -> Json {
        Json::Text(text.to_owned())
    }

    /// Whether Go's `omitempty` leaves it out. An object stands for a pointer: never empty.
    fn is_empty(&self) -> bool {
        match self {
            Json::Null | Json::Bool(false) | Json::Int(0) | Json::Uint(0) => true,
            Json::Bool(_) | Json::Int(_) | Json::Uint(_) | Json::Object(_) => false,
            Json::Text(text) => text.is_empty(),
            Json::Bytes(bytes) => bytes.is_empty(),
            Json::Array(items) => items.is_empty(),
        }
    }

    /// An object without its empty fields, as generated messages are tagged.
    pub fn message(fields: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
        Json::Object(fields.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    pub fn texts(items: &[String]) -> Json {
        Json::Array(items.iter().map(|item| Json::text(item)).collect())
    }

    pub fn list<T>(items: &[T], to_json: impl Fn(&T) -> Json) -> Json {
        Json::Array(items.iter().map(to_json).collect())
    }

    /// A pointer: null without a value.
    pub fn pointer<T>(value: Option<&T>, to_json: impl Fn(&T) -> Json) -> Json {
        value.map_or(Json::Null, to_json)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Int(value) => write!(f, "{value}"),
            Json::Uint(value) => write!(f, "{value}"),
            Json::Text(text) => write_text(f, text),
            Json::Bytes(bytes) => write!(f, "\"{}\"", STANDARD.encode(bytes)),
            Json::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Json::Object(fields) => {
                f.write_str("{")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}\"{name}\":{value}", if i == 0 { "" } else { "," })?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write;
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\u{8}' => f.write_str("\\b")?,
            '\u{c}' => f.write_str("\\f")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => write!(f, "\\u{:04x}", u32::from(c))?,
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
    fn as_go_writes_it() {
        let value = Json::Object(vec![
            ("a", Json::text("x<y>&\"\\\n\u{1}é\u{2028}")),
            ("b", Json::Bytes(Bytes::from_static(b"foo"))),
            ("c", Json::Array(vec![Json::Null, Json::Bool(true), Json::Int(-1), Json::Uint(u64::MAX)])),
        ]);
        assert_eq!(
            value.to_string(),
            r#"{"a":"x\u003cy\u003e\u0026\"\\\n\u0001é\u2028","b":"Zm9v","c":[null,true,-1,18446744073709551615]}"#
        );
        let fields = [("zero", Json::Int(0)), ("empty", Json::Array(vec![])), ("kept", Json::Object(vec![]))];
        assert_eq!(Json::message(fields).to_string(), r#"{"kept":{}}"#);
    }
}
