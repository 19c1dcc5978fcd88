//! SIGKILL under load, again and again, and what must hold after each start.
//!
//! Writers note what was acknowledged, and at which revision. A watcher of everything resumes behind the last
//! revision it saw. After a start: every acknowledged write is in the history at its revision, no write is there
//! that nobody asked for, none is there twice, revisions have no gap, and leases have their keys.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb as pb;
use proto::mvccpb;
use tempfile::TempDir;
use tokio::task::LocalSet;

use pb::request_op::Request;
use pb::watch_request::RequestUnion;

use crate::ask::Ask;
use crate::options::Options;
use crate::random::Random;
use crate::server::{Server, Stop};
use crate::wire::{Manners, Wire};

const WRITERS: u64 = 6;
const KEYS: u64 = 40;
const LEASE_TTL_SECS: i64 = 100_000;
/// One round's load lasts up to this long.
const ROUND_MILLIS: u64 = 1200;
const WATCH_PATIENCE: Duration = Duration::from_secs(20);

/// One change: the key and its new value; none when it was deleted.
type Change = (Bytes, Option<Bytes>);

/// What the outside world knows.
#[derive(Default)]
struct Ledger {
    /// Acknowledged changes, by revision.
    acknowledged: BTreeMap<i64, Vec<Change>>,
    /// Values that anybody ever asked to be written. Each is asked for once.
    asked: BTreeSet<Bytes>,
    /// Everything that the watcher saw, by revision.
    seen: BTreeMap<i64, Vec<Change>>,
    leases: BTreeSet<i64>,
    attached: BTreeMap<i64, BTreeSet<Bytes>>,
    broken: Vec<String>,
}

type Shared = Rc<RefCell<Ledger>>;

pub async fn run(options: &Options) -> Result<(), String> {
    LocalSet::new().run_until(run_rounds(options)).await
}

async fn run_rounds(options: &Options) -> Result<(), String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let mut random = Random::new(options.seed);
    let ledger = Shared::default();
    // Often a snapshot and a new log file; a small file for the log's segments cannot be asked for.
    let flags = ["--snapshot-count=700", "--snapshot-catchup-entries=100"];
    for round in 0..options.rounds {
        let server = Server::start(&options.ours, folder.path(), &flags);
        let server = server.map_err(|error| format!("round {round}: {error}"))?;
        check(server.port, &ledger).await.map_err(|error| format!("round {round}: {error}"))?;
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let random = Random::new(random.next());
            tasks.push(tokio::task::spawn_local(write(server.port, round, writer, random, ledger.clone())));
        }
        tasks.push(tokio::task::spawn_local(watch(server.port, None, ledger.clone())));
        tokio::time::sleep(Duration::from_millis(20 + random.below(ROUND_MILLIS))).await;
        server.stop(Stop::Kill)?;
        for task in tasks {
            task.await.map_err(|error| error.to_string())?;
        }
    }
    let server = Server::start(&options.ours, folder.path(), &flags)?;
    check(server.port, &ledger).await?;
    let ledger = ledger.borrow();
    let (acknowledged, seen) = (ledger.acknowledged.len(), ledger.seen.len());
    println!("kills: {} rounds, {acknowledged} acknowledged revisions, {seen} seen", options.rounds);
    Ok(())
}

/// Writes until the connection breaks.
async fn write(port: u16, round: usize, writer: u64, mut random: Random, ledger: Shared) {
    let Ok(wire) = Wire::connect(port).await else { return };
    for count in 0.. {
        let name = format!("{round}/{writer}/{count}");
        if write_one(&wire, &name, writer, &mut random, &ledger).await.is_none() {
            return;
        }
    }
}

