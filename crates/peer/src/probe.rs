//! How long it takes to reach a member, and whether its clock agrees.
//!
//! Source: etcd `server/etcdserver/api/rafthttp/probing_status.go`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::network::Shared;
use crate::peer::Peer;
use crate::questions;

const INTERVAL: Duration = Duration::from_secs(4);

/// Longer, and there is a warning.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Health {
    #[serde(rename = "Now")]
    now: String,
}

pub async fn probe_always(shared: Arc<Shared>, peer: Arc<Peer>) {
    let round_trip = shared.metrics.round_trip.with_label_values(&[&peer.id.to_string()]);
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_reachable = true;
    loop {
        ticks.tick().await;
        let Some(url) = peer.url() else { continue };
        let started = Instant::now();
        let answered = timeout(INTERVAL, questions::get(&shared, &url, "/raft/probing")).await;
        let took = started.elapsed();
        let answer = answered.map_err(|_| "no answer in time".to_owned());
        match answer.and_then(|answer| answer.map_err(|error| error.to_string())) {
            Ok(body) => {
                was_reachable = true;
                round_trip.observe(took.as_secs_f64());
                judge(&peer, took, &body);
            }
            Err(error) => {
                if std::mem::replace(&mut was_reachable, false) {
                    tracing::warn!(remote_peer_id = %peer.id, error, "prober detected unhealthy status");
                }
            }
        }
    }
}

fn judge(peer: &Peer, took: Duration, body: &[u8]) {
    if took > ROUND_TRIP_MAX {
        tracing::warn!(remote_peer_id = %peer.id, rtt = ?took, "prober found high latency");
    }
    let theirs = serde_json::from_slice::<Health>(body).ok();
    let Some(theirs) = theirs.and_then(|health| health.now.parse::<jiff::Timestamp>().ok()) else { return };
    let difference = jiff::Timestamp::now().duration_since(theirs).unsigned_abs();
    if difference > CLOCK_DIFFERENCE_MAX {
        tracing::warn!(remote_peer_id = %peer.id, clock_drift = ?difference, "prober found high clock drift");
    }
}
