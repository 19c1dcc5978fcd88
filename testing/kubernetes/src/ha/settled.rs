//! What must hold whenever a fault is over.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, fail};
use crate::ha::Plan;
use crate::ha::cluster::{Cluster, NODE_COUNT, SOON};
use crate::ha::load::{Written, revision};
use crate::http::{Client, Identity, Response};
use crate::wait;

/// All of it.
pub fn check(cluster: &mut Cluster, written: &Written, rounds: usize) -> Outcome {
    nothing_lost(cluster, written)?;
    seen_everywhere(cluster, rounds)?;
    members_agree(cluster)?;
    nodes_are_ready(cluster)
}

/// Every acknowledged write is in etcd, in every list and in every watch, and no read was behind one.
pub fn nothing_lost(cluster: &mut Cluster, written: &Written) -> Outcome {
    let path = format!("/api/v1/namespaces/{}/configmaps", written.namespace);
    let prefix = format!("/registry/configmaps/{}/", written.namespace);
    // At once: a list must be as new as etcd was when it was asked for.
    let lists = list_through_all(cluster, &path)?;
    let stored = cluster.masters[0].etcd.stored(&prefix)?;
    let stored: BTreeMap<&str, i64> =
        stored.iter().map(|(key, stored)| (&key[prefix.len()..], stored.mod_revision)).collect();
    let lost: Vec<String> = written
        .objects
        .iter()
        .filter(|(name, told)| match stored.get(name.as_str()) {
            None => true,
            Some(found) if told.uncertain => *found < told.revision,
            Some(found) => *found != told.revision,
        })
        .map(|(name, told)| format!("{name} told at {}, stored {:?}", told.revision, stored.get(&**name)))
        .collect();
    let transcript = &mut cluster.transcript;
    transcript.remark(&format!(
        "{} writes acknowledged, {} refused; {} objects; {} reads",
        written.acks.len(),
        written.refused,
        written.objects.len(),
        written.reads,
    ));
    transcript.remark(&first_of(&lost));
    transcript.check(
        "every acknowledged object is in etcd at the told revision",
        lost.is_empty() && !written.objects.is_empty(),
    );
    transcript.remark(&first_of(&written.stale));
    transcript.check("no get and no list was behind an acknowledged write", written.stale.is_empty());
    let same = lists.iter().all(|list| list.iter().map(|(name, at)| (&**name, *at)).eq(stored.clone()));
    transcript.check("lists through all masters are what etcd holds", same);
    let watches = match &written.watches_lag {
        Some(lag) => Err(lag.clone()),
        None => written.watches(),
    };
    let relists = written.relists();
    if !relists.is_empty() {
        transcript.remark(&format!("watches that were too old and began with a list again: {relists}"));
    }
    transcript.remark(watches.as_ref().err().map_or("", String::as_str));
    transcript.check("a watch through each master saw every write once, in order", watches.is_ok());
    Ok(())
}

fn list_through_all(cluster: &Cluster, path: &str) -> Outcome<Vec<BTreeMap<String, i64>>> {
    let list = |identity: Identity| -> Outcome<BTreeMap<String, i64>> {
        let list = answered(&mut identity.client(), path)?.must(path)?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(items.iter().map(|item| (name(item), revision(item))).collect())
    };
    cluster.identities()?.into_iter().map(list).collect()
}

/// A list that the API server does not put off: while it fills a cache anew it answers nothing.
fn answered(client: &mut Client, path: &str) -> Outcome<Response> {
    wait::until("an API server with its caches filled", SOON, || {
        let answer = client.get(path).map_err(|error| error.to_string())?;
        if answer.status == 429 { Err("status 429".to_owned()) } else { Ok(answer) }
    })
}

fn first_of(texts: &[String]) -> String {
    texts.iter().take(5).cloned().collect::<Vec<_>>().join("\n")
}

const SEEN: &str = "/api/v1/namespaces/default/configmaps";

/// Each round creates, changes and deletes an object through one master, and asks the others after each.
pub fn seen_everywhere(cluster: &mut Cluster, rounds: usize) -> Outcome {
    let before = fallen_back(cluster)?;
    let names = cluster.masters.iter().map(|master| master.host.name.clone());
    let identities = cluster.identities()?;
    let mut clients: Vec<(String, Client)> = names.zip(identities.iter().map(Identity::client)).collect();
    let mut missed = Vec::new();
    for round in 0..rounds {
        let writer = round % clients.len();
        let name = format!("seen-{round}");
        let path = format!("{SEEN}/{name}");
        let mut object = json!({"metadata": {"name": name}, "data": {"round": round.to_string()}});
        let created = clients[writer].1.post(SEEN, &object)?.must("create")?;
        missed.extend(unseen(&mut clients, writer, &name, Some(revision(&created)))?);
        object["data"]["round"] = json!("changed");
        let changed = clients[writer].1.put(&path, &object)?.must("change")?;
        missed.extend(unseen(&mut clients, writer, &name, Some(revision(&changed)))?);
        clients[writer].1.delete(&path, &json!({}))?.must("delete")?;
        missed.extend(unseen(&mut clients, writer, &name, None)?);
    }
    cluster.transcript.remark(&first_of(&missed));
    cluster.transcript.check(
        &format!(
            "{rounds} objects made, changed, deleted through one master: gets and lists through the others show it at once"
        ),
        missed.is_empty(),
    );
    let after = fallen_back(cluster)?;
    cluster.transcript.remark(&format!(
        "consistent reads that fell back to a whole list from etcd: {after}, before these rounds {before}"
    ));
    Ok(())
}

