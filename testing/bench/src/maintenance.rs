//! What writers notice of a defragment, a compaction and a snapshot.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::load::{Pool, Slice};
use crate::rows::{fill, start_all};
use crate::work::{Put, Same};
use crate::{Failure, Plan};

const CLIENTS: usize = 100;
const CONNECTIONS: usize = 10;
/// Keys of 1 KiB that the maintenance has to deal with.
const KEYS: u64 = 200_000;

pub fn run(plan: &Plan, home: &Path) -> Result<(), Failure> {
    let servers = start_all(plan, home, "maintenance")?;
    let keys = plan.sized(KEYS);
    println!(
        "\nPuts at {CLIENTS} clients over {keys} keys of 1 KiB, p99 in ms (puts/s; how often it ran):\n"
    );
    println!("| server | quiet | defragment | compaction | snapshot | worst ratio |");
    println!("|---|---:|---:|---:|---:|---:|");
    let slice_time = plan.row_time.max(Duration::from_secs(2)) / 4;
    for (server, program) in servers.iter().zip(&plan.programs) {
        fill(server, "fill/", keys, 1024)?;
        let mut put = Put::new("put/", 10_000, 256);
        let mut pool = Pool::open(server.address, CONNECTIONS)?;
        pool.run(CONNECTIONS, 5_000, &mut put)?;
        let address = server.address;
        let (quiet, _) = during(&mut pool, &mut put, slice_time, || Ok(false))?;
        let once = |same: Same| move || one_call(address, &same).map(|()| false);
        let again = |make: fn() -> Same| move || one_call(address, &make()).map(|()| true);
        let (defragment, defragments) = during(&mut pool, &mut put, slice_time, again(Same::defragment))?;
        let written = (keys + put.next) as i64;
        let (compaction, compactions) =
            during(&mut pool, &mut put, slice_time, once(Same::compact(written)))?;
        let (snapshot, snapshots) = during(&mut pool, &mut put, slice_time, again(Same::snapshot))?;
        let p99 = |slice: &Slice| slice.latencies.quantile_ms(990);
        let cell = |slice: &Slice, count: u32| {
            format!("{:.2} ({:.0}/s; {count})", p99(slice), slice.ops as f64 / slice.seconds)
        };
        let worst = [&defragment, &compaction, &snapshot].into_iter().map(p99).fold(0.0, f64::max);
        println!(
            "| {} | {} | {} | {} | {} | {:.2} |",
            if plan.programs.len() == 2 && *program == plan.programs[0] { "Go" } else { "ours" },
            cell(&quiet, 0),
            cell(&defragment, defragments),
            cell(&compaction, compactions),
            cell(&snapshot, snapshots),
            worst / p99(&quiet)
        );
    }
    Ok(())
}

/// Puts for a while and beside them, on a thread of its own, `beside` until it says that it is done.
fn during(
    pool: &mut Pool,
    put: &mut Put,
    time: Duration,
    beside: impl FnMut() -> Result<bool, Failure> + Send,
) -> Result<(Slice, u32), Failure> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let mut beside = beside;
        let other = scope.spawn(move || -> Result<u32, Failure> {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let again = beside()?;
                count += 1;
                if !again {
                    break;
                }
            }
            Ok(count)
        });
        let started = Instant::now();
        let slice = pool.run_while(CLIENTS, put, |now| now - started < time);
        stop.store(true, Ordering::Relaxed);
        let count = other.join().map_err(|_| Failure("the maintenance call panicked".to_owned()))??;
        Ok((slice?, count))
    })
}

fn one_call(address: SocketAddr, mut same: &Same) -> Result<(), Failure> {
    Pool::open(address, 1)?.run(1, 1, &mut same).map(drop)
}
