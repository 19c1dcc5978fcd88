//! `/debug/vars`: what this process can honestly say in the form of Go's expvar.

use serde_json::json;

use super::Shared;

impl Shared {
    pub(super) fn variables(&self) -> String {
        let raft = self.server.raft();
        let state = match (self.server.is_leader(), self.server.is_learner()) {
            (true, _) => "StateLeader",
            (false, true) => "StateLearner",
            (false, false) => "StateFollower",
        };
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        json!({
            "cmdline": std::env::args().collect::<Vec<_>>(),
            "file_descriptor_limit": limit,
            "raft.status": {
                "id": format!("{:x}", self.server.member_id().0),
                "term": raft.term(),
                "commit": raft.committed(),
                "applied": raft.applied(),
                "lead": format!("{:x}", raft.leader().map_or(0, |leader| leader.0)),
                "raftState": state,
            },
            "etcd.version": server::SERVER_VERSION,
        })
        .to_string()
    }
}
