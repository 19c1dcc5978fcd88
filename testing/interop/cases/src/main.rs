//! Runs the same invocations with etcd's own command line tools and with ours, and compares stdout, stderr and
//! exit code.
//!
//!     interop-cases --peers DIR --ours DIR [--only TEXT] [etcdctl|etcdctl-cluster|etcdutl…]
//!
//! | suite | cases | does |
//! |---|---|---|
//! | etcdctl | `testing/interop/etcdctl` | etcdctl at one member |
//! | etcdctl-cluster | `testing/interop/etcdctl-cluster` | etcdctl at three members; others join, vote and leave |
//! | etcdutl | `testing/interop/etcdutl` | etcdutl on files of both implementations; members of both start from what it restored |
//!
//! All runs go through the same history at the same addresses, so that ids of clusters and members, revisions and
//! terms are equal too. What cannot be equal is masked: ids that are made from the time, durations, and what a case
//! names.

mod case;
mod cluster;
mod etcdctl;
mod etcdutl;
mod mask;
mod member;
mod run;
mod transcript;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::Step;
use transcript::Tally;

/// The programs of one implementation.
#[derive(Clone, Debug)]
pub struct Programs {
    pub etcd: PathBuf,
    pub etcdctl: PathBuf,
    pub etcdutl: PathBuf,
}

impl Programs {
    fn within(folder: &Path) -> Programs {
        Programs {
            etcd: folder.join("etcd"),
            etcdctl: folder.join("etcdctl"),
            etcdutl: folder.join("etcdutl"),
        }
    }
}

pub struct Options {
    pub theirs: Programs,
    pub ours: Programs,
    /// A text that the invocations to compare contain.
    pub only: Option<String>,
    suites: Vec<String>,
}

impl Options {
    fn is_chosen(&self, case: &case::Case) -> bool {
        self.only.as_ref().is_none_or(|only| case.words.join(" ").contains(only.as_str()))
    }
}

type Suite = (&'static str, fn(&Options) -> Result<Tally, String>);

const SUITES: [Suite; 3] =
    [("etcdctl", etcdctl::run), ("etcdctl-cluster", etcdctl::run_cluster), ("etcdutl", etcdutl::run)];

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for (name, run) in SUITES {
        if !options.suites.is_empty() && !options.suites.iter().any(|suite| suite == name) {
            continue;
        }
        match run(&options) {
            Ok(Tally { compared, differing }) => {
                failed |= differing > 0;
                println!("{name}: {compared} compared, {differing} differ");
            }
            Err(error) => {
                failed = true;
                println!("{name}: FAILED\n{error}");
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn options() -> Result<Options, String> {
    let mut arguments = std::env::args().skip(1);
    let (mut peers, mut ours, mut only, mut suites) = (None, None, None, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--peers" => peers = Some(PathBuf::from(value()?)),
            "--ours" => ours = Some(PathBuf::from(value()?)),
            "--only" => only = Some(value()?),
            name if SUITES.iter().any(|(suite, _)| *suite == name) => suites.push(argument),
            unknown => return Err(format!("no suite {unknown:?}")),
        }
    }
    let peers = peers.ok_or("--peers is needed")?;
    Ok(Options {
        theirs: Programs::within(&peers.join("etcd-3.7")),
        ours: Programs::within(&ours.ok_or("--ours is needed")?),
        only,
        suites,
    })
}

/// The cases in all files of a folder of `testing/interop`, in the order of their names.
fn cases(folder: &str) -> Result<Vec<Step>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let entries = std::fs::read_dir(&folder).map_err(|error| failed(&folder, error))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut steps = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|error| failed(&file, error))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        steps.extend(case::parse(&name, &text)?);
    }
    Ok(steps)
}

/// The invocations among the steps.
fn invocations<'a>(steps: &'a [Step]) -> Vec<&'a case::Case> {
    let invocation = |step: &'a Step| match step {
        Step::Invoke(case) => Some(case),
        Step::Act { .. } => None,
    };
    steps.iter().filter_map(invocation).collect()
}
