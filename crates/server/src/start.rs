//! Starting a member's threads, and stopping them.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::{Sender, bounded, unbounded};
use disk::Disk;
use mvcc::watch::{Hub, HubConfig};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::apply_loop::{ApplyInput, ApplyLoop};
use crate::backend::{Backend, BackendInput, Batch, Queues};
use crate::bootstrap::{self, BootError, Booted};
use crate::clock::Clock;
use crate::config::{Config, SERVER_VERSION};
use crate::handle::Server;
use crate::log_writer::{LogInput, LogWriter};
use crate::metrics::Metrics;
use crate::network::Network;
use crate::progress::{FileProgress, RaftProgress};
use crate::reads::{ApplyWaiters, ReadQueue};
use crate::replicate::{RaftInput, Replicator};
use crate::request_id::RequestIds;
use crate::shared::{Shared, StopReason, unix_time};
use crate::tasks;
use crate::waiters::Waiters;

/// Batches between the apply and the backend thread. Full: apply waits, and with it the proposals' gate. A
/// bounded channel has all its slots from the start, so this is memory of every member: some 2 MiB.
const BATCH_QUEUE: usize = 8_192;

/// A member and its threads. Dropping it without [`Member::stop`] leaves the directory as a crash would.
pub struct Member {
    pub server: Server,
    threads: Vec<JoinHandle<()>>,
    to_log: Sender<LogInput>,
    to_apply: Sender<ApplyInput>,
    catch_up: Sender<CatchUp>,
    tasks: JoinSet<()>,
}

enum CatchUp {
    Wanted,
    Stop,
}

impl Member {
    /// Reads the directory and starts the threads. May take as long as the file is large: call it where
    /// blocking is allowed. The member is not ready yet: see [`Member::ready`].
    pub fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        network: Arc<dyn Network>,
        metrics: Metrics,
        runtime: &Handle,
    ) -> Result<Member, BootError> {
        Member::start_with_log(config, wal::Options::default(), disk, network, metrics, runtime)
    }

    /// As [`Member::start`], with a log of other sizes than members use: for tests and the simulator.
    pub fn start_with_log(
        config: Config,
        log: wal::Options,
        disk: Arc<dyn Disk>,
        network: Arc<dyn Network>,
        metrics: Metrics,
        runtime: &Handle,
    ) -> Result<Member, BootError> {
        let mut booted = bootstrap::boot(&config, log, disk.clone())?;
        // Bounded by the gate of proposals: all else in it is one per batch, per round of reads or per write.
        let (to_raft, raft_inputs) = unbounded();
        let (to_log, log_inputs) = unbounded();
        let (to_apply, apply_inputs) = unbounded();
        let (to_file, batches) = bounded(BATCH_QUEUE);
        let (to_backend, backend_inputs) = unbounded();
        let (catch_up, catch_up_inputs) = bounded(1);
        let shared = Arc::new(share(
            config,
            disk.clone(),
            network,
            metrics,
            &mut booted,
            to_raft.clone(),
            to_file,
            to_backend,
            catch_up.clone(),
        ));
        let Booted { db, db_path, wal, node, state, unfinished_compaction, start, .. } = booted;

        let backend = Backend::new(
            db,
            db_path,
            disk,
            shared.clone(),
            Queues { batches, inputs: backend_inputs, to_log: to_log.clone() },
            unfinished_compaction,
        );
        let log_writer = LogWriter::new(wal, shared.clone(), log_inputs, to_raft.clone(), to_apply.clone());
        let apply_loop = ApplyLoop::new(state, shared.clone(), apply_inputs, to_raft, runtime.clone(), start);
        let replicator = Replicator::new(node, shared.clone(), raft_inputs, to_log.clone(), to_apply.clone());
        let watched = shared.clone();
        let threads = vec![
            spawn("backend", move || backend.run())?,
            spawn("wal", move || log_writer.run())?,
            spawn("apply", move || apply_loop.run())?,
            spawn("raft", move || replicator.run())?,
            spawn("watch", move || catch_up_watchers(&watched, &catch_up_inputs))?,
        ];
        let server = Server { shared };
        for member in server.cluster().members() {
            server.shared.note_peer(member);
        }
        let tasks = start_tasks(&server, runtime);
        Ok(Member { server, threads, to_log, to_apply, catch_up, tasks })
    }

    /// Waits until the cluster knows this member and its version: requests may come from then on. Ends early
    /// when the member stops; [`Server::stopping`] tells.
    pub async fn ready(&self) {
        let mut stopping = self.server.stopping();
        let settled = async {
            tasks::publish(self.server.clone()).await;
            while self.server.cluster().version().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = settled => {}
            _ = stopping.wait_for(Option::is_some) => {}
        }
    }

    /// Stops the threads in the order of the pipeline, so that all that was acknowledged is in the file.
    /// Blocks until they have ended.
    pub fn stop(mut self) {
        let shared = &self.server.shared;
        shared.stop_with(StopReason::Asked);
        self.tasks.abort_all();
        // The raft thread may be waiting for an answer of the apply thread and the other way round, so each
        // is told before the next is waited for.
        shared.to_raft.send(RaftInput::Stop).ok();
        self.join("raft");
        self.to_log.send(LogInput::Stop).ok();
        self.join("wal");
        self.to_apply.send(ApplyInput::Stop).ok();
        self.join("apply");
        shared_clear(&self.server.shared);
        self.server.shared.to_backend.send(BackendInput::Stop).ok();
        self.join("backend");
        self.catch_up.send(CatchUp::Stop).ok();
        self.join("watch");
    }

    fn join(&mut self, name: &str) {
        let at = self.threads.iter().position(|thread| thread.thread().name() == Some(name));
        let thread = self.threads.swap_remove(at.expect("every thread is joined once"));
        if thread.join().is_err() {
            tracing::error!(thread = name, "a thread ended by a panic");
        }
    }
}

