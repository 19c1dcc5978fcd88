//! One function per decoder that reads bytes from elsewhere. Any answer is right but a panic or an endless walk.
//!
//! [`TARGETS`] names them with valid inputs, made by our own writers, that the runner bends.

mod file;
mod log;
mod mutate;
mod records;
mod requests;

pub use mutate::Mutator;

pub struct Target {
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
];
