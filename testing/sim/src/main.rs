//! `sim --seeds N --steps N [--seed S]`: runs seeds S, S+1, ... and stops at the first violation.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use sim::world::{World, repeat_command};
use sim::{Report, run};

/// What a panic prints, as a broken assertion has no other way to say it.
static CURRENT_SEED: AtomicU64 = AtomicU64::new(0);

struct Options {
    outages: bool,
    only: String,
    seeds: u64,
    steps: u64,
    first_seed: u64,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\nusage: sim [--seeds N] [--steps N] [--seed S]");
            return ExitCode::from(2);
        }
    };
    if options.outages {
        return match sim::outages::print(options.seeds, &options.only) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("{problem}");
                ExitCode::FAILURE
            }
        };
    }
    let steps = options.steps;
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default_hook(info);
        let seed = CURRENT_SEED.load(Ordering::Relaxed);
        eprintln!("  in seed {seed}; {}", repeat_command(seed, steps));
    }));

    let mut total = Report::default();
    for seed in options.first_seed..options.first_seed.saturating_add(options.seeds) {
        CURRENT_SEED.store(seed, Ordering::Relaxed);
        match run(seed, steps) {
            Ok(report) => total.add(&report),
            Err(failure) => {
                eprintln!("{failure}\n  plan: {:?}", World::new(seed).plan());
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{} seeds of {steps} steps: {total:?}", options.seeds);
    ExitCode::SUCCESS
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut arguments = arguments.peekable();
    let outages = arguments.next_if(|first| first == "outages").is_some();
    let mut options = Options { outages, only: String::new(), seeds: 100, steps: 10_000, first_seed: 0 };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        if name == "--only" && outages {
            options.only = value;
            continue;
        }
        let value = value.parse().map_err(|_| format!("{name} {value}: not a number"))?;
        match name.as_str() {
            "--seeds" => options.seeds = value,
            "--steps" => options.steps = value,
            "--seed" => options.first_seed = value,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}
