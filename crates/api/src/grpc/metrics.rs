//! `grpc_server_*` and the byte counters, for every method from the start.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, exponential_buckets,
};

use super::status::Code;
use crate::config::MetricsLevel;

/// How messages flow in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

use Kind::{BidiStream, ServerStream, Unary};

/// Every method that has series from the start, whether this build serves it or not.
pub(crate) const METHODS: [(&str, &[(&str, Kind)]); 7] = [
    (
        "etcdserverpb.KV",
        &[
            ("Range", Unary),
            ("RangeStream", ServerStream),
            ("Put", Unary),
            ("DeleteRange", Unary),
            ("Txn", Unary),
            ("Compact", Unary),
        ],
    ),
    ("etcdserverpb.Watch", &[("Watch", BidiStream)]),
    (
        "etcdserverpb.Lease",
        &[
            ("LeaseGrant", Unary),
            ("LeaseRevoke", Unary),
            ("LeaseKeepAlive", BidiStream),
            ("LeaseTimeToLive", Unary),
            ("LeaseLeases", Unary),
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            ("MemberAdd", Unary),
            ("MemberRemove", Unary),
            ("MemberUpdate", Unary),
            ("MemberList", Unary),
            ("MemberPromote", Unary),
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            ("Alarm", Unary),
            ("Status", Unary),
            ("Defragment", Unary),
            ("Hash", Unary),
            ("HashKV", Unary),
            ("Snapshot", ServerStream),
            ("MoveLeader", Unary),
            ("Downgrade", Unary),
        ],
    ),
    (
        "etcdserverpb.Auth",
        &[
            ("AuthEnable", Unary),
            ("AuthDisable", Unary),
            ("AuthStatus", Unary),
            ("Authenticate", Unary),
            ("UserAdd", Unary),
            ("UserGet", Unary),
            ("UserList", Unary),
            ("UserDelete", Unary),
            ("UserChangePassword", Unary),
            ("UserGrantRole", Unary),
            ("UserRevokeRole", Unary),
            ("RoleAdd", Unary),
            ("RoleGet", Unary),
            ("RoleList", Unary),
            ("RoleDelete", Unary),
            ("RoleGrantPermission", Unary),
            ("RoleRevokePermission", Unary),
        ],
    ),
    ("grpc.health.v1.Health", &[("Check", Unary), ("List", Unary), ("Watch", ServerStream)]),
];

/// Series of one method.
#[derive(Debug)]
pub(crate) struct MethodMetrics {
    pub(super) started: IntCounter,
    handled: [IntCounter; 17],
    pub(super) msg_received: IntCounter,
    pub(super) msg_sent: IntCounter,
    pub(super) handling_seconds: Option<Histogram>,
}

impl MethodMetrics {
    pub(super) fn handled(&self, code: Code) -> &IntCounter {
        &self.handled[code as usize]
    }
}

/// `etcd_network_client_grpc_{sent,received}_bytes_total`: octets of messages, without frames.
#[derive(Clone, Debug)]
pub(crate) struct ByteCounters {
    pub(crate) sent: IntCounter,
    pub(crate) received: IntCounter,
}

/// All series of the gRPC layer.
pub(crate) struct GrpcMetrics {
    methods: HashMap<(&'static str, &'static str), Arc<MethodMetrics>>,
    vectors: Vectors,
    pub(crate) bytes: ByteCounters,
    pub(crate) send_loop: SendLoopMetrics,
    /// `etcd_network_server_stream_failures_total{Type, API}`.
    pub(crate) stream_failures: IntCounterVec,
    /// `etcd_server_client_requests_total{type, client_api_version}`.
    pub(crate) client_requests: IntCounterVec,
}

struct Vectors {
    started: IntCounterVec,
    handled: IntCounterVec,
    msg_received: IntCounterVec,
    msg_sent: IntCounterVec,
    handling_seconds: Option<HistogramVec>,
}

const METHOD_LABELS: [&str; 3] = ["grpc_type", "grpc_service", "grpc_method"];

