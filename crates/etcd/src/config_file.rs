//! The config file: YAML (so JSON too) with the flags' names as keys. Durations are nanoseconds.

use std::fmt;

use serde_json::{Map, Value};

use crate::feature_gates::FeatureGates;
use crate::flag::{FileKey, Flag, Slot};
use crate::flag_table;
use crate::go_duration::GoDuration;
use crate::go_value::io_text;
use crate::retired::{self, Successor};
use crate::settings::Settings;
use crate::url::{self, Url};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// The start fails as with a bad flag: `failed to verify flags` carries this text.
    Invalid(String),
    /// A URL that is none: printed bare on stderr.
    BadUrl { key: &'static str, why: String },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Invalid(text) => f.write_str(text),
            FileError::BadUrl { key, why } => write!(f, "unexpected error setting up {key}: {why}"),
        }
    }
}

/// Reads the file at `path` over the defaults.
pub fn read(path: &str) -> Result<Settings, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| FileError::Invalid(format!("open {path}: {}", io_text(&error))))?;
    parse(&text)
}

pub fn parse(text: &str) -> Result<Settings, FileError> {
    let invalid = |text: String| FileError::Invalid(text);
    let document: Value = if text.trim().is_empty() {
        Value::Null
    } else {
        // Compat: of a key that stands twice, the last one counts.
        let options = serde_saphyr::options! { duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins };
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let first_line = error.to_string().lines().next().unwrap_or_default().to_owned();
            invalid(format!("error converting YAML to JSON: yaml: {first_line}"))
        })?
    };
    let top = match document {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        other => return Err(invalid(mismatch(&other, "", "embed.configYAML"))),
    };
    for (section, type_name) in SECTIONS {
        match top.get(section) {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(other) => return Err(invalid(mismatch(other, section, type_name))),
        }
    }
    let mut settings = Settings::default();
    for flag in flag_table::all() {
        let Some((path, value)) = lookup(flag, &top) else { continue };
        set(flag, (flag.slot)(&mut settings), &value, &path)?;
    }
    if let Some(value) = top.get("client-transport-security").and_then(|section| section.get("allowed-cn"))
        && !value.is_null()
    {
        let path = "client-transport-security.allowed-cn";
        let names = list(value).ok_or_else(|| invalid(mismatch(value, path, "[]string")))?;
        settings.client_tls.allowed_cn = names;
    }
    for (key, value) in &top {
        read_retired(key, value, &mut settings)?;
        if !is_known(key) {
            settings.unknown_keys.push(key.clone());
        }
        settings.explicit.insert(key.clone());
    }
    if settings.self_signed_cert_validity == 0 {
        settings.self_signed_cert_validity = 1;
    }
    if settings.initial_cluster_state.is_empty() {
        settings.initial_cluster_state = "new".to_owned();
    }
    let discovers = !settings.discovery_srv.is_empty() || !settings.discovery_endpoints.is_empty();
    if discovers && settings.initial_cluster == Settings::default().initial_cluster {
        settings.initial_cluster.clear();
    }
    Ok(settings)
}

fn is_known(key: &str) -> bool {
    let first = |flag: &Flag| match flag.file_key {
        FileKey::Same => Some(flag.name),
        FileKey::At(path) => path.first().copied(),
        FileKey::None => None,
    };
    retired::file_successor(key).is_some() || flag_table::all().any(|flag| first(flag) == Some(key))
}

/// The value of `flag` in the file with the path that error texts show; `None` when absent or null.
fn lookup(flag: &Flag, top: &Map<String, Value>) -> Option<(String, Value)> {
    let (path, value) = match flag.file_key {
        FileKey::None => return None,
        FileKey::Same => (flag.name.to_owned(), top.get(flag.name)?),
        FileKey::At(path) => {
            let (first, rest) = path.split_first()?;
            let mut value = top.get(*first)?;
            for key in rest {
                value = value.get(key)?;
            }
            (path.join("."), value)
        }
    };
    (!value.is_null()).then(|| (path, value.clone()))
}

