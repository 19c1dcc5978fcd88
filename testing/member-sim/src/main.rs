//! Whole members (raft, log, apply, keys, leases, watches, membership, files) on one thread, from one seed, with
//! simulated time, disk and network and their faults: crashes that lose what was not synced, failing and stalled
//! disks, lost, late and doubled messages, ways that are cut, pauses, wrong hints, members that come and go.
//!
//! `member-sim [--seeds N] [--seed S] [--steps N] [--twice]`: N seeds from S on. A failure prints its seed, and
//! the same seed fails again; `--twice` runs each seed twice and compares.

mod admin;
mod check;
mod client;
mod history;
mod member;
mod network;
mod rng;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use tokio::runtime::Builder;

use crate::world::{Plan, Report, World};

const USAGE: &str = "member-sim [--seeds N] [--seed S] [--steps N] [--twice]";

struct Options {
    seeds: u64,
    first: u64,
    steps: usize,
    twice: bool,
}

fn options(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { seeds: 20, first: 1, steps: 100_000, twice: false };
    let mut arguments = arguments;
    while let Some(flag) = arguments.next() {
        let mut number = || -> Result<u64, String> {
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a number\n{USAGE}"))?;
            value.parse().map_err(|_| format!("{value:?} is no number\n{USAGE}"))
        };
        match flag.as_str() {
            "--seeds" => options.seeds = number()?,
            "--seed" => options.first = number()?,
            "--steps" => options.steps = number()? as usize,
            "--twice" => options.twice = true,
            _ => return Err(format!("unknown option {flag:?}\n{USAGE}")),
        }
    }
    Ok(options)
}

/// Each run has a runtime of its own, whose clock stands still until the run moves it.
fn run(plan: Plan) -> Result<Report, String> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(World::new(plan.seed).run(plan))
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    for seed in options.first..options.first + options.seeds {
        let plan = Plan { seed, steps: options.steps };
        let outcome = run(plan).and_then(|report| {
            if options.twice && run(plan)? != report {
                return Err("the same seed led to another run".to_owned());
            }
            Ok(report)
        });
        match outcome {
            Ok(report) => println!("seed {seed}: {report:?}"),
            Err(error) => {
                eprintln!("seed {seed}: {error}");
                eprintln!(
                    "again: cargo run --release -p member-sim -- --seed {seed} --seeds 1 --steps {}",
                    options.steps
                );
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{} seeds in {:.1} s", options.seeds, started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
