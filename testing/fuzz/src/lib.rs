//! One function per decoder that reads bytes from elsewhere. Any answer is right but a panic or an endless walk.
//!
//! [`TARGETS`] names them with valid inputs, made by our own writers, that a runner bends.

mod edge;
mod file;
mod keys;
mod log;
mod mutate;
mod records;
mod requests;
mod settings;

pub use mutate::Mutator;

pub struct Target {
    /// Also the name of its file in `fuzz_targets`.
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "wal", run: log::wal, seeds: log::wal_seeds },
    Target { name: "raftpb", run: log::raftpb, seeds: log::raftpb_seeds },
    Target { name: "snap", run: log::snap, seeds: log::snap_seeds },
    Target { name: "bolt", run: file::bolt, seeds: file::bolt_seeds },
    Target { name: "request", run: requests::request, seeds: requests::request_seeds },
    Target { name: "records", run: records::records, seeds: records::record_seeds },
    Target { name: "restore", run: records::restore, seeds: records::restore_seeds },
    Target { name: "authority", run: api::fuzzing::authority, seeds: edge::authority_seeds },
    Target { name: "messages", run: api::fuzzing::messages, seeds: edge::message_seeds },
    Target { name: "connection", run: edge::connection, seeds: edge::connection_seeds },
    Target { name: "pem", run: transport::tls::fuzzing::pem, seeds: keys::pem_seeds },
    Target { name: "revocations", run: transport::tls::fuzzing::revocations, seeds: keys::revocation_seeds },
    Target { name: "client_chain", run: keys::client_chain, seeds: keys::chain_seeds },
    Target { name: "config_file", run: settings::config_file, seeds: settings::config_file_seeds },
    Target { name: "invocation", run: settings::invocation, seeds: settings::invocation_seeds },
    Target { name: "etcdctl_line", run: etcdctl::commands::fuzzing::line, seeds: settings::line_seeds },
    Target { name: "etcdctl_words", run: settings::words, seeds: settings::word_seeds },
    Target { name: "etcdctl_value", run: etcdctl::commands::fuzzing::value, seeds: settings::value_seeds },
];

/// One input for the target of that name: what `fuzz_targets` call.
///
/// # Panics
/// There is no such target, or it panics.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("every file of fuzz_targets has its target").run)(data);
}