async fn write_one(wire: &Wire, name: &str, writer: u64, random: &mut Random, ledger: &Shared) -> Option<()> {
    // Each writer has keys of its own: then what a delete did follows from its answer.
    let key = Bytes::from(format!("w{writer}/{}", random.below(KEYS)));
    let value = Bytes::from(name.to_owned());
    let put = |key: &Bytes, value: &Bytes| pb::PutRequest {
        key: key.clone(),
        value: value.clone(),
        ..Default::default()
    };
    match random.below(20) {
        0 => {
            let id = i64::try_from(random.below(1 << 40)).unwrap_or(0) + 1;
            let grant = pb::LeaseGrantRequest { ttl: LEASE_TTL_SECS, id };
            acknowledged(&Ask::grant(&grant), wire).await?;
            ledger.borrow_mut().leases.insert(id);
            let leased = Bytes::from(format!("l{writer}/{id}"));
            ledger.borrow_mut().asked.insert(value.clone());
            let put = pb::PutRequest { lease: id, ..put(&leased, &value) };
            let revision = acknowledged(&Ask::put(&put), wire).await?;
            let mut ledger = ledger.borrow_mut();
            ledger.acknowledged.insert(revision, vec![(leased.clone(), Some(value))]);
            ledger.attached.entry(id).or_default().insert(leased);
        }
        1..4 => {
            let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
            let answer = Ask::delete_range(&delete).send(wire).await.ok()?;
            let response: pb::DeleteRangeResponse = answer.message()?;
            if answer.is_ok() && response.deleted == 1 {
                ledger.borrow_mut().acknowledged.insert(response.header?.revision, vec![(key, None)]);
            }
        }
        4..8 => {
            let other = Bytes::from(format!("t{writer}/{}", random.below(KEYS)));
            let second = Bytes::from(format!("{name}+"));
            ledger.borrow_mut().asked.extend([value.clone(), second.clone()]);
            let puts = [put(&key, &value), put(&other, &second)];
            let success = puts.map(|put| pb::RequestOp { request: Some(Request::RequestPut(put)) }).into();
            let txn = pb::TxnRequest { compare: vec![], success, failure: vec![] };
            let revision = acknowledged(&Ask::txn(&txn), wire).await?;
            let changes = vec![(key, Some(value)), (other, Some(second))];
            ledger.borrow_mut().acknowledged.insert(revision, changes);
        }
        _ => {
            ledger.borrow_mut().asked.insert(value.clone());
            let revision = acknowledged(&Ask::put(&put(&key, &value)), wire).await?;
            ledger.borrow_mut().acknowledged.insert(revision, vec![(key, Some(value))]);
        }
    }
    Some(())
}

/// The revision of a write that the server says is done.
async fn acknowledged(ask: &Ask, wire: &Wire) -> Option<i64> {
    let answer = ask.send(wire).await.ok()?;
    if answer.is_ok() { Ask::revision(&answer) } else { None }
}

/// Watches everything from where the ledger ends: until the connection breaks, or `until` was seen.
async fn watch(port: u16, until: Option<i64>, ledger: Shared) {
    let Ok(wire) = Wire::connect(port).await else { return };
    let Ok(mut call) = wire.open("/etcdserverpb.Watch/Watch", &Manners::default()).await else { return };
    let start_revision = ledger.borrow().seen.last_key_value().map_or(2, |(revision, _)| revision + 1);
    let create = pb::WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision,
        ..Default::default()
    };
    call.send_message(&pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await;
    while let Some(Some(message)) = call.next_within(WATCH_PATIENCE).await {
        let Ok(response) = pb::WatchResponse::decode(message) else { return };
        let mut ledger = ledger.borrow_mut();
        if response.canceled {
            ledger.broken.push(format!("canceled: {response:?}"));
        }
        ledger.take(&response.events);
        if until.is_some_and(|until| ledger.seen.last_key_value().is_some_and(|(last, _)| *last >= until)) {
            return;
        }
    }
}