fn read_retired(key: &str, value: &Value, settings: &mut Settings) -> Result<(), FileError> {
    match retired::file_successor(key) {
        Some(Successor::Flag(flag)) => set(flag, (flag.slot)(settings), value, key),
        Some(Successor::Gate(gate)) => {
            let value = value.as_bool().ok_or_else(|| FileError::Invalid(mismatch(value, key, "bool")))?;
            settings.retired_gates.insert(gate, (key.to_owned(), value));
            Ok(())
        }
        None => Ok(()),
    }
}

fn set(flag: &'static Flag, slot: Slot<'_>, value: &Value, path: &str) -> Result<(), FileError> {
    let fail = |type_name: &str| FileError::Invalid(mismatch(value, path, type_name));
    match slot {
        Slot::Bool(place) => *place = value.as_bool().ok_or_else(|| fail("bool"))?,
        Slot::Text(place) | Slot::Choice(place, _) | Slot::Choices(place, _) => {
            *place = text_of(value).ok_or_else(|| fail("string"))?;
        }
        Slot::Uint(place) => *place = unsigned(value).ok_or_else(|| fail(unsigned_type(flag)))?,
        Slot::Uint32(place) => {
            let number = unsigned(value).and_then(|number| u32::try_from(number).ok());
            *place = number.ok_or_else(|| fail("uint32"))?;
        }
        Slot::Int(place) => *place = integer(value).ok_or_else(|| fail(signed_type(flag)))?,
        Slot::Duration(place) => *place = GoDuration(integer(value).ok_or_else(|| fail("time.Duration"))?),
        Slot::List(place) => *place = list(value).ok_or_else(|| fail("[]string"))?,
        // Compat: of the sets, only the host list is one comma-separated text in the file.
        Slot::Set(place) if flag.name != "host-whitelist" => {
            *place = list(value).ok_or_else(|| fail("[]string"))?;
        }
        slot @ (Slot::Urls(_) | Slot::Origins(_) | Slot::Set(_) | Slot::Gates(_)) => {
            let text = text_of(value).ok_or_else(|| fail("string"))?;
            set_from_text(flag, slot, &text)?;
        }
    }
    Ok(())
}

/// Settings that the file gives as one comma-separated text. An empty one leaves the default.
fn set_from_text(flag: &'static Flag, slot: Slot<'_>, text: &str) -> Result<(), FileError> {
    if text.is_empty() {
        return Ok(());
    }
    let bad_url = |why| FileError::BadUrl { key: flag.name, why };
    match slot {
        Slot::Urls(place) => *place = Url::parse_list(text).map_err(bad_url)?,
        Slot::Origins(place) if text == "*" => *place = vec!["*".to_owned()],
        Slot::Origins(place) => *place = url::texts(&Url::parse_list(text).map_err(bad_url)?),
        Slot::Gates(place) => set_gates(place, text)?,
        slot => slot.set(text).map_err(FileError::Invalid)?,
    }
    Ok(())
}

fn set_gates(gates: &mut FeatureGates, text: &str) -> Result<(), FileError> {
    gates.set(text).map_err(FileError::Invalid)
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// An integer, also when it is written as a float without a fraction.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
        Some(float as i64)
    })
}

fn unsigned(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| integer(value)?.try_into().ok())
}

fn list(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(text_of).collect()
}

/// Go's types of the fields, which its error texts name.
fn unsigned_type(flag: &Flag) -> &'static str {
    if flag.name.starts_with("snapshot-") { "uint64" } else { "uint" }
}

fn signed_type(flag: &Flag) -> &'static str {
    if flag.name == "quota-backend-bytes" { "int64" } else { "int" }
}

/// The struct that Go's error texts name in front of a key.
fn go_struct(path: &str) -> &'static str {
    match path.split('.').next().unwrap_or(path) {
        "client-transport-security" | "peer-transport-security" if path.contains('.') => {
            "securityConfig.configJSON"
        }
        key if FILE_TEXTS.contains(&key) => "configYAML.configJSON",
        _ => "configYAML.Config",
    }
}