/// Reads through all but the writer, at the same time; what is not as it was acknowledged.
fn unseen(
    clients: &mut [(String, Client)],
    writer: usize,
    name: &str,
    acknowledged: Option<i64>,
) -> Outcome<Vec<String>> {
    let readers = clients.iter_mut().enumerate().filter(|(index, _)| *index != writer);
    std::thread::scope(|scope| {
        let threads: Vec<_> = readers
            .map(|(_, (master, client))| {
                scope.spawn(move || unseen_through(client, master, name, acknowledged))
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Failure("a reader panicked".to_owned()))));
        joined.collect::<Outcome<Vec<_>>>().map(|all| all.concat())
    })
}

fn unseen_through(
    client: &mut Client,
    master: &str,
    name: &str,
    acknowledged: Option<i64>,
) -> Outcome<Vec<String>> {
    let answer = client.get(&format!("{SEEN}/{name}"))?;
    let by_get = found(&answer)?;
    let list = answered(client, &format!("{SEEN}?fieldSelector=metadata.name%3D{name}"))?.must("list")?;
    let by_list = list["items"].get(0).map(revision);
    let seen = [("get", by_get), ("list", by_list)].into_iter().filter(|(_, found)| *found != acknowledged);
    let tell =
        |(what, found)| format!("{what} through {master}: {name} {found:?}, acknowledged {acknowledged:?}");
    Ok(seen.map(tell).collect())
}

fn found(answer: &Response) -> Outcome<Option<i64>> {
    match answer.status {
        200 => Ok(Some(revision(&answer.json()))),
        404 => Ok(None),
        status => fail(format!("get: status {status}: {}", String::from_utf8_lossy(&answer.body))),
    }
}

/// Consistent reads that a cache could not answer in time, over all masters.
pub fn fallen_back(cluster: &Cluster) -> Outcome<f64> {
    const READS: &str = "apiserver_watch_cache_consistent_read_total";
    let one = |index: usize| cluster.masters[index].plane()?.metric(READS, &["fallback=\"true\""]);
    (0..cluster.masters.len()).map(one).sum()
}

/// One leader, one history, the same bytes.
pub fn members_agree(cluster: &mut Cluster) -> Outcome {
    let leader = cluster.wait("one leader", SOON, |cluster| cluster.leader())?;
    let name = cluster.name(leader).to_owned();
    cluster.transcript.remark(&format!("{name} leads"));
    cluster.transcript.check("all members name one leader", true);
    // Hashes compare at one revision and one compaction; a compaction may fall between two answers.
    let hashes = cluster.wait("comparable hashes", SOON, |cluster| {
        let revision = cluster.status(leader).map_err(|error| error.to_string())?.revision;
        let one = |index: usize| hash(cluster, index, revision).map_err(|error| error.to_string());
        let all: Vec<(u64, i64)> = (0..cluster.masters.len()).map(one).collect::<Result<_, _>>()?;
        let compacted: BTreeSet<i64> = all.iter().map(|(_, compacted)| *compacted).collect();
        if compacted.len() > 1 {
            return Err(format!("compacted at {compacted:?}"));
        }
        Ok(all.iter().map(|(hash, _)| *hash).collect::<Vec<u64>>())
    })?;
    let same = hashes.windows(2).all(|pair| pair[0] == pair[1]);
    cluster.transcript.remark(&format!("hashes {hashes:x?}"));
    cluster.transcript.check("HashKV is equal on all members", same);
    Ok(())
}

/// Hash of a member's keys up to `revision`, and the revision that it is compacted at.
fn hash(cluster: &Cluster, index: usize, revision: i64) -> Outcome<(u64, i64)> {
    let rev = format!("--rev={revision}");
    let answer = cluster.masters[index].etcd.ctl(&["endpoint", "hashkv", &rev, "-w", "json"], None)?;
    let answer: Value = serde_json::from_slice(&answer.must("endpoint hashkv")?)?;
    let told = &answer[0]["HashKV"];
    let Some(hash) = told["hash"].as_u64() else { return fail(format!("endpoint hashkv: {answer}")) };
    Ok((hash, told["compact_revision"].as_i64().unwrap_or(0)))
}

/// No node was ever called not ready: nobody's pods would have been moved.
pub fn nodes_are_ready(cluster: &mut Cluster) -> Outcome {
    let mut client = cluster.masters[0].plane()?.admin();
    let nodes = answered(&mut client, "/api/v1/nodes")?.must("list nodes")?;
    let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
    let ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let ready = nodes.iter().filter(ready).count();
    let events = client.get("/api/v1/events?fieldSelector=reason%3DNodeNotReady")?.must("list events")?;
    let events = events["items"].as_array().map_or(0, Vec::len);
    cluster.transcript.check_equal(
        "no node is or was NotReady",
        &format!("{ready} ready, {events} events"),
        &format!("{NODE_COUNT} ready, 0 events"),
    );
    Ok(())
}

/// What each API server found wrong over the whole run.
pub fn logs(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    cluster.transcript.step("The logs and counters of the API servers");
    for index in cluster.all() {
        let report = cluster.masters[index].plane()?.consistency()?;
        let name = cluster.name(index).to_owned();
        cluster.transcript.remark(&report.summary);
        cluster.transcript.check_equal(
            &format!("{name}: no inconsistent cache, no panic"),
            &report.problems.join("\n"),
            "",
        );
        // It looks every five to seven and a half minutes; a short run ends before. Some masters are new.
        if plan.is_long() && index + 1 < cluster.masters.len() {
            cluster.transcript.check(&format!("{name} compared its caches with etcd"), report.equal > 0.0);
        }
    }
    Ok(())
}
