//! Dumps and makes logs as JSON lines, so that ours can be held against etcd's own reader and writer:
//! `testing/interop/wal` is the same tool on etcd's code, and says what the lines are.

use std::io::{BufRead, Error, Write};
use std::path::Path;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use disk::RealDisk;
use raft::{ConfState, Entry, EntryId, EntryKind, HardState, Index, Term};
use serde_json::{Value, json};
use wal::{Options, SnapshotRecord, Wal};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["dump", dir] => dump(Path::new(dir), None),
        ["dump", dir, index, term] => {
            let from = EntryId::new(Term(term.parse()?), Index(index.parse()?));
            dump(Path::new(dir), Some(from))
        }
        [command @ ("write" | "append"), dir, ref size @ ..] if size.len() <= 1 => {
            let mut options = Options::default();
            if let Some(segment_bytes) = size.first() {
                options.segment_bytes = segment_bytes.parse()?;
            }
            write(Path::new(dir), options, command == "append")
        }
        _ => Err("usage: waltool dump|write|append <wal-dir> ...".into()),
    }
}

fn dump(dir: &Path, from: Option<EntryId>) -> Result<(), Failure> {
    let snapshots = wal::valid_snapshots(&RealDisk, dir)?;
    let from = from.or(snapshots.last().map(SnapshotRecord::id)).ok_or("no valid snapshot record")?;
    let log = wal::read(&RealDisk, dir, from)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({ "metadata": BASE64_STANDARD.encode(&log.metadata) }))?;
    for snapshot in snapshots {
        let conf_state = snapshot.conf_state.unwrap_or_default();
        // Members of an object stand in the other tool's order, so that dumps can be compared as they are.
        writeln!(
            out,
            r#"{{"snapshot":{{"index":"{}","term":"{}","voters":{},"learners":{}}}}}"#,
            snapshot.index,
            snapshot.term,
            json!(texts(&conf_state.voters)),
            json!(texts(&conf_state.learners)),
        )?;
    }
    for entry in log.entries {
        let kind = match entry.kind {
            EntryKind::Normal => 0,
            EntryKind::ConfChange => 1,
            EntryKind::ConfChangeV2 => 2,
        };
        let data = BASE64_STANDARD.encode(&entry.data);
        writeln!(
            out,
            r#"{{"entry":{{"type":"{kind}","term":"{}","index":"{}","data":"{data}"}}}}"#,
            entry.term, entry.index
        )?;
    }
    let state = log.hard_state;
    let vote = state.vote.unwrap_or(0);
    writeln!(out, r#"{{"state":{{"term":"{}","vote":"{vote}","commit":"{}"}}}}"#, state.term, state.commit)?;
    Ok(())
}

fn write(dir: &Path, options: Options, opens: bool) -> Result<(), Failure> {
    let disk = Arc::new(RealDisk);
    let mut log = None;
    if opens {
        let snapshots = wal::valid_snapshots(&RealDisk, dir)?;
        let from = snapshots.last().ok_or("no valid snapshot record")?.id();
        log = Some(Wal::open(disk.clone(), dir, from, options)?.0);
    }
    let mut state: Option<HardState> = None;
    let mut entries: Vec<Entry> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line: Value = serde_json::from_str(&line?)?;
        if let Some(metadata) = line["metadata"].as_str() {
            if log.is_none() {
                let metadata = BASE64_STANDARD.decode(metadata)?.into();
                log = Some(Wal::create(disk.clone(), dir, metadata, options)?);
            }
            continue;
        }
        let log = log.as_mut().ok_or("the metadata comes first")?;
        if let Some(snapshot) = line.get("snapshot") {
            let index = Index(number(&snapshot["index"])?);
            if index == Index::ZERO {
                continue; // every new log begins with it
            }
            let voters = numbers(&snapshot["voters"])?;
            let learners = numbers(&snapshot["learners"])?;
            let conf_state = Some(ConfState { voters, learners, ..ConfState::default() });
            log.save_snapshot(&SnapshotRecord { index, term: Term(number(&snapshot["term"])?), conf_state })?;
        } else if let Some(entry) = line.get("entry") {
            entries.push(Entry {
                kind: match number(&entry["type"])? {
                    0 => EntryKind::Normal,
                    1 => EntryKind::ConfChange,
                    2 => EntryKind::ConfChangeV2,
                    other => return Err(format!("no entry type {other}").into()),
                },
                term: Term(number(&entry["term"])?),
                index: Index(number(&entry["index"])?),
                data: BASE64_STANDARD.decode(entry["data"].as_str().ok_or("data is missing")?)?.into(),
            });
        } else if let Some(wire) = line.get("state") {
            let vote = number(&wire["vote"])?;
            state = Some(HardState {
                term: Term(number(&wire["term"])?),
                vote: (vote != 0).then_some(vote),
                commit: Index(number(&wire["commit"])?),
            });
        } else if line["save"] == true {
            log.append(state.take().as_ref(), &entries)?;
            entries.clear();
            if log.must_sync() {
                log.sync()?;
            }
        }
    }
    let mut log = log.ok_or("no lines came")?;
    log.append(state.take().as_ref(), &entries)?;
    log.close()?;
    Ok(())
}

fn number(value: &Value) -> Result<u64, Failure> {
    let text = value.as_str().ok_or_else(|| Error::other(format!("{value} is no decimal string")))?;
    Ok(text.parse()?)
}

fn numbers(value: &Value) -> Result<Vec<u64>, Failure> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter().map(number).collect()
}

fn texts(ids: &[u64]) -> Vec<String> {
    ids.iter().map(u64::to_string).collect()
}
