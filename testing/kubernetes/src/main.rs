//! A real Kubernetes control plane on one machine, without containers, with all its objects in our etcd.
//!
//! The same script runs on Go's etcd and on ours and must print the same: see [`transcript`] for what is
//! compared. `cargo xtask kubernetes` builds what is needed and calls this program.

mod bench;
mod control_plane;
mod etcd;
mod failure;
mod ha;
mod host;
mod http;
mod node;
mod options;
mod pki;
mod process;
mod steps;
mod transcript;
mod wait;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::bench::Bench;
use crate::etcd::Programs;
use crate::failure::{During, Outcome, fail};
use crate::options::{Options, Script, USAGE};
use crate::transcript::Transcript;

/// Lines of a log that are shown when a run fails.
const LOG_TAIL_LINES: usize = 12;

/// What one run leaves for the comparison.
#[derive(Default)]
struct Record {
    lines: Vec<String>,
    gaps: Vec<ha::Gap>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let inside = arguments.next_if(|first| first == ha::network::INSIDE).is_some();
    let done = Options::parse(arguments).and_then(|options| match options.script {
        Script::HighAvailability { .. } if !inside => ha::network::enter(),
        _ => both(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kubernetes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn both(options: &Options) -> Outcome {
    wait::listen_for_interrupts()?;
    let kubernetes = program(&options.peers, "kubernetes")?;
    let go = program(&options.peers, "etcd-3.7")?;
    let reference = Programs {
        etcd: program(&go, "etcd")?,
        reference_etcd: program(&go, "etcd")?,
        etcdctl: program(&go, "etcdctl")?,
        reference_etcdctl: program(&go, "etcdctl")?,
        etcdutl: program(&go, "etcdutl")?,
    };
    let mut reference_record = None;
    if options.on_reference {
        println!("on Go's etcd");
        let (record, done) = once("reference", options, &kubernetes, &reference)?;
        done?;
        reference_record = Some(record);
    }
    if !options.on_ours {
        return Ok(());
    }
    let (Some(etcd), Some(etcdctl)) = (&options.etcd, &options.etcdctl) else {
        return fail(format!("--etcd and --etcdctl say what is tested\n{USAGE}"));
    };
    let etcdutl = options.etcdutl.as_ref().unwrap_or(&reference.etcdutl);
    let ours = Programs {
        etcd: fs::canonicalize(etcd).during(etcd.display())?,
        etcdctl: fs::canonicalize(etcdctl).during(etcdctl.display())?,
        reference_etcd: reference.etcd,
        reference_etcdctl: reference.etcdctl,
        etcdutl: fs::canonicalize(etcdutl).during(etcdutl.display())?,
    };
    println!("on our etcd");
    let (our_record, done) = once("ours", options, &kubernetes, &ours)?;
    let Some(reference_record) = reference_record else { return done };
    if !reference_record.gaps.is_empty() {
        let table = ha::side_by_side(&reference_record.gaps, &our_record.gaps);
        fs::write(options.out.join("gaps.txt"), format!("{table}\n"))?;
        println!("{table}");
    }
    done?;
    let differences = transcript::differences(&reference_record.lines, &our_record.lines);
    if !differences.is_empty() {
        return fail(format!("the transcripts differ\n{}", differences.join("\n")));
    }
    println!("the transcripts say the same: {}", options.out.display());
    Ok(())
}

fn program(folder: &Path, name: &str) -> Outcome<PathBuf> {
    let path = folder.join(name);
    fs::canonicalize(&path).during(format!("{} (made by cargo xtask peers)", path.display()))
}

/// One run of the script on one etcd: what it recorded, and whether all of it held.
fn once(name: &str, options: &Options, kubernetes: &Path, programs: &Programs) -> Outcome<(Record, Outcome)> {
    let folder = &options.out.join(name);
    if folder.exists() {
        fs::remove_dir_all(folder).during(folder.display())?;
    }
    fs::create_dir_all(folder).during(folder.display())?;
    let folder = fs::canonicalize(folder)?;
    println!("  transcript: {}", folder.join("transcript.txt").display());
    let mut record = Record::default();
    let done = match options.script {
        Script::Single { kill_rounds, soak } => {
            let mut bench = Bench::create(&folder, kubernetes, programs)?;
            let done = steps::all(&mut bench, kill_rounds, soak);
            finish(&mut bench.transcript, done, &mut record)
            // All processes end here, before anything else is said.
        }
        Script::HighAvailability { depth, ref parts } => {
            let plan = ha::Plan::new(depth, parts);
            let mut run = ha::Run::create(&folder, kubernetes, programs, &plan)?;
            let done = run.all(&plan);
            record.gaps = run.gaps();
            finish(run.transcript(), done, &mut record)
        }
    };
    if wait::interrupted() {
        return fail("interrupted");
    }
    match &done {
        Ok(()) => remove_data(&folder),
        Err(_) => show_logs(&folder),
    }
    Ok((record, done))
}

fn finish(transcript: &mut Transcript, done: Outcome, record: &mut Record) -> Outcome {
    if let Err(error) = &done {
        transcript.check(&format!("the run stopped: {error}"), false);
    }
    let finished = transcript.finish();
    record.lines = transcript.compared();
    done.and(finished)
}

/// The folder of the run, or of each of its masters.
fn machines(folder: &Path) -> Vec<PathBuf> {
    let inside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut all: Vec<PathBuf> = inside.filter(|path| path.join("logs").is_dir()).collect();
    all.sort();
    if all.is_empty() { vec![folder.to_owned()] } else { all }
}

fn remove_data(folder: &Path) {
    for machine in machines(folder) {
        for data in ["etcd", "etcd-restored"] {
            let _ = fs::remove_dir_all(machine.join(data));
        }
        let _ = fs::remove_file(machine.join("disk.image"));
    }
}

fn show_logs(folder: &Path) {
    for machine in machines(folder) {
        show_logs_of(&machine.join("logs"));
    }
}

fn show_logs_of(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        println!("---- end of {}", path.display());
        for line in &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..] {
            println!("{}", line.chars().take(400).collect::<String>());
        }
    }
}
