//! Putting a member together, starting its threads, and stopping them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use disk::{Disk, RealDisk};
use mvcc::watch::{Hub, HubConfig};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::apply_loop::{ApplyInput, ApplyLoop};
use crate::backend::{Backend, BackendInput, Batch, Queues};
use crate::bootstrap::{self, BootError, Booted};
use crate::clock::Clock;
use crate::config::{Config, SERVER_VERSION};
use crate::handle::Server;
use crate::inlet::{Inlet, TakesTurns};
use crate::log_writer::{LogInput, LogWriter};
use crate::metrics::Metrics;
use crate::network::{Network, NoNetwork};
use crate::progress::{FileProgress, RaftProgress};
use crate::reads::{ApplyWaiters, ReadQueue};
use crate::replicate::{RaftInput, Replicator};
use crate::request_id::RequestIds;
use crate::shared::{Flow, Shared, StopReason};
use crate::waiters::Waiters;
use crate::{corruption, tasks, versions};

/// Batches between the apply and the backend thread. Full: apply waits, and with it the proposals' gate. A
/// bounded channel has all its slots from the start, so this is memory of every member: some 2 MiB.
const BATCH_QUEUE: usize = 8_192;

/// What a member runs on.
#[derive(Clone)]
pub struct Environment {
    pub disk: Arc<dyn Disk>,
    pub network: Arc<dyn Network>,
    pub metrics: Metrics,
    pub clock: Clock,
    /// Sizes of the log's files; others than the default only for tests and the simulator.
    pub log: wal::Options,
}

impl Default for Environment {
    /// This machine, without a way to other members.
    fn default() -> Environment {
        Environment {
            disk: Arc::new(RealDisk),
            network: Arc::new(NoNetwork),
            metrics: Metrics::new(),
            clock: Clock::default(),
            log: wal::Options::default(),
        }
    }
}

/// A member and its threads. Dropping it without [`Member::stop`] leaves the directory as a crash would.
pub struct Member {
    pub server: Server,
    threads: Vec<JoinHandle<()>>,
    to_log: Inlet<LogWriter>,
    to_apply: Inlet<ApplyLoop>,
    catch_up: Sender<CatchUp>,
    tasks: JoinSet<()>,
}

/// The stages of a member's pipeline, before each gets its thread. A simulator gives them none, and takes
/// their turns in an order of its own.
pub struct Stages {
    replicator: Replicator,
    log_writer: LogWriter,
    apply_loop: ApplyLoop,
    backend: Backend,
    catch_up: CatchUpLoop,
    to_log: Inlet<LogWriter>,
    to_apply: Inlet<ApplyLoop>,
    catch_up_wakes: Sender<CatchUp>,
}

/// One of [`Stages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Replicate,
    Log,
    Apply,
    Backend,
    CatchUp,
}

impl Stage {
    pub const ALL: [Stage; 5] = [Stage::Replicate, Stage::Log, Stage::Apply, Stage::Backend, Stage::CatchUp];
}

enum CatchUp {
    Wanted,
    Stop,
}

/// Reads history for watchers that are behind.
struct CatchUpLoop {
    shared: Arc<Shared>,
    inputs: Receiver<CatchUp>,
}

impl CatchUpLoop {
    fn run(mut self) {
        while let Ok(CatchUp::Wanted) = self.inputs.recv() {
            if self.catch_up() == Flow::Stop {
                return;
            }
        }
    }

    fn turn(&mut self) -> Flow {
        match self.inputs.try_recv() {
            Ok(CatchUp::Wanted) => self.catch_up(),
            Ok(CatchUp::Stop) => Flow::Stop,
            Err(_) => Flow::Continue,
        }
    }

    fn catch_up(&mut self) -> Flow {
        loop {
            let view = self.shared.views.load();
            match self.shared.hub.catch_up(&*view) {
                Ok(true) => {}
                Ok(false) => return Flow::Continue,
                Err(error) => {
                    self.shared.fail(format!("read history for watchers: {error}"));
                    return Flow::Stop;
                }
            }
        }
    }
}

