//! One file for each command, or family of commands.

use std::io;

use crate::cli::command::Command;
use crate::cli::flags::{Default, Flag};
use crate::exit::Exit;
use crate::golang::number;

mod alarm;
mod compaction;
mod completion;
mod defrag;
mod del;
mod downgrade;
mod endpoint;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod get;
mod help;
mod lease;
mod member;
mod move_leader;
mod options;
mod put;
mod snapshot;
mod txn;
mod version;
mod watch;

/// `etcdctl` itself.
pub static ROOT: Command = Command {
    name: "etcdctl",
    usage: "etcdctl",
    short: "A simple command line client for etcd3.",
    persistent_flags: &GLOBAL_FLAGS,
    // In the order in which similar names are suggested; help sorts them.
    subcommands: &[
        &get::GET,
        &put::PUT,
        &del::DEL,
        &txn::TXN,
        &compaction::COMPACTION,
        &alarm::ALARM,
        &defrag::DEFRAG,
        &endpoint::ENDPOINT,
        &move_leader::MOVE_LEADER,
        &watch::WATCH,
        &version::VERSION_COMMAND,
        &lease::LEASE,
        &member::MEMBER,
        &snapshot::SNAPSHOT,
        &completion::COMPLETION,
        &downgrade::DOWNGRADE,
        &options::OPTIONS,
        &help::HELP,
    ],
    ..Command::EMPTY
};

static GLOBAL_FLAGS: [Flag; 21] = [
    Flag {
        name: "endpoints",
        short: None,
        default: Default::List(&["127.0.0.1:2379"]),
        usage: "gRPC endpoints",
    },
    Flag::bool("debug", "enable client-side debug logging"),
    Flag::text("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)")
        .short('w'),
    Flag::bool("hex", "print byte strings as hex encoded strings"),
    Flag::duration("dial-timeout", 2, "dial timeout for client connections"),
    Flag::duration("command-timeout", 5, "timeout for short running command (excluding dial timeout)"),
    Flag::duration("keepalive-time", 2, "keepalive time for client connections"),
    Flag::duration("keepalive-timeout", 6, "keepalive timeout for client connections"),
    Flag::int(
        "max-request-bytes",
        "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)",
    ),
    Flag::int(
        "max-recv-bytes",
        "client-side response receive limit in bytes (if 0, it defaults to \"math.MaxInt32\")",
    ),
    Flag::bool("insecure-transport", "disable transport security for client connections").on(),
    Flag::bool("insecure-discovery", "accept insecure SRV records describing cluster endpoints").on(),
    Flag::bool(
        "insecure-skip-tls-verify",
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    ),
    Flag::text("cert", "", "identify secure client using this TLS certificate file"),
    Flag::text("key", "", "identify secure client using this TLS key file"),
    Flag::text("cacert", "", "verify certificates of TLS-enabled secure servers using this CA bundle"),
    Flag::text(
        "auth-jwt-token",
        "",
        "JWT token used for authentication (if this option is used, --user and --password should not be set)",
    ),
    Flag::text("user", "", "username[:password] for authentication (prompt if password is not supplied)"),
    Flag::text(
        "password",
        "",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    Flag::text("discovery-srv", "", "domain name to query for SRV records describing cluster endpoints")
        .short('d'),
    Flag::text("discovery-srv-name", "", "service name to query when using DNS discovery"),
];

/// `--consistency`: whether a member may answer from its own state alone. Compat: the message names the
/// flag of `get`, whichever command had the bad one; in etcdctl 3.7.3 so does `member list`.
fn is_serializable(consistency: &str, shown: &str) -> Result<bool, Exit> {
    match consistency {
        "s" => Ok(true),
        "l" => Ok(false),
        _ => {
            let shown = crate::golang::quote::quote(shown.as_bytes());
            Err(Exit::new(crate::exit::BAD_FEATURE, format!("unknown consistency flag {shown}")))
        }
    }
}

fn lease_id(text: &[u8]) -> Result<i64, Exit> {
    number::parse_int(text, 16)
        .map_err(|reason| Exit::bad_args(format!("bad lease ID arg ({reason}), expecting ID in Hex")))
}

/// An error of the system as Go words it: `no such file or directory`.
fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// How a process ended, in Go's words.
fn exit_reason(status: std::process::ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}
