//! A real Kubernetes control plane on one machine, without containers, with all its objects in our etcd.
//!
//! The same script runs on Go's etcd and on ours and must print the same: see [`transcript`] for what is
//! compared. `cargo xtask kubernetes` builds what is needed and calls this program.

mod bench;
mod control_plane;
mod etcd;
mod failure;
mod host;
mod http;
mod node;
mod pki;
mod process;
mod steps;
mod transcript;
mod wait;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::bench::Bench;
use crate::etcd::Programs;
use crate::failure::{During, Outcome, fail};

const USAGE: &str = "\
kubernetes [options]
  --peers DIR      Go's etcd-3.7 and kubernetes programs            (.peers)
  --etcd PATH      the etcd under test                              (needed, but with --reference)
  --etcdctl PATH   its etcdctl                                      (needed, but with --reference)
  --out DIR        folder for transcripts, logs and data            (target/kubernetes/run)
  --reference      run on Go's etcd only
  --alone          run on the etcd under test only
  --kills N        times that etcd is killed under writes           (10)
  --soak MINUTES   more writes and kills, so long that every cache is compared (none; 8 is enough)";

/// Lines of a log that are shown when a run fails.
const LOG_TAIL_LINES: usize = 12;

struct Options {
    peers: PathBuf,
    etcd: Option<PathBuf>,
    etcdctl: Option<PathBuf>,
    out: PathBuf,
    on_reference: bool,
    on_ours: bool,
    kill_rounds: usize,
    soak: Option<Duration>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Options> {
        let mut options = Options {
            peers: PathBuf::from(".peers"),
            etcd: None,
            etcdctl: None,
            out: PathBuf::from("target/kubernetes/run"),
            on_reference: true,
            on_ours: true,
            kill_rounds: 10,
            soak: None,
        };
        while let Some(flag) = arguments.next() {
            let mut value = || match arguments.next() {
                Some(value) => Ok(value),
                None => fail(format!("{flag} needs a value\n{USAGE}")),
            };
            match flag.as_str() {
                "--peers" => options.peers = value()?.into(),
                "--etcd" => options.etcd = Some(value()?.into()),
                "--etcdctl" => options.etcdctl = Some(value()?.into()),
                "--out" => options.out = value()?.into(),
                "--kills" => options.kill_rounds = value()?.parse().during("--kills")?,
                "--soak" => {
                    let minutes: u64 = value()?.parse().during("--soak")?;
                    options.soak = Some(Duration::from_secs(60 * minutes));
                }
                "--reference" => options.on_ours = false,
                "--help" => return fail(USAGE),
                "--alone" => options.on_reference = false,
                _ => return fail(format!("unknown option {flag:?}\n{USAGE}")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| both(&options)) {
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
        etcdctl: program(&go, "etcdctl")?,
        reference_etcdctl: program(&go, "etcdctl")?,
    };
    let mut lines = None;
    if options.on_reference {
        println!("on Go's etcd");
        lines = Some(once("reference", options, &kubernetes, &reference)?);
    }
    if !options.on_ours {
        return Ok(());
    }
    let (Some(etcd), Some(etcdctl)) = (&options.etcd, &options.etcdctl) else {
        return fail(format!("--etcd and --etcdctl say what is tested\n{USAGE}"));
    };
    let ours = Programs {
        etcd: fs::canonicalize(etcd).during(etcd.display())?,
        etcdctl: fs::canonicalize(etcdctl).during(etcdctl.display())?,
        reference_etcdctl: reference.etcdctl,
    };
    println!("on our etcd");
    let our_lines = once("ours", options, &kubernetes, &ours)?;
    let Some(lines) = lines else { return Ok(()) };
    let differences = transcript::differences(&lines, &our_lines);
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

/// One run; the lines that are compared.
fn once(name: &str, options: &Options, kubernetes: &Path, programs: &Programs) -> Outcome<Vec<String>> {
    let folder = &options.out.join(name);
    if folder.exists() {
        fs::remove_dir_all(folder).during(folder.display())?;
    }
    fs::create_dir_all(folder).during(folder.display())?;
    let folder = fs::canonicalize(folder)?;
    let mut bench = Bench::create(&folder, kubernetes, programs)?;
    println!("  transcript: {}", bench.transcript.path.display());
    let done = steps::all(&mut bench, options.kill_rounds, options.soak);
    if let Err(error) = &done {
        bench.transcript.check(&format!("the run stopped: {error}"), false);
    }
    let finished = bench.transcript.finish();
    let lines = bench.transcript.compared();
    // Ends all processes before anything else is said.
    drop(bench);
    if wait::interrupted() {
        return fail("interrupted");
    }
    if finished.is_err() || done.is_err() {
        show_logs(&folder.join("logs"));
    } else {
        let _ = fs::remove_dir_all(folder.join("etcd"));
    }
    done.and(finished).map(|()| lines)
}

fn show_logs(folder: &Path) {
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
