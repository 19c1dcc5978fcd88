//! Clients: each makes one call of one member and notes what became of it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, compare,
    request_op,
};
use server::{Clock, Error, ReadMode, Server};

use crate::history::{Call, Outcome, Record};

/// What all clients share.
#[derive(Clone)]
pub struct Notes {
    pub records: Arc<Mutex<Vec<Record>>>,
    pub clock: Clock,
}

pub fn nanos(clock: &Clock) -> u64 {
    clock.elapsed().as_nanos() as u64
}

/// Makes the call and notes its outcome, if there ever is one.
pub async fn call(server: Server, call: Call, notes: Notes) {
    let invoked = nanos(&notes.clock);
    // Until there is an answer, if there ever is one.
    let outcome = Outcome::Unknown;
    let at = {
        let mut records = notes.records.lock();
        records.push(Record { call: call.clone(), invoked, returned: u64::MAX, outcome });
        records.len() - 1
    };
    let outcome = carry_out(&server, &call).await.unwrap_or_else(|error| failure(&error));
    let returned = nanos(&notes.clock);
    let record = &mut notes.records.lock()[at];
    (record.returned, record.outcome) = (returned, outcome);
}

/// What an error says about whether the call was carried out.
fn failure(error: &Error) -> Outcome {
    match error {
        Error::TooManyRequests
        | Error::NoLeader
        | Error::LeaseNotFound
        | Error::LeaseExists
        | Error::KeyNotFound
        | Error::Compacted
        | Error::FutureRevision
        | Error::NoSpace
        | Error::RequestTooLarge => Outcome::Failed,
        _ => Outcome::Unknown,
    }
}

async fn carry_out(server: &Server, call: &Call) -> Result<Outcome, Error> {
    match call.clone() {
        Call::Put { key, value, lease } => {
            let put = PutRequest { key, value, lease, ..PutRequest::default() };
            let answer = server.put(put).await?;
            Ok(Outcome::Written { revision: answer.revision.to_wire() })
        }
        Call::Delete { key } => {
            let delete = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
            let answer = server.delete_range(delete).await?;
            Ok(Outcome::Deleted { revision: answer.revision.to_wire(), count: answer.deleted })
        }
        Call::Cas { key, expected, value } => {
            let (revision, txn) = server.txn(cas(key, expected, value)).await?;
            Ok(Outcome::Compared { succeeded: txn.succeeded, revision: revision.to_wire() })
        }
        Call::Get { key, linearizable } => {
            let mode = if linearizable { ReadMode::Linearizable } else { ReadMode::Serializable };
            let view = server.view_for(mode).await?;
            get(server, &view, key)
        }
        Call::Grant { ttl_secs } => {
            let (id, _) = server.lease_grant(None, ttl_secs).await?;
            Ok(Outcome::Granted { lease: id.0 })
        }
        Call::KeepAlive { lease } => {
            let ttl_secs = server.lease_renew(lease::LeaseId(lease)).await?;
            Ok(Outcome::Kept { alive: ttl_secs.is_some() })
        }
        Call::Compact { revision } => {
            server.compact(CompactionRequest { revision, physical: false }).await?;
            Ok(Outcome::Done)
        }
    }
}

fn get(server: &Server, view: &Arc<mvcc::View>, key: Bytes) -> Result<Outcome, Error> {
    let answer = server.read_range(view, RangeRequest { key, ..RangeRequest::default() })?;
    let found = answer.records.first().map(|record| {
        let record = mvcc::Record::parse(record).expect("the store's records are well-formed");
        (record.mod_revision, Bytes::copy_from_slice(record.value))
    });
    Ok(Outcome::Got { revision: view.revision().to_wire(), found })
}

fn cas(key: Bytes, expected: i64, value: Bytes) -> TxnRequest {
    let compare = Compare {
        result: compare::CompareResult::Equal as i32,
        target: compare::CompareTarget::Mod as i32,
        key: key.clone(),
        target_union: Some(compare::TargetUnion::ModRevision(expected)),
        ..Compare::default()
    };
    let put = PutRequest { key, value, ..PutRequest::default() };
    let success = vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }];
    TxnRequest { compare: vec![compare], success, failure: Vec::new() }
}
