//! What writers notice while a member comes back so late that it needs a snapshot.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::load::{Pool, Slice};
use crate::rows::fill;
use crate::server::Server;
use crate::work::Put;
use crate::{Failure, Plan};

const CLIENTS: usize = 100;
const CONNECTIONS: usize = 10;
/// Keys of 1 KiB that the snapshot holds.
const KEYS: u64 = 100_000;
/// More than the log keeps behind a snapshot record, so that no append helps.
const MISSED: u64 = 25_000;
/// How often the member is away.
const ROUNDS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(120);
/// Both programs keep their log whole for 30 s after a snapshot: a member that is late meanwhile needs no other.
const LOG_HOLD: Duration = Duration::from_secs(32);

/// What one cluster's writers saw.
#[derive(Default)]
struct Seen {
    quiet: Slice,
    beside: Slice,
    seconds: f64,
    snapshots: f64,
    /// When the last round ended.
    ended: Option<Instant>,
}

pub fn run(plan: &Plan, home: &Path) -> Result<(), Failure> {
    let mut clusters = Cluster::start_all(plan, home, "catch-up")?;
    let keys = plan.sized(KEYS);
    let mut puts = Vec::new();
    for cluster in &clusters {
        fill(&cluster.members[cluster.leader()?], "fill/", keys, 1024)?;
        puts.push(Put::new("put/", 10_000, 256));
    }
    let slice_time = plan.row_time.max(Duration::from_secs(ROUNDS.into())) / ROUNDS;
    let mut seen: Vec<Seen> = clusters.iter().map(|_| Seen::default()).collect();
    for _ in 0..ROUNDS {
        for ((cluster, put), seen) in clusters.iter_mut().zip(&mut puts).zip(&mut seen) {
            round(cluster, put, seen, slice_time)?;
        }
    }
    println!(
        "\nPuts to the leader by {CLIENTS} clients, all members there (quiet) and while one catches up by a \
         snapshot of {keys} keys of 1 KiB; {ROUNDS} times:\n"
    );
    println!(
        "| cluster | quiet p50 ms | p99 | p99.9 | per s | beside: p50 ms | p99 | p99.9 | per s | s to catch up | \
         snapshots | p99.9 beside over quiet |"
    );
    println!("|---|{}", "---:|".repeat(11));
    for (seen, program) in seen.iter().zip(&plan.programs) {
        let is_go = plan.programs.len() == 2 && *program == plan.programs[0];
        let cells = |slice: &Slice| {
            let quantile = |per_mille| slice.latencies.quantile_ms(per_mille);
            let per_second = slice.ops as f64 / slice.seconds;
            format!("{:.2} | {:.2} | {:.2} | {per_second:.0}", quantile(500), quantile(990), quantile(999))
        };
        println!(
            "| {} | {} | {} | {:.2} | {} | **{:.2}** |",
            if is_go { "Go" } else { "ours" },
            cells(&seen.quiet),
            cells(&seen.beside),
            seen.seconds / f64::from(ROUNDS),
            seen.snapshots,
            seen.beside.latencies.quantile_ms(999) / seen.quiet.latencies.quantile_ms(999)
        );
    }
    Ok(())
}

fn round(cluster: &mut Cluster, put: &mut Put, seen: &mut Seen, slice_time: Duration) -> Result<(), Failure> {
    if let Some(ended) = seen.ended {
        std::thread::sleep(LOG_HOLD.saturating_sub(ended.elapsed()));
    }
    let leader = cluster.leader()?;
    let late = (leader + 1) % cluster.members.len();
    let mut pool = Pool::open(cluster.members[leader].address, CONNECTIONS)?;
    let begun = Instant::now();
    seen.quiet.add(&pool.run_while(CLIENTS, put, |now| now - begun < slice_time)?);
    let sent = "etcd_network_snapshot_send_success";
    let snapshots_before = cluster.members[leader].metric(sent)?;
    cluster.members[late].stop()?;
    pool.run(1_000, MISSED, put)?;
    let target = cluster.members[leader].status()?.raft_index;
    cluster.members[late].start_again()?;
    let (slice, seconds) = beside(&mut pool, put, &cluster.members[late], target)?;
    let (puts, p999) = (slice.ops, slice.latencies.quantile_ms(999));
    eprintln!("caught up in {seconds:.2} s beside {puts} puts, p99.9 {p999:.2} ms");
    seen.beside.add(&slice);
    seen.seconds += seconds;
    seen.snapshots += cluster.members[leader].metric(sent)? - snapshots_before;
    seen.ended = Some(Instant::now());
    Ok(())
}

/// Puts until the member has applied all that it missed; the answer says how long that took.
fn beside(pool: &mut Pool, put: &mut Put, late: &Server, target: u64) -> Result<(Slice, f64), Failure> {
    let has_caught_up = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let has_caught_up = &has_caught_up;
        let watching = scope.spawn(move || {
            let begun = Instant::now();
            while begun.elapsed() < PATIENCE {
                if late.status().is_ok_and(|status| status.raft_applied_index >= target) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            has_caught_up.store(true, Ordering::Relaxed);
            begun.elapsed()
        });
        let slice = pool.run_while(CLIENTS, put, |_| !has_caught_up.load(Ordering::Relaxed));
        let seconds = watching.join().map_err(|_| Failure("the watching thread panicked".to_owned()))?;
        if seconds >= PATIENCE {
            return Err(Failure(format!("a member did not catch up within {PATIENCE:?}")));
        }
        Ok((slice?, seconds.as_secs_f64()))
    })
}
