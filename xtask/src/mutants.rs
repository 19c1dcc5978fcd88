//! `cargo xtask mutants`: breaks the raft core on purpose, one way at a time, and expects the simulator to see
//! it. A simulator that finds nothing is good news only if it can find something.
//!
//! Each mutant is built from a copy of the sources under `target/mutants`; the tree itself is not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use crate::shell::{cargo, root};
use crate::{Command, Failure};

pub const COMMAND: Command = Command {
    name: "mutants",
    about: "breaks the raft core on purpose; the simulator must see it [NAME...]",
    run: mutants,
};

/// What has to be there to build the simulator: the workspace, without what was built.
const SOURCES: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", ".cargo", "clippy.toml", "crates", "testing", "xtask"];

/// Seeds within which a mutant must be seen: those of `cargo xtask ci`.
const CHAOS: &[&str] = &["--seeds", "5000"];
const OUTAGES: &[&str] = &["outages", "--seeds", "20", "--only", "fast Prompt"];

/// One deliberate fault.
struct Mutant {
    name: &'static str,
    /// In `crates/raft/src`.
    file: &'static str,
    /// Stands there exactly once.
    from: &'static str,
    to: &'static str,
    simulation: &'static [&'static str],
}

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "votes are asked for before the sync",
        file: "consensus/mod.rs",
        from: "MessageType::Vote => self.after_persist.push(message),",
        to: "MessageType::Vote => self.messages.push(message),",
        simulation: CHAOS,
    },
    Mutant {
        name: "votes are given before the sync",
        file: "consensus/mod.rs",
        from: "            MessageType::AppResp | MessageType::VoteResp | MessageType::PreVoteResp => {\n                self.after_persist.push(message);\n            }\n",
        to: "            MessageType::VoteResp if message.to != self.id => self.messages.push(message),\n            MessageType::AppResp | MessageType::VoteResp | MessageType::PreVoteResp => {\n                self.after_persist.push(message);\n            }\n",
        simulation: CHAOS,
    },
    Mutant {
        name: "entries are acknowledged before the sync",
        file: "consensus/mod.rs",
        from: "            MessageType::AppResp | MessageType::VoteResp | MessageType::PreVoteResp => {\n                self.after_persist.push(message);\n            }\n",
        to: "            MessageType::AppResp if message.to != self.id => self.messages.push(message),\n            MessageType::AppResp | MessageType::VoteResp | MessageType::PreVoteResp => {\n                self.after_persist.push(message);\n            }\n",
        simulation: CHAOS,
    },
    Mutant {
        name: "a heartbeat commits past what matches",
        file: "consensus/replication.rs",
        from: "let commit = progress.matched.min(self.log.committed());",
        to: "let commit = self.log.committed();",
        simulation: CHAOS,
    },
    Mutant {
        name: "an append commits past what matches",
        file: "log.rs",
        from: "self.commit_to(leader_commit.min(last_new));",
        to: "self.commit_to(leader_commit.min(self.last_index()));",
        simulation: CHAOS,
    },
    Mutant {
        name: "a write counts as stable in spite of a new term",
        file: "raw_node.rs",
        from: "            && term == self.raft.hard_state().term\n",
        to: "            && term <= self.raft.hard_state().term\n",
        simulation: CHAOS,
    },
    Mutant {
        name: "entries of older terms are committed by counting",
        file: "consensus/leading.rs",
        from: "let at = EntryId { term: self.term, index: self.tracker.committed_index() };",
        to: "let index = self.tracker.committed_index();\n        let at = EntryId { term: self.log.term(index).unwrap_or(self.term), index };",
        simulation: CHAOS,
    },
    Mutant {
        name: "two votes in one term",
        file: "consensus/election.rs",
        from: "|| (self.vote.is_none() && self.leader.is_none())",
        to: "|| self.leader.is_none()",
        simulation: CHAOS,
    },
    Mutant {
        name: "votes for shorter logs",
        file: "log.rs",
        from: "(other.term == ours.term && other.index >= ours.index)",
        to: "other.term == ours.term",
        simulation: CHAOS,
    },
    Mutant {
        name: "a joint configuration counts its new half alone",
        file: "quorum.rs",
        from: "self.incoming.committed_index(&acked).min(self.outgoing.committed_index(&acked))",
        to: "self.incoming.committed_index(&acked)",
        simulation: CHAOS,
    },
    Mutant {
        name: "reads before the first commit of a term",
        file: "consensus/reads.rs",
        from: "if self.has_committed_in_term() {\n            self.start_read_round(message);",
        to: "if self.role == Role::Leader {\n            self.start_read_round(message);",
        simulation: CHAOS,
    },
    Mutant {
        name: "reads confirmed by answers to earlier heartbeats",
        file: "read_only.rs",
        from: "*acked = count.max(*acked);",
        to: "*acked = (count + 1).max(*acked);",
        simulation: CHAOS,
    },
    Mutant {
        name: "entries are applied before they are durable here",
        file: "log.rs",
        from: "self.committed.min(self.unstable.offset().prev())",
        to: "self.committed",
        simulation: CHAOS,
    },
    Mutant {
        name: "evidence skips the pre-vote",
        file: "consensus/succession.rs",
        from: "if self.succession.attempt_in == Some(0) {\n            self.attempt();",
        to: "if self.succession.attempt_in == Some(0) {\n            self.config.pre_vote = false;\n            self.attempt();\n            self.config.pre_vote = true;",
        simulation: OUTAGES,
    },
    Mutant {
        name: "evidence about anybody ends the lease",
        file: "consensus/succession.rs",
        from: "self.role == Role::Follower && self.leader == Some(leader);",
        to: "self.role == Role::Follower && self.leader.is_some();",
        simulation: OUTAGES,
    },
    Mutant {
        name: "no lease",
        file: "consensus/election.rs",
        from: "if asks_vote && !by_transfer && self.is_in_lease() {",
        to: "if asks_vote && !by_transfer && self.is_in_lease() && self.role == Role::Leader {",
        simulation: OUTAGES,
    },
];

