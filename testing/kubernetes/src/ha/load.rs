//! Writes, reads and watches through every master at once, and a record of what each was told.
//!
//! At each master there are a hasty writer, which gives up after a quarter of a second and tries again at
//! once; a patient one, which waits as long as it takes; a reader, which asks for what anybody wrote last; and
//! a watcher.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure::{During, Outcome, fail};
use crate::ha::cluster::SOON;
use crate::ha::gap::Gap;
use crate::http::{Client, Identity, Next};
use crate::wait;

/// Of every three writes one makes an object and two change it.
const WRITES_PER_OBJECT: usize = 3;

/// Pause after an acknowledged write: three writers must leave a small machine to the servers.
const HASTY_PAUSE: Duration = Duration::from_millis(20);
const PATIENT_PAUSE: Duration = Duration::from_millis(100);

/// Pause after a refusal. It bounds how finely a gap is measured.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

const READ_PAUSE: Duration = Duration::from_millis(40);

/// A thread that does nothing looks this often whether it is late.
const STALL_TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Hasty,
    Patient,
}

impl Manner {
    /// What the API server is asked to bear, and what the client bears itself.
    fn limits(self) -> (&'static str, Duration) {
        match self {
            Manner::Hasty => ("250ms", Duration::from_millis(500)),
            Manner::Patient => ("60s", Duration::from_secs(70)),
        }
    }
}

/// An acknowledged write.
#[derive(Clone)]
pub struct Ack {
    pub asked: Instant,
    pub at: Instant,
    pub name: String,
    pub revision: i64,
    /// Index of the master that it went through, among those of the load.
    master: usize,
    manner: Manner,
}

/// How long a patient writer waited for one answer.
#[derive(Clone)]
struct Waited {
    asked: Instant,
    time: Duration,
    master: usize,
    /// Status, or what went wrong.
    answer: String,
}

/// What is known of one object.
#[derive(Clone)]
pub struct Told {
    /// Of its last acknowledged write.
    pub revision: i64,
    /// Whether a later write went out whose fate nobody told: the object may be newer.
    pub uncertain: bool,
}

#[derive(Default)]
struct Shared {
    namespace: String,
    /// Names of the masters, in order.
    names: Vec<String>,
    stop: AtomicBool,
    stop_watching: AtomicBool,
    acks: Mutex<Vec<Ack>>,
    objects: Mutex<BTreeMap<String, Told>>,
    refused: AtomicUsize,
    /// Every write of the patient writers, acknowledged or not.
    waited: Mutex<Vec<Waited>>,
    stall: Mutex<Duration>,
    /// Reads that were answered by less than what had been acknowledged before they were asked.
    stale: Mutex<Vec<String>>,
    /// When the reads were asked that got an answer.
    reads: Mutex<Vec<Instant>>,
    /// What each master's watch told.
    seen: Vec<Mutex<Seen>>,
}

#[derive(Clone, Default)]
struct Seen {
    /// Object and revision.
    events: Vec<(String, i64)>,
    /// Revisions that a list took the place of: the first unseen one, and that of the list.
    relists: Vec<(i64, i64)>,
}

impl Seen {
    fn revision(&self) -> i64 {
        let event = self.events.last().map_or(0, |(_, revision)| *revision);
        self.relists.last().map_or(event, |(_, revision)| event.max(*revision))
    }
}

impl Shared {
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/configmaps", self.namespace)
    }
}

