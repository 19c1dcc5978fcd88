//! Whether what clients were told fits one history in the order of real time.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::history::{Call, History, Outcome, Record};

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Every claim of every record against the history.
pub fn check(history: &History, records: &[Record]) -> Result<(), String> {
    if let Some(missing) = history.gap() {
        return Err(format!("no member ever showed revision {missing}"));
    }
    history.check_counters()?;
    check_values(history, records)?;
    check_writes(history, records)?;
    check_reads(history, records)?;
    check_real_time(history, records)?;
    check_leases(history, records)
}

/// Each value is some client's, and was stored at most once, and not at all when its call surely failed.
fn check_values(history: &History, records: &[Record]) -> Result<(), String> {
    let mut calls: BTreeMap<&Bytes, &Record> = BTreeMap::new();
    for record in records {
        if let Call::Put { value, .. } | Call::Cas { value, .. } = &record.call {
            calls.insert(value, record);
        }
    }
    let mut seen = BTreeSet::new();
    for (revision, changes) in &history.revisions {
        for put in changes.iter().filter_map(|change| change.put.as_ref()) {
            let Some(record) = calls.get(&put.value) else {
                return Err(format!("revision {revision} holds {:?}, which nobody wrote", put.value));
            };
            if !seen.insert(&put.value) {
                return Err(format!("{:?} was applied twice, again at {revision}", put.value));
            }
            if matches!(record.outcome, Outcome::Failed | Outcome::Compared { succeeded: false, .. }) {
                return Err(format!("{record:?} is in revision {revision} all the same"));
            }
            if history.seen_at[revision] < record.invoked {
                return Err(format!("{record:?} was seen before it was asked for"));
            }
        }
    }
    Ok(())
}

/// What was acknowledged is in the history where it was said to be.
fn check_writes(history: &History, records: &[Record]) -> Result<(), String> {
    for record in records {
        let (key, value, revision) = match (&record.call, &record.outcome) {
            (Call::Put { key, value, .. }, Outcome::Written { revision }) => (key, Some(value), revision),
            (Call::Cas { key, value, .. }, Outcome::Compared { succeeded: true, revision }) => {
                (key, Some(value), revision)
            }
            (Call::Delete { key }, Outcome::Deleted { revision, count: 1 }) => (key, None, revision),
            _ => continue,
        };
        let changes = history.revisions.get(revision);
        let stored = changes.and_then(|changes| changes.iter().find(|change| change.key == *key));
        let stored_value = stored.map(|change| change.put.as_ref().map(|put| &put.value));
        if stored_value != Some(value) {
            return Err(format!("{record:?} is not in the history: there is {stored:?}"));
        }
    }
    Ok(())
}

/// What was read, or compared, is what stood there at the revision that was told.
fn check_reads(history: &History, records: &[Record]) -> Result<(), String> {
    let mut wanted: Vec<(i64, &Record)> = records
        .iter()
        .filter_map(|record| match (&record.call, &record.outcome) {
            (Call::Cas { .. }, Outcome::Compared { succeeded: true, revision }) => {
                Some((revision - 1, record))
            }
            (Call::Cas { .. }, Outcome::Compared { succeeded: false, revision })
            | (Call::Get { .. }, Outcome::Got { revision, .. })
            | (Call::Delete { .. }, Outcome::Deleted { revision, count: 0 }) => Some((*revision, record)),
            _ => None,
        })
        .collect();
    wanted.sort_by_key(|(revision, _)| *revision);
    let mut state: BTreeMap<&Bytes, (i64, &Bytes)> = BTreeMap::new();
    let mut revisions = history.revisions.iter().peekable();
    for (revision, record) in wanted {
        while let Some((at, changes)) = revisions.next_if(|(at, _)| **at <= revision) {
            for change in changes {
                match &change.put {
                    Some(put) => state.insert(&change.key, (*at, &put.value)),
                    None => state.remove(&change.key),
                };
            }
        }
        let now = |key: &Bytes| state.get(key).map(|(at, value)| (*at, (*value).clone()));
        let fits = match (&record.call, &record.outcome) {
            (Call::Get { key, .. }, Outcome::Got { found, .. }) => now(key) == *found,
            (Call::Delete { key }, Outcome::Deleted { .. }) => now(key).is_none(),
            (Call::Cas { key, expected, .. }, Outcome::Compared { succeeded, .. }) => {
                (now(key).map_or(0, |(at, _)| at) == *expected) == *succeeded
            }
            _ => true,
        };
        if !fits {
            return Err(format!("{record:?} does not fit the state at {revision}"));
        }
    }
    Ok(())
}

