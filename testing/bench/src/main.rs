//! Go's etcd and ours under the same load, on the same machine at the same time.
//!
//! Every row runs in short slices, first one server, then the other, so that the machine's other business
//! falls on both alike. A slice is a number of operations, not a time: both servers then hold the same
//! data when their memory is compared.

mod catch_up;
mod cluster;
mod fan_out;
mod histogram;
mod http2;
mod load;
mod maintenance;
mod million;
mod mixture;
mod report;
mod rows;
mod server;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const USAGE: &str =
    "bench --go ETCD --ours ETCD [--rows NAME,NAME…] [--seconds N] [--members N] [--quick] [--dir DIR]
  --rows     put1 put100 put1000 get sget list1 list4 stream1 stream4 list100k txn watch maintenance million;
             of clusters: put1-leader put1-all put100-leader put100-all put1000-leader put1000-all
             get-followers txn-all mixture catch-up
  --members  1 or 3: clusters of so many members each (1)
  --seconds  how long to go on with each row (20)
  --quick    a quarter of everything and 20,000 keys instead of a million: under two minutes
  --dir      where the data directories go: a disk, not memory (the system's temporary folder)
  --only     one of go, ours: no comparison, for a profiler to look at
";

/// What went wrong, for the person who ran it.
#[derive(Debug)]
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

/// What to run.
pub struct Plan {
    /// The servers in the order of their slices; in a comparison Go's is the first.
    pub programs: Vec<PathBuf>,
    pub folder: PathBuf,
    pub rows: Vec<String>,
    pub row_time: Duration,
    pub quick: bool,
    /// Of each program's cluster.
    pub members: usize,
}

impl Plan {
    pub fn wants(&self, row: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|wanted| wanted == row)
    }

    /// A number of operations, as the run's size wants it.
    pub fn sized(&self, ops: u64) -> u64 {
        if self.quick { (ops / 4).max(2) } else { ops }
    }
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|plan| run(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            eprintln!("bench: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<(), Failure> {
    let home = tempfile::Builder::new().prefix("etcd-bench").tempdir_in(&plan.folder)?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let cores = std::thread::available_parallelism()?;
    println!("{cores} cores, client beside the servers, unix time {since_epoch}\n");
    report::heading(plan);
    if plan.members > 1 {
        return run_clusters(plan, home.path());
    }
    for row in rows::ROWS.iter().filter(|row| plan.wants(row.name)) {
        let sides = rows::run(row, plan, home.path())?;
        report::row(row.name, &sides);
    }
    if plan.wants("watch") {
        let sides = fan_out::run(plan, home.path())?;
        report::row("watch", &sides);
    }
    if plan.wants("maintenance") {
        maintenance::run(plan, home.path())?;
    }
    if plan.wants("million") {
        million::run(plan, home.path())?;
    }
    Ok(())
}

fn run_clusters(plan: &Plan, home: &Path) -> Result<(), Failure> {
    for row in cluster::ROWS.iter().filter(|row| plan.wants(row.name)) {
        let sides = cluster::run(row, plan, home)?;
        report::row(row.name, &sides);
    }
    if plan.wants("catch-up") {
        catch_up::run(plan, home)?;
    }
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Plan, Failure> {
    let (mut go, mut ours, mut only) = (None, None, None);
    let (mut rows, mut seconds, mut quick) = (Vec::new(), None, false);
    let mut folder = std::env::temp_dir();
    let mut members = 1;
    while let Some(argument) = arguments.next() {
        if argument == "--quick" {
            quick = true;
            continue;
        }
        if argument == "--help" {
            return Err(Failure(USAGE.to_owned()));
        }
        let value = arguments.next().ok_or_else(|| Failure(format!("{argument}: no value\n{USAGE}")))?;
        match argument.as_str() {
            "--go" => go = Some(PathBuf::from(value)),
            "--ours" => ours = Some(PathBuf::from(value)),
            "--only" => only = Some(value),
            "--rows" => rows = value.split(',').map(str::to_owned).collect(),
            "--seconds" => seconds = Some(value.parse()?),
            "--members" => members = value.parse()?,
            "--dir" => folder = PathBuf::from(value),
            _ => return Err(Failure(format!("unknown {argument}\n{USAGE}"))),
        }
    }
    let side =
        |program: Option<PathBuf>, name| program.ok_or_else(|| Failure(format!("no --{name}\n{USAGE}")));
    let programs = match only.as_deref() {
        Some("go") => vec![side(go, "go")?],
        Some("ours") => vec![side(ours, "ours")?],
        _ => vec![side(go, "go")?, side(ours, "ours")?],
    };
    let seconds = seconds.unwrap_or(if quick { 4 } else { 20 });
    Ok(Plan { programs, folder, rows, row_time: Duration::from_secs(seconds), quick, members })
}
