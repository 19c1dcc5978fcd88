//! etcd's services: a wire message in, a call of [`server::Server`], a wire message out.
//!
//! A further service is a file here with a `register` function, called in [`register`]. Until then its
//! methods answer Unimplemented, with the library's text, which is what clients fall back on.

pub(crate) mod check;
mod cluster;
mod health;
mod kv;
mod lease;
mod maintenance;
mod request_log;
mod watch;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use mvcc::Revision;
use server::Server;
use tokio::sync::watch as signal;

use crate::config::ApiConfig;
use crate::connection::stopped;
use crate::error::RequestError;
use crate::grpc::metrics::GrpcMetrics;
use crate::grpc::{Call, Code, Router, Status};
use wire::Header;

/// What every service works with.
#[derive(Clone)]
pub(crate) struct Services {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) server: Server,
    pub(crate) metrics: Arc<GrpcMetrics>,
    pub(crate) max_txn_ops: usize,
    pub(crate) max_request_bytes: usize,
    pub(crate) fragment_limit_bytes: usize,
    pub(crate) progress_interval: Duration,
    pub(crate) election_timeout: Duration,
    /// True once the edge goes down: streams end then.
    pub(crate) stop: signal::Receiver<bool>,
}

impl std::ops::Deref for Services {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// Whether a method is served by a learner too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnLearner {
    Served,
    Refused,
}

impl Services {
    pub(crate) fn new(
        config: &ApiConfig,
        server: Server,
        metrics: Arc<GrpcMetrics>,
        stop: signal::Receiver<bool>,
    ) -> Services {
        Services {
            shared: Arc::new(Shared {
                server,
                metrics,
                max_txn_ops: config.max_txn_ops,
                max_request_bytes: config.max_request_bytes,
                fragment_limit_bytes: config.receive_limit_bytes(),
                progress_interval: config.watch_progress_notify_interval,
                election_timeout: config.election_timeout,
                stop,
            }),
        }
    }

    /// Adds all services of this build.
    pub(crate) fn register(&self, router: &mut Router) {
        kv::register(self, router);
        watch::register(self, router);
        lease::register(self, router);
        cluster::register(self, router);
        maintenance::register(self, router);
        health::register(self, router);
    }

    /// What a unary call must pass before its handler.
    fn admit_unary(&self, call: &Call, on_learner: OnLearner) -> Result<(), Status> {
        self.admit(call, on_learner, "unary").map(drop)
    }

    /// What a stream must pass at its start. True: it wants a leader as long as it lasts.
    fn admit_stream(&self, call: &Call, on_learner: OnLearner) -> Result<LeaderWish, Status> {
        self.admit(call, on_learner, "stream")
    }

    /// Compat: the order of `v3rpc/interceptor.go`.
    fn admit(&self, call: &Call, on_learner: OnLearner, kind: &str) -> Result<LeaderWish, Status> {
        if self.server.cluster().version().is_none() {
            return Err(server::Error::NotCapable.into());
        }
        if on_learner == OnLearner::Refused && self.server.is_learner() {
            return Err(server::Error::LearnerNotSupported.into());
        }
        let version = match call.metadata("client-api-version") {
            None => "unknown",
            Some(bytes) => {
                std::str::from_utf8(bytes).map_err(|_| Status::from(RequestError::InvalidClientApiVersion))?
            }
        };
        self.metrics.client_requests.with_label_values(&[kind, version]).inc();
        if call.metadata("hasleader") != Some(b"true") {
            return Ok(LeaderWish::None);
        }
        if self.server.raft().leader().is_none() {
            return Err(server::Error::NoLeader.into());
        }
        Ok(LeaderWish::Required)
    }

    fn header(&self, revision: Revision) -> Header {
        Header {
            cluster_id: self.server.cluster_id().0,
            member_id: self.server.member_id().0,
            revision: revision.to_wire(),
            raft_term: self.server.raft().term(),
        }
    }

    /// A header with the store's revision of now.
    fn header_now(&self) -> Header {
        self.header(self.server.view().revision())
    }

    /// Resolves when a stream must end although its client stays.
    async fn must_end(&self, wish: LeaderWish) -> Status {
        let leader_lost = async {
            match wish {
                LeaderWish::Required => self.leader_lost().await,
                LeaderWish::None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = leader_lost => server::Error::NoLeader.into(),
            () = stopped(self.stop.clone()) => server::Error::Stopped.into(),
        }
    }

    /// Compat: no leader at three looks in a row, one each election timeout.
    async fn leader_lost(&self) {
        const LOOKS: u32 = 3;
        let mut leader = self.server.leader();
        loop {
            if leader.wait_for(Option::is_none).await.is_err() {
                return;
            }
            let back =
                tokio::time::timeout(self.election_timeout * LOOKS, leader.wait_for(Option::is_some)).await;
            if back.is_err() {
                return;
            }
        }
    }
}

/// `hasleader: true` in a stream's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaderWish {
    Required,
    None,
}

/// A blocking task that did not come back: only at shutdown.
fn lost_task(_: tokio::task::JoinError) -> Status {
    Status::new(Code::Unavailable, "etcdserver: server stopped")
}
