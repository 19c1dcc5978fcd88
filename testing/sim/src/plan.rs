//! What kind of run a seed makes: no run has all faults, and each has its own mixture.

use std::collections::BTreeSet;

use raft::{Config, NodeId};

use crate::rng::Rng;

/// How a cluster's first members learn of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Founding {
    /// From a snapshot at index 1 that everybody starts with.
    Snapshot,
    /// From configuration changes at the beginning of everybody's log, as etcd does.
    Entries,
}

/// When a driver puts entries into the storage that raft reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageAppend {
    WhenHandedOut,
    WhenDurable,
}

#[derive(Clone, Debug)]
pub struct Plan {
    /// Everybody who may ever be a member: `1..=members`.
    pub members: u64,
    pub founders: u64,
    pub founding: Founding,
    pub storage_append: StorageAppend,
    pub raft: Config,
    /// Members that wait around elections as etcd does, whatever [`Config::prompt_elections`] says.
    pub as_etcd: BTreeSet<NodeId>,
    /// Per mille of messages.
    pub loss: u64,
    pub duplication: u64,
    /// Per mille of deliveries that take a random message instead of an old one.
    pub reordering: u64,
    /// How often the disks get a turn, in the measure of ticks. Low: many writes are under way at once.
    pub disk_pace: u64,
    /// Per mille of disk events that a slow disk carries out.
    pub slow_disk_speed: u64,
    /// Members whose disks are slow from the beginning.
    pub slow_disks: u64,
    /// Per mille of apply events in which a snapshot that is durable is installed.
    pub install_speed: u64,
    /// Per mille of rejected appends whose hint is lower than it need be, as another version's may be.
    pub low_hints: u64,
    /// The application refuses some committed changes of membership.
    pub refuses_changes: bool,
    /// Two members campaign at once, and crashed ones are back at once.
    pub is_storm: bool,
    pub weights: Weights,
}

/// How often each kind of event is drawn.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    pub propose: u64,
    pub read: u64,
    pub conf_change: u64,
    pub transfer: u64,
    pub campaign: u64,
    pub forget_leader: u64,
    /// Evidence that a leader's process has ended, most of it wrong.
    pub evidence: u64,
    pub compact: u64,
    pub crash: u64,
    pub restart: u64,
    pub partition: u64,
    pub heal: u64,
    pub slow_disk: u64,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Plan {
        let members = 3 + rng.below(5);
        let founders = if rng.chance(800) { members.min(3 + rng.below(5)) } else { 1 + rng.below(members) };
        let max_size_per_msg = rng.pick(&[0, 40, 200, 1 << 20]);
        let (pre_vote, check_quorum) = (rng.chance(500), rng.chance(600));
        let raft = Config {
            pre_vote,
            check_quorum,
            prompt_elections: pre_vote && check_quorum && rng.chance(700),
            max_size_per_msg,
            max_inflight_msgs: rng.pick(&[1, 2, 8, 256]),
            max_inflight_bytes: rng.pick(&[0, 0, max_size_per_msg.max(100)]),
            max_uncommitted_bytes: rng.pick(&[0, 0, 300]),
            max_committed_bytes_per_ready: rng.pick(&[0, 60, 1 << 20]),
            disable_proposal_forwarding: rng.chance(100),
            step_down_on_removal: rng.chance(500),
            election_ticks: rng.pick(&[5, 10]),
            ..Config::new(1)
        };
        let plan = Plan {
            members,
            founders,
            founding: rng.pick(&[Founding::Snapshot, Founding::Entries]),
            storage_append: rng.pick(&[StorageAppend::WhenHandedOut, StorageAppend::WhenDurable]),
            raft,
            as_etcd: (1..=members).filter(|_| rng.chance(150)).collect(),
            loss: rng.pick(&[0, 10, 50, 200]),
            duplication: rng.pick(&[0, 10, 100]),
            reordering: rng.pick(&[0, 50, 300, 1000]),
            disk_pace: rng.pick(&[1, 5, 5]),
            slow_disk_speed: rng.pick(&[10, 100]),
            slow_disks: 0,
            install_speed: rng.pick(&[30, 300, 1000]),
            low_hints: rng.pick(&[0, 0, 300]),
            refuses_changes: rng.chance(400),
            is_storm: false,
            weights: Weights::draw(rng),
        };
        if rng.chance(500) { plan.into_storm(rng) } else { plan }
    }

    /// Few members, and elections without end: where a forgotten vote or a counted old entry shows.
    fn into_storm(mut self, rng: &mut Rng) -> Plan {
        self.is_storm = true;
        self.members = 3 + rng.below(3);
        self.founders = self.members.min(3 + rng.below(3));
        self.raft.pre_vote = rng.chance(150);
        self.raft.check_quorum = rng.chance(150);
        self.raft.prompt_elections &= self.raft.pre_vote && self.raft.check_quorum;
        self.weights.read = rng.pick(&[80, 400]);
        self.weights.campaign = rng.pick(&[10, 40, 150]);
        self.weights.crash = rng.pick(&[0, 20, 80, 300]);
        self.weights.restart = 800;
        self.weights.partition = rng.pick(&[0, 30, 100]);
        self.weights.heal = 60;
        self.weights.conf_change = rng.pick(&[0, 0, 60]);
        if rng.chance(400) {
            // Logs are replaced and replaced again before a slow disk has written any of it, or its member
            // forgets what it promised when it was quicker than its disk.
            self.slow_disks = 1 + rng.below(2);
            self.weights.slow_disk = 0;
            self.weights.crash = rng.pick(&[0, 10, 300]);
            self.weights.campaign = rng.pick(&[40, 150]);
            self.disk_pace = 5;
        }
        self
    }

    /// Without faults, for whoever brings his own.
    pub fn quiet(members: u64, raft: Config) -> Plan {
        Plan {
            members,
            founders: members,
            founding: Founding::Entries,
            storage_append: StorageAppend::WhenHandedOut,
            raft,
            as_etcd: BTreeSet::new(),
            loss: 0,
            duplication: 0,
            reordering: 0,
            disk_pace: 1,
            slow_disk_speed: 0,
            slow_disks: 0,
            install_speed: 1000,
            low_hints: 0,
            refuses_changes: false,
            is_storm: false,
            weights: Weights::default(),
        }
    }

    pub fn config(&self, id: NodeId, seed: u64) -> Config {
        let prompt_elections = self.raft.prompt_elections && !self.as_etcd.contains(&id);
        Config { id, seed, prompt_elections, ..self.raft.clone() }
    }
}

impl Weights {
    fn draw(rng: &mut Rng) -> Weights {
        let evidence = rng.pick(&[0, 10, 150]);
        let mut maybe = |weight: u64| if rng.chance(650) { weight } else { 0 };
        Weights {
            propose: 250,
            read: 80,
            conf_change: maybe(25),
            transfer: maybe(8),
            campaign: maybe(8),
            forget_leader: maybe(4),
            evidence,
            compact: maybe(30),
            crash: maybe(20),
            restart: 40,
            partition: maybe(10),
            heal: 12,
            slow_disk: maybe(10),
        }
    }
}
