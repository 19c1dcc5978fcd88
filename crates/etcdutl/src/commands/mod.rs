//! One file for each command, or family of commands: flags in, text out.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use cobra::{Command, Errors, Exit, Flag, Flags, HelpText, Manner, RootFlags};
use golang::system_error;

use crate::open::LockWait;
use crate::output::Format;

mod completion;
mod defrag;
mod hashkv;
mod help;
mod migrate;
mod snapshot;
mod version;

/// `etcdutl` itself.
pub static ROOT: Command = Command {
    name: "etcdutl",
    usage: "etcdutl",
    short: "An administrative command line tool for etcd3.",
    persistent_flags: &[
        Flag::duration(
            "timeout",
            10,
            "time to wait to obtain a file lock on db file, 0 to block indefinitely",
        ),
        Flag::text("write-out", "simple", "set the output format (fields, json, protobuf, simple, table)")
            .short('w'),
    ],
    manner: Manner {
        help: HelpText::UsageAlone,
        root_flags: RootFlags::Shown,
        errors: Errors::Twice,
        groups: &[],
    },
    // In the order in which similar names are suggested; help sorts them.
    subcommands: &[
        &defrag::DEFRAG,
        &snapshot::SNAPSHOT,
        &hashkv::HASHKV,
        &version::VERSION,
        &completion::COMPLETION,
        &migrate::MIGRATE,
        &help::HELP,
    ],
    ..Command::EMPTY
};

fn format(flags: &Flags) -> Result<Format, Exit> {
    Format::parse(&flags.text("write-out"))
}

fn lock_wait(flags: &Flags) -> LockWait {
    LockWait::from_flag(flags.duration("timeout"))
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// Whether there is something under this name; the error is Go's text.
fn must_exist(path: &Path) -> Result<(), String> {
    std::fs::metadata(path).map(|_| ()).map_err(|error| system_error::on_path("stat", path, &error))
}

/// The database file of a data directory.
fn db_path(data_dir: &Path) -> PathBuf {
    data_dir.join("member").join("snap").join("db")
}
