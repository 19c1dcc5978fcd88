//! A million keys of 1 KiB: load, memory, snapshot, restart, defragment.

use std::path::Path;

use crate::load::Pool;
use crate::report;
use crate::rows::{Side, start_all};
use crate::work::{Put, Same};
use crate::{Failure, Plan};

const KEYS: u64 = 1_000_000;
const QUICK_KEYS: u64 = 20_000;
const CLIENTS: usize = 1_000;
const CONNECTIONS: usize = 100;
/// Puts of one slice, after which it is the other server's turn.
const SLICE: u64 = 50_000;

pub fn run(plan: &Plan, home: &Path) -> Result<(), Failure> {
    let mut servers = start_all(plan, home, "million")?;
    let keys = if plan.quick { QUICK_KEYS } else { KEYS };
    let mut sides = vec![Side::default(); servers.len()];
    let mut work: Vec<Put> = servers.iter().map(|_| Put::new("registry/", keys, 1024)).collect();
    for _ in 0..keys.div_ceil(SLICE) {
        for ((server, put), side) in servers.iter().zip(&mut work).zip(&mut sides) {
            let mut pool = Pool::open(server.address, CONNECTIONS)?;
            side.measure(std::slice::from_ref(server), || pool.run(CLIENTS, SLICE.min(keys), put))?;
        }
    }
    println!("\n{keys} keys of 1 KiB, loaded by {CLIENTS} clients:\n");
    report::heading(plan);
    report::row("load", &sides);
    println!();
    report::values_heading(plan);
    let mut values: Vec<(&str, Vec<f64>)> = Vec::new();
    let mut note = |name: &'static str, value: f64| match values.iter_mut().find(|(known, _)| *known == name)
    {
        Some((_, values)) => values.push(value),
        None => values.push((name, vec![value])),
    };
    for server in &mut servers {
        note("anonymous memory after the load, MiB", server.memory()?.anonymous);
        note("file after the load, MiB", server.file_mib());
        server.forget_peak()?;
        let snapshot = Pool::open(server.address, 1)?.run(1, 1, &mut &Same::snapshot())?;
        note("snapshot, s", snapshot.seconds);
        note("snapshot, MiB", snapshot.bytes as f64 / (1024.0 * 1024.0));
        note("restart, s", server.restart()?);
        note("peak memory of the restart, MiB", server.memory()?.peak);
        note("anonymous memory after the restart, MiB", server.memory()?.anonymous);
        note("defragment, s", Pool::open(server.address, 1)?.run(1, 1, &mut &Same::defragment())?.seconds);
        note("second restart, s", server.restart()?);
    }
    for (name, values) in &values {
        report::values(name, values);
    }
    Ok(())
}
