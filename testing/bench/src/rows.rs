//! The rows that are one closed loop each.

use std::path::Path;
use std::time::Instant;

use crate::load::{Pool, Slice};
use crate::server::{Memory, Server};
use crate::work::{Get, List, Put, RANGE, RANGE_STREAM, Update};
use crate::{Failure, Plan};

pub struct Row {
    pub name: &'static str,
    clients: usize,
    connections: usize,
    /// Operations of one slice.
    ops: u64,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Put,
    Get(Get),
    /// So many keys of 1 KiB.
    List(&'static str, u64),
    Update,
}

const fn row(name: &'static str, clients: usize, connections: usize, ops: u64, kind: Kind) -> Row {
    Row { name, clients, connections, ops, kind }
}

pub const ROWS: &[Row] = &[
    row("put1", 1, 1, 1_000, Kind::Put),
    row("put100", 100, 10, 20_000, Kind::Put),
    row("put1000", 1_000, 100, 20_000, Kind::Put),
    row("get", 100, 10, 40_000, Kind::Get(Get::LINEARIZABLE)),
    row("sget", 100, 10, 40_000, Kind::Get(Get::SERIALIZABLE)),
    row("list1", 1, 1, 20, Kind::List(RANGE, 10_000)),
    row("list4", 4, 4, 20, Kind::List(RANGE, 10_000)),
    row("stream1", 1, 1, 20, Kind::List(RANGE_STREAM, 10_000)),
    row("stream4", 4, 4, 20, Kind::List(RANGE_STREAM, 10_000)),
    row("list100k", 1, 1, 2, Kind::List(RANGE, 100_000)),
    row("txn", 100, 10, 20_000, Kind::Update),
];

/// What one server did in all slices of a row.
#[derive(Clone, Default)]
pub struct Side {
    pub slice: Slice,
    /// Of all members together.
    pub cpu_seconds: f64,
    /// Highest of each, and of the members.
    pub memory: Memory,
}

impl Side {
    /// Runs one slice and adds it.
    pub fn measure(
        &mut self,
        members: &[Server],
        run: impl FnOnce() -> Result<Slice, Failure>,
    ) -> Result<(), Failure> {
        members.iter().try_for_each(Server::forget_peak)?;
        let cpu_seconds = || members.iter().map(Server::cpu_seconds).sum::<Result<f64, Failure>>();
        let cpu_before = cpu_seconds()?;
        self.slice.add(&run()?);
        self.cpu_seconds += cpu_seconds()? - cpu_before;
        for member in members {
            let memory = member.memory()?;
            self.memory.peak = self.memory.peak.max(memory.peak);
            self.memory.anonymous = self.memory.anonymous.max(memory.anonymous);
        }
        Ok(())
    }
}

/// One member of each program, in folders of their own.
pub fn start_all(plan: &Plan, home: &Path, row: &str) -> Result<Vec<Server>, Failure> {
    let programs = plan.programs.iter().enumerate();
    programs.map(|(side, program)| Server::start(program, &home.join(format!("{row}-{side}")))).collect()
}

pub fn run(row: &Row, plan: &Plan, home: &Path) -> Result<Vec<Side>, Failure> {
    let servers = start_all(plan, home, row.name)?;
    let mut clients = Vec::new();
    for server in &servers {
        match row.kind {
            Kind::Get(_) => fill(server, "get/", 10_000, 256)?,
            Kind::List(_, keys) => fill(server, "list/", keys, 1024)?,
            Kind::Put | Kind::Update => {}
        }
        let pool = Pool::open(server.address, row.connections)?;
        clients.push((pool, Load::new(row)));
    }
    let mut sides = vec![Side::default(); servers.len()];
    let ops = plan.sized(row.ops);
    // The first slice warms up and is not counted.
    for (pool, load) in &mut clients {
        load.run(pool, row.clients, (ops / 10).max(1))?;
    }
    let started = Instant::now();
    loop {
        for ((server, (pool, load)), side) in servers.iter().zip(&mut clients).zip(&mut sides) {
            side.measure(std::slice::from_ref(server), || load.run(pool, row.clients, ops))?;
        }
        if started.elapsed() >= plan.row_time {
            return Ok(sides);
        }
    }
}

pub fn fill(server: &Server, prefix: &'static str, keys: u64, value_len: usize) -> Result<(), Failure> {
    let mut put = Put::new(prefix, keys, value_len);
    Pool::open(server.address, 20)?.run(200, keys, &mut put)?;
    Ok(())
}

enum Load {
    Put(Put),
    Get(Get),
    List(List),
    Update(Update),
}

impl Load {
    fn new(row: &Row) -> Load {
        match row.kind {
            Kind::Put => Load::Put(Put::new("put/", 10_000, 256)),
            Kind::Get(get) => Load::Get(get),
            Kind::List(path, _) => Load::List(List { path }),
            Kind::Update => Load::Update(Update::new(row.clients, 1024)),
        }
    }

    fn run(&mut self, pool: &mut Pool, clients: usize, ops: u64) -> Result<Slice, Failure> {
        match self {
            Load::Put(work) => pool.run(clients, ops, work),
            Load::Get(work) => pool.run(clients, ops, work),
            Load::List(work) => pool.run(clients, ops, work),
            Load::Update(work) => pool.run(clients, ops, work),
        }
    }
}
