//! What passes between members, counted. Names and labels are etcd's
//! (`server/etcdserver/api/rafthttp/metrics.go`).

use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};

/// Clones share their values.
#[derive(Clone)]
pub struct PeerMetrics {
    pub active_peers: IntGaugeVec,
    pub disconnected_peers: IntCounterVec,
    pub sent_bytes: CounterVec,
    pub received_bytes: CounterVec,
    pub sent_failures: IntCounterVec,
    pub received_failures: IntCounterVec,
    pub round_trip: HistogramVec,
    pub snapshot_send_success: IntCounterVec,
    pub snapshot_send_failures: IntCounterVec,
    pub snapshot_send_inflights: GaugeVec,
    pub snapshot_send_duration: HistogramVec,
    pub snapshot_receive_success: IntCounterVec,
    pub snapshot_receive_failures: IntCounterVec,
    pub snapshot_receive_inflights: GaugeVec,
    pub snapshot_receive_duration: HistogramVec,
}

impl PeerMetrics {
    pub fn register(registry: &Registry) -> prometheus::Result<PeerMetrics> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let byte_counters = |name: &str, help: &str, labels: &[&str]| {
            let made = CounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let made = GaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let histograms = |name: &str, help: &str, label: &str, first: f64, count: usize| {
            let buckets = exponential_buckets(first, 2.0, count)?;
            let made = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), &[label])?;
            registry.register(Box::new(made.clone()))?;
            prometheus::Result::Ok(made)
        };
        let active_peers = IntGaugeVec::new(
            Opts::new("etcd_network_active_peers", "Peers whose messages stream in."),
            &["Local", "Remote"],
        )?;
        registry.register(Box::new(active_peers.clone()))?;
        Ok(PeerMetrics {
            active_peers,
            disconnected_peers: counters(
                "etcd_network_disconnected_peers_total",
                "Times that the streams of a peer broke.",
                &["Local", "Remote"],
            )?,
            sent_bytes: byte_counters(
                "etcd_network_peer_sent_bytes_total",
                "Bytes sent to a peer.",
                &["To"],
            )?,
            received_bytes: byte_counters(
                "etcd_network_peer_received_bytes_total",
                "Bytes received from a peer.",
                &["From"],
            )?,
            sent_failures: counters(
                "etcd_network_peer_sent_failures_total",
                "Messages that could not be sent to a peer.",
                &["To"],
            )?,
            received_failures: counters(
                "etcd_network_peer_received_failures_total",
                "Messages of a peer that could not be received.",
                &["From"],
            )?,
            round_trip: histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "Round-trip time between this member and a peer.",
                "To",
                0.0001,
                16,
            )?,
            snapshot_send_success: counters(
                "etcd_network_snapshot_send_success",
                "Snapshots that arrived at a peer.",
                &["To"],
            )?,
            snapshot_send_failures: counters(
                "etcd_network_snapshot_send_failures",
                "Snapshots that did not arrive at a peer.",
                &["To"],
            )?,
            snapshot_send_inflights: gauges(
                "etcd_network_snapshot_send_inflights_total",
                "Snapshots on their way to a peer.",
                &["To"],
            )?,
            snapshot_send_duration: histograms(
                "etcd_network_snapshot_send_total_duration_seconds",
                "Time to send a snapshot to a peer.",
                "To",
                0.1,
                10,
            )?,
            snapshot_receive_success: counters(
                "etcd_network_snapshot_receive_success",
                "Snapshots received from a peer.",
                &["From"],
            )?,
            snapshot_receive_failures: counters(
                "etcd_network_snapshot_receive_failures",
                "Snapshots of a peer that were not received whole.",
                &["From"],
            )?,
            snapshot_receive_inflights: gauges(
                "etcd_network_snapshot_receive_inflights_total",
                "Snapshots on their way from a peer.",
                &["From"],
            )?,
            snapshot_receive_duration: histograms(
                "etcd_network_snapshot_receive_total_duration_seconds",
                "Time to receive a snapshot from a peer.",
                "From",
                0.1,
                10,
            )?,
        })
    }
}
