//! Data folders and snapshot files handed from etcd to ours and back: who starts in it sees the same.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb as pb;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::ask::Ask;
use crate::generate::Generator;
use crate::options::Options;
use crate::server::{Server, Stop};
use crate::wire::Wire;

/// Writes of each owner of the folder.
const WRITES: usize = 200;

const OLDEST: &str = "etcd 3.5";

struct Owner<'a> {
    name: &'static str,
    etcd: &'a Path,
}

pub async fn run(options: &Options) -> Result<(), String> {
    let (etcd, old, oldest) = (options.etcd(), options.old_etcd("3.6"), options.old_etcd("3.5"));
    let theirs = Owner { name: "etcd", etcd: &etcd };
    let older = Owner { name: "etcd 3.6", etcd: &old };
    let oldest = Owner { name: OLDEST, etcd: &oldest };
    let ours = Owner { name: "ours", etcd: &options.ours };
    for stop in [Stop::Term, Stop::Kill] {
        hand_over(options.seed, &[&ours, &theirs, &ours], stop).await?;
        hand_over(options.seed, &[&theirs, &ours, &theirs], stop).await?;
        hand_over(options.seed, &[&older, &ours, &theirs], stop).await?;
        hand_over(options.seed, &[&oldest, &oldest, &ours, &theirs], stop).await?;
    }
    log_alone(options.seed, &oldest, &ours).await?;
    log_alone(options.seed, &oldest, &older).await?;
    snapshot(options, &ours, &theirs).await?;
    snapshot(options, &theirs, &ours).await?;
    snapshot(options, &oldest, &ours).await
}

/// `to` finds nothing but the log of `from`: even who the members are, and which version they speak, stands
/// only there. Releases before 3.6 say both in requests of the v2 API.
async fn log_alone(seed: u64, from: &Owner<'_>, to: &Owner<'_>) -> Result<(), String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let place = format!("the log of {} alone, for {}", from.name, to.name);
    let mut generator = generator_for(seed, &[from, to]);
    let mut left = Vec::new();
    // Twice, as each start says its part again.
    for _start in 0..2 {
        // The file is never written, neither by time nor by count.
        let server = Server::start(
            from.etcd,
            folder.path(),
            &["--backend-batch-interval=24h", "--backend-batch-limit=1000000"],
        )?;
        let wire = Wire::connect(server.port).await?;
        for _ in 0..WRITES {
            let answer = generator.next_key_write().send(&wire).await;
            let answer = answer.map_err(|error| format!("{place}: {error}; {}", server.log_text()))?;
            generator.revision = generator.revision.max(Ask::revision(&answer).unwrap_or(0));
        }
        // A hash of the keys would write the file.
        let asks = questions(&generator).into_iter().filter(|ask| !ask.shown.contains("HashKV"));
        left = answers(asks.collect(), &wire).await?;
        server.stop(Stop::Kill)?;
    }
    let server = Server::start(to.etcd, folder.path(), &[]).map_err(|error| format!("{place}: {error}"))?;
    let wire = Wire::connect(server.port).await?;
    for (ask, before) in &left {
        let now = seen(ask, &wire).await?;
        if *before != now {
            return Err(format!("{place}: {}\n  before: {before}\n  now:    {now}", ask.shown));
        }
    }
    println!("  {place}: equal");
    Ok(())
}

