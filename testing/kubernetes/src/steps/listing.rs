//! What etcdctl shows of all this: ours and Go's must print the same bytes.

use std::collections::BTreeMap;

use crate::bench::{Bench, SOON};
use crate::failure::{Failure, Outcome};
use crate::wait;

pub fn compaction(bench: &mut Bench) -> Outcome {
    bench.transcript.step("The API server compacts etcd");
    const KEY: &str = "compact_rev_key";
    let [first, second] = [1, 2].map(|count| {
        wait::until("compact_rev_key moves", 2 * SOON, || {
            let stored = bench.etcd.stored(KEY).map_err(|error| error.to_string())?;
            let stored = stored.get(KEY).ok_or("no key")?;
            let revision = String::from_utf8_lossy(&stored.value).into_owned();
            if stored.version >= count { Ok((stored.version, revision)) } else { Err(revision) }
        })
    });
    let (first, second) = (first?, second?);
    bench.transcript.remark(&format!("compact_rev_key: version and revision {first:?}, later {second:?}"));
    bench.transcript.check("compact_rev_key counts the rounds", second.0 >= 2);
    let refused = wait::until("the old revision is gone", SOON, || {
        let old = bench.etcd.ctl(&["get", "/registry/namespaces/shop", "--rev=2"], None);
        let old = old.map_err(|error| error.to_string())?;
        if old.success { Err("it is still readable".to_owned()) } else { Ok(old.stderr) }
    })?;
    bench.transcript.command("etcdctl get /registry/namespaces/shop --rev=2");
    let told = refused.contains("etcdserver: mvcc: required revision has been compacted");
    bench.transcript.remark(&refused);
    bench.transcript.check("required revision has been compacted", told);
    // The API server keeps old lists in its caches for a while; with the compaction it must let go of them.
    const OLD: &str = "/api/v1/namespaces?resourceVersion=2&resourceVersionMatch=Exact";
    let expired = wait::until("a list at that revision is refused", SOON, || {
        let answer = bench.control_plane().and_then(|plane| plane.admin().get(OLD));
        let status = answer.map_err(|error| error.to_string())?.status;
        if status == 410 { Ok(()) } else { Err(format!("status {status}")) }
    });
    bench.transcript.check("the API server refuses a list at that revision as expired", expired.is_ok());
    Ok(())
}

pub fn keys(bench: &mut Bench) -> Outcome {
    bench.transcript.step("etcdctl lists /registry, ours and Go's alike");
    same(bench, "get / --prefix --keys-only", Compare::Both)?;
    same(bench, "get / --prefix --keys-only --limit=10", Compare::Both)?;
    same(bench, "get / --prefix --count-only -w fields", Compare::ClusterMoves)?;
    same(bench, "get /registry/configmaps/ --prefix", Compare::Both)?;
    same(bench, "get /registry/namespaces/shop -w json", Compare::ClusterMoves)?;
    same(
        bench,
        "get /registry/clusterroles/ --prefix --keys-only --sort-by=CREATE --order=DESCEND",
        Compare::Both,
    )?;

    let listing = bench.etcd.ctl(&["get", "/", "--prefix", "--keys-only"], None)?.text();
    let keys: Vec<&str> = listing.lines().step_by(2).collect();
    let blank = listing.lines().skip(1).step_by(2).all(str::is_empty);
    bench.transcript.check("each key is followed by an empty line", blank && !keys.is_empty());
    bench.transcript.check("keys are in order", keys.is_sorted());
    bench.transcript.check("all are under /registry/", keys.iter().all(|key| key.starts_with("/registry/")));
    bench.transcript.check("compact_rev_key is not among them", !listing.contains("compact_rev_key"));
    let all = bench.etcd.ctl(&["get", "", "--from-key", "--keys-only"], None)?.text();
    bench.transcript.check("but it is in the whole", all.contains("compact_rev_key"));
    for (resource, count) in count_by_resource(&keys) {
        bench.transcript.output(&format!("{count:4} {resource}"));
    }
    Ok(())
}

enum Compare {
    Both,
    /// The header's revision and term move on between two calls: only the rest is compared.
    ClusterMoves,
}

/// Runs a command by both etcdctl and compares what they print, when nothing has changed in between.
fn same(bench: &mut Bench, command_line: &str, compare: Compare) -> Outcome {
    bench.transcript.command(&format!("etcdctl {command_line}"));
    let words: Vec<&str> = command_line.split(' ').collect();
    let settle = |bytes: Vec<u8>| match compare {
        Compare::Both => bytes,
        Compare::ClusterMoves => without_revision(&String::from_utf8_lossy(&bytes)).into_bytes(),
    };
    let (ours, reference) = wait::until("a quiet moment", SOON, || {
        let take = || -> Outcome<_> {
            let before = settle(bench.etcd.reference_ctl(&words)?.must("Go's etcdctl")?);
            let ours = settle(bench.etcd.ctl(&words, None)?.must("etcdctl")?);
            let after = settle(bench.etcd.reference_ctl(&words)?.must("Go's etcdctl")?);
            Ok((before, ours, after))
        };
        let (before, ours, after) = take().map_err(|error: Failure| error.to_string())?;
        if before == after { Ok((ours, after)) } else { Err("the cluster changes".to_owned()) }
    })?;
    if ours != reference {
        let first =
            ours.iter().zip(&reference).position(|(a, b)| a != b).unwrap_or(ours.len().min(reference.len()));
        let part = |bytes: &[u8]| {
            let (start, end) = (first.saturating_sub(60), bytes.len().min(first + 60));
            String::from_utf8_lossy(&bytes[start.min(end)..end]).into_owned()
        };
        bench.transcript.remark(&format!("ours: {:?}\nGo's: {:?}", part(&ours), part(&reference)));
    }
    bench.transcript.check("the same bytes from both", ours == reference && !ours.is_empty());
    Ok(())
}

/// Cuts the numbers of the header's revision and term out of JSON and of fields.
fn without_revision(text: &str) -> String {
    let mut text = text.to_owned();
    for name in ["\"revision\":", "\"raft_term\":", "\"Revision\" : ", "\"RaftTerm\" : "] {
        if let Some(at) = text.find(name) {
            let start = at + name.len();
            let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
            text.replace_range(start..start + digits, "N");
        }
    }
    text
}

/// Resources with the number of their keys. What comes and goes by the clock is left out.
fn count_by_resource(keys: &[&str]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for key in keys {
        let parts: Vec<&str> = key.split('/').skip(2).collect();
        let first = parts.first().copied().unwrap_or_default();
        if matches!(first, "events" | "masterleases" | "peerserverleases" | "leases")
            || key.contains("/storm/")
        {
            continue;
        }
        // A group has a dot and stands before its resource, as the two kinds of `services` do.
        let grouped = first.contains('.') || first == "services";
        let resource = if grouped { parts[..parts.len().min(2)].join("/") } else { first.to_owned() };
        *counts.entry(resource).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stay_before_their_resources() {
        let keys =
            ["/registry/pods/a/b", "/registry/example.com/gadgets/a/b", "/registry/services/specs/a/b"];
        let counts = count_by_resource(&keys);
        assert_eq!(counts.keys().collect::<Vec<_>>(), ["example.com/gadgets", "pods", "services/specs"]);
    }

    #[test]
    fn the_header_is_cut() {
        assert_eq!(without_revision(r#"{"revision":12,"raft_term":3}"#), r#"{"revision":N,"raft_term":N}"#);
    }
}