impl Stages {
    /// Reads the directory and puts the member together; nothing runs yet. May take as long as the file is
    /// large: call it where blocking is allowed.
    pub fn assemble(
        config: Config,
        environment: Environment,
        runtime: &Handle,
    ) -> Result<(Server, Stages), BootError> {
        let mut booted = bootstrap::boot(&config, &environment, runtime)?;
        // Bounded by the gate of proposals: all else in it is one per batch, per round of reads or per write.
        let (to_raft, raft_inputs) = inlet();
        let (to_log, log_inputs) = inlet();
        let (to_apply, apply_inputs) = inlet();
        let (to_file, batches) = bounded(BATCH_QUEUE);
        let (to_backend, backend_inputs) = unbounded();
        let (catch_up_wakes, catch_up_inputs) = bounded(1);
        let disk = environment.disk.clone();
        let shared = share(
            config,
            environment,
            &mut booted,
            Inlets { to_raft: to_raft.clone(), to_file, to_backend, catch_up: catch_up_wakes.clone() },
        );
        let shared = Arc::new(shared);
        let Booted { db, db_path, wal, node, state, unfinished_compaction, start, .. } = booted;
        let queues = Queues { batches, inputs: backend_inputs, to_log: to_log.clone() };
        let stages = Stages {
            backend: Backend::new(db, db_path, disk, shared.clone(), queues, unfinished_compaction),
            log_writer: LogWriter::new(wal, shared.clone(), log_inputs, to_raft.clone(), to_apply.clone()),
            apply_loop: ApplyLoop::new(state, shared.clone(), apply_inputs, to_raft, runtime.clone(), start),
            replicator: Replicator::new(node, shared.clone(), raft_inputs, to_log.clone(), to_apply.clone()),
            catch_up: CatchUpLoop { shared: shared.clone(), inputs: catch_up_inputs },
            to_log,
            to_apply,
            catch_up_wakes,
        };
        let server = Server { shared };
        for member in server.cluster().members() {
            server.shared.note_peer(member);
        }
        Ok((server, stages))
    }

    /// What a member does at its very beginning, before any turn.
    pub fn begin(&mut self) {
        self.backend.begin();
        self.replicator.begin();
    }

    /// Lets one stage do what it can do now, without waiting. False once it has stopped.
    pub fn turn(&mut self, stage: Stage) -> bool {
        let flow = match stage {
            Stage::Replicate => self.replicator.turn(),
            Stage::Log => self.log_writer.turn(),
            Stage::Apply => self.apply_loop.turn(),
            Stage::Backend => self.backend.turn(None),
            Stage::CatchUp => self.catch_up.turn(),
        };
        flow == Flow::Continue
    }
}

impl Member {
    /// Reads the directory and starts the threads. May take as long as the file is large: call it where
    /// blocking is allowed. The member is not ready yet: see [`Member::ready`].
    pub fn start(config: Config, environment: Environment, runtime: &Handle) -> Result<Member, BootError> {
        let (server, stages) = Stages::assemble(config, environment, runtime)?;
        if server.config().initial_corrupt_check && server.raft().applied() > 0 {
            runtime.block_on(server.check_initial_corruption()).map_err(BootError::Corrupt)?;
        }
        let Stages {
            mut replicator,
            log_writer,
            apply_loop,
            backend,
            catch_up,
            to_log,
            to_apply,
            catch_up_wakes,
        } = stages;
        let (raft_turns, log_turns, apply_turns) =
            (server.shared.to_raft.clone(), to_log.clone(), to_apply.clone());
        let threads = vec![
            spawn("backend", move || backend.run())?,
            spawn("wal", move || log_turns.run(log_writer))?,
            spawn("apply", move || apply_turns.run(apply_loop))?,
            spawn("raft", move || {
                replicator.begin();
                raft_turns.run(replicator);
            })?,
            spawn("watch", move || catch_up.run())?,
        ];
        let tasks = server.start_tasks(runtime);
        Ok(Member { server, threads, to_log, to_apply, catch_up: catch_up_wakes, tasks })
    }

