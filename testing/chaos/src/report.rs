//! What a person is told: figures, and for each finding the few operations that show it.

use std::fmt::Write;

use crate::check::{Checked, answers_by_kind};
use crate::finding::Finding;
use crate::linearizable::Writer;
use crate::operation::{Event, Operation, Outcome, Revision};

/// Findings that are shown; the history holds all there is to see.
const SHOWN_MAX: usize = 15;
/// Revisions around a finding that are shown with it.
const AROUND: Revision = 1;
/// Operations beside those of the finding that are shown with it.
const NEIGHBOURS_MAX: usize = 8;

pub fn text(checked: &Checked) -> String {
    let mut text = String::new();
    let kinds = answers_by_kind(&checked.operations);
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    // Writing to a string cannot fail.
    let _fine = writeln!(
        text,
        "  {} calls: {} answered, {} refused, {} of unknown outcome; {} revisions, {} tries\n  \
         {} events in watches, resumed {} times; {} hashes compared\n  answered: {}",
        checked.operations.len(),
        checked.answered,
        checked.refused,
        checked.unknown,
        checked.replay.explained,
        checked.tries,
        checked.events,
        checked.resumptions,
        checked.hashes,
        kinds.join(", "),
    );
    if checked.early_leases > 0 {
        let count = checked.early_leases;
        let _fine =
            writeln!(text, "  {count} leases ran out too early after a change of leaders, as etcd's may");
    }
    for finding in checked.findings.iter().take(SHOWN_MAX) {
        text += &shown(finding, checked);
    }
    if checked.findings.len() > SHOWN_MAX {
        let _fine = writeln!(text, "  and {} more findings", checked.findings.len() - SHOWN_MAX);
    }
    text
}

fn shown(finding: &Finding, checked: &Checked) -> String {
    let mut text = format!("FINDING {finding}\n");
    let told = |operation: &&Operation| finding.operations.contains(&operation.id);
    for operation in checked.operations.iter().filter(told) {
        text += &line("  shown by", operation);
    }
    let Some(revision) = finding.revision else { return text };
    for near in revision - AROUND..=revision + AROUND {
        if let Some((writer, events)) = checked.replay.revisions.get(&near) {
            let writer = match writer {
                Writer::Operation(id) => format!("operation {id}"),
                Writer::Expiry(lease) => format!("the end of lease {lease:x}"),
                Writer::Unexplained => "nobody known".to_owned(),
            };
            let events: Vec<String> = events.iter().map(short).collect();
            let _fine = writeln!(text, "  revision {near} by {writer}: {}", events.join(", "));
        }
    }
    let is_near = |operation: &&Operation| match &operation.outcome {
        Outcome::Answered { revision: at, .. } => (at - revision).abs() <= AROUND,
        _ => false,
    };
    let others = checked.operations.iter().filter(is_near).filter(|operation| !told(operation));
    for operation in others.take(NEIGHBOURS_MAX) {
        text += &line("  beside it", operation);
    }
    text
}

fn line(label: &str, operation: &Operation) -> String {
    let Operation { id, client, member, called, finished, call, outcome, .. } = operation;
    // As the history holds them: fields that are not set are left out.
    let json = |value: Result<String, _>| value.unwrap_or_else(|error: serde_json::Error| error.to_string());
    let (call, outcome) = (json(serde_json::to_string(call)), json(serde_json::to_string(outcome)));
    format!(
        "{label}: {id} by client {client} on member {member}, {called}..{finished} us: {call} -> {outcome}\n"
    )
}

fn short(event: &Event) -> String {
    let kv = &event.kv;
    if event.deleted {
        return format!("delete {}", kv.key);
    }
    format!("put {} = {} (version {}, lease {:x})", kv.key, kv.value, kv.version, kv.lease)
}