impl GrpcMetrics {
    pub(crate) fn register(registry: &Registry, level: MetricsLevel) -> prometheus::Result<GrpcMetrics> {
        let counter_vec = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            prometheus::Result::Ok(vec)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let handling_seconds = match level {
            MetricsLevel::Basic => None,
            MetricsLevel::Extensive => {
                let opts = HistogramOpts::new(
                    "grpc_server_handling_seconds",
                    "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
                );
                let vec = HistogramVec::new(opts, &METHOD_LABELS)?;
                registry.register(Box::new(vec.clone()))?;
                Some(vec)
            }
        };
        let vectors = Vectors {
            started: counter_vec(
                "grpc_server_started_total",
                "Total number of RPCs started on the server.",
                &METHOD_LABELS,
            )?,
            handled: counter_vec(
                "grpc_server_handled_total",
                "Total number of RPCs completed on the server, regardless of success or failure.",
                &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
            )?,
            msg_received: counter_vec(
                "grpc_server_msg_received_total",
                "Total number of RPC stream messages received on the server.",
                &METHOD_LABELS,
            )?,
            msg_sent: counter_vec(
                "grpc_server_msg_sent_total",
                "Total number of gRPC stream messages sent by the server.",
                &METHOD_LABELS,
            )?,
            handling_seconds,
        };
        let mut metrics = GrpcMetrics {
            methods: HashMap::new(),
            vectors,
            bytes: ByteCounters {
                sent: counter(
                    "etcd_network_client_grpc_sent_bytes_total",
                    "The total number of bytes sent to grpc clients.",
                )?,
                received: counter(
                    "etcd_network_client_grpc_received_bytes_total",
                    "The total number of bytes received from grpc clients.",
                )?,
            },
            send_loop: SendLoopMetrics::register(registry)?,
            stream_failures: counter_vec(
                "etcd_network_server_stream_failures_total",
                "The total number of stream failures from the local server.",
                &["Type", "API"],
            )?,
            client_requests: counter_vec(
                "etcd_server_client_requests_total",
                "The total number of client requests per client version.",
                &["type", "client_api_version"],
            )?,
        };
        for (service, methods) in METHODS {
            for (method, kind) in methods {
                let made = Arc::new(metrics.make(service, method, *kind));
                metrics.methods.insert((service, method), made);
            }
        }
        Ok(metrics)
    }

    /// The series of a method; made now if it is none of [`METHODS`].
    pub(super) fn method(
        &self,
        service: &'static str,
        method: &'static str,
        kind: Kind,
    ) -> Arc<MethodMetrics> {
        match self.methods.get(&(service, method)) {
            Some(found) => Arc::clone(found),
            None => Arc::new(self.make(service, method, kind)),
        }
    }

    fn make(&self, service: &str, method: &str, kind: Kind) -> MethodMetrics {
        let labels = [kind.label(), service, method];
        let [a, b, c] = labels;
        MethodMetrics {
            started: self.vectors.started.with_label_values(&labels),
            handled: Code::ALL.map(|code| self.vectors.handled.with_label_values(&[a, b, c, code.name()])),
            msg_received: self.vectors.msg_received.with_label_values(&labels),
            msg_sent: self.vectors.msg_sent.with_label_values(&labels),
            handling_seconds: self
                .vectors
                .handling_seconds
                .as_ref()
                .map(|vec| vec.with_label_values(&labels)),
        }
    }
}

/// How long a watch stream takes to hand over what it has to say.
#[derive(Clone, Debug)]
pub(crate) struct SendLoopMetrics {
    pub(crate) events: Histogram,
    pub(crate) per_event: Histogram,
    pub(crate) control: Histogram,
    pub(crate) progress: Histogram,
}

impl SendLoopMetrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<SendLoopMetrics> {
        let histogram = |name: &str, help: &str| {
            let name = format!("etcd_debugging_server_watch_send_loop_{name}_seconds");
            let opts = HistogramOpts::new(name, help).buckets(exponential_buckets(0.001, 2.0, 14)?);
            let histogram = Histogram::with_opts(opts)?;
            registry.register(Box::new(histogram.clone()))?;
            prometheus::Result::Ok(histogram)
        };
        Ok(SendLoopMetrics {
            events: histogram(
                "watch_stream_duration",
                "The total duration in seconds of running through the send loop watch stream response all events.",
            )?,
            per_event: histogram(
                "watch_stream_duration_per_event",
                "The average duration in seconds of running through the send loop watch stream response, for a single event.",
            )?,
            control: histogram(
                "control_stream_duration",
                "The total duration in seconds of running through the send loop control stream response.",
            )?,
            progress: histogram(
                "progress_duration",
                "The total duration in seconds of running through the progress loop control stream response.",
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_five_methods_by_seventeen_codes_from_the_start() {
        let registry = Registry::new();
        GrpcMetrics::register(&registry, MetricsLevel::Extensive).unwrap();
        let families = registry.gather();
        let series = |name: &str| families.iter().find(|f| f.name() == name).unwrap().get_metric().len();
        assert_eq!(series("grpc_server_started_total"), 45);
        assert_eq!(series("grpc_server_handled_total"), 45 * 17);
        assert_eq!(series("grpc_server_handling_seconds"), 45);
        assert_eq!(series("etcd_network_client_grpc_sent_bytes_total"), 1);
    }
}