/// Whoever asks after an answer sees at least what the answer told, and nobody is told what is yet to happen.
fn check_real_time(history: &History, records: &[Record]) -> Result<(), String> {
    let told = |record: &Record| match (&record.call, &record.outcome) {
        (_, Outcome::Written { revision }) => Some((*revision, true)),
        (_, Outcome::Deleted { revision, count }) => Some((*revision, *count > 0)),
        (_, Outcome::Compared { revision, succeeded }) => Some((*revision, *succeeded)),
        (Call::Get { linearizable: true, .. }, Outcome::Got { revision, .. }) => Some((*revision, false)),
        _ => None,
    };
    let mut reached: Vec<(u64, i64)> = records
        .iter()
        .filter_map(|record| told(record).map(|(revision, _)| (record.returned, revision)))
        .collect();
    reached.sort_unstable();
    let mut highest = 0;
    for (_, revision) in &mut reached {
        highest = highest.max(*revision);
        *revision = highest;
    }
    for record in records {
        let Some((revision, is_write)) = told(record) else { continue };
        let at = reached.partition_point(|(returned, _)| *returned < record.invoked);
        let before = at.checked_sub(1).map_or(0, |at| reached[at].1);
        if revision < before || (is_write && revision == before) {
            return Err(format!("{record:?} came after revision {before} was acknowledged"));
        }
        if history.seen_at.get(&revision).is_some_and(|seen| *seen > record.returned) {
            return Err(format!("{record:?} was answered before any member had applied that revision"));
        }
    }
    Ok(())
}

/// A lease takes its keys along no earlier than it may, and nobody else deletes them.
fn check_leases(history: &History, records: &[Record]) -> Result<(), String> {
    let mut ends: BTreeMap<i64, u64> = BTreeMap::new();
    let mut ttls: BTreeMap<i64, u64> = BTreeMap::new();
    for record in records {
        if let (Call::Grant { ttl_secs }, Outcome::Granted { lease }) = (&record.call, &record.outcome) {
            let ttl = ttl_secs.unsigned_abs() * NANOS_PER_SEC;
            ttls.insert(*lease, ttl);
            ends.insert(*lease, record.invoked + ttl);
        }
    }
    for record in records {
        if let (Call::KeepAlive { lease }, Outcome::Kept { alive: true }) = (&record.call, &record.outcome)
            && let Some(end) = ends.get_mut(lease)
        {
            *end = (*end).max(record.invoked + ttls[lease]);
        }
    }
    let deleted_by_clients: BTreeSet<&Bytes> = records
        .iter()
        .filter_map(|record| if let Call::Delete { key } = &record.call { Some(key) } else { None })
        .collect();
    let mut leases: BTreeMap<&Bytes, i64> = BTreeMap::new();
    for (revision, changes) in &history.revisions {
        for change in changes {
            if let Some(put) = &change.put {
                leases.insert(&change.key, put.lease);
                continue;
            }
            let lease = leases.remove(&change.key).unwrap_or(0);
            if deleted_by_clients.contains(&change.key) {
                continue;
            }
            let seen = history.seen_at[revision];
            let Some(end) = ends.get(&lease) else {
                return Err(format!("{:?} went at {revision}, and nobody deleted it", change.key));
            };
            if seen < *end {
                return Err(format!(
                    "{:?} went at {revision} with lease {lease:x}, {} ns before its end",
                    change.key,
                    end - seen
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Change, Put};

    fn key() -> Bytes {
        Bytes::from_static(b"k")
    }

    fn history(values: &[&'static str]) -> History {
        let mut history = History::default();
        for (at, value) in values.iter().enumerate() {
            let put = Put { value: (*value).into(), create_revision: 2, version: at as i64 + 1, lease: 0 };
            let revision = at as i64 + 2;
            history.revisions.insert(revision, vec![Change { key: key(), put: Some(put) }]);
            history.seen_at.insert(revision, 10 * (at as u64 + 1));
        }
        history
    }

    fn put(value: &'static str, invoked: u64, outcome: Outcome) -> Record {
        let call = Call::Put { key: key(), value: value.into(), lease: 0 };
        Record { call, invoked, returned: invoked + 15, outcome }
    }

    fn get(invoked: u64, revision: i64, found: Option<(i64, &'static str)>) -> Record {
        let found = found.map(|(at, value)| (at, value.into()));
        let call = Call::Get { key: key(), linearizable: true };
        Record { call, invoked, returned: invoked + 5, outcome: Outcome::Got { revision, found } }
    }

    fn written(revision: i64) -> Outcome {
        Outcome::Written { revision }
    }

    #[test]
    fn an_honest_run_passes() {
        let records = [
            put("a", 0, written(2)),
            put("b", 16, written(3)),
            get(40, 3, Some((3, "b"))),
            put("c", 5, Outcome::Unknown),
        ];
        assert_eq!(check(&history(&["a", "b"]), &records), Ok(()));
    }

    #[test]
    fn each_kind_of_lie_is_found() {
        let both = || vec![put("a", 0, written(2)), put("b", 16, written(3))];
        let with = |record: Record| {
            let mut records = both();
            records.push(record);
            records
        };
        let cases: [(&str, Vec<&'static str>, Vec<Record>); 7] = [
            ("a lost write", vec!["a"], both()),
            ("an invented value", vec!["a", "x"], vec![put("a", 0, written(2))]),
            ("a stale read", vec!["a", "b"], with(get(40, 2, Some((2, "a"))))),
            ("a wrong read", vec!["a", "b"], with(get(40, 3, Some((2, "a"))))),
            ("a write applied twice", vec!["a", "b", "b"], both()),
            (
                "a failure that happened",
                vec!["a", "b"],
                vec![put("a", 0, written(2)), put("b", 16, Outcome::Failed)],
            ),
            (
                "an order against real time",
                vec!["b", "a"],
                vec![put("a", 0, written(3)), put("b", 40, written(2))],
            ),
        ];
        for (name, values, records) in cases {
            assert!(check(&history(&values), &records).is_err(), "{name}");
        }
    }
}
