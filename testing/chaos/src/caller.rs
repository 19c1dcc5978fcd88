//! One client: it calls, waits as long as it may, and notes exactly what is known of the end.

use std::sync::Arc;
use std::time::Duration;

use client::Client;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, RangeResponse,
    ResponseHeader,
};
use tokio::time::error::Elapsed;
use tonic::{Code, Request, Status};

use crate::cluster::Cluster;
use crate::failure::Outcome as Done;
use crate::history::{Record, Recorder};
use crate::liar::Liar;
use crate::operation::{Answer, Call, Operation, Outcome};
use crate::probe::{Message, Probe};
use crate::wire;

/// Connections are made anew at most this often after calls that found none.
const REDIAL_PAUSE: Duration = Duration::from_millis(200);
/// How long a call may wait for a connection: members that are down shall not hold up the load.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const NEVER_SENT: &str = "never sent";

pub struct Caller {
    id: u32,
    cluster: Arc<Cluster>,
    recorder: Arc<Recorder>,
    liar: Arc<Liar>,
    /// By slot; dialled when first needed.
    clients: Vec<Option<Client>>,
}

/// Header and answer of a call.
type Reply = Result<(Option<ResponseHeader>, Answer), Status>;

impl Caller {
    pub fn new(id: u32, cluster: &Arc<Cluster>, liar: &Arc<Liar>) -> Caller {
        Caller {
            id,
            cluster: Arc::clone(cluster),
            recorder: Arc::clone(&cluster.recorder),
            liar: Arc::clone(liar),
            clients: cluster.slots().map(|_| None).collect(),
        }
    }

    /// Calls the member in this slot and notes what came of it.
    pub async fn call(&mut self, member: usize, call: Call, limit: Duration) -> Done<Outcome> {
        let client = match &self.clients[member] {
            Some(client) => client.clone(),
            None => self.clients[member].insert(self.cluster.client(member)?).clone(),
        };
        let id = self.recorder.next_operation();
        let called = self.recorder.now();
        let (probe, message) = Probe::new(client.transport());
        let sent = self.liar.changes_call(&call);
        let reply = within(limit, send(probe, sent.as_ref().unwrap_or(&call), limit), &message).await;
        let mut term = 0;
        let mut outcome = match reply {
            Ok(Ok((header, answer))) => {
                term = header.as_ref().map_or(0, |header| header.raft_term);
                Outcome::Answered { revision: wire::revision(header.as_ref()), answer }
            }
            _ if message.withdraw() => Outcome::Refused { why: NEVER_SENT.to_owned() },
            Ok(Err(status)) if is_refusal(&status) => Outcome::Refused { why: status.message().to_owned() },
            Ok(Err(status)) => Outcome::Unknown { why: format!("{:?}: {}", status.code(), status.message()) },
            Err(_) => Outcome::Unknown { why: "no answer in time".to_owned() },
        };
        self.liar.changes_outcome(&call, &mut outcome);
        let finished = self.recorder.now();
        let client = self.id;
        let operation =
            Operation { id, client, member, called, finished, term, call, outcome: outcome.clone() };
        self.recorder.note(Record::Operation(operation));
        if matches!(&outcome, Outcome::Refused { why } if why == NEVER_SENT) {
            // The connection's own pauses grow; a new one begins at once.
            self.clients[member] = None;
            tokio::time::sleep(REDIAL_PAUSE).await;
        }
        Ok(outcome)
    }
}

/// Waits for the reply, for as long as the call may take.
async fn within(
    limit: Duration,
    reply: impl Future<Output = Reply>,
    message: &Message,
) -> Result<Reply, Elapsed> {
    tokio::pin!(reply);
    match tokio::time::timeout(CONNECT_LIMIT, &mut reply).await {
        Err(elapsed) if message.withdraw() => Err(elapsed),
        Err(_) => tokio::time::timeout(limit.saturating_sub(CONNECT_LIMIT), reply).await,
        reply => reply,
    }
}