    /// Waits until the cluster knows this member and its version: requests may come from then on. Ends early
    /// when the member stops; [`Server::stopping`] tells.
    pub async fn ready(&self) {
        self.server.become_ready().await;
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

impl Server {
    /// As [`Member::ready`].
    pub async fn become_ready(&self) {
        let mut stopping = self.stopping();
        let settled = async {
            tasks::publish(self.clone()).await;
            while self.cluster().version().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = settled => {}
            _ = stopping.wait_for(Option::is_some) => {}
        }
    }

    /// Starts what a member does by itself. Dropping the set ends it.
    pub fn start_tasks(&self, runtime: &Handle) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn_on(tasks::expire_leases(self.clone()), runtime);
        tasks.spawn_on(tasks::checkpoint_leases(self.clone()), runtime);
        tasks.spawn_on(tasks::advance_election(self.clone()), runtime);
        tasks.spawn_on(tasks::compact_automatically(self.clone()), runtime);
        tasks.spawn_on(corruption::compare_keys(self.clone()), runtime);
        tasks.spawn_on(corruption::compare_compactions(self.clone()), runtime);
        tasks.spawn_on(versions::settle_versions(self.clone()), runtime);
        tasks.spawn_on(versions::end_downgrade(self.clone()), runtime);
        tasks
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

fn inlet<S: TakesTurns>() -> (Inlet<S>, Receiver<S::Input>) {
    let (sender, receiver) = unbounded();
    (Inlet::new(sender), receiver)
}

/// Where each stage takes its inputs.
struct Inlets {
    to_raft: Inlet<Replicator>,
    to_file: Sender<Batch>,
    to_backend: Sender<BackendInput>,
    catch_up: Sender<CatchUp>,
}

fn share(config: Config, environment: Environment, booted: &mut Booted, inlets: Inlets) -> Shared {
    let Environment { disk, network, metrics, clock, log: _ } = environment;
    let Inlets { to_raft, to_file, to_backend, catch_up } = inlets;
    let views = booted.state.store.cell().clone();
    // One wake-up waiting is enough: the thread works until nothing is wanted.
    let wake = move || {
        catch_up.try_send(CatchUp::Wanted).ok();
    };
    let hub = Hub::new(HubConfig::default(), booted.state.store.revision(), wake);
    let raft = RaftProgress::default();
    let applied = booted.applied();
    raft.set_applied(applied.index, applied.term);
    raft.set_committed(booted.hard_state.commit.0);
    raft.set_term(booted.hard_state.term.0);
    let member_id = booted.member_id;
    let lessor = booted.lessor.take().expect("the lessor is taken once");
    set_identity_metrics(&metrics, &config, booted);
    Shared {
        request_ids: RequestIds::new(member_id, clock.unix_time().as_millis() as u64),
        config,
        metrics,
        member_id,
        cluster_id: booted.cluster_id,
        clock,
        disk,
        network,
        views,
        hub,
        lessor: Mutex::new(lessor),
        cluster: ArcSwap::from_pointee(booted.state.cluster.clone()),
        alarms: ArcSwap::from_pointee(booted.state.alarms.clone()),
        cluster_version_changed: Notify::new(),
        compaction_hashes: Mutex::default(),
        storage_version: ArcSwapOption::new(booted.storage_version.map(Arc::new)),
        raft,
        file: FileProgress::default(),
        leader: watch::Sender::new(None),
        leader_since: Mutex::new(None),
        stop: watch::Sender::new(None),
        waiters: Waiters::default(),
        snapshot_begun: AtomicU64::new(0),
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
