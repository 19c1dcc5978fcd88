//! A member's life in this process: bind, start, serve, be told to stop, stop.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use api::{BindError, Edge};
use disk::{Disk, RealDisk};
use peer::PeerNetwork;
use server::{BootError, Config, Environment, Member, Metrics, Server, StopReason};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinError;
use transport::ListenUrl;

use crate::data_dir;
use crate::edge_config;
use crate::feature_gates::{GATES, Stage};
use crate::go_value::io_text;
use crate::log;
use crate::logging::{self, Level};
use crate::member_config;
use crate::settings::Settings;
use crate::signals::{Ending, Endings};
use crate::unsynced_disk::UnsyncedDisk;
use crate::url::texts;
use crate::{banner, default_host, discovery, notify};

/// Runs the member until it ends. Returns only where no signal ends the process.
pub fn run(mut settings: Settings) -> ExitCode {
    raise_descriptor_limit();
    default_host::settle(&mut settings);
    data_dir::settle(&mut settings);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("etcd").build() {
        Ok(runtime) => runtime,
        Err(error) => logging::fatal("failed to start threads", &[("error", io_text(&error).into())]),
    };
    match runtime.block_on(live(settings)) {
        End::Signal(ending) => ending.end(),
        End::Removed => ExitCode::SUCCESS,
    }
}

enum End {
    Signal(Ending),
    Removed,
}

async fn live(mut settings: Settings) -> End {
    let metrics = Metrics::new();
    let data = data_dir::member_data(&settings);
    discovery::by_service_records(&mut settings, data).await.unwrap_or_else(|error| fail(&error));
    let (peers, clients) = bind(&settings, &metrics);
    discovery::by_token(&mut settings, data).await.unwrap_or_else(|error| fail(&error));
    let settings = &settings;
    let config = member_config::build(settings, data).unwrap_or_else(|error| fail(&error));
    banner::log(settings, &config, data);
    let member = start(config, peers.clone(), metrics).await;
    let server = member.server.clone();
    tell_build(settings, server.metrics());

    let (stop, stopping) = watch::channel(false);
    if let Err(error) = peers.serve(server.clone()) {
        logging::fatal("listener failed", &[("error", io_text(&error).into())]);
    }
    let (is_ready, ready) = oneshot::channel::<()>();
    let serves_when_ready = async move {
        // Without an answer nobody will ever be ready, and the edge is told to stop.
        let _ = ready.await;
    };
    let mut clients = tokio::spawn(clients.serve(server.clone(), serves_when_ready, told(stopping)));
    log_serving(settings, &server);

    // Until the member is ready, a signal ends the process at once: there is nothing to hand over.
    tokio::select! {
        () = member.ready() => {}
        served = &mut clients => ended_early(served),
    }
    // Nobody may be told that a member is ready that has failed meanwhile.
    let reason = server.stopping().borrow().clone();
    if let Some(StopReason::Failed(_)) = reason {
        return on_stop(reason);
    }
    let mut endings = match Endings::listen() {
        Ok(endings) => endings,
        Err(error) => logging::fatal("failed to handle signals", &[("error", io_text(&error).into())]),
    };
    if server.stopping().borrow().is_none() {
        let _ = is_ready.send(());
        notify::ready();
    }

    let mut stopped = server.stopping();
    let end = tokio::select! {
        ending = endings.next() => {
            log!(Level::Info, "received signal; shutting down", "signal" => ending.name());
            End::Signal(ending)
        }
        reason = stopped.wait_for(Option::is_some) => on_stop(reason.ok().and_then(|reason| reason.clone())),
        served = &mut clients => ended_early(served),
    };
    log_closing(settings, "closing etcd server");
    if let End::Signal(_) = end {
        server.hand_over().await;
    }
    // The edges may have ended already.
    let _ = stop.send(true);
    let served = tokio::select! {
        served = &mut clients => Some(served),
        () = server.cut_off() => {
            log!(Level::Info, "too few voters are connected to decide anything; no request is waited for");
            None
        }
    };
    // Answers what still waits.
    let _ = tokio::task::spawn_blocking(move || member.stop()).await;
    report(match served {
        Some(served) => served,
        None => clients.await,
    });
    let _ = tokio::task::spawn_blocking(move || peers.stop()).await;
    log_closing(settings, "closed etcd server");
    end
}

/// What this process is, as metrics: the toolchain and the feature gates.
fn tell_build(settings: &Settings, metrics: &Metrics) {
    metrics.server.go_version.with_label_values(&[env!("KELSON_RUSTC_VERSION")]).set(1);
    for gate in &GATES {
        let stage = match gate.stage {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        };
        let enabled = settings.feature_gates.is_enabled(gate.name);
        metrics.server.feature_enabled.with_label_values(&[gate.name, stage]).set(i64::from(enabled));
    }
}