async fn send(probe: Probe, call: &Call, limit: Duration) -> Reply {
    let mut kv = KvClient::new(probe.clone()).max_decoding_message_size(64 << 20);
    match call {
        Call::Put(put) => {
            let response = kv.put(timed(wire::put(put), limit)).await?.into_inner();
            Ok((response.header, wire::put_answer(response)))
        }
        Call::Range(range) if range.streamed => {
            let mut pieces = kv.range_stream(timed(wire::range(range), limit)).await?.into_inner();
            let mut whole = RangeResponse::default();
            while let Some(piece) = pieces.message().await? {
                wire::add_piece(&mut whole, piece);
            }
            Ok((whole.header, wire::range_answer(whole)))
        }
        Call::Range(range) => {
            let response = kv.range(timed(wire::range(range), limit)).await?.into_inner();
            Ok((response.header, wire::range_answer(response)))
        }
        Call::Delete(delete) => {
            let response = kv.delete_range(timed(wire::delete(delete), limit)).await?.into_inner();
            Ok((response.header, wire::delete_answer(response)))
        }
        Call::Txn(txn) => {
            let response = kv.txn(timed(wire::txn(txn), limit)).await?.into_inner();
            Ok((response.header, wire::txn_answer(response)))
        }
        Call::Compact { revision, physical } => {
            let request = CompactionRequest { revision: *revision, physical: *physical };
            let response = kv.compact(timed(request, limit)).await?.into_inner();
            Ok((response.header, Answer::Compact))
        }
        Call::Grant { .. } | Call::Revoke { .. } | Call::KeepAlive { .. } => {
            send_lease(LeaseClient::new(probe), call, limit).await
        }
    }
}

async fn send_lease(mut leases: LeaseClient<Probe>, call: &Call, limit: Duration) -> Reply {
    match call {
        Call::Grant { lease, ttl_secs } => {
            let request = LeaseGrantRequest { id: *lease, ttl: *ttl_secs };
            let response = leases.lease_grant(timed(request, limit)).await?.into_inner();
            Ok((response.header, Answer::Grant { ttl_secs: response.ttl }))
        }
        Call::Revoke { lease } => {
            let response = leases.lease_revoke(timed(LeaseRevokeRequest { id: *lease }, limit)).await?;
            Ok((response.into_inner().header, Answer::Revoke))
        }
        Call::KeepAlive { lease } => {
            let once = futures_util::stream::iter([LeaseKeepAliveRequest { id: *lease }]);
            let mut responses = leases.lease_keep_alive(timed(once, limit)).await?.into_inner();
            let response = responses.message().await?;
            let response = response.ok_or_else(|| Status::unavailable("the stream ended"))?;
            Ok((response.header, Answer::KeepAlive { ttl_secs: response.ttl }))
        }
        _ => Err(Status::internal("no call about leases")),
    }
}

fn timed<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// A member's word that the call had no effect. Everything that is not surely that is unknown.
fn is_refusal(status: &Status) -> bool {
    let text = status.message();
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => true,
        Code::ResourceExhausted => text.starts_with("etcdserver: "),
        // Compat: etcd loses the code of this one.
        Code::Unknown => text == "etcdserver: too many requests",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_word_is_a_refusal() {
        for (status, expected) in [
            (Status::out_of_range("etcdserver: mvcc: required revision has been compacted"), true),
            (Status::unknown("etcdserver: too many requests"), true),
            (Status::resource_exhausted("etcdserver: mvcc: database space exceeded"), true),
            (Status::resource_exhausted("stream terminated by RST_STREAM"), false),
            (Status::unavailable("etcdserver: request timed out"), false),
            (Status::unavailable("etcdserver: leader changed"), false),
            (Status::cancelled("etcdserver: request canceled"), false),
            (Status::unknown("anything"), false),
            (Status::deadline_exceeded("context deadline exceeded"), false),
        ] {
            assert_eq!(is_refusal(&status), expected, "{status:?}");
        }
    }
}
