//! From an argument list to settings that can be run: command line, variables or file, checks. Or to an
//! exit code, with what Go's etcd prints beside it.

use std::io::Write;

use crate::command_line::{self, Stop};
use crate::config_file::{self, FileError};
use crate::environment;
use crate::go_duration::GoDuration;
use crate::go_value::quote;
use crate::help;
use crate::log;
use crate::logging::{self, Level, SetupError};
use crate::retired;
use crate::settings::Settings;
use crate::validation;
use crate::version;

/// Below this, connections between members would time out in ordinary pauses.
const RAFT_TIMEOUT_MIN: GoDuration = GoDuration::from_secs(5);

/// Why there is nothing to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

/// Reads and checks everything; sets the log up on the way. `arguments` starts with the program's name.
pub fn settle(arguments: &[String]) -> Result<Settings, Exit> {
    let result = read(arguments.get(1..).unwrap_or_default());
    let result = match result {
        Ok(settings) => Ok(settings),
        Err(Failure::Exit(exit)) => return Err(exit),
        Err(Failure::Invalid(text)) => Err(text),
    };
    log!(Level::Info, "Running: ", "args" => arguments);
    result.map_err(|error| {
        log!(Level::Warn, "failed to verify flags", "error" => error);
        if error == validation::ADVERTISE_REQUIRED {
            log!(Level::Warn, "advertise client URLs are not set", "error" => error);
        }
        Exit(1)
    })
}

enum Failure {
    Exit(Exit),
    Invalid(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::Invalid(text)
    }
}

fn read(arguments: &[String]) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    let rest = command_line::parse(arguments, &mut settings).map_err(stop)?;
    if let Some(stray) = rest.first() {
        return Err(Failure::Invalid(format!("{} is not a valid flag", quote(stray))));
    }
    if settings.version {
        print(&version::text());
        return Err(Failure::Exit(Exit(0)));
    }
    let variables = environment::of_process();
    let mut file = settings.config_file.clone();
    if file.is_empty() {
        file = variables.get("ETCD_CONFIG_FILE").cloned().unwrap_or_default();
    }
    if !file.is_empty() {
        let result = from_file(&file);
        if result.is_ok() {
            log!(
                Level::Info,
                "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided",
                "path" => file
            );
        }
        return result;
    }
    environment::read(&variables, &mut settings)?;
    raise_raft_timeouts(&mut settings);
    // Compat: a member that listens elsewhere must say where clients find it.
    if settings.is_explicit("listen-client-urls") && !settings.is_explicit("advertise-client-urls") {
        settings.advertise_client_urls.clear();
    }
    let discovers = !settings.discovery_srv.is_empty()
        || !settings.discovery_srv_name.is_empty()
        || !settings.discovery_endpoints.is_empty();
    if discovers && !settings.is_explicit("initial-cluster") {
        settings.initial_cluster.clear();
    }
    if settings.discovery_fallback == "proxy" {
        let text = "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"";
        return Err(Failure::Invalid(text.to_owned()));
    }
    check(settings)
}

fn stop(stop: Stop) -> Failure {
    match stop {
        Stop::Help => {
            eprintln!("{}", help::USAGE);
            print(&help::flags());
            Failure::Exit(Exit(0))
        }
        Stop::BadFlag(text) => {
            eprintln!("{text}\n{}", help::USAGE);
            Failure::Exit(Exit(2))
        }
    }
}

/// To stdout. A reader that went away is no reason to fail.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn from_file(path: &str) -> Result<Settings, Failure> {
    match config_file::read(path) {
        Ok(settings) => check(settings),
        Err(FileError::Invalid(text)) => Err(Failure::Invalid(text)),
        Err(error @ FileError::BadUrl { .. }) => {
            eprintln!("{error}");
            Err(Failure::Exit(Exit(1)))
        }
    }
}

fn raise_raft_timeouts(settings: &mut Settings) {
    let places = [
        ("raft-read-timeout", &mut settings.raft_read_timeout),
        ("raft-write-timeout", &mut settings.raft_write_timeout),
    ];
    for (name, timeout) in places {
        if *timeout < RAFT_TIMEOUT_MIN {
            *timeout = RAFT_TIMEOUT_MIN;
            log!(Level::Info, &format!("{name} increased to minimum value: {RAFT_TIMEOUT_MIN}"));
        }
    }
}

fn check(mut settings: Settings) -> Result<Settings, Failure> {
    let warnings = retired::settle(&mut settings)?;
    logging::configure(&settings).map_err(|error| match error {
        SetupError::Invalid(text) => Failure::Invalid(text),
        SetupError::UnknownLevel(level) => {
            eprintln!("panic: unrecognized level: {}", quote(&level));
            Failure::Exit(Exit(2))
        }
    })?;
    for key in &settings.unknown_keys {
        // Compat: etcd reads over them without a word.
        log!(Level::Warn, "ignored an unknown key of the configuration file", "key" => key);
    }
    let result = validation::check(&settings);
    for warning in warnings {
        log!(Level::Warn, &warning);
    }
    result?;
    // Compat: zero means the default here, wherever it was given.
    if settings.warning_unary_request_duration == GoDuration::ZERO {
        settings.warning_unary_request_duration = Settings::default().warning_unary_request_duration;
    }
    Ok(settings)
}