/// Each owner finds what the one before left, and adds to it.
async fn hand_over(seed: u64, owners: &[&Owner<'_>], stop: Stop) -> Result<(), String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let mut generator = generator_for(seed, owners);
    let mut left: Option<Vec<(Ask, String)>> = None;
    for (turn, owner) in owners.iter().enumerate() {
        let place = format!("turn {turn} ({}) of {}", owner.name, names(owners, stop));
        // A small count, so that logs are cut and snapshots made.
        let server = Server::start(owner.etcd, folder.path(), &["--snapshot-count=150"]);
        let server = server.map_err(|error| format!("{place}: {error}"))?;
        let wire = Wire::connect(server.port).await?;
        if let Some(left) = &left {
            for (ask, before) in left {
                let now = seen(ask, &wire).await?;
                if *before != now {
                    return Err(format!("{place}: {}\n  before: {before}\n  now:    {now}", ask.shown));
                }
            }
        }
        work(&wire, &mut generator).await.map_err(|error| format!("{place}: {error}"))?;
        left = Some(state(&wire, &generator).await.map_err(|error| format!("{place}: {error}"))?);
        server.stop(stop).map_err(|error| format!("{place}: {error}"))?;
    }
    println!("  {}: equal", names(owners, stop));
    Ok(())
}

/// Requests that every owner can take.
fn generator_for(seed: u64, owners: &[&Owner<'_>]) -> Generator {
    let gentle = owners.iter().any(|owner| owner.name == OLDEST);
    Generator { gentle, ..Generator::new(seed) }
}

fn names(owners: &[&Owner<'_>], stop: Stop) -> String {
    let names: Vec<&str> = owners.iter().map(|owner| owner.name).collect();
    format!("{} by {stop:?}", names.join(", "))
}

async fn work(wire: &Wire, generator: &mut Generator) -> Result<(), String> {
    let alarm = |action| Ask::alarm(&pb::AlarmRequest { action, member_id: 77, alarm: 1 });
    alarm(2).send(wire).await?;
    for _ in 0..WRITES {
        for ask in generator.next_write() {
            let answer = ask.send(wire).await?;
            generator.revision = generator.revision.max(Ask::revision(&answer).unwrap_or(0));
        }
    }
    // What the next owner finds: an alarm, too.
    alarm(1).send(wire).await.map(|_| ())
}

/// Everything that a client can see, as questions with their answers.
async fn state(wire: &Wire, generator: &Generator) -> Result<Vec<(Ask, String)>, String> {
    answers(questions(generator), wire).await
}

fn questions(generator: &Generator) -> Vec<Ask> {
    let (compacted, revision) = (generator.compacted, generator.revision);
    let everything = |revision| pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        revision,
        ..Default::default()
    };
    let mut asks = vec![Ask::range(&everything(0)), Ask::hash_kv(0), Ask::leases(), Ask::members(true)];
    // Behind the compaction itself: see `is_noted_hash`.
    let first = compacted + 1;
    for step in 0..8 {
        let at = (first + (revision - first) * step / 8).min(revision);
        // A store compacted at its newest revision has nothing behind the compaction.
        if at > compacted {
            asks.push(Ask::hash_kv(at));
        }
        asks.push(Ask::range(&everything(at)));
    }
    asks.push(Ask::range(&everything((compacted - 1).max(1))));
    asks.push(Ask::alarm(&pb::AlarmRequest { action: 0, member_id: 0, alarm: 0 }));
    for id in [1, 2, 3, 7, 1000, i64::MAX] {
        asks.push(Ask::time_to_live(&pb::LeaseTimeToLiveRequest { id, keys: true }));
    }
    asks
}

async fn answers(asks: Vec<Ask>, wire: &Wire) -> Result<Vec<(Ask, String)>, String> {
    let mut state = Vec::new();
    for ask in asks {
        let answer = seen(&ask, wire).await?;
        state.push((ask, answer));
    }
    Ok(state)
}

/// An answer without the term, which each start raises, and without the revision of a hash, which 3.5 does not tell.
async fn seen(ask: &Ask, wire: &Wire) -> Result<String, String> {
    let shown = ask.shown_answer(&ask.send(wire).await?);
    Ok(["raft_term: ", "hash_revision: "].iter().fold(shown, |shown, name| without_number(&shown, name)))
}

fn without_number(shown: &str, name: &str) -> String {
    let parts = shown.split(name);
    let masked = parts.map(|part| part.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    masked.collect::<Vec<_>>().join(name)
}

/// `from` makes a snapshot over the wire, its etcdutl, or etcd's, checks and restores it, `to` starts in that.
async fn snapshot(options: &Options, from: &Owner<'_>, to: &Owner<'_>) -> Result<(), String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let mut generator = generator_for(options.seed, &[from, to]);
    let server = Server::start(from.etcd, &folder.path().join("from"), &[])?;
    let wire = Wire::connect(server.port).await?;
    work(&wire, &mut generator).await?;
    let file = folder.path().join("snapshot.db");
    std::fs::write(&file, snapshot_bytes(&wire).await?).map_err(|error| error.to_string())?;
    let ask = |revision| {
        Ask::range(&pb::RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            revision,
            ..Default::default()
        })
    };
    let asks = [ask(0), ask(generator.revision - 5), Ask::leases()];
    let mut before = Vec::new();
    for ask in &asks {
        before.push(data_of(&seen(ask, &wire).await?));
    }
    server.stop(Stop::Term)?;
    let restored = folder.path().join("to").join("data");
    let (file, restored_text) = (file.display().to_string(), restored.display().to_string());
    let own = from.etcd.with_file_name("etcdutl");
    let tool = if own.is_file() { own } else { options.etcdutl() };
    etcdutl(&tool, &["snapshot", "status", &file, "--write-out", "json"])?;
    etcdutl(
        &tool,
        &[
            "snapshot",
            "restore",
            &file,
            "--data-dir",
            &restored_text,
            "--name",
            "m0",
            "--initial-cluster",
            "m0=http://127.0.0.1:23800",
            "--initial-cluster-token",
            "interop",
            "--initial-advertise-peer-urls",
            "http://127.0.0.1:23800",
        ],
    )?;
    let server = Server::start(to.etcd, &folder.path().join("to"), &[])?;
    let wire = Wire::connect(server.port).await?;
    for (ask, before) in asks.iter().zip(before) {
        let now = data_of(&seen(ask, &wire).await?);
        if before != now {
            return Err(format!(
                "snapshot of {} in {}: {}\n  before: {before}\n  now:    {now}",
                from.name, to.name, ask.shown
            ));
        }
    }
    println!("  a snapshot of {} restored for {}: equal", from.name, to.name);
    Ok(())
}

/// What follows the header.
fn data_of(shown: &str) -> String {
    shown.split_once("), ").map_or(shown, |(_, data)| data).to_owned()
}

async fn snapshot_bytes(wire: &Wire) -> Result<Vec<u8>, String> {
    let answer = wire.unary("/etcdserverpb.Maintenance/Snapshot", &pb::SnapshotRequest {}).await?;
    if !answer.is_ok() {
        return Err(format!("snapshot: {} {}", answer.code, answer.text));
    }
    let mut file = Vec::new();
    for message in &answer.messages {
        let part = pb::SnapshotResponse::decode(message.clone()).map_err(|error| error.to_string())?;
        file.extend_from_slice(&part.blob);
    }
    let body_len = file.len().checked_sub(32).ok_or("snapshot: too short")?;
    if body_len % 512 != 0 || Sha256::digest(&file[..body_len])[..] != file[body_len..] {
        return Err(format!("snapshot: {} bytes do not end in their hash", file.len()));
    }
    Ok(file)
}

fn etcdutl(tool: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(tool).args(arguments).output();
    let output = output.map_err(|error| format!("etcdutl: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("etcdutl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