/// Keys that etcd reads as text first and takes apart later.
const FILE_TEXTS: [&str; 10] = [
    "listen-peer-urls",
    "listen-client-urls",
    "listen-client-http-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "cors",
    "host-whitelist",
    "feature-gates",
    "client-transport-security",
    "peer-transport-security",
];

/// Keys that hold a section, with Go's name of its type.
const SECTIONS: [(&str, &str); 4] = [
    ("client-transport-security", "embed.securityConfig"),
    ("peer-transport-security", "embed.securityConfig"),
    ("socket-options", "transport.SocketOpts"),
    ("discovery-config", "v3discovery.DiscoveryConfig"),
];

/// The text of Go's JSON reader for a value of the wrong type.
fn mismatch(value: &Value, path: &str, type_name: &str) -> String {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if type_name != "string" && type_name != "bool" => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    let place =
        if path.is_empty() { "value".to_owned() } else { format!("struct field {}.{path}", go_struct(path)) };
    format!(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go {place} of type {type_name}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn a_full_file_is_read() {
        let text = r#"
name: "7"
data-dir: /var/lib/etcd
heartbeat-interval: 50
grpc-keepalive-min-time: 600000000000
listen-client-urls: https://127.0.0.1:2379,http://127.0.0.1:2377
log-outputs: [stderr, /tmp/x]
auto-compaction-retention: "1"
feature-gates: InitialCorruptCheck=true
client-transport-security:
  cert-file: /c.crt
  client-cert-auth: true
  allowed-hostname: [a, b]
socket-options: {reuse-port: true}
experimental-snapshot-catch-up-entries: 9
unknown: whatever
"#;
        let settings = parse(text).expect("valid");
        assert_eq!(settings.name, "7");
        assert_eq!(settings.grpc_keepalive_min_time.to_string(), "10m0s");
        assert_eq!(settings.listen_client_urls.len(), 2);
        assert_eq!(settings.log_outputs, ["stderr", "/tmp/x"]);
        assert_eq!(settings.auto_compaction_retention, "1");
        assert!(settings.feature_gates.is_enabled("InitialCorruptCheck"));
        assert!(settings.client_tls.client_cert_auth && !settings.peer_tls.client_cert_auth);
        assert_eq!(settings.client_tls.allowed_hostname, ["a", "b"]);
        assert!(settings.socket_reuse_port);
        assert_eq!(settings.snapshot_catchup_entries, 9);
        assert_eq!(settings.advertise_client_urls.len(), 1);
        assert_eq!(settings.unknown_keys, ["unknown"]);
    }

    #[test]
    fn json_and_nothing_are_yaml_too() {
        assert_eq!(parse(r#"{"name": "a"}"#).expect("valid").name, "a");
        assert_eq!(parse("").expect("valid").name, "default");
        assert_eq!(parse("# only a comment\n").expect("valid").name, "default");
    }

    /// Texts seen from etcd 3.7.3.
    #[test]
    fn wrong_types_are_refused_as_etcd_refuses_them() {
        assert_eq!(
            error("grpc-keepalive-min-time: 10m"),
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go struct field configYAML.Config.grpc-keepalive-min-time of type time.Duration"
        );
        assert_eq!(
            error("max-wals: -1"),
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal number -1 into Go struct field configYAML.Config.max-wals of type uint"
        );
        assert!(error("log-outputs: stderr").ends_with("configYAML.Config.log-outputs of type []string"));
        assert!(
            error("name: 5").ends_with(
                "cannot unmarshal number into Go struct field configYAML.Config.name of type string"
            )
        );
        assert!(error("client-transport-security: x").ends_with("of type embed.securityConfig"));
        assert_eq!(parse("max-wals: 1\nmax-wals: 2").expect("valid").max_wals, 2);
        assert!(error("name: [a").starts_with("error converting YAML to JSON: yaml: "));
        assert_eq!(error("feature-gates: X=true"), "unrecognized feature gate: X");
        assert_eq!(
            error("listen-client-urls: foo"),
            "unexpected error setting up listen-client-urls: URL scheme must be http, https, unix, or unixs: foo"
        );
    }
}
