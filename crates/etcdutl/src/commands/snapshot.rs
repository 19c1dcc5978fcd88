//! `snapshot status` and `snapshot restore`.

use std::path::Path;
use std::sync::Arc;

use cobra::{Command, Exit, Flag, Invocation, Outcome};
use disk::{Disk, RealDisk};
use golang::json::Json;
use golang::number::human_bytes;
use golang::url::{Url, parse_named};

use super::{format, lock_wait, must_exist, path};
use crate::output::{Answer, Shown};
use crate::restore::{self, Hash, Restore, RevisionBump};
use crate::status::{self, Status};

pub static SNAPSHOT: Command = Command {
    name: "snapshot",
    usage: "snapshot <subcommand>",
    short: "Manages etcd node snapshots",
    subcommands: &[&RESTORE, &STATUS],
    ..Command::EMPTY
};

static STATUS: Command = Command {
    name: "status",
    usage: "status <filename>",
    short: "Gets backend snapshot status of a given file",
    run: Some(status),
    ..Command::EMPTY
};

static RESTORE: Command = Command {
    name: "restore",
    usage: "restore <filename> --data-dir {output dir} [options]",
    short: "Restores an etcd member snapshot to an etcd directory",
    flags: &[
        Flag::text("data-dir", "", "Path to the output data directory"),
        Flag::text("wal-dir", "", "Path to the WAL directory (use --data-dir if none given)"),
        Flag::text(
            "initial-cluster",
            "default=http://localhost:2380",
            "Initial cluster configuration for restore bootstrap",
        ),
        Flag::text(
            "initial-cluster-token",
            "etcd-cluster",
            "Initial cluster token for the etcd cluster during restore bootstrap",
        ),
        Flag::text(
            "initial-advertise-peer-urls",
            "http://localhost:2380",
            "List of this member's peer URLs to advertise to the rest of the cluster",
        ),
        Flag::text("name", "default", "Human-readable name for this member"),
        Flag::bool(
            "skip-hash-check",
            "Ignore snapshot integrity hash value (required if copied from data directory)",
        ),
        Flag::uint(
            "initial-memory-map-size",
            10 << 30,
            "Initial memory map size of the database in bytes. It uses the default value if not defined or defined to 0",
        ),
        Flag::uint("bump-revision", 0, "How much to increase the latest revision after restore"),
        Flag::bool(
            "mark-compacted",
            "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, disallowed otherwise)",
        ),
    ],
    run: Some(restore),
    ..Command::EMPTY
};

fn status(invocation: Invocation) -> Outcome {
    let [file] = &invocation.args[..] else {
        return Err(Exit::bad_args("snapshot status requires exactly one argument"));
    };
    let file = path(file);
    must_exist(&file).map_err(Exit::error)?;
    let format = format(&invocation.flags)?;
    let status = status::status(&file, lock_wait(&invocation.flags))?;
    format.print(&answer(&status))
}

fn answer(status: &Status) -> Answer {
    let version = status.version.map(|version| version.to_string()).unwrap_or_default();
    let shown = |heading, field, member, json, cell| Shown { heading, field, member, json, cell };
    let hash = Some(format!("{:x}", status.hash));
    let size = Some(human_bytes(status.total_size_bytes));
    Answer {
        values: vec![
            shown("HASH", "Hash", "hash", Json::Uint(status.hash.into()), hash),
            shown("REVISION", "Revision", "revision", Json::Int(status.revision.to_wire()), None),
            shown("TOTAL KEYS", "Keys", "totalKey", Json::Uint(status.total_keys), None),
            shown("TOTAL SIZE", "Size", "totalSize", Json::Uint(status.total_size_bytes), size),
            shown("VERSION", "Version", "version", Json::Text(version), None),
        ],
    }
}

fn restore(invocation: Invocation) -> Outcome {
    let [snapshot] = &invocation.args[..] else {
        return Err(Exit::bad_args("snapshot restore requires exactly one argument"));
    };
    let flags = &invocation.flags;
    let bump = match (flags.uint("bump-revision"), flags.bool("mark-compacted")) {
        (0, false) => None,
        (0, true) | (_, false) => {
            return Err(Exit::bad_args("--mark-compacted required if --revision-bump > 0"));
        }
        (amount, true) => Some(RevisionBump { amount }),
    };
    let name = flags.text("name");
    let data_dir = match flags.bytes("data-dir") {
        b"" => Path::new(&format!("{name}.etcd")).to_path_buf(),
        data_dir => path(data_dir),
    };
    let wal_dir = match flags.bytes("wal-dir") {
        b"" => data_dir.join("member").join("wal"),
        wal_dir => path(wal_dir),
    };
    let advertised = Url::parse_list(&flags.text("initial-advertise-peer-urls")).map_err(Exit::error)?;
    let cluster = parse_named(&flags.text("initial-cluster")).map_err(Exit::error)?;
    let restore = Restore {
        snapshot: path(snapshot),
        data_dir,
        wal_dir,
        name,
        initial_cluster: cluster.into_iter().map(|(name, url)| (name, url.to_string())).collect(),
        initial_cluster_token: flags.text("initial-cluster-token"),
        initial_advertise_peer_urls: golang::url::texts(&advertised),
        hash: if flags.bool("skip-hash-check") { Hash::Ignored } else { Hash::Required },
        initial_memory_map_size_bytes: flags.uint("initial-memory-map-size"),
        bump,
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    Ok(restore::restore(&disk, wal::Options::default(), &restore)?)
}