impl Ledger {
    fn take(&mut self, events: &[mvccpb::Event]) {
        let mut fresh: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for event in events {
            let Some(kv) = &event.kv else { continue };
            let value = (event.r#type == 0).then(|| kv.value.clone());
            if let Some(value) = &value
                && !self.asked.contains(value)
            {
                self.broken.push(format!("nobody asked for {kv:?}"));
            }
            fresh.entry(kv.mod_revision).or_default().push((kv.key.clone(), value));
        }
        for (revision, changes) in fresh {
            let expected = self.seen.last_key_value().map_or(2, |(last, _)| last + 1);
            if revision != expected {
                self.broken.push(format!("revision {revision} where {expected} must follow"));
            }
            self.seen.insert(revision, changes);
        }
    }
}

/// Catches up with the history and holds it against what was acknowledged.
async fn check(port: u16, ledger: &Shared) -> Result<(), String> {
    let wire = Wire::connect(port).await?;
    let everything = pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..Default::default()
    };
    let answer = Ask::range(&everything).send(&wire).await?;
    let now: pb::RangeResponse = answer.message().ok_or_else(|| format!("read everything: {answer:?}"))?;
    let revision = now.header.as_ref().map_or(0, |header| header.revision);
    let last_seen = ledger.borrow().seen.last_key_value().map_or(1, |(last, _)| *last);
    if revision < last_seen {
        return Err(format!("the store is at {revision}, but a watcher was told {last_seen}"));
    }
    if revision > last_seen {
        watch(port, Some(revision), ledger.clone()).await;
    }
    ledger.borrow().check_history(revision, &now.kvs)?;
    let (leases, attached) = {
        let ledger = ledger.borrow();
        (ledger.leases.clone(), ledger.attached.clone())
    };
    check_leases(&wire, &leases, &attached).await
}

impl Ledger {
    fn check_history(&self, revision: i64, kvs: &[mvccpb::KeyValue]) -> Result<(), String> {
        if let Some(broken) = self.broken.first() {
            return Err(broken.clone());
        }
        let last_seen = self.seen.last_key_value().map_or(1, |(last, _)| *last);
        if last_seen != revision {
            return Err(format!("the store is at {revision}, its history ends at {last_seen}"));
        }
        for (revision, changes) in &self.acknowledged {
            if self.seen.get(revision) != Some(changes) {
                let seen = self.seen.get(revision);
                return Err(format!("acknowledged at {revision}: {changes:?}; the history has {seen:?}"));
            }
        }
        let mut expected: BTreeMap<&Bytes, (i64, &Bytes)> = BTreeMap::new();
        let mut values = BTreeSet::new();
        for (revision, changes) in &self.seen {
            for (key, value) in changes {
                match value {
                    Some(value) if !values.insert(value) => {
                        return Err(format!("{value:?} was written twice"));
                    }
                    Some(value) => expected.insert(key, (*revision, value)),
                    None => expected.remove(key),
                };
            }
        }
        let found: BTreeMap<&Bytes, (i64, &Bytes)> =
            kvs.iter().map(|kv| (&kv.key, (kv.mod_revision, &kv.value))).collect();
        if expected != found {
            let odd = expected.iter().find(|(key, at)| found.get(*key) != Some(at));
            return Err(format!("the history does not lead to what is there, for one {odd:?}"));
        }
        Ok(())
    }
}

async fn check_leases(
    wire: &Wire,
    leases: &BTreeSet<i64>,
    attached: &BTreeMap<i64, BTreeSet<Bytes>>,
) -> Result<(), String> {
    let answer = Ask::leases().send(wire).await?;
    let response: pb::LeaseLeasesResponse = answer.message().ok_or("list the leases")?;
    let there: BTreeSet<i64> = response.leases.iter().map(|lease| lease.id).collect();
    if let Some(lost) = leases.iter().find(|id| !there.contains(id)) {
        return Err(format!("lease {lost} was granted and is lost"));
    }
    for (id, keys) in attached {
        let answer =
            Ask::time_to_live(&pb::LeaseTimeToLiveRequest { id: *id, keys: true }).send(wire).await?;
        let response: pb::LeaseTimeToLiveResponse = answer.message().ok_or("ask for a lease")?;
        let found: BTreeSet<Bytes> = response.keys.into_iter().collect();
        if !keys.is_subset(&found) || response.granted_ttl != LEASE_TTL_SECS {
            return Err(format!("lease {id} has {found:?}, not {keys:?}"));
        }
    }
    Ok(())
}