/// Running threads. Dropping it ends them.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins in a new namespace, at these masters: name and administrator of each.
    pub fn start(namespace: &str, masters: Vec<(String, Identity)>) -> Outcome<Load> {
        let Some((_, first)) = masters.first() else { return fail("a load needs a master") };
        let mut client = first.client();
        client.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace}}))?.must("a namespace")?;
        let shared = Arc::new(Shared {
            namespace: namespace.to_owned(),
            names: masters.iter().map(|(name, _)| name.clone()).collect(),
            seen: masters.iter().map(|_| Mutex::default()).collect(),
            ..Shared::default()
        });
        let list = client.get(&shared.path())?.must("list the new namespace")?;
        let version = revision(&list);
        let mut load = Load { shared, threads: Vec::new(), watchers: Vec::new() };
        for (master, (_, identity)) in masters.into_iter().enumerate() {
            for manner in [Manner::Hasty, Manner::Patient] {
                let identity = identity.clone();
                let writer = load.spawn(move |shared| write(&identity, master, manner, shared))?;
                load.threads.push(writer);
            }
            let reader = identity.clone();
            let reader = load.spawn(move |shared| read(&reader, master, shared))?;
            load.threads.push(reader);
            let watcher = load.spawn(move |shared| watch(&identity, master, version, shared))?;
            load.watchers.push(watcher);
        }
        let stall = load.spawn(measure_stall)?;
        load.threads.push(stall);
        Ok(load)
    }

    fn spawn(&self, work: impl FnOnce(&Shared) + Send + 'static) -> Outcome<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().spawn(move || work(&shared)).during("start a thread")
    }

    /// An error until the hasty writers of all `masters` had `count` writes acknowledged that they asked for
    /// after `since`.
    pub fn acknowledged(&self, masters: &[&str], count: usize, since: Instant) -> Result<(), String> {
        let acks = lock(&self.shared.acks);
        for master in masters {
            let its = |ack: &&Ack| ack.manner == Manner::Hasty && self.shared.names[ack.master] == **master;
            let had = acks.iter().filter(its).filter(|ack| ack.asked > since).count();
            if had < count {
                return Err(format!("{had} of {count} writes through {master}"));
            }
        }
        Ok(())
    }

    /// Writes that anyone asked for since then, and that were acknowledged.
    pub fn writes_since(&self, since: Instant) -> usize {
        lock(&self.shared.acks).iter().filter(|ack| ack.asked > since).count()
    }

    /// Reads that anyone asked for since then, and that were answered.
    pub fn reads_since(&self, since: Instant) -> usize {
        lock(&self.shared.reads).iter().filter(|asked| **asked > since).count()
    }

    /// Ends the writes, waits until every watch has seen the last of them, and says what happened.
    pub fn finish(mut self) -> Outcome<Written> {
        let ended = Instant::now();
        self.end_threads();
        let shared = Arc::clone(&self.shared);
        let last = lock(&shared.acks).iter().map(|ack| ack.revision).max().unwrap_or(0);
        let all_seen = wait::until("every watch sees the last write", SOON, || {
            for (name, seen) in shared.names.iter().zip(&shared.seen) {
                let seen = lock(seen).revision();
                if seen < last {
                    return Err(format!("{name} saw {seen} of {last}"));
                }
            }
            Ok(())
        });
        self.end_watchers();
        Ok(Written {
            namespace: shared.namespace.clone(),
            names: shared.names.clone(),
            acks: lock(&shared.acks).clone(),
            objects: lock(&shared.objects).clone(),
            refused: shared.refused.load(Ordering::Relaxed),
            waited: lock(&shared.waited).clone(),
            stall: *lock(&shared.stall),
            stale: lock(&shared.stale).clone(),
            reads: lock(&shared.reads).len(),
            seen: shared.seen.iter().map(|seen| lock(seen).clone()).collect(),
            watches_lag: all_seen.err().map(|error| error.to_string()),
            ended,
        })
    }

    fn end_threads(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    fn end_watchers(&mut self) {
        self.shared.stop_watching.store(true, Ordering::Relaxed);
        for thread in self.watchers.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end_threads();
        self.end_watchers();
    }
}

/// Where a gap begins.
#[derive(Clone, Copy, PartialEq)]
pub enum Measure {
    /// At the last acknowledged write before.
    FromLastWrite,
    /// At the moment given.
    FromThen,
}

/// The record of a load that has ended.
pub struct Written {
    pub namespace: String,
    names: Vec<String>,
    pub acks: Vec<Ack>,
    pub objects: BTreeMap<String, Told>,
    pub refused: usize,
    pub stale: Vec<String>,
    pub reads: usize,
    /// Why a watch has not seen everything, if one has not.
    pub watches_lag: Option<String>,
    waited: Vec<Waited>,
    stall: Duration,
    seen: Vec<Seen>,
    ended: Instant,
}

impl Written {
    /// The longest times without an acknowledged write from the last one before `since` to the end, or from
    /// `since` itself when what came before is not what is measured. What a patient client waited at a master
    /// that was itself struck is no news.
    pub fn gap(&self, fault: &str, since: Instant, measure: Measure, struck: &[String]) -> Gap {
        let hasty =
            |ack: &&Ack| ack.manner == Manner::Hasty && (measure == Measure::FromLastWrite || ack.at > since);
        let all = self.acks.iter().filter(hasty).map(|ack| ack.at);
        let through = |master: usize| {
            let its = self.acks.iter().filter(hasty).filter(|ack| ack.master == master);
            longest(its.map(|ack| ack.at), since, self.ended)
        };
        let others = self.waited.iter().filter(|waited| !struck.contains(&self.names[waited.master]));
        let patient = others.max_by_key(|waited| waited.time);
        Gap {
            fault: fault.to_owned(),
            all: longest(all, since, self.ended),
            each: (0..self.names.len()).map(through).collect(),
            patient: patient.map_or(Duration::ZERO, |waited| waited.time),
            patient_story: patient.map_or(String::new(), |waited| self.story(waited, since)),
            refused: self.refused,
            stall: self.stall,
        }
    }

