//! Clusters of real etcd processes under faults and load, and checkers for every answer they gave.
//!
//! See the README beside this crate. `cargo xtask chaos` builds what is needed and calls this program.

mod availability;
mod caller;
mod check;
mod cluster;
mod convergence;
mod data;
mod episode;
mod evidence;
mod failure;
mod fault;
mod finding;
mod hash_check;
mod history;
mod lease_bound;
mod liar;
mod linearizable;
mod load;
mod maintenance;
mod member;
mod membership;
mod memory;
mod model;
mod namespace;
mod operation;
mod options;
mod partition;
mod pki;
mod probe;
mod proxy;
mod real_time;
mod report;
mod rolling;
mod sandbox;
mod schedule;
mod slow_disk;
#[cfg(test)]
mod synthetic;
mod watch_check;
mod watcher;
mod wire;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::availability::Gaps;
use crate::cluster::{Program, Setup};
use crate::data::Data;
use crate::episode::{Course, Plan};
use crate::failure::{During, Outcome, fail};
use crate::history::Record;
use crate::lease_bound::Promise;
use crate::liar::LIES;
use crate::options::{Episode, Links, Options};

/// What is left of a cluster's tasks is given so long to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == sandbox::INSIDE => inside(rest).map(|()| ExitCode::SUCCESS),
        _ => outside(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("chaos: {error}");
        ExitCode::FAILURE
    })
}

fn outside(arguments: &[String]) -> Outcome<ExitCode> {
    let options = Options::parse(arguments)?;
    if let Some(path) = &options.check {
        return check_again(path, options.promise);
    }
    let mut arguments = arguments.to_vec();
    if !arguments.iter().any(|argument| argument == "--seed") {
        // Drawn once: the inner program must not draw another.
        arguments.extend(["--seed".to_owned(), options.seed.to_string()]);
    }
    sandbox::enter(&arguments)
}

fn check_again(path: &Path, promise: Promise) -> Outcome<ExitCode> {
    let records = history::read(path)?;
    let checked = check::all(&records, promise);
    print!("{}{}", report::text(&checked), Gaps::of(&records).table());
    match checked.findings.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => fail(format!("{count} findings in {}", path.display())),
    }
}

/// In the sandbox: all clusters, one after the other.
fn inside(arguments: &[String]) -> Outcome {
    let stop = sandbox::stop_order();
    let options = Options::parse(arguments)?;
    fs::create_dir_all(&options.out).during(options.out.display())?;
    let out = fs::canonicalize(&options.out).during(options.out.display())?;
    let slots = options.clusters.iter().map(Vec::len).max().unwrap_or(0);
    Runtime::new().during("start a runtime")?.block_on(namespace::create(slots))?;
    let episodes = options.episodes();
    println!("seed {}, {} clusters, {}", options.seed, episodes.len(), out.display());
    let mut gaps = Gaps::default();
    let mut failed = Vec::new();
    for episode in &episodes {
        let found = play(&options, episode, &out, &stop, &mut gaps)?;
        if found > 0 {
            failed.push(format!("{found} findings with seed {}", episode.seed));
        }
    }
    if !gaps.is_empty() {
        println!("{}", gaps.table());
    }
    if failed.is_empty() { Ok(()) } else { fail(failed.join(", ")) }
}

/// One cluster; how many findings there are.
fn play(
    options: &Options,
    episode: &Episode,
    out: &Path,
    stop: &watch::Receiver<bool>,
    gaps: &mut Gaps,
) -> Outcome<usize> {
    let programs = options.clusters[episode.cluster].clone();
    let folder = out.join(format!("seed-{}-of-{}", episode.seed, programs.len() - 1));
    if folder.exists() {
        fs::remove_dir_all(&folder).during(folder.display())?;
    }
    let repeat = repetition(options, episode);
    println!("== {repeat}");
    let plan = Plan {
        setup: Setup {
            seed: episode.seed,
            programs,
            with_proxy: episode.links == Links::Proxied,
            with_tls: options.with_tls,
            flags: options.flags.clone(),
        },
        course: match options.roll.is_empty() {
            true => Course::Faults(episode.time),
            false => Course::Roll(options.roll.clone()),
        },
        lie: options.lie,
        folder: folder.clone(),
        setting: repeat.clone(),
    };
    let data = Data::prepare(&folder, options.on_disk)?;
    let runtime = Runtime::new().during("start a runtime")?;
    let records = runtime.block_on(episode::run(plan, stop.clone()));
    // Members are killed with the tasks that watch them.
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
    let found = records.and_then(|records| judge(&records, &folder, options.promise, gaps));
    if !matches!(found, Ok(0)) {
        println!("  history and logs: {}\n  to repeat: {repeat}", folder.display());
        println!("  to check again: chaos --check {}", folder.join("history.jsonl").display());
    }
    data.leave(!matches!(found, Ok(0)) && !*stop.borrow())?;
    found
}

/// How many findings there are in what was seen.
fn judge(records: &[Record], folder: &Path, promise: Promise, gaps: &mut Gaps) -> Outcome<usize> {
    let checked = check::all(records, promise);
    let text = report::text(&checked);
    print!("{text}");
    fs::write(folder.join("report.txt"), &text).during("write the report")?;
    gaps.add(Gaps::of(records));
    Ok(checked.findings.len())
}

/// The command line that plays this cluster again.
fn repetition(options: &Options, episode: &Episode) -> String {
    let programs = &options.clusters[episode.cluster];
    let members = &programs[..programs.len() - 1];
    let kinds = ["go", Program::GO_3_6, "ours"];
    let is_mixed = members.iter().all(|program| kinds.contains(&program.name.as_str()));
    let members = match is_mixed && options.roll.is_empty() {
        true => members.iter().map(|program| program.name.clone()).collect::<Vec<_>>().join(","),
        false => members.len().to_string(),
    };
    let links = if episode.links == Links::Direct { "direct" } else { "proxied" };
    let mut words = format!(
        "chaos --seed {} --minutes {:.2} --members {members} --links {links} {}",
        episode.seed,
        episode.time.as_secs_f64() / 60.0,
        options.programs,
    );
    if !options.roll.is_empty() {
        let names: Vec<&str> = options.roll.iter().map(|program| program.name.as_str()).collect();
        words += &format!(" --roll {}", names.join(","));
    }
    if options.with_tls {
        words += " --tls";
    }
    if let Some((name, _)) = LIES.iter().find(|(_, lie)| Some(*lie) == options.lie) {
        words += &format!(" --lie {name}");
    }
    for flag in &options.flags {
        words += &format!(" --flag {flag}");
    }
    words
}
