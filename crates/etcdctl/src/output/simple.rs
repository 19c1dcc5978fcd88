//! The format for people: bare keys and values, one line for everything else.

use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{AlarmMember, AlarmType, LeaseTimeToLiveResponse, TxnResponse};
use proto::mvccpb::{KeyValue, event::EventType};

use super::{Answer, table};

pub fn render(answer: &Answer<'_>, hex: bool, value_only: bool) -> Vec<u8> {
    let mut out = Simple { out: Vec::new(), hex, value_only };
    out.answer(answer);
    out.out
}

struct Simple {
    out: Vec<u8>,
    hex: bool,
    value_only: bool,
}

impl Simple {
    fn answer(&mut self, answer: &Answer<'_>) {
        match answer {
            Answer::Get(r) => r.kvs.iter().for_each(|kv| self.kv(kv)),
            Answer::Put(r) => {
                self.line("OK");
                r.prev_kv.iter().for_each(|kv| self.kv(kv));
            }
            Answer::Delete(r) => {
                self.line(r.deleted);
                r.prev_kvs.iter().for_each(|kv| self.kv(kv));
            }
            Answer::Txn(r) => self.txn(r),
            Answer::Watch(r) => {
                for event in &r.events {
                    self.line(if event.r#type() == EventType::Put { "PUT" } else { "DELETE" });
                    event.prev_kv.iter().chain(&event.kv).for_each(|kv| self.kv(kv));
                }
            }
            Answer::LeaseGrant(r) => self.line(format!("lease {:016x} granted with TTL({}s)", r.id, r.ttl)),
            Answer::LeaseRevoke { id, .. } => self.line(format!("lease {id:016x} revoked")),
            Answer::LeaseKeepAlive(r) => {
                self.line(format!("lease {:016x} keepalived with TTL({})", r.id, r.ttl));
            }
            Answer::LeaseTimeToLive { response, keys } => self.time_to_live(response, *keys),
            Answer::LeaseList(r) => {
                self.line(format!("found {} leases", r.leases.len()));
                r.leases.iter().for_each(|lease| self.line(format!("{:016x}", lease.id)));
            }
            Answer::MemberAdd(r) => {
                let member = r.member.clone().unwrap_or_default();
                let role = if member.is_learner { " as learner " } else { " " };
                let cluster = cluster_id(r.header.as_ref());
                self.line(format!("Member {:16x} added{role}to cluster {cluster:16x}", member.id));
            }
            Answer::MemberRemove { id, response } => {
                self.member(*id, "removed from", cluster_id(response.header.as_ref()));
            }
            Answer::MemberUpdate { id, response } => {
                self.member(*id, "updated in", cluster_id(response.header.as_ref()));
            }
            Answer::MemberPromote { id, response } => {
                self.member(*id, "promoted in", cluster_id(response.header.as_ref()));
            }
            Answer::Alarm(r) => r.alarms.iter().for_each(|alarm| self.line(alarm_text(alarm))),
            Answer::EndpointHealth(all) => {
                for health in all.iter() {
                    let (endpoint, took, error) = (&health.endpoint, health.took(), &health.error);
                    if error.is_empty() {
                        let how = "is healthy: successfully committed proposal: took =";
                        self.line(format!("{endpoint} {how} {took}"));
                    } else {
                        eprintln!("{endpoint} is unhealthy: failed to commit proposal: {error}");
                    }
                }
            }
            Answer::MemberList(_) | Answer::EndpointStatus(_) | Answer::EndpointHashKv(_) => {
                let rows = table::rows(answer).map(|(_, rows)| rows).unwrap_or_default();
                rows.iter().for_each(|row| self.line(row.join(", ")));
            }
            Answer::MoveLeader { from, to, .. } => {
                self.line(format!("Leadership transferred from {from:x} to {to:x}"));
            }
            Answer::Downgrade { action, response } => {
                self.line(format!("Downgrade {action} success, cluster version {}", response.version));
            }
        }
    }

    fn line(&mut self, text: impl std::fmt::Display) {
        self.out.extend_from_slice(format!("{text}\n").as_bytes());
    }

    fn kv(&mut self, kv: &KeyValue) {
        if !self.value_only {
            self.bytes(&kv.key);
        }
        self.bytes(&kv.value);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.hex {
            let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            self.out.extend_from_slice(escaped.as_bytes());
        } else {
            self.out.extend_from_slice(bytes);
        }
        self.out.push(b'\n');
    }

    fn txn(&mut self, txn: &TxnResponse) {
        self.line(if txn.succeeded { "SUCCESS" } else { "FAILURE" });
        for op in &txn.responses {
            self.line("");
            match &op.response {
                Some(Response::ResponseRange(r)) => self.answer(&Answer::Get(r)),
                Some(Response::ResponsePut(r)) => self.answer(&Answer::Put(r)),
                Some(Response::ResponseDeleteRange(r)) => self.answer(&Answer::Delete(r)),
                // A transaction typed here has no others within.
                Some(Response::ResponseTxn(_)) | None => self.line(format!("unexpected response {op:?}")),
            }
        }
    }

    fn time_to_live(&mut self, lease: &LeaseTimeToLiveResponse, keys: bool) {
        if lease.granted_ttl == 0 && lease.ttl == -1 {
            return self.line(format!("lease {:016x} already expired", lease.id));
        }
        let LeaseTimeToLiveResponse { id, ttl, granted_ttl, .. } = lease;
        let text = format!("lease {id:016x} granted with TTL({granted_ttl}s), remaining({ttl}s)");
        self.out.extend_from_slice(text.as_bytes());
        if keys {
            let keys = lease.keys.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>().join(&b' ');
            self.out.extend_from_slice(&[b", attached keys([", &keys[..], b"])"].concat());
        }
        self.line("");
    }

    fn member(&mut self, id: u64, what: &str, cluster: u64) {
        self.line(format!("Member {id:16x} {what} cluster {cluster:16x}"));
    }
}

fn cluster_id(header: Option<&proto::etcdserverpb::ResponseHeader>) -> u64 {
    header.map_or(0, |header| header.cluster_id)
}

fn alarm_text(alarm: &AlarmMember) -> String {
    let mut parts = Vec::new();
    if alarm.member_id != 0 {
        parts.push(format!("memberID:{}", alarm.member_id));
    }
    match alarm.alarm() {
        AlarmType::None => {}
        known => parts.push(format!("alarm:{}", known.as_str_name())),
    }
    parts.join(" ")
}
