//! One `"Name" : value` a line.

use golang::quote::quote;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{AlarmType, Member, ResponseHeader, StatusResponse, TxnResponse};
use proto::mvccpb::{KeyValue, event::EventType};

use super::Answer;

/// `None`: this answer has no such form.
pub fn render(answer: &Answer<'_>, hex: bool) -> Option<Vec<u8>> {
    let mut out = Fields { out: String::new(), hex };
    out.answer(answer)?;
    Some(out.out.into_bytes())
}

struct Fields {
    out: String,
    hex: bool,
}

impl Fields {
    fn answer(&mut self, answer: &Answer<'_>) -> Option<()> {
        match answer {
            Answer::Get(r) => {
                self.header(r.header.as_ref());
                r.kvs.iter().for_each(|kv| self.kv("", kv));
                self.field("More", r.more);
                self.field("Count", r.count);
            }
            Answer::Put(r) => {
                self.header(r.header.as_ref());
                r.prev_kv.iter().for_each(|kv| self.kv("Prev", kv));
            }
            Answer::Delete(r) => {
                self.header(r.header.as_ref());
                self.field("Deleted", r.deleted);
                r.prev_kvs.iter().for_each(|kv| self.kv("Prev", kv));
            }
            Answer::Txn(r) => self.txn(r)?,
            Answer::Watch(r) => {
                self.header(r.header.as_ref());
                for event in &r.events {
                    let put = event.r#type() == EventType::Put;
                    self.field("Type", if put { "PUT" } else { "DELETE" });
                    event.prev_kv.iter().for_each(|kv| self.kv("Prev", kv));
                    self.kv("", &event.kv.clone().unwrap_or_default());
                }
            }
            Answer::LeaseGrant(r) => {
                self.header(r.header.as_ref());
                self.lease("ID", r.id);
                self.field("TTL", r.ttl);
            }
            Answer::LeaseRevoke { response, .. } => self.header(response.header.as_ref()),
            Answer::LeaseKeepAlive(r) => {
                self.header(r.header.as_ref());
                self.lease("ID", r.id);
                self.field("TTL", r.ttl);
            }
            Answer::LeaseTimeToLive { response: r, .. } => {
                self.header(r.header.as_ref());
                self.lease("ID", r.id);
                self.field("TTL", r.ttl);
                self.field("GrantedTTL", r.granted_ttl);
                r.keys.iter().for_each(|key| self.field("Key", quote(key)));
            }
            Answer::LeaseList(r) => {
                self.header(r.header.as_ref());
                r.leases.iter().for_each(|lease| self.lease("ID", lease.id));
            }
            Answer::MemberList(r) => {
                self.header(r.header.as_ref());
                r.members.iter().for_each(|member| self.member(member));
            }
            Answer::Alarm(r) => {
                self.header(r.header.as_ref());
                for alarm in &r.alarms {
                    self.id("MemberID", alarm.member_id);
                    let name = AlarmType::try_from(alarm.alarm).map(|known| known.as_str_name());
                    self.field("AlarmType", name.unwrap_or("UNKNOWN"));
                    self.blank();
                }
            }
            Answer::EndpointHealth(all) => {
                for health in all.iter() {
                    self.field("Endpoint", quote(health.endpoint.as_bytes()));
                    self.field("Health", health.healthy);
                    self.field("Took", health.took());
                    self.field("Error", &health.error);
                    self.blank();
                }
            }
            Answer::EndpointStatus(all) => {
                all.iter().for_each(|(endpoint, status)| self.status(endpoint, status));
            }
            Answer::EndpointHashKv(all) => {
                for (endpoint, r) in all.iter() {
                    self.header(r.header.as_ref());
                    self.field("Endpoint", quote(endpoint.as_bytes()));
                    self.field("Hash", r.hash);
                    self.field("HashRevision", r.hash_revision);
                    self.blank();
                }
            }
            Answer::MemberAdd(_)
            | Answer::MemberRemove { .. }
            | Answer::MemberUpdate { .. }
            | Answer::MemberPromote { .. }
            | Answer::MoveLeader { .. }
            | Answer::Downgrade { .. } => return None,
        }
        Some(())
    }

    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        self.out += &format!("\"{name}\" : {value}\n");
    }

    fn blank(&mut self) {
        self.out.push('\n');
    }

    fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    fn lease(&mut self, name: &str, id: i64) {
        if self.hex { self.field(name, format_args!("{id:016x}")) } else { self.field(name, id) }
    }

    /// A missing header prints as an empty one.
    fn header(&mut self, header: Option<&ResponseHeader>) {
        let header = header.cloned().unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    fn kv(&mut self, prefix: &str, kv: &KeyValue) {
        self.field(&format!("{prefix}Key"), quote(&kv.key));
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.field(&format!("{prefix}Value"), quote(&kv.value));
        self.lease(&format!("{prefix}Lease"), kv.lease);
    }

    fn txn(&mut self, txn: &TxnResponse) -> Option<()> {
        self.header(txn.header.as_ref());
        self.field("Succeeded", txn.succeeded);
        for op in &txn.responses {
            match &op.response {
                Some(Response::ResponseRange(r)) => self.answer(&Answer::Get(r))?,
                Some(Response::ResponsePut(r)) => self.answer(&Answer::Put(r))?,
                Some(Response::ResponseDeleteRange(r)) => self.answer(&Answer::Delete(r))?,
                Some(Response::ResponseTxn(_)) | None => {
                    self.field("Unknown", quote(format!("{op:?}").as_bytes()));
                }
            }
        }
        Some(())
    }

    fn member(&mut self, member: &Member) {
        self.id("ID", member.id);
        self.field("Name", quote(member.name.as_bytes()));
        member.peer_ur_ls.iter().for_each(|url| self.field("PeerURL", quote(url.as_bytes())));
        member.client_ur_ls.iter().for_each(|url| self.field("ClientURL", quote(url.as_bytes())));
        self.field("IsLearner", member.is_learner);
        self.blank();
    }

    fn status(&mut self, endpoint: &str, status: &StatusResponse) {
        let downgrade = status.downgrade_info.clone().unwrap_or_default();
        self.header(status.header.as_ref());
        self.field("Version", quote(status.version.as_bytes()));
        self.field("StorageVersion", quote(status.storage_version.as_bytes()));
        self.field("DBSize", status.db_size);
        self.field("DBSizeInUse", status.db_size_in_use);
        self.field("DBSizeQuota", status.db_size_quota);
        self.field("Leader", status.leader);
        self.field("IsLearner", status.is_learner);
        self.field("RaftIndex", status.raft_index);
        self.field("RaftAppliedIndex", status.raft_applied_index);
        self.field("Errors", format_args!("[{}]", status.errors.join(" ")));
        self.field("Endpoint", quote(endpoint.as_bytes()));
        self.field("DowngradeTargetVersion", quote(downgrade.target_version.as_bytes()));
        self.field("DowngradeEnabled", downgrade.enabled);
        self.blank();
    }
}
