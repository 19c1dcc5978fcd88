//! Bends valid inputs for a while: `fuzz --seconds N [--target T] [--seed S]`, or `fuzz --target T FILE` to run
//! one; `fuzz --write-seeds DIR` writes the valid ones, for other runners.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fuzz::{Mutator, TARGETS, Target};

/// An input that takes longer is reported like one that panics.
const SLOW: Duration = Duration::from_secs(2);

/// Also of threads that a target does not wait for.
static PANICS: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        report(panic);
    }));
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("fuzz: {text}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<usize, String> {
    let (mut seconds, mut seed, mut only, mut file) = (30_u64, 1_u64, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => seconds = value()?.parse().map_err(|error| format!("--seconds: {error}"))?,
            "--seed" => seed = value()?.parse().map_err(|error| format!("--seed: {error}"))?,
            "--target" => only = Some(value()?),
            "--write-seeds" => return write_seeds(Path::new(&value()?)),
            other => file = Some(PathBuf::from(other)),
        }
    }
    check_files()?;
    let targets: Vec<&Target> =
        TARGETS.iter().filter(|target| only.as_deref().is_none_or(|only| only == target.name)).collect();
    if targets.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        return Err(format!("no such target; there are {}", names.join(", ")));
    }
    if let Some(file) = file {
        let input = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        targets.iter().for_each(|target| (target.run)(&input));
        return Ok(0);
    }
    let share = Duration::from_secs(seconds) / u32::try_from(targets.len()).expect("a handful");
    let mut failures = 0;
    for target in targets {
        failures += usize::from(!fuzz(target, seed, share)?);
    }
    Ok(failures)
}

/// Whether every input was survived.
fn fuzz(target: &Target, seed: u64, share: Duration) -> Result<bool, String> {
    let seeds = (target.seeds)();
    seeds.iter().for_each(|seed| (target.run)(seed));
    let mut mutator = Mutator::new(seed);
    let start = Instant::now();
    let mut inputs = 0_u64;
    while start.elapsed() < share {
        let input = mutator.bend(&seeds);
        let began = Instant::now();
        let panics = PANICS.load(Ordering::SeqCst);
        let survived = std::panic::catch_unwind(|| (target.run)(&input)).is_ok()
            && PANICS.load(Ordering::SeqCst) == panics;
        inputs += 1;
        if !survived || began.elapsed() > SLOW {
            let folder = PathBuf::from("target/fuzz");
            let path = folder.join(format!("{}-{seed}-{inputs}", target.name));
            std::fs::create_dir_all(&folder)
                .and_then(|()| std::fs::write(&path, &input))
                .map_err(|e| e.to_string())?;
            let what = if survived { "took too long" } else { "panicked" };
            println!("{}: input {inputs} of seed {seed} {what}: {}", target.name, path.display());
            return Ok(false);
        }
    }
    println!("{}: {inputs} inputs of seed {seed} survived", target.name);
    Ok(true)
}

/// What `cargo fuzz` lists is what there is.
fn check_files() -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let stem = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let files: BTreeSet<String> = entries.flatten().filter_map(|entry| stem(entry.path())).collect();
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    if files == names {
        return Ok(());
    }
    Err(format!(
        "fuzz_targets and TARGETS differ: {:?}",
        files.symmetric_difference(&names).collect::<Vec<_>>()
    ))
}

/// `DIR/TARGET/seed-N`, as `cargo fuzz` wants its corpus.
fn write_seeds(folder: &Path) -> Result<usize, String> {
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for (nth, seed) in (target.seeds)().iter().enumerate() {
            let path = folder.join(format!("seed-{nth}"));
            std::fs::write(&path, seed).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(0)
}
