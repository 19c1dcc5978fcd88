//! etcdutl of both on the same files, and members of both on what it made.

mod fixture;
mod starts;

use std::path::Path;

use tempfile::TempDir;

use crate::case::Step;
use crate::member::Ports;
use crate::run::Runner;
use crate::transcript::{Run, Tally, compare};
use crate::{Options, Programs, cases, invocations};
use fixture::Fixture;

pub fn run(options: &Options) -> Result<Tally, String> {
    let steps = cases("etcdutl")?;
    let (ports, _) = Ports::free(starts::CLUSTER_SIZE)?;
    let mut total = Tally::default();
    for (origin, servers) in [("etcd's files", &options.theirs), ("our files", &options.ours)] {
        let fixture = Fixture::make(servers, &options.theirs, ports[0])?;
        let expected = pass(&format!("etcd's etcdutl on {origin}"), &options.theirs, &fixture, &steps)?;
        let actual = pass(&format!("our etcdutl on {origin}"), &options.ours, &fixture, &steps)?;
        total += compare("etcdutl", &invocations(&steps), |case| options.is_chosen(case), &expected, &actual);
        if options.only.is_none() {
            starts::check(options, origin, &fixture, &ports)?;
        }
    }
    Ok(total)
}

/// All cases on a copy of the files.
fn pass(title: &str, tool: &Programs, fixture: &Fixture, steps: &[Step]) -> Result<Run, String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let work = folder.path().join("work");
    fixture::copy(fixture.folder(), &work)?;
    let mut runner = Runner::new(&tool.etcdutl, &work, logs);
    let mut transcripts = Vec::new();
    for step in steps {
        match step {
            Step::Invoke(case) => transcripts.push(runner.run(case)?),
            Step::Act { place, words } => act(&work, words).map_err(|error| format!("{place}: {error}"))?,
        }
    }
    Ok(Run { title: title.to_owned(), transcripts })
}

/// `@ copy FROM TO`: files and folders.
fn act(work: &Path, words: &[String]) -> Result<(), String> {
    match words {
        [verb, from, to] if verb == "copy" => fixture::copy(&work.join(from), &work.join(to)),
        _ => Err("no such step".to_owned()),
    }
}

/// What etcd tells of its inner workings, of which ours are others.
const NOT_COMPARED: [&str; 3] =
    ["info: Opening db file ", "info: Opening bbolt db ", "info: resolved URL Host "];

/// Of log lines, what is not of their time and place: level, message and fields. Go's stack traces go.
fn logs(text: &str) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_frame: Vec<bool> = lines.iter().map(|line| line.starts_with('\t')).collect();
    let mut n = 0;
    lines.retain(|_| {
        n += 1;
        !is_frame[n - 1] && !is_frame.get(n).is_some_and(|next| *next)
    });
    let lines = lines.into_iter().map(log_line);
    lines.filter(|line| !NOT_COMPARED.iter().any(|known| line.starts_with(known))).collect()
}

/// Fields of the line are apart by tabs: time, level, perhaps a logger, caller, message, fields.
fn log_line(line: &str) -> String {
    let parts: Vec<&str> = line.split('\t').collect();
    let is_caller = |part: &&str| part.contains(".go:") || part.ends_with(".rs");
    match parts.iter().position(is_caller) {
        Some(caller @ 2..) => format!("{}: {}", parts[1], parts[caller + 1..].join(" ")),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_without_time_and_place() {
        let theirs =
            "2026-01-02T03:04:05Z\tinfo\tnetutl\tsnapshot/v3_snapshot.go:1\tadded member\t{\"a\": 1}\n";
        let ours = "2026-01-02T03:04:06Z\tinfo\trestore/mod.rs\tadded member\t{\"a\": 1}\nError: x\n";
        assert_eq!(logs(theirs), "info: added member {\"a\": 1}\n");
        let traced = format!("{theirs}main.main\n\tetcdutl/main.go:23\n{theirs}");
        assert_eq!(logs(&traced), logs(theirs).repeat(2));
        assert_eq!(logs(ours), "info: added member {\"a\": 1}\nError: x\n");
    }
}
