//! Asks etcd and us the same, hands data folders back and forth, and kills us under load.
//!
//!     interop-differential --peers DIR --ours PATH [--seed S] [--requests N] [--rounds N] [suite…]
//!
//! `cargo xtask interop` runs it. The seed is printed; with it and the same counts a run is repeated.

mod ask;
mod folders;
mod generate;
mod kills;
mod options;
mod pair;
mod random;
mod requests;
mod server;
mod strange;
mod watches;
mod wire;

use std::process::ExitCode;
use std::time::Instant;

use options::Options;

const SUITES: &[&str] = &["requests", "strange", "watches", "folders", "kills"];

fn main() -> ExitCode {
    let options = match Options::from_args(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Some(unknown) = options.suites.iter().find(|suite| !SUITES.contains(&suite.as_str())) {
        eprintln!("no suite {unknown:?}; there are {}", SUITES.join(", "));
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("start: {error}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}: repeat with cargo xtask interop --seed {}", options.seed, options.seed);
    let mut failed = 0;
    for suite in SUITES {
        if !options.suites.is_empty() && !options.suites.iter().any(|chosen| chosen == suite) {
            continue;
        }
        let started = Instant::now();
        let outcome = runtime.block_on(run(suite, &options));
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => println!("== {suite}: good, {seconds:.1} s"),
            Err(error) => {
                failed += 1;
                println!("== {suite}: FAILED after {seconds:.1} s: {error}");
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(suite: &str, options: &Options) -> Result<(), String> {
    match suite {
        "requests" => requests::run(options).await,
        "strange" => strange::run(options).await,
        "kills" => kills::run(options).await,
        "folders" => folders::run(options).await,
        "watches" => watches::run(options).await,
        _ => Err("no such suite".to_owned()),
    }
}
