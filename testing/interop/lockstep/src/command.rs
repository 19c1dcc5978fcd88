//! What is done to a member, the same on both sides.

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeV2, ConfState, Config, Index, Message, NodeId, ReadOnlyOption, SnapshotStatus,
    codec,
};

use crate::trace::{put_bytes, put_number};

/// When the storage that the core reads gets what is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// When it is handed out.
    AtOnce,
    WhenDurable,
}

#[derive(Clone, Debug)]
pub enum Command {
    /// Starts a member; the first ones share a snapshot at `first` that names the members.
    Boot {
        config: Config,
        first: Index,
        conf_state: ConfState,
        append: Append,
    },
    Tick,
    Campaign,
    Propose(Bytes),
    ProposeConfChange(ConfChange),
    ProposeConfChangeV2(ConfChangeV2),
    Step(Message),
    /// Takes out what is to be done.
    Ready,
    /// The oldest write is durable.
    Persisted,
    /// The oldest batch of committed entries is applied.
    Applied,
    ReadIndex(Bytes),
    TransferLeader(NodeId),
    ReportUnreachable(NodeId),
    ReportSnapshot(NodeId, SnapshotStatus),
    ForgetLeader,
    /// Makes a snapshot at `index` and drops entries up to `end`.
    Compact {
        index: Index,
        end: Index,
        conf_state: ConfState,
        data: Bytes,
    },
    /// Loses all but what is durable, including `writes` that became durable without an acknowledgement.
    Restart {
        writes: usize,
    },
}

impl Command {
    /// Appends it as the Go side reads it.
    pub fn encode(&self, id: NodeId, draws: &[u8], out: &mut Vec<u8>) {
        let mut arguments = Vec::new();
        let number = self.encode_arguments(&mut arguments);
        put_number(out, number);
        put_number(out, id);
        put_bytes(out, draws);
        put_bytes(out, &arguments);
    }

    fn encode_arguments(&self, out: &mut Vec<u8>) -> u64 {
        match self {
            Command::Boot { config, first, conf_state, append } => {
                encode_config(config, out);
                put_number(out, u64::from(*append == Append::AtOnce));
                put_number(out, first.0);
                for ids in [&conf_state.voters, &conf_state.learners] {
                    put_number(out, ids.len() as u64);
                    ids.iter().for_each(|&id| put_number(out, id));
                }
                0
            }
            Command::Tick => 1,
            Command::Campaign => 2,
            Command::Propose(data) => {
                put_bytes(out, data);
                3
            }
            Command::ProposeConfChange(change) => {
                put_bytes(out, &codec::encode_conf_change(change));
                4
            }
            Command::ProposeConfChangeV2(change) => {
                put_bytes(out, &codec::encode_conf_change_v2(change));
                5
            }
            Command::Step(message) => {
                put_bytes(out, &codec::encode_message(message));
                6
            }
            Command::Ready => 7,
            Command::Persisted => 8,
            Command::Applied => 9,
            Command::ReadIndex(context) => {
                put_bytes(out, context);
                10
            }
            Command::TransferLeader(to) => {
                put_number(out, *to);
                11
            }
            Command::ReportUnreachable(to) => {
                put_number(out, *to);
                12
            }
            Command::ReportSnapshot(to, status) => {
                put_number(out, *to);
                put_number(out, u64::from(*status == SnapshotStatus::Finished));
                13
            }
            Command::ForgetLeader => 14,
            Command::Compact { index, end, conf_state, data } => {
                put_number(out, index.0);
                put_number(out, end.0);
                put_bytes(out, &codec::encode_conf_state(conf_state));
                put_bytes(out, data);
                15
            }
            Command::Restart { writes } => {
                put_number(out, *writes as u64);
                16
            }
        }
    }
}

fn encode_config(config: &Config, out: &mut Vec<u8>) {
    for number in [
        u64::from(config.election_ticks),
        u64::from(config.heartbeat_ticks),
        u64::from(config.pre_vote),
        u64::from(config.check_quorum),
        config.max_size_per_msg,
        config.max_inflight_msgs as u64,
        config.max_inflight_bytes,
        config.max_uncommitted_bytes,
        config.max_committed_bytes_per_ready,
        u64::from(config.disable_proposal_forwarding),
        u64::from(config.step_down_on_removal),
        u64::from(config.read_only == ReadOnlyOption::LeaseBased),
        u64::from(config.disable_conf_change_validation),
    ] {
        put_number(out, number);
    }
}