/// Resolves when the value turns true, or its sender is gone.
async fn told(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Reads the data directory, which may take minutes, off the threads that serve.
async fn start(config: Config, network: Arc<PeerNetwork>, metrics: Metrics) -> Member {
    let runtime = Handle::current();
    let disk: Arc<dyn Disk> = match config.unsafe_no_fsync {
        true => Arc::new(UnsyncedDisk(RealDisk)),
        false => Arc::new(RealDisk),
    };
    let environment = Environment { disk, network, metrics, ..Environment::default() };
    let starting = move || Member::start(config, environment, &runtime);
    match tokio::task::spawn_blocking(starting).await {
        Ok(Ok(member)) => member,
        Ok(Err(error)) => {
            let message = match &error {
                BootError::Corrupt(_) => "checkInitialHashKV failed",
                _ => "bootstrap failed",
            };
            let error = error.to_string();
            log!(Level::Error, message, "error" => error);
            fail(&error)
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn report(served: Result<io::Result<()>, JoinError>) {
    let error = match served {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    logging::fatal("listener failed", &[("error", error.into())]);
}

/// A member that no client can reach must not go on as if it were one.
fn ended_early(served: Result<io::Result<()>, JoinError>) -> ! {
    report(served);
    logging::fatal("listener failed", &[("error", "the client listeners have ended".into())])
}

/// The member ended by itself.
fn on_stop(reason: Option<StopReason>) -> End {
    match reason {
        Some(StopReason::Failed(error)) => logging::fatal("etcd server failed", &[("error", error.into())]),
        Some(StopReason::Removed | StopReason::Asked) | None => End::Removed,
    }
}

fn bind(settings: &Settings, metrics: &Metrics) -> (Arc<PeerNetwork>, Edge) {
    log!(
        Level::Info,
        "configuring peer listeners",
        "listen-peer-urls" => texts(&settings.listen_peer_urls)
    );
    let started = |config| PeerNetwork::start(config, &metrics.registry).map_err(|error| peer_error(&error));
    let peers = edge_config::peer(settings).and_then(started);
    let peers = peers.unwrap_or_else(|error| {
        log!(Level::Error, "creating peer listener failed", "error" => error);
        fail(&error)
    });
    log!(
        Level::Info,
        "configuring client listeners",
        "listen-client-urls" => texts(&settings.listen_client_urls)
    );
    let clients = edge_config::client(settings).and_then(|config| bound(Edge::bind(config)));
    (peers, clients.unwrap_or_else(|error| fail(&error)))
}

fn bound(result: Result<Edge, BindError>) -> Result<Edge, String> {
    result.map_err(|error| match error {
        BindError::Listen { url, source } => listen_error(&url, &source),
        other => other.to_string(),
    })
}

fn peer_error(error: &peer::BindError) -> String {
    match error {
        peer::BindError::Listen { url, source } => listen_error(url, source),
        other => other.to_string(),
    }
}

/// The texts of Go's `net` for what users meet most.
fn listen_error(url: &ListenUrl, source: &io::Error) -> String {
    let network = if url.scheme.is_unix() { "unix" } else { "tcp" };
    format!("listen {network} {}: bind: {}", url.address, io_text(source))
}

/// etcd's last line when a member cannot start, whatever kept it from starting.
#[track_caller]
fn fail(error: &str) -> ! {
    logging::fatal("discovery failed", &[("error", error.into())])
}

fn log_serving(settings: &Settings, server: &Server) {
    log!(
        Level::Info,
        "now serving peer/client/metrics",
        "local-member-id" => format!("{:x}", server.member_id().0),
        "initial-advertise-peer-urls" => texts(&settings.initial_advertise_peer_urls),
        "listen-peer-urls" => texts(&settings.listen_peer_urls),
        "advertise-client-urls" => texts(&settings.advertise_client_urls),
        "listen-client-urls" => texts(&settings.listen_client_urls),
        "listen-metrics-urls" => texts(&settings.listen_metrics_urls)
    );
}

fn log_closing(settings: &Settings, message: &str) {
    log!(
        Level::Info,
        message,
        "name" => settings.name,
        "data-dir" => settings.data_dir,
        "advertise-peer-urls" => texts(&settings.initial_advertise_peer_urls),
        "advertise-client-urls" => texts(&settings.advertise_client_urls)
    );
}

/// Go programs raise the soft limit of open files to the hard one at their start, and the number of
/// client connections follows from it.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Refused: the limit stays as it was.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
