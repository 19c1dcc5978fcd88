//! One member: its disk, which survives, and its process, which may not.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use disk::MemDisk;
use membership::MemberId;
use mvcc::watch::{CancelReason, Filters, Output, Stream, WatchSpec, WatchStart};
use server::{BootError, Clock, ClusterState, Config, Environment, Metrics, Server, Stage, Stages};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::network::Wires;
use crate::rng::Rng;

/// Small, so that logs are cut, purged and overtaken within a run.
const LOG: wal::Options = wal::Options { segment_bytes: 16 << 10, zero_ahead_bytes: 512 };
const SNAPSHOT_COUNT: u64 = 100;
const CATCHUP_ENTRIES: u64 = 50;

/// A member's place in the run.
pub struct Slot {
    pub url: String,
    config: Config,
    pub disk: MemDisk,
    pub process: Option<Process>,
    /// No turns before then: the process is paused.
    pub paused_until: Duration,
    /// No turns of the log before then: its disk is stalled.
    pub stalled_until: Duration,
    /// It is no member any more.
    pub is_retired: bool,
    /// An error of its disk was armed: that the member stops is right.
    pub disk_fails: bool,
}

/// A member that runs.
pub struct Process {
    pub server: Server,
    stages: Stages,
    tasks: JoinSet<()>,
    /// A watcher of everything.
    observer: Stream,
}

pub fn url(number: usize) -> String {
    format!("http://127.0.0.1:{}", 20_000 + number)
}

impl Slot {
    pub fn new(number: usize, initial: &[usize], state: ClusterState) -> Slot {
        let mut config = Config::single(&format!("m{number}"), "/data".into());
        config.initial_advertise_peer_urls = vec![url(number)];
        config.initial_cluster = initial.iter().map(|&n| (format!("m{n}"), url(n))).collect();
        config.initial_cluster_state = state;
        config.snapshot_count = SNAPSHOT_COUNT;
        config.snapshot_catchup_entries = CATCHUP_ENTRIES;
        config.max_wals = 2;
        let disk = MemDisk::new();
        disk.start_recording();
        Slot {
            url: url(number),
            config,
            disk,
            process: None,
            paused_until: Duration::ZERO,
            stalled_until: Duration::ZERO,
            is_retired: false,
            disk_fails: false,
        }
    }

    pub fn id(&self) -> Option<MemberId> {
        self.process.as_ref().map(|process| process.server.member_id())
    }

    pub fn start(&mut self, wires: &Wires, clock: &Clock, runtime: &Handle) -> Result<(), BootError> {
        let environment = Environment {
            disk: Arc::new(self.disk.clone()),
            network: Arc::new(wires.end_of(&self.url)),
            metrics: Metrics::new(),
            clock: clock.clone(),
            log: LOG,
        };
        let config = self.config.clone();
        // On a thread of its own, because a start may wait for answers; nothing else happens meanwhile.
        let assembled = std::thread::scope(|scope| {
            let assembling = scope.spawn(|| Stages::assemble(config, environment, runtime));
            assembling.join().expect("assembling does not panic")
        });
        let (server, mut stages) = assembled?;
        wires.join(&self.url, &server);
        stages.begin();
        let mut tasks = server.start_tasks(runtime);
        let publishing = server.clone();
        tasks.spawn_on(async move { publishing.become_ready().await }, runtime);
        let observer = observe(&server);
        self.process = Some(Process { server, stages, tasks, observer });
        Ok(())
    }

    /// The power goes: what was not synced may be there or not, as chance will have it.
    pub fn crash(&mut self, wires: &Wires, rng: &mut Rng) {
        match rng.below(3) {
            0 => self.stop(wires, |_| false),
            1 => self.stop(wires, |_| true),
            _ => self.stop(wires, |_| rng.chance(500)),
        }
        self.disk_fails = false;
    }

    /// The process ends; its disk keeps everything.
    pub fn end(&mut self, wires: &Wires) {
        self.stop(wires, |_| true);
    }

    /// What the process still holds, as calls under way do, is of a disk that nobody uses any more.
    fn stop(&mut self, wires: &Wires, survives: impl FnMut(usize) -> bool) {
        let Some(mut process) = self.process.take() else { return };
        process.tasks.abort_all();
        wires.leave(process.server.member_id());
        let recording = self.disk.recording();
        let crash = recording.crash_at(recording.last_point());
        let survived: Vec<bool> = (0..crash.pending().len()).map(survives).collect();
        self.disk = crash.image(&survived).disk;
        self.disk.start_recording();
    }
}

impl Process {
    /// False once the stage has stopped.
    pub fn turn(&mut self, stage: Stage) -> bool {
        self.stages.turn(stage)
    }

    /// What was applied since the last look: events of whole revisions.
    pub fn observed(&mut self) -> Vec<Vec<Bytes>> {
        let mut all = Vec::new();
        loop {
            match self.observer.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Output::Events(batch)) => all.push(batch.events),
                // A snapshot has taken it past what it has seen; others have seen that.
                Poll::Ready(Output::Canceled { reason: CancelReason::Compacted { .. }, .. }) => {
                    self.observer = observe(&self.server);
                }
                Poll::Ready(_) => {}
                Poll::Pending => return all,
            }
        }
    }
}

fn observe(server: &Server) -> Stream {
    let view = server.view();
    let mut stream = server.watch_hub().open_stream();
    let spec = WatchSpec {
        range: mvcc::KeyRange::all(),
        start: WatchStart::From(view.revision().next()),
        prev_kv: true,
        filters: Filters::default(),
        progress_notify: false,
        fragment: false,
        id: None,
    };
    stream.create(spec, view.revision()).expect("a range of everything is not empty");
    stream
}