    fn story(&self, waited: &Waited, since: Instant) -> String {
        let (master, answer) = (&self.names[waited.master], &waited.answer);
        let when = match waited.asked.checked_duration_since(since) {
            Some(after) => format!("{:.2} s after", after.as_secs_f64()),
            None => format!("{:.2} s before", (since - waited.asked).as_secs_f64()),
        };
        format!("the longest write went out through {master} {when} the fault and was answered by {answer}")
    }

    /// Whether each master's watch saw each acknowledged write once, all in the order of revisions.
    pub fn watches(&self) -> Result<(), String> {
        for (name, seen) in self.names.iter().zip(&self.seen) {
            if let Some(pair) = seen.events.windows(2).find(|pair| pair[0].1 >= pair[1].1) {
                return Err(format!("{name} saw {:?} after {:?}", pair[1], pair[0]));
            }
            let events: HashMap<i64, &str> =
                seen.events.iter().map(|(name, revision)| (*revision, name.as_str())).collect();
            let missed = |ack: &&Ack| {
                let listed = seen.relists.iter().any(|(from, to)| (*from..=*to).contains(&ack.revision));
                !listed && events.get(&ack.revision) != Some(&&*ack.name)
            };
            if let Some(ack) = self.acks.iter().find(missed) {
                return Err(format!("{name} did not see {} at {}", ack.name, ack.revision));
            }
        }
        Ok(())
    }

    /// Watches that were told that they are too old and began anew with a list, as informers do.
    pub fn relists(&self) -> String {
        let some = self.names.iter().zip(&self.seen).filter(|(_, seen)| !seen.relists.is_empty());
        let tell = |(name, seen): (&String, &Seen)| format!("{name} {:?}", seen.relists);
        some.map(tell).collect::<Vec<_>>().join(", ")
    }
}

fn longest(acks: impl Iterator<Item = Instant>, since: Instant, until: Instant) -> Duration {
    // Threads record in the order in which they get the lock.
    let mut all: Vec<Instant> = acks.collect();
    all.sort_unstable();
    let first = all.partition_point(|at| *at <= since).saturating_sub(1);
    let mut previous = all.get(first).copied().unwrap_or(since).min(since);
    let mut longest = Duration::ZERO;
    for at in all.into_iter().skip(first).chain([until]) {
        longest = longest.max(at.saturating_duration_since(previous));
        previous = at;
    }
    longest
}

fn write(identity: &Identity, master: usize, manner: Manner, shared: &Shared) {
    let (server_limit, limit) = manner.limits();
    let mut client = identity.clone().with_limit(limit).client();
    let letter = if manner == Manner::Hasty { 'h' } else { 'p' };
    let path = shared.path();
    // The object that can be changed: the last one whose every write was acknowledged.
    let mut current: Option<String> = None;
    for number in 0usize.. {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        if number % WRITES_PER_OBJECT == 0 {
            current = None;
        }
        let fresh = current.is_none();
        let name = current.take().unwrap_or_else(|| format!("{}-{letter}{number:06}", shared.names[master]));
        let object = json!({"metadata": {"name": name}, "data": {"number": number.to_string()}});
        let asked = Instant::now();
        let answer = if fresh {
            client.post(&format!("{path}?timeout={server_limit}"), &object)
        } else {
            client.put(&format!("{path}/{name}?timeout={server_limit}"), &object)
        };
        let at = Instant::now();
        if manner == Manner::Patient {
            let told = match &answer {
                Ok(answer) => answer.status.to_string(),
                Err(error) => error.to_string(),
            };
            lock(&shared.waited).push(Waited { asked, time: at - asked, master, answer: told });
        }
        match answer {
            Ok(answer) if matches!(answer.status, 200 | 201) => {
                let revision = revision(&answer.json());
                let told = Told { revision, uncertain: false };
                lock(&shared.objects).insert(name.clone(), told);
                lock(&shared.acks).push(Ack { asked, at, name: name.clone(), revision, master, manner });
                current = Some(name);
                pause(if manner == Manner::Hasty { HASTY_PAUSE } else { PATIENT_PAUSE });
            }
            _ => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                if let Some(told) = lock(&shared.objects).get_mut(&name) {
                    told.uncertain = true;
                }
                pause(REFUSED_PAUSE);
            }
        }
    }
}

