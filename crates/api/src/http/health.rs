//! `/health`, `/livez`, `/readyz`: is this member of use?

use apply::AlarmKind;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use server::ReadMode;

use super::{Shared, TEXT, method_not_allowed, not_found, plain_error, query_pairs, query_values};
use crate::grpc::Body;

/// `etcd_server_health*`.
pub(super) struct HealthMetrics {
    success: IntCounter,
    failures: IntCounter,
    check: IntGaugeVec,
    checks_total: IntCounterVec,
}

impl HealthMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<HealthMetrics> {
        let metrics = HealthMetrics {
            success: IntCounter::new(
                "etcd_server_health_success",
                "The total number of successful health checks",
            )?,
            failures: IntCounter::new(
                "etcd_server_health_failures",
                "The total number of failed health checks",
            )?,
            check: IntGaugeVec::new(
                Opts::new("etcd_server_healthcheck", "The result of each kind of healthcheck."),
                &["type", "name"],
            )?,
            checks_total: IntCounterVec::new(
                Opts::new("etcd_server_healthchecks_total", "The total number of each kind of healthcheck."),
                &["type", "name", "status"],
            )?,
        };
        registry.register(Box::new(metrics.success.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.check.clone()))?;
        registry.register(Box::new(metrics.checks_total.clone()))?;
        Ok(metrics)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    const LIVEZ: &'static [Check] = &[Check::SerializableRead];
    const READYZ: &'static [Check] =
        &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }
}

impl Shared {
    pub(super) async fn health(&self, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET {
            return method_not_allowed();
        }
        let excluded = query_values(request, "exclude");
        let mode = match query_values(request, "serializable").first().map(String::as_str) {
            Some("true") => ReadMode::Serializable,
            _ => ReadMode::Linearizable,
        };
        match self.find_fault(&excluded, mode).await {
            None => {
                self.health.success.inc();
                // Compat: no content type is set in Go, which then guesses plain text; and no newline.
                let mut response = Response::new(Body::Http(r#"{"health":"true","reason":""}"#.into()));
                response.headers_mut().insert(CONTENT_TYPE, TEXT);
                response
            }
            Some(reason) => {
                self.health.failures.inc();
                let text = format!(r#"{{"health":"false","reason":{}}}"#, serde_json::Value::from(reason));
                tracing::warn!(output = text, "status-code" = 503, "/health error");
                plain_error(StatusCode::SERVICE_UNAVAILABLE, &text)
            }
        }
    }

    async fn find_fault(&self, excluded: &[String], mode: ReadMode) -> Option<String> {
        for alarm in self.server.alarms() {
            let name = match alarm.kind {
                AlarmKind::NoSpace => "NOSPACE",
                AlarmKind::Corrupt => "CORRUPT",
            };
            if !excluded.iter().any(|excluded| excluded == name) {
                return Some(format!("ALARM {name}"));
            }
        }
        if mode == ReadMode::Linearizable && self.server.leader().borrow().is_none() {
            return Some("RAFT NO LEADER".to_owned());
        }
        self.read(mode).await.err().map(|error| format!("RANGE ERROR:{error}"))
    }

    /// What a read of one key needs: the state, which is always there, and leave to use it.
    async fn read(&self, mode: ReadMode) -> Result<(), String> {
        match tokio::time::timeout(self.request_timeout, self.server.view_for(mode)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("context deadline exceeded".to_owned()),
        }
    }

    /// `/livez`, `/readyz`, and single checks below them.
    pub(super) async fn checks(&self, path: &str, request: &Request<Incoming>) -> Response<Body> {
        let (kind, single) = match path.trim_start_matches('/').split_once('/') {
            Some((kind, single)) => (kind, Some(single)),
            None => (path.trim_start_matches('/'), None),
        };
        let (kind, all) = match kind {
            "livez" => ("livez", Check::LIVEZ),
            "readyz" => ("readyz", Check::READYZ),
            _ => return not_found(),
        };
        let mut selected: Vec<Check> = match single {
            None => all.to_vec(),
            Some(name) => match all.iter().find(|check| check.name() == name) {
                Some(check) => vec![*check],
                None => return not_found(),
            },
        };
        if request.method() != Method::GET {
            return method_not_allowed();
        }
        if single.is_none() {
            let mut excluded = query_values(request, "exclude");
            excluded.retain(|name| !name.is_empty());
            selected.retain(|check| !excluded.iter().any(|name| name == check.name()));
            excluded.retain(|name| !all.iter().any(|check| check.name() == name));
            if !excluded.is_empty() {
                let missing = excluded.join(",");
                tracing::warn!("missing-health-checks" = missing, "some health checks cannot be excluded");
            }
        }

        let mut lines = String::new();
        let mut failed = false;
        for check in selected {
            let name = check.name();
            let outcome = self.run(check).await;
            let status = if outcome.is_ok() { "success" } else { "error" };
            self.health.check.with_label_values(&[kind, name]).set(i64::from(outcome.is_ok()));
            self.health.checks_total.with_label_values(&[kind, name, status]).inc();
            match outcome {
                Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
                Err(reason) => {
                    failed = true;
                    lines.push_str(&format!("[-]{name} failed: {reason}\n"));
                }
            }
        }
        if failed {
            tracing::error!(path, reason = lines, "status-code" = 503, "Health check error");
            return plain_error(StatusCode::SERVICE_UNAVAILABLE, &lines);
        }
        let verbose = query_pairs(request.uri().query().unwrap_or_default()).any(|(key, _)| key == "verbose");
        let text = if verbose { lines + "ok\n" } else { "ok\n".to_owned() };
        let mut response = Response::new(Body::Http(text.into()));
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        response
            .headers_mut()
            .insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn run(&self, check: Check) -> Result<(), String> {
        match check {
            Check::DataCorruption => {
                let corrupt = self.server.alarms().iter().any(|alarm| alarm.kind == AlarmKind::Corrupt);
                if corrupt { Err("alarm activated: CORRUPT".to_owned()) } else { Ok(()) }
            }
            Check::SerializableRead => self.read(ReadMode::Serializable).await,
            Check::LinearizableRead => self.read(ReadMode::Linearizable).await,
            Check::NonLearner if self.server.is_learner() => Err("not supported for learner".to_owned()),
            Check::NonLearner => Ok(()),
        }
    }
}
