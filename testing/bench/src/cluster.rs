//! Clusters of both programs under the same load. The leader is asked for before every slice: a slice after an
//! election goes to the new one.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::load::{Pool, Slice};
use crate::mixture::{self, Mixture};
use crate::rows::{Side, fill};
use crate::server::Server;
use crate::work::{Get, Put, Update};
use crate::{Failure, Plan};

/// How long an election may take.
const LEADER_PATIENCE: Duration = Duration::from_secs(60);

pub struct ClusterRow {
    pub name: &'static str,
    clients: usize,
    /// To each of the members that are asked.
    connections: usize,
    /// Operations of one slice.
    ops: u64,
    asked: Asked,
    kind: Kind,
}

/// Which members the clients talk to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Leader,
    Followers,
    All,
}

#[derive(Clone, Copy)]
enum Kind {
    Put,
    Get,
    Update,
    Mixture,
}

const fn row(
    name: &'static str,
    clients: usize,
    connections: usize,
    ops: u64,
    asked: Asked,
    kind: Kind,
) -> ClusterRow {
    ClusterRow { name, clients, connections, ops, asked, kind }
}

pub const ROWS: &[ClusterRow] = &[
    row("put1-leader", 1, 1, 600, Asked::Leader, Kind::Put),
    row("put1-all", 1, 1, 600, Asked::All, Kind::Put),
    row("put100-leader", 100, 10, 10_000, Asked::Leader, Kind::Put),
    row("put100-all", 100, 4, 10_000, Asked::All, Kind::Put),
    row("put1000-leader", 1_000, 100, 20_000, Asked::Leader, Kind::Put),
    row("put1000-all", 1_000, 34, 20_000, Asked::All, Kind::Put),
    row("get-followers", 100, 5, 20_000, Asked::Followers, Kind::Get),
    row("txn-all", 100, 4, 10_000, Asked::All, Kind::Update),
    row("mixture", 100, 4, 6_000, Asked::All, Kind::Mixture),
];

/// One program's members.
pub struct Cluster {
    pub members: Vec<Server>,
}

impl Cluster {
    /// One cluster of each program, in folders of their own.
    pub fn start_all(plan: &Plan, home: &Path, row: &str) -> Result<Vec<Cluster>, Failure> {
        let programs = plan.programs.iter().enumerate();
        programs
            .map(|(side, program)| {
                let folder = home.join(format!("{row}-{side}"));
                Ok(Cluster { members: Server::start_cluster(program, &folder, plan.members)? })
            })
            .collect()
    }

    /// Where the leader is among the members: what a majority of those that answer says.
    pub fn leader(&self) -> Result<usize, Failure> {
        let begun = Instant::now();
        loop {
            let statuses: Vec<_> = self.members.iter().map(|member| member.status().ok()).collect();
            let leads = |at: usize| {
                let id =
                    statuses[at].as_ref().and_then(|status| status.header.as_ref()).map(|it| it.member_id);
                let votes = statuses.iter().flatten().filter(|status| Some(status.leader) == id);
                id.is_some() && votes.count() > self.members.len() / 2
            };
            if let Some(leader) = (0..self.members.len()).find(|at| leads(*at)) {
                return Ok(leader);
            }
            if begun.elapsed() > LEADER_PATIENCE {
                return Err(Failure(format!("no leader within {LEADER_PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn addresses(&self, asked: Asked) -> Result<Vec<SocketAddr>, Failure> {
        let leader = self.leader()?;
        let members = self.members.iter().enumerate();
        let chosen = members.filter(|(at, _)| match asked {
            Asked::Leader => *at == leader,
            Asked::Followers => *at != leader,
            Asked::All => true,
        });
        Ok(chosen.map(|(_, member)| member.address).collect())
    }
}

/// The clients of one cluster.
struct Clients {
    addresses: Vec<SocketAddr>,
    /// More than one when there are fewer clients than members: they then ask one after the other.
    pools: Vec<Pool>,
    load: Load,
}

enum Load {
    Put(Put),
    Get(Get),
    Update(Update),
    Mixture(Mixture),
}

impl Clients {
    /// Connects, or again when there is another leader.
    fn connect(&mut self, row: &ClusterRow, cluster: &Cluster) -> Result<(), Failure> {
        let addresses = cluster.addresses(row.asked)?;
        if addresses == self.addresses {
            return Ok(());
        }
        self.pools = if row.clients < addresses.len() {
            addresses.iter().map(|address| Pool::open(*address, row.connections)).collect::<Result<_, _>>()?
        } else {
            vec![Pool::open_all(&addresses, row.connections)?]
        };
        if let Load::Mixture(_) = self.load {
            self.pools.iter_mut().try_for_each(mixture::open_watchers)?;
        }
        self.addresses = addresses;
        Ok(())
    }

    fn run(&mut self, clients: usize, ops: u64) -> Result<Slice, Failure> {
        let ops = ops.div_ceil(self.pools.len() as u64);
        let mut slice = Slice::default();
        for pool in &mut self.pools {
            slice.add(&match &mut self.load {
                Load::Put(work) => pool.run(clients, ops, work),
                Load::Get(work) => pool.run(clients, ops, work),
                Load::Update(work) => pool.run(clients, ops, work),
                Load::Mixture(work) => pool.run(clients, ops, work),
            }?);
        }
        Ok(slice)
    }
}

pub fn run(row: &ClusterRow, plan: &Plan, home: &Path) -> Result<Vec<Side>, Failure> {
    let clusters = Cluster::start_all(plan, home, row.name)?;
    let mut all = Vec::new();
    let ops = plan.sized(row.ops);
    for cluster in &clusters {
        let first = &cluster.members[cluster.leader()?];
        let load = match row.kind {
            Kind::Put => Load::Put(Put::new("put/", 10_000, 256)),
            Kind::Get => {
                fill(first, "get/", 10_000, 256)?;
                Load::Get(Get::LINEARIZABLE)
            }
            Kind::Update => Load::Update(Update::new(row.clients, 1024)),
            Kind::Mixture => Load::Mixture(Mixture::prepare(first, row.clients)?),
        };
        let mut clients = Clients { addresses: Vec::new(), pools: Vec::new(), load };
        clients.connect(row, cluster)?;
        // The first slice warms up and is not counted.
        clients.run(row.clients, (ops / 10).max(1))?;
        all.push(clients);
    }
    let mut sides = vec![Side::default(); clusters.len()];
    let started = Instant::now();
    loop {
        for ((cluster, clients), side) in clusters.iter().zip(&mut all).zip(&mut sides) {
            clients.connect(row, cluster)?;
            side.measure(&cluster.members, || clients.run(row.clients, ops))?;
        }
        if started.elapsed() >= plan.row_time {
            return Ok(sides);
        }
    }
}