fn shared_clear(shared: &Shared) {
    shared.waiters.clear();
    shared.apply_waiters.clear();
    // Reads that asked for a round after the raft thread had taken its last input.
    drop(shared.reads.take());
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BootError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|error| BootError::Io { action: format!("start thread {name}"), error })
}

#[allow(clippy::too_many_arguments, reason = "each goes into one field")]
fn share(
    config: Config,
    disk: Arc<dyn Disk>,
    network: Arc<dyn Network>,
    metrics: Metrics,
    booted: &mut Booted,
    to_raft: Sender<RaftInput>,
    to_file: Sender<Batch>,
    to_backend: Sender<BackendInput>,
    catch_up: Sender<CatchUp>,
) -> Shared {
    let views = booted.state.store.cell().clone();
    // One wake-up waiting is enough: the thread works until nothing is wanted.
    let wake = move || {
        catch_up.try_send(CatchUp::Wanted).ok();
    };
    let hub = Hub::new(HubConfig::default(), booted.state.store.revision(), wake);
    let raft = RaftProgress::default();
    let applied = booted.applied();
    raft.set_applied(applied.index, applied.term);
    raft.set_committed(booted.hard_state.commit.0.max(applied.index));
    raft.set_term(booted.hard_state.term.0);
    let member_id = booted.member_id;
    let lessor = booted.lessor.take().expect("the lessor is taken once");
    set_identity_metrics(&metrics, &config, booted);
    Shared {
        request_ids: RequestIds::new(member_id, unix_time().as_millis() as u64),
        config,
        metrics,
        member_id,
        cluster_id: booted.cluster_id,
        clock: Clock::default(),
        disk,
        network,
        views,
        hub,
        lessor: Mutex::new(lessor),
        cluster: ArcSwap::from_pointee(booted.state.cluster.clone()),
        alarms: ArcSwap::from_pointee(booted.state.alarms.clone()),
        compaction_hashes: Mutex::default(),
        storage_version: ArcSwapOption::new(booted.storage_version.map(Arc::new)),
        raft,
        file: FileProgress::default(),
        leader: watch::Sender::new(None),
        leader_since: Mutex::new(None),
        stop: watch::Sender::new(None),
        waiters: Waiters::default(),
        reads: ReadQueue::default(),
        apply_waiters: ApplyWaiters::default(),
        to_raft,
        to_file,
        to_backend,
    }
}

fn set_identity_metrics(metrics: &Metrics, config: &Config, booted: &Booted) {
    let server = &metrics.server;
    let id = booted.member_id.to_string();
    server.id.with_label_values(&[&id]).set(1);
    server.version.with_label_values(&[SERVER_VERSION]).set(1);
    server.quota_backend_bytes.set(config.quota().unwrap_or(config.quota_backend_bytes));
    server.auth_revision.set(1);
    if let Some(version) = booted.state.cluster.version() {
        server.cluster_version.with_label_values(&[&version.major_minor()]).set(1);
    }
}

fn start_tasks(server: &Server, runtime: &Handle) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn_on(tasks::expire_leases(server.clone()), runtime);
    tasks.spawn_on(tasks::settle_versions(server.clone()), runtime);
    tasks.spawn_on(tasks::compact_automatically(server.clone()), runtime);
    tasks
}

/// Reads history for watchers that are behind.
fn catch_up_watchers(shared: &Shared, inputs: &crossbeam_channel::Receiver<CatchUp>) {
    while let Ok(CatchUp::Wanted) = inputs.recv() {
        loop {
            let view = shared.views.load();
            match shared.hub.catch_up(&*view) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    shared.fail(format!("read history for watchers: {error}"));
                    return;
                }
            }
        }
    }
}