/// Asks for what was acknowledged last by anyone: alone, and in a list.
fn read(identity: &Identity, master: usize, shared: &Shared) {
    let mut client = identity.clone().with_limit(Duration::from_millis(1500)).client();
    for number in 0usize.. {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        pause(READ_PAUSE);
        let last = lock(&shared.acks).iter().rev().take(8).max_by_key(|ack| ack.revision).cloned();
        let Some(last) = last else { continue };
        let asked = Instant::now();
        let read = if number % 2 == 0 {
            get(&mut client, &shared.path(), &last.name)
        } else {
            list(&mut client, &shared.path(), &last.name)
        };
        let Some(found) = read else { continue };
        lock(&shared.reads).push(asked);
        if found < last.revision {
            let what = if number % 2 == 0 { "get" } else { "list" };
            let text = format!(
                "{what} through {}: {} at {found}, acknowledged at {}",
                shared.names[master], last.name, last.revision
            );
            lock(&shared.stale).push(text);
        }
    }
}

/// The revision of an object, zero when it is absent; nothing without an answer.
fn get(client: &mut Client, path: &str, name: &str) -> Option<i64> {
    let answer = client.get(&format!("{path}/{name}?timeout=1s")).ok()?;
    match answer.status {
        200 => Some(revision(&answer.json())),
        404 => Some(0),
        _ => None,
    }
}

/// The same by a list, which the API server answers from its cache once etcd has told how new that must be.
fn list(client: &mut Client, path: &str, name: &str) -> Option<i64> {
    let answer = client.get(&format!("{path}?fieldSelector=metadata.name%3D{name}&timeout=1s")).ok()?;
    if answer.status != 200 {
        return None;
    }
    Some(answer.json()["items"].get(0).map_or(0, revision))
}

fn watch(identity: &Identity, master: usize, from: i64, shared: &Shared) {
    let mut at = from;
    while !shared.stop_watching.load(Ordering::Relaxed) {
        match follow(identity, master, &mut at, shared) {
            // The API server may end a watch; its client goes on where it was.
            Ok(Ended::Quietly) => {}
            Ok(Ended::Expired) => {
                let list = identity.client().get(&shared.path());
                if let Ok(list) = list.and_then(|answer| answer.must("list")) {
                    lock(&shared.seen[master]).relists.push((at + 1, revision(&list)));
                    at = revision(&list);
                }
            }
            Err(_) => pause(REFUSED_PAUSE),
        }
    }
}

enum Ended {
    Quietly,
    /// What came after the last event is no longer there.
    Expired,
}

fn follow(identity: &Identity, master: usize, at: &mut i64, shared: &Shared) -> Outcome<Ended> {
    let mut watch = identity.watch(&format!("{}?watch=1&resourceVersion={at}", shared.path()))?;
    while !shared.stop_watching.load(Ordering::Relaxed) {
        let event = match watch.next()? {
            Next::Quiet => continue,
            Next::Ended => return Ok(Ended::Quietly),
            Next::Event(event) => event,
        };
        if event["type"] == "ERROR" {
            let expired = event["object"]["code"] == 410;
            return Ok(if expired { Ended::Expired } else { Ended::Quietly });
        }
        *at = revision(&event["object"]);
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        lock(&shared.seen[master]).events.push((name, *at));
    }
    Ok(Ended::Quietly)
}

fn measure_stall(shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        let before = Instant::now();
        pause(STALL_TICK);
        let late = before.elapsed().saturating_sub(STALL_TICK);
        let mut stall = lock(&shared.stall);
        *stall = stall.max(late);
    }
}

/// `metadata.resourceVersion` as the number that it is in etcd.
pub fn revision(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Paces a client; nothing waits for this to have happened.
fn pause(length: Duration) {
    std::thread::sleep(length);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_begins_before_the_fault_and_may_last_to_the_end() {
        let start = Instant::now();
        let at = |secs: u64| start + Duration::from_secs(secs);
        let acks = || [at(0), at(9), at(10), at(14), at(15)].into_iter();
        // 9 to 0 is before the fault; 10 to 14 holds it.
        assert_eq!(longest(acks(), at(12), at(16)), Duration::from_secs(4));
        assert_eq!(longest(acks(), at(12), at(30)), Duration::from_secs(15));
        assert_eq!(longest([].into_iter(), at(1), at(3)), Duration::from_secs(2));
    }
}
