//! One cluster from its first start to the last check.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::{Cluster, Program, Setup};
use crate::convergence;
use crate::failure::{During, Outcome, fail};
use crate::fault::Player;
use crate::history::{EnoughRecord, FaultRecord, Record, Recorder, RunRecord};
use crate::liar::{Liar, Lie};
use crate::load::{ANCHOR, Client};
use crate::maintenance;
use crate::memory::Memory;
use crate::operation::{Micros, Revision, Span};
use crate::rolling;
use crate::schedule::{Means, Schedule, Turn};
use crate::watcher::{Watcher, Wish};

/// Clients for each member.
const CLIENTS_PER_MEMBER: usize = 4;
/// The cluster must serve so soon after its start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The first write after a fault was taken back must come so soon.
const BACK_LIMIT: Duration = Duration::from_secs(60);
/// After everything was healed, watchers must have everything so soon.
const WATCH_LIMIT: Duration = Duration::from_secs(60);
/// Clients and chores must end so soon after they were told to: their longest call and a pause.
const TASK_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);

pub struct Plan {
    pub setup: Setup,
    pub course: Course,
    pub lie: Option<Lie>,
    pub folder: PathBuf,
    /// How it was set up, in words.
    pub setting: String,
}

/// What the cluster is put through.
pub enum Course {
    /// Faults, for so long.
    Faults(Duration),
    /// All members change from the first of these programs to the next, and so on.
    Roll(Vec<Program>),
}

/// Runs it; the records of all that was seen.
pub async fn run(plan: Plan, stop: watch::Receiver<bool>) -> Outcome<Vec<Record>> {
    std::fs::create_dir_all(&plan.folder).during(plan.folder.display())?;
    let recorder = Arc::new(Recorder::create(&plan.folder.join("history.jsonl"))?);
    recorder.note(Record::Run(RunRecord {
        seed: plan.setup.seed,
        members: plan.setup.programs.iter().map(|program| program.name.clone()).collect(),
        setting: plan.setting.clone(),
    }));
    let means = Means {
        has_proxy: plan.setup.with_proxy,
        has_disks: plan.setup.programs.iter().any(|program| program.uses_libc),
    };
    let seed = plan.setup.seed;
    let cluster = Arc::new(Cluster::start(plan.setup, &plan.folder, Arc::clone(&recorder)).await?);
    wait_ready(&cluster, &stop).await?;
    let mut stopping = stop.clone();
    tokio::select! {
        outcome = whole(Run::begin(seed, cluster, plan.lie), plan.course, means, &stop) => outcome?,
        _ = stopping.wait_for(|stop| *stop) => return fail("interrupted"),
    }
    recorder.finish()
}

async fn whole(run: Run, course: Course, means: Means, stop: &watch::Receiver<bool>) -> Outcome {
    let state = match course {
        Course::Faults(time) => run.faults(time, means, stop).await?,
        Course::Roll(programs) => run.roll(&programs, stop).await?,
    };
    match state {
        State::Serving => run.end().await,
        State::Lost => run.give_up().await,
    }
}

/// Whether the cluster can be asked for more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    /// It did not come back from a fault.
    Lost,
}

