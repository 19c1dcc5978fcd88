//! Single records of the file's buckets, and a store restored from many.

use std::sync::Arc;

use apply::Alarms;
use membership::{Bucket, Cluster, MemberChange};
use mvcc::{CompactionsOnFile, MemorySource, Record, RecordKey, RecordWriter, Revision, RevisionPair, Store};

pub fn records(data: &[u8]) {
    let (key, value) = data.split_at(data.len().min(8));
    let _ = Record::parse(data);
    let _ = RecordKey::from_bytes(data);
    let _ = lease::Record::decode(key, value);
    let _ = Alarms::restore([data]);
    let _ = MemberChange::from_add_context(data, false);
    let _ = MemberChange::from_update_context(data);
    for bucket in [Bucket::Members, Bucket::MembersRemoved, Bucket::Cluster] {
        let _ = Cluster::restore([(bucket, key, value)]);
        let _ = Cluster::restore([(bucket, &b"8e9e05c52164694d"[..], data)]);
        let _ = Cluster::restore([(bucket, &b"downgrade"[..], data)]);
        let _ = Cluster::restore([(bucket, &b"clusterVersion"[..], data)]);
    }
}

pub fn record_seeds() -> Vec<Vec<u8>> {
    let mut seeds = restore_seeds();
    seeds.push(
        br#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default"}"#.to_vec(),
    );
    seeds.push(br#"{"target-version":"3.6.0","enabled":true}"#.to_vec());
    seeds.push(b"3.7.0".to_vec());
    let lease = lease::Record { id: lease::LeaseId(7), ttl_secs: 60, remaining_ttl_secs: 0 };
    seeds.push([&lease::Record::key(lease.id)[..], &lease.value()].concat());
    seeds
}

/// The bytes are keys and values, each behind one byte that tells its length.
pub fn restore(mut data: &[u8]) {
    let mut next = || {
        let (len, rest) = data.split_first()?;
        let (field, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        Some(field.to_vec())
    };
    let mut source = MemorySource::default();
    while let (Some(key), Some(value)) = (next(), next()) {
        source.insert(key, value);
    }
    let _ = Store::restore(Arc::new(source), CompactionsOnFile::default(), &mut |_, _| {});
}

pub fn restore_seeds() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = RecordWriter::default();
    for number in 2..12_u64 {
        let revision = Revision::new(number).expect("not zero");
        let pair = RevisionPair::new(revision, 0);
        let tombstone = writer.tombstone(b"a", revision);
        let (key, value) = match number % 5 {
            4 => (RecordKey::tombstone(pair).to_bytes().as_ref().to_vec(), b"\x0a\x01a".to_vec()),
            _ => (
                RecordKey::put(pair).to_bytes().as_ref().to_vec(),
                vec![10, 1, b'a', 16, 2, 24, number as u8, 32, 1, 42, 1, b'v'],
            ),
        };
        drop(tombstone);
        for field in [key, value] {
            bytes.push(field.len() as u8);
            bytes.extend(field);
        }
    }
    vec![bytes]
}
