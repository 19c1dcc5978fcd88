//! `etcd`: the server's binary. Flags in, exit code out; everything between is the rooms' business.
//!
//! The way of a start: [`invocation`] turns arguments, `ETCD_*` variables or a config file into
//! [`settings`], by way of the one [`flag_table`]; [`validation`] refuses what makes no sense or is not
//! built. [`start`] then binds sockets, starts a [`server::Member`] and serves it until a signal comes.

mod banner;
mod command_line;
mod config_file;
mod data_dir;
mod default_host;
mod discovery;
mod edge_config;
mod environment;
mod feature_gates;
mod flag;
mod flag_table;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod go_duration;
mod go_value;
mod help;
mod invocation;
mod logging;
mod member_config;
mod notify;
mod retention;
mod retired;
mod settings;
mod signals;
mod start;
mod unsynced_disk;
mod validation;
mod version;

use std::process::ExitCode;

use golang::url;
use logging::Level;

/// Architectures that etcd itself is tested on; others start only when told to.
const SUPPORTED_ARCHITECTURES: [&str; 4] = ["amd64", "arm64", "ppc64le", "s390x"];

/// Runs the server as the arguments of this process say.
pub fn run() -> ExitCode {
    logging::install_panic_hook();
    if !is_architecture_allowed() {
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if let Some(command @ ("gateway" | "grpc-proxy")) = arguments.get(1).map(String::as_str) {
        eprintln!("etcd {command} is not built in this release");
        return ExitCode::FAILURE;
    }
    match invocation::settle(&arguments) {
        Ok(settings) => start::run(settings),
        Err(invocation::Exit(code)) => ExitCode::from(code),
    }
}

fn is_architecture_allowed() -> bool {
    let arch = version::go_arch();
    if SUPPORTED_ARCHITECTURES.contains(&arch) {
        return true;
    }
    if std::env::var("ETCD_UNSUPPORTED_ARCH").is_ok_and(|allowed| allowed == arch) {
        log!(Level::Info, "running etcd on unsupported architecture since ETCD_UNSUPPORTED_ARCH is set", "arch" => arch);
        return true;
    }
    log!(Level::Error, "Refusing to run etcd on unsupported architecture since ETCD_UNSUPPORTED_ARCH is not set", "arch" => arch);
    false
}