async fn wait_ready(cluster: &Arc<Cluster>, stop: &watch::Receiver<bool>) -> Outcome {
    let end = Instant::now() + START_LIMIT;
    while Instant::now() < end && !*stop.borrow() {
        let statuses = cluster.statuses().await;
        let ready = statuses.iter().filter(|(_, status)| status.leader != 0).count();
        if ready == cluster.members().len() {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    fail(format!("the cluster does not serve within {} s of its start", START_LIMIT.as_secs()))
}

/// A cluster under load.
struct Run {
    seed: u64,
    cluster: Arc<Cluster>,
    memory: Arc<Memory>,
    work: JoinSet<Outcome>,
    watchers: JoinSet<Outcome>,
    enough: watch::Sender<bool>,
    goal: watch::Sender<Option<Revision>>,
    next_client: u32,
}

impl Run {
    fn begin(seed: u64, cluster: Arc<Cluster>, lie: Option<Lie>) -> Run {
        let memory = Arc::new(Memory::default());
        let liar = Arc::new(Liar::new(lie));
        let (enough, stop) = watch::channel(false);
        let (goal, until) = watch::channel(None);
        let mut watchers = JoinSet::new();
        let members = cluster.members();
        for (id, wish) in wishes(members.len()).into_iter().enumerate() {
            let member = members[id % members.len()];
            let watcher = Watcher::new(id as u32, member, wish, seed, &cluster, &liar, until.clone());
            watchers.spawn(watcher.run(WATCH_LIMIT));
        }
        let mut work = JoinSet::new();
        let mut next_client = 0;
        let mut client = || {
            next_client += 1;
            Client::new(next_client, seed, &cluster, &memory, &liar)
        };
        for _ in 0..members.len() * CLIENTS_PER_MEMBER {
            work.spawn(client().run(stop.clone()));
        }
        work.spawn(client().keep_leases(stop.clone()));
        let share = || (Arc::clone(&cluster), Arc::clone(&memory), stop.clone());
        let (its, known, stopped) = share();
        work.spawn(maintenance::compact(next_client + 1, seed, its, known, stopped));
        let (its, known, stopped) = share();
        work.spawn(maintenance::hash(seed, its, known, stopped));
        work.spawn(maintenance::defragment(seed, Arc::clone(&cluster), stop.clone()));
        Run { seed, memory, work, watchers, enough, goal, next_client: next_client + 2, cluster }
    }

    /// Plays faults until the time is over, or until the cluster does not come back from one.
    async fn faults(&self, time: Duration, means: Means, stop: &watch::Receiver<bool>) -> Outcome<State> {
        let mut schedule = Schedule::new(self.seed, means);
        let mut player = Player::new(self.seed, &self.cluster, &self.memory, stop.clone());
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.turn(&mut player, &schedule.next_turn()).await? == State::Lost {
                return Ok(State::Lost);
            }
        }
        Ok(State::Serving)
    }

    /// Lets all members change their programs.
    async fn roll(&self, programs: &[Program], stop: &watch::Receiver<bool>) -> Outcome<State> {
        let mut player = Player::new(self.seed, &self.cluster, &self.memory, stop.clone());
        let members = self.cluster.members().len();
        for turn in rolling::turns(programs, members) {
            if self.turn(&mut player, &turn).await? == State::Lost {
                return Ok(State::Lost);
            }
        }
        tokio::time::sleep(rolling::QUIET).await;
        Ok(State::Serving)
    }

    async fn turn(&self, player: &mut Player, turn: &Turn) -> Outcome<State> {
        tokio::time::sleep(turn.quiet).await;
        let (looked_at, _) = self.writes_since(0, Micros::MAX);
        let played = player.play(turn).await?;
        let back = self.wait_write(looked_at, played.healed).await;
        self.tell(&played, back);
        Ok(if back.is_none() { State::Lost } else { State::Serving })
    }

    fn tell(&self, played: &FaultRecord, back: Option<Micros>) {
        let FaultRecord { kind, detail, from, healed } = played;
        let at = *from as f64 / 1e6;
        let told = match back {
            Some(back) => format!("a write {:.2} s after", back.saturating_sub(*healed) as f64 / 1e6),
            None => "no write after".to_owned(),
        };
        println!("  {at:>6.1} s  {kind:<28} {told}  ({detail})");
        if back.is_none() {
            let what = format!("{kind} ({detail}): no write within {} s of healing", BACK_LIMIT.as_secs());
            self.cluster.recorder.seen("it comes back", None, what);
        }
    }

    /// When the first write that was called after `healed` was acknowledged.
    async fn wait_write(&self, mut looked_at: usize, healed: Micros) -> Option<Micros> {
        let end = Instant::now() + BACK_LIMIT;
        while Instant::now() < end {
            let (next, first) = self.writes_since(looked_at, healed);
            if first.is_some() {
                return first;
            }
            looked_at = next;
            tokio::time::sleep(POLL).await;
        }
        None
    }

    fn writes_since(&self, from: usize, called: Micros) -> (usize, Option<Micros>) {
        let mut first: Option<Micros> = None;
        let next = self.cluster.recorder.since(from, |record| {
            let Record::Operation(operation) = record else { return };
            let is_late = operation.called >= called;
            if is_late && operation.call.may_write() && operation.answered().is_some() {
                first = Some(first.map_or(operation.finished, |first| first.min(operation.finished)));
            }
        });
        (next, first)
    }

    async fn end(mut self) -> Outcome {
        self.tell_enough();
        join(&mut self.work, "clients").await?;
        let Some(revision) = convergence::settle(&self.cluster, self.next_client).await? else {
            return Ok(());
        };
        self.goal.send_replace(Some(revision));
        join(&mut self.watchers, "watchers").await?;
        for slot in self.cluster.members() {
            if let Err(error) = self.cluster.stop(slot, STOP_LIMIT).await {
                self.cluster.recorder.seen("members stop", Some(slot), error.to_string());
            }
        }
        Ok(())
    }

    fn tell_enough(&self) {
        let at = self.cluster.recorder.now();
        self.cluster.recorder.note(Record::Enough(EnoughRecord { at }));
        self.enough.send_replace(true);
    }

    /// What was seen so far can still be judged.
    async fn give_up(mut self) -> Outcome {
        self.tell_enough();
        join(&mut self.work, "clients").await
    }
}

async fn join(tasks: &mut JoinSet<Outcome>, what: &str) -> Outcome {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended.during(what)??;
        }
        Ok(())
    };
    match tokio::time::timeout(TASK_LIMIT.max(WATCH_LIMIT * 2), all).await {
        Ok(outcome) => outcome,
        Err(_) => fail(format!("the {what} do not end")),
    }
}

/// One watcher of everything for each member, and some of less.
fn wishes(members: usize) -> Vec<Wish> {
    let everything = (0..members).map(|index| Wish {
        span: Span::everything(),
        start_revision: 1,
        prev_kv: index % 2 == 0,
        deletes: true,
        asks: index % 3 != 2,
    });
    let part =
        |span, start_revision, deletes| Wish { span, start_revision, prev_kv: true, deletes, asks: true };
    let parts = [
        part(Span { key: "k/2".to_owned(), end: "k/5".to_owned() }, 1, true),
        part(Span::one("k/1"), 0, true),
        part(Span::prefix("k/"), 0, false),
        part(Span::one(ANCHOR), 0, true),
    ];
    everything.chain(parts).collect()
}
