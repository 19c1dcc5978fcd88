//! The log: one record a line, shaped like those of etcd's zap logger, so that what reads etcd's logs
//! reads ours.
//!
//! Libraries and our own rooms log through `tracing`; this module is the one subscriber. Field names
//! that Rust cannot spell get their hyphens back (`member_id` becomes `member-id`).

pub mod line;
pub mod sampling;
pub mod sink;

use std::fmt;
use std::sync::OnceLock;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;

use crate::settings::Settings;
use line::{Caller, Format, Record};
use sampling::Sampler;
use sink::Sink;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    /// Only as a limit: nothing is logged at it.
    Dpanic,
    Panic,
    Fatal,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Dpanic => "dpanic",
            Level::Panic => "panic",
            Level::Fatal => "fatal",
        }
    }

    pub fn parse(text: &str) -> Option<Level> {
        let levels =
            [Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Dpanic, Level::Panic, Level::Fatal];
        if text.is_empty() {
            return Some(Level::Info);
        }
        let is_it = |level: &Level| level.as_str() == text || level.as_str().to_ascii_uppercase() == text;
        levels.into_iter().find(is_it)
    }

    fn of_tracing(level: tracing::Level) -> Level {
        match level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
        }
    }
}

/// Where records go, from which level, in which form.
pub struct Logger {
    level: Level,
    format: Format,
    sink: Sink,
    sampler: Sampler,
}

/// Why the log could not be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// etcd panics on an unknown level, so the process exits with 2.
    UnknownLevel(String),
    /// Reported like any wrong flag.
    Invalid(String),
}

static CONFIGURED: OnceLock<Logger> = OnceLock::new();
static BOOTSTRAP: OnceLock<Logger> = OnceLock::new();

/// The logger in force: until the settings are read, JSON on stderr from `info`.
pub fn current() -> &'static Logger {
    CONFIGURED.get().unwrap_or_else(|| {
        BOOTSTRAP.get_or_init(|| Logger {
            level: Level::Info,
            format: Format::Json,
            sink: if cfg!(test) { Sink::nowhere() } else { Sink::stderr() },
            sampler: Sampler::default(),
        })
    })
}

/// Puts the user's settings in force and listens to `tracing`. To be called once.
pub fn configure(settings: &Settings) -> Result<(), SetupError> {
    if settings.logger != "zap" {
        return Err(SetupError::Invalid(match settings.logger.as_str() {
            "capnslog" => "--logger=capnslog is removed in v3.5".to_owned(),
            other => format!("unknown logger option {}", crate::go_value::quote(other)),
        }));
    }
    let outputs = Sink::check(&settings.log_outputs).map_err(SetupError::Invalid)?;
    let level = Level::parse(&settings.log_level)
        .ok_or_else(|| SetupError::UnknownLevel(settings.log_level.clone()))?;
    let format = Format::parse(&settings.log_format).map_err(SetupError::Invalid)?;
    let sink = Sink::open(&outputs).map_err(SetupError::Invalid)?;
    let logger = Logger { level, format, sink, sampler: Sampler::default() };
    if CONFIGURED.set(logger).is_ok() {
        // Only a second call could find a subscriber in place.
        let _already_set = tracing::subscriber::set_global_default(Bridge { level });
    }
    Ok(())
}

impl Logger {
    pub fn write(&self, record: &Record<'_>) {
        if record.level < self.level || !self.sampler.admits(record) {
            return;
        }
        self.sink.write(record, &line::encode(record, self.format));
    }
}

/// Logs at level `fatal` and ends the process with exit code 1.
#[track_caller]
pub fn fatal(message: &str, fields: &[(&str, Value)]) -> ! {
    let location = std::panic::Location::caller();
    let fields: Vec<(String, Value)> =
        fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let caller = Caller { file: location.file(), line: location.line() };
    current().write(&Record { level: Level::Fatal, logger: None, caller, message, fields: &fields });
    std::process::exit(1);
}

/// A broken invariant is logged as one record and ends the process with exit code 2, as Go's panics do.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let message = match (panic.payload().downcast_ref::<&str>(), panic.payload().downcast_ref::<String>())
        {
            (Some(text), _) => (*text).to_owned(),
            (None, Some(text)) => text.clone(),
            (None, None) => "panic".to_owned(),
        };
        let caller = match panic.location() {
            Some(location) => Caller { file: location.file(), line: location.line() },
            None => Caller { file: "unknown", line: 0 },
        };
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let stack = std::backtrace::Backtrace::force_capture().to_string();
        let fields = [("thread".to_owned(), thread.into()), ("stacktrace".to_owned(), stack.into())];
        let record = Record { level: Level::Panic, logger: None, caller, message: &message, fields: &fields };
        current().write(&record);
        std::process::exit(2);
    }));
}

/// `log!(level, "message", "key" => value, …)`: for records of this binary, whose keys have hyphens,
/// whose values may be lists, and which may come before the log is set up.
#[macro_export]
macro_rules! log {
    ($level:expr, $message:expr $(, $key:expr => $value:expr)* $(,)?) => {
        $crate::logging::current().write(&$crate::logging::line::Record {
            level: $level,
            logger: None,
            caller: $crate::logging::line::Caller { file: file!(), line: line!() },
            message: $message,
            fields: &[$(($key.to_owned(), ::serde_json::json!($value))),*],
        })
    };
}

/// Turns `tracing` events into records. Spans are not used.
struct Bridge {
    level: Level,
}

/// Libraries below us, whose debug records are no use to an operator.
const FOREIGN: [&str; 9] =
    ["h2", "hyper", "hyper_util", "tower", "tonic", "rustls", "tokio", "tokio_util", "mio"];

impl Bridge {
    fn wants(&self, metadata: &tracing::Metadata<'_>) -> bool {
        if !metadata.is_event() || *metadata.level() == tracing::Level::TRACE {
            return false;
        }
        let level = Level::of_tracing(*metadata.level());
        let room = metadata.target().split("::").next().unwrap_or_default();
        let lowest = if FOREIGN.contains(&room) { Level::Warn } else { Level::Debug };
        level >= self.level && level >= lowest
    }
}

impl tracing::Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static tracing::Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<tracing::metadata::LevelFilter> {
        Some(match self.level {
            Level::Debug => tracing::metadata::LevelFilter::DEBUG,
            Level::Info => tracing::metadata::LevelFilter::INFO,
            Level::Warn => tracing::metadata::LevelFilter::WARN,
            Level::Error => tracing::metadata::LevelFilter::ERROR,
            Level::Dpanic | Level::Panic | Level::Fatal => tracing::metadata::LevelFilter::OFF,
        })
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let caller =
            Caller { file: metadata.file().unwrap_or("unknown"), line: metadata.line().unwrap_or_default() };
        current().write(&Record {
            level: Level::of_tracing(*metadata.level()),
            logger: fields.logger.as_deref(),
            caller,
            message: &fields.message,
            fields: &fields.others,
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields {
    message: String,
    /// A field named `logger` is the record's sub logger.
    logger: Option<String>,
    others: Vec<(String, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("logger", Value::String(text)) => self.logger = Some(text),
            (name, value) => self.others.push((name.replace('_', "-"), value)),
        }
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, value.to_string().into());
    }

    /// `?list` of strings prints as a JSON list already, and becomes one.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let is_list = text == "[]" || text.starts_with("[\"");
        let list = if is_list { serde_json::from_str::<Vec<String>>(&text).ok() } else { None };
        self.add(field, list.map_or(Value::String(text), Value::from));
    }
}
