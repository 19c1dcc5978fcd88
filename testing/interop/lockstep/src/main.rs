//! `lockstep --peer PROGRAM [--steps N] [--seed S]`: does the same to members of our raft core and to
//! members of Go's, and compares everything that can be seen after each step.
//!
//! Steps come in lives of a cluster, one life a seed: S, S+1, ... A life runs on our side alone, as both
//! sides must do the same; Go's side follows some thousand steps behind. The network, the disks and the
//! application are made of what *our* side hands out.
//!
//! Deliberate differences, and where they are dealt with:
//!
//! | difference | here |
//! |---|---|
//! | Go's candidate asks for votes before its term is durable, ours after | `Member::take`, `member.go`: compared as what waits for the disk |
//! | Go's leader of a cluster with one voter answers reads without having committed in its term, or without being that voter | `reads_differ`: no such reads |
//! | Reads that waited for the first commit of a term are answered by ours if one voter is left by then; Go's begins a round | `World::forget_early_reads` |
//! | Go's panics on a configuration change that cannot be applied, ours refuses it | `Member::apply`, `member.go`: compared as refused, if nothing changed |
//! | Go's counts an empty field of an entry that is present in memory as two bytes | `World`: narrow limits and changes of membership in different lives |
//! | Go's with a window of 0 bytes for committed entries applies nothing | no such window |
//! | `must_sync` of a write with a snapshot: false in Go's, true in ours | not compared |

mod command;
mod member;
mod peer;
mod rng;
mod trace;
mod world;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use raft::NodeId;

use crate::command::Command;
use crate::peer::Peer;
use crate::trace::Trace;
use crate::world::{Counts, World};

/// Steps of one seed.
const STEPS_PER_SEED: u64 = 5000;
/// Steps in one frame.
const STEPS_PER_FRAME: usize = 500;
/// Frames that the Go side may be behind.
const FRAMES_AHEAD: usize = 2;
/// Commands that a mismatch shows.
const HISTORY_LEN: usize = 12;

/// What a panic prints, as a broken assertion has no other way to say it.
static CURRENT_SEED: AtomicU64 = AtomicU64::new(0);

struct Options {
    peer: PathBuf,
    steps: u64,
    first_seed: u64,
}

/// A step that our side has done.
struct Done {
    seed: u64,
    number: u64,
    id: NodeId,
    command: Command,
    trace: Trace,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\nusage: lockstep --peer PROGRAM [--steps N] [--seed S]");
            return ExitCode::from(2);
        }
    };
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default_hook(info);
        eprintln!("  {}", repeat(CURRENT_SEED.load(Ordering::Relaxed)));
    }));
    println!("seeds from {}, {STEPS_PER_SEED} steps each", options.first_seed);
    let started = Instant::now();
    match run(&options) {
        Ok(counts) => {
            let seconds = started.elapsed().as_secs_f64();
            println!("{} steps alike in {seconds:.1} s: {counts:?}", options.steps);
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn repeat(seed: u64) -> String {
    format!("repeat: cargo xtask lockstep --seed {seed} --steps {STEPS_PER_SEED}")
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { peer: PathBuf::new(), steps: 1_000_000, first_seed: 0 };
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{name} {value}: not a number"));
        match name.as_str() {
            "--peer" => options.peer = PathBuf::from(value),
            "--steps" => options.steps = number()?,
            "--seed" => options.first_seed = number()?,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    if options.peer.as_os_str().is_empty() {
        return Err("--peer is missing".to_owned());
    }
    Ok(options)
}

fn run(options: &Options) -> Result<Counts, String> {
    let io = |error: std::io::Error| format!("the Go side: {error}");
    let mut peer = Peer::start(&options.peer).map_err(io)?;
    let mut counts = Counts::default();
    let mut waiting: VecDeque<Vec<Done>> = VecDeque::new();
    let mut history: VecDeque<Done> = VecDeque::new();
    let mut steps = Steps::new(options);
    loop {
        let (frame, done) = steps.next_frame(&mut counts);
        if !done.is_empty() {
            peer.send(&frame).map_err(io)?;
            waiting.push_back(done);
            if waiting.len() <= FRAMES_AHEAD {
                continue;
            }
        }
        let Some(oldest) = waiting.pop_front() else { return Ok(counts) };
        let answers = peer.receive().map_err(io)?;
        if answers.len() != oldest.len() {
            return Err(format!("{} answers to {} commands", answers.len(), oldest.len()));
        }
        for (done, answer) in oldest.into_iter().zip(answers) {
            if done.trace.0 != answer {
                return Err(mismatch(&history, &done, &Trace(answer)));
            }
            history.push_back(done);
            if history.len() > HISTORY_LEN {
                history.pop_front();
            }
        }
    }
}

/// Walks through the lives.
struct Steps {
    world: World,
    seed: u64,
    number: u64,
    left: u64,
}

impl Steps {
    fn new(options: &Options) -> Steps {
        let seed = options.first_seed;
        CURRENT_SEED.store(seed, Ordering::Relaxed);
        Steps { world: World::new(seed), seed, number: 0, left: options.steps }
    }

    fn next_frame(&mut self, counts: &mut Counts) -> (Vec<u8>, Vec<Done>) {
        let mut frame = Vec::new();
        let mut all_done = Vec::with_capacity(STEPS_PER_FRAME);
        while self.left > 0 && all_done.len() < STEPS_PER_FRAME {
            if self.number == STEPS_PER_SEED {
                self.seed += 1;
                self.number = 0;
                CURRENT_SEED.store(self.seed, Ordering::Relaxed);
                let counts = std::mem::take(&mut self.world.counts);
                self.world = World::new(self.seed);
                self.world.counts = counts;
            }
            let (id, command, draws, trace) = self.world.step();
            command.encode(id, &draws, &mut frame);
            all_done.push(Done { seed: self.seed, number: self.number, id, command, trace });
            self.number += 1;
            self.left -= 1;
        }
        *counts = self.world.counts.clone();
        (frame, all_done)
    }
}

fn mismatch(history: &VecDeque<Done>, done: &Done, theirs: &Trace) -> String {
    let mut text = String::new();
    for Done { seed, number, id, command, .. } in history.iter().chain([done]) {
        text += &format!("seed {seed} step {number}: member {id} {command:?}\n");
    }
    let before = history.iter().rev().find(|it| it.id == done.id && it.seed == done.seed);
    if let Some(Done { number, trace, .. }) = before {
        text += &format!("\nboth after step {number}:\n{}\n", trace.describe());
    }
    text += &format!("\nours:\n{}\n\nGo's:\n{}\n", done.trace.describe(), theirs.describe());
    text + &repeat(done.seed)
}
