//! Runs the invocations of `testing/interop/etcdctl/*.txt` with etcd's own etcdctl and with ours, each
//! against a fresh server on the same addresses, and compares stdout, stderr and exit code.
//!
//!     interop-etcdctl --reference PATH --candidate PATH --etcd PATH [--candidate-etcd PATH] [--only TEXT] [FILE...]
//!
//! Both servers go through the same history, so that ids of cluster and member, revisions and indexes
//! are equal too. What cannot be equal is masked: ids of leases, durations, and what a case names.

mod case;
mod run;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use case::Case;
use run::Transcript;

struct Options {
    reference: PathBuf,
    candidate: PathBuf,
    etcd: PathBuf,
    candidate_etcd: Option<PathBuf>,
    only: Option<String>,
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match compare() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Returns how many cases differ.
fn compare() -> Result<usize, String> {
    let options = options()?;
    let mut cases = Vec::new();
    for file in &options.files {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        cases.extend(case::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?);
    }
    let ports = server::Ports::free().map_err(|error| error.to_string())?;
    let run_all = |etcdctl: &PathBuf, etcd: &PathBuf| -> Result<Vec<Transcript>, String> {
        let server = server::Server::start(etcd, &ports)?;
        let mut runner = run::Runner::new(etcdctl, &server);
        cases.iter().map(|case| runner.run(case)).collect()
    };
    let expected = run_all(&options.reference, &options.etcd)?;
    let actual = run_all(&options.candidate, options.candidate_etcd.as_ref().unwrap_or(&options.etcd))?;
    let chosen =
        |case: &Case| options.only.as_ref().is_none_or(|only| case.words.join(" ").contains(only.as_str()));
    let mut differing = 0;
    let mut compared = 0;
    for (case, (expected, actual)) in cases.iter().zip(expected.iter().zip(&actual)) {
        if !chosen(case) || !case.compared {
            continue;
        }
        compared += 1;
        if expected != actual {
            differing += 1;
            println!("--- line {}: etcdctl {}", case.line, case.words.join(" "));
            println!("{}", expected.difference(actual));
        }
    }
    println!("{compared} invocations compared, {differing} differ");
    Ok(differing)
}

fn options() -> Result<Options, String> {
    let mut args = std::env::args().skip(1);
    let (mut reference, mut candidate, mut etcd, mut candidate_etcd, mut only) =
        (None, None, None, None, None);
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(arg) = args.next() {
        let slot = match arg.as_str() {
            "--reference" => &mut reference,
            "--candidate" => &mut candidate,
            "--etcd" => &mut etcd,
            "--candidate-etcd" => &mut candidate_etcd,
            "--only" => &mut only,
            _ => {
                files.push(arg.into());
                continue;
            }
        };
        *slot = Some(args.next().ok_or_else(|| format!("{arg} needs a value"))?);
    }
    if files.is_empty() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../etcdctl");
        let entries = std::fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))?;
        files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
        files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
        files.sort();
    }
    let need =
        |value: Option<String>, name: &str| value.map(PathBuf::from).ok_or(format!("{name} is needed"));
    Ok(Options {
        reference: need(reference, "--reference")?,
        candidate: need(candidate, "--candidate")?,
        etcd: need(etcd, "--etcd")?,
        candidate_etcd: candidate_etcd.map(PathBuf::from),
        only,
        files,
    })
}