fn mutants(arguments: &[String]) -> Result<(), Failure> {
    let copy = root().join("target").join("mutants").join("tree");
    let chosen = |mutant: &&Mutant| arguments.is_empty() || arguments.iter().any(|name| name == mutant.name);
    let mut unseen = Vec::new();
    for mutant in MUTANTS.iter().filter(chosen) {
        copy_sources(&copy)?;
        mutate(&copy, mutant)?;
        let started = Instant::now();
        let seen = simulate(&copy, mutant)?;
        println!(
            "{:<56} {:>5.1} s  {}",
            mutant.name,
            started.elapsed().as_secs_f64(),
            seen.as_deref().unwrap_or("NOT SEEN")
        );
        if seen.is_none() {
            unseen.push(mutant.name);
        }
    }
    if unseen.is_empty() { Ok(()) } else { Err(Failure(format!("not seen: {}", unseen.join(", ")))) }
}

fn copy_sources(copy: &Path) -> Result<(), Failure> {
    fs::create_dir_all(copy)?;
    for name in SOURCES {
        copy_newer(&root().join(name), &copy.join(name))?;
    }
    Ok(())
}

/// Leaves alone what is equal, so that cargo builds only what changed.
fn copy_newer(from: &Path, to: &Path) -> Result<(), Failure> {
    if from.is_dir() {
        if from.ends_with("target") {
            return Ok(());
        }
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_newer(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    let content = fs::read(from)?;
    if !fs::read(to).is_ok_and(|there| there == content) {
        fs::write(to, content)?;
    }
    Ok(())
}

fn mutate(copy: &Path, mutant: &Mutant) -> Result<(), Failure> {
    let file: PathBuf = copy.join("crates").join("raft").join("src").join(mutant.file);
    let text = fs::read_to_string(&file)?;
    let count = text.matches(mutant.from).count();
    if count != 1 {
        return Err(Failure(format!("{}: its text stands {count} times in {}", mutant.name, mutant.file)));
    }
    fs::write(&file, text.replace(mutant.from, mutant.to))?;
    Ok(())
}

/// The violation that the simulator prints; `None` when it sees none.
fn simulate(copy: &Path, mutant: &Mutant) -> Result<Option<String>, Failure> {
    let target = root().join("target").join("mutants").join("target");
    let mut build = cargo(&["build", "--quiet", "--release", "--locked", "--package", "sim"]);
    build.current_dir(copy).env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", "-A unused");
    build.env("CARGO_PROFILE_RELEASE_LTO", "off");
    if !build.status()?.success() {
        return Err(Failure(format!("{} does not build", mutant.name)));
    }
    let mut sim = std::process::Command::new(target.join("release").join("sim"));
    let output = sim.args(mutant.simulation).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let at = said.find("violated").or_else(|| said.find("panicked"));
    let line: String = said[at.unwrap_or(0)..].lines().next().unwrap_or_default().chars().take(100).collect();
    let seed = said.lines().rev().find(|line| line.contains(" seed ")).unwrap_or_default().trim();
    Ok(Some(format!("{line} ({seed})")))
}
