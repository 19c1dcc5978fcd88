//! `snapshot save`: one member's state into a file.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use cobra::{Command, Exit, Invocation, Outcome, exit, print};
use golang::system_error;
use golang::{duration, number};

use super::group;
use crate::connection::Session;
use crate::log;
use crate::wait;

/// Behind the last page of the file: the SHA-256 of all before.
const CHECKSUM_SIZE: u64 = 32;

const EXAMPLE: &str = "  # Save snapshot to a given file
  etcdctl snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address and save it to file
  etcdctl snapshot save --endpoints=127.0.0.1:3000 /backup/etcd-snapshot.db
  
  # Get snapshot from given address with certificates
  etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/etcd/ca.crt --cert=/etc/etcd/etcd.crt --key=/etc/etcd/etcd.key snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot with certain user and password
  etcdctl --user=root --password=password123 snapshot save /backup/etcd-snapshot.db
  
  # Get snapshot from given address with timeout
  etcdctl --endpoints=https://127.0.0.1:2379 --dial-timeout=20s snapshot save /backup/etcd-snapshot.db
  
  # Save snapshot with desirable time format
  etcdctl snapshot save /mnt/backup/etcd/backup_$(date +%Y%m%d_%H%M%S).db";

pub static SNAPSHOT: Command = Command {
    name: "snapshot",
    usage: "snapshot <subcommand>",
    short: "Manages etcd node snapshots",
    example: EXAMPLE,
    group: Some(group::MAINTENANCE),
    subcommands: &[&SAVE],
    ..Command::EMPTY
};

static SAVE: Command = Command {
    name: "save",
    usage: "save <filename>",
    short: "Stores an etcd node backend snapshot to a given file",
    example: EXAMPLE,
    run: Some(|invocation| wait(save(invocation))),
    ..Command::EMPTY
};

async fn save(mut invocation: Invocation) -> Outcome {
    let [path] = &invocation.args[..] else {
        return Err(Exit::bad_args("snapshot save expects one argument <filename>"));
    };
    let path = String::from_utf8_lossy(path).into_owned();
    let session = Session::new(&mut invocation, &[]).await?;
    let part = format!("{path}.part");
    let saved = match session.timeout_given {
        // Big databases take their time: no limit, unless one was asked for.
        false => fetch(&session, &path, &part).await,
        true => match tokio::time::timeout_at(session.deadline(), fetch(&session, &path, &part)).await {
            Ok(saved) => saved,
            Err(_) => Err("context deadline exceeded".into()),
        },
    };
    // Gone already if all went well.
    let _leftover = std::fs::remove_file(&part);
    let version = saved.map_err(|reason| Exit::new(exit::INTERRUPTED, reason))?;
    print(format!("Snapshot saved at {path}\n").as_bytes());
    if !version.is_empty() {
        print(format!("Server version {version}\n").as_bytes());
    }
    Ok(())
}

/// Returns the storage version that the member told.
async fn fetch(session: &Session, path: &str, part: &str) -> Result<String, String> {
    let [endpoint] = session.endpoints() else {
        let all = session.endpoints().join(" ");
        return Err(format!("snapshot must be requested to one selected node, not multiple [{all}]"));
    };
    let client = session.client().await.map_err(|exit| exit.message.unwrap_or_default())?;
    let mut file = create(part)?;
    info("created temporary db file", &[("path", part.to_owned())]);
    let start = Instant::now();
    let mut snapshot = client.snapshot().await.map_err(|error| error.to_string())?;
    info("fetching snapshot", &[("endpoint", endpoint.clone())]);
    let version = snapshot.version().to_owned();
    let failed = |reason: String| format!("could not write snapshot: {reason}");
    let mut size = 0;
    while let Some(piece) = snapshot.next().await.map_err(|error| failed(error.to_string()))? {
        file.write_all(&piece.blob).map_err(|error| failed(system_error::reason(&error)))?;
        size += piece.blob.len() as u64;
    }
    if size % 512 != CHECKSUM_SIZE {
        return Err(format!("sha256 checksum not found [bytes: {size}]"));
    }
    file.sync_all().map_err(|error| format!("could not fsync snapshot: {}", system_error::reason(&error)))?;
    let fields = [
        ("endpoint", endpoint.clone()),
        ("size", number::human_bytes(size)),
        ("took", duration::format(start.elapsed())),
        ("etcd-version", version.clone()),
    ];
    info("fetched snapshot", &fields);
    rename(part, path)?;
    info("saved", &[("path", path.to_owned())]);
    Ok(version)
}

fn create(part: &str) -> Result<File, String> {
    let options = File::options().write(true).create(true).truncate(true).mode(0o600).open(part);
    options.map_err(|error| {
        let reason = system_error::reason(&error);
        format!("could not open {part} (open {part}: {reason})")
    })
}

fn rename(part: &str, path: &str) -> Result<(), String> {
    std::fs::rename(Path::new(part), Path::new(path)).map_err(|error| {
        let reason = system_error::reason(&error);
        format!("could not rename {part} to {path} (rename {part} {path}: {reason})")
    })
}

fn info(message: &str, fields: &[(&'static str, String)]) {
    log::line("info", None, "commands/snapshot.rs", message, fields);
}
