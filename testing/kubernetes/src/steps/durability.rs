//! A change is told as done only when etcd has it: with two writers, a stopped etcd and a killed one.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bench::{Bench, SOON};
use crate::failure::{Failure, Outcome};
use crate::http::{Identity, Next};
use crate::wait;

pub fn conflict(bench: &mut Bench) -> Outcome {
    bench.transcript.step("Two writers with the same resourceVersion: one succeeds, one meets a conflict");
    bench.show("-n shop create configmap contested --from-literal=owner=nobody")?;
    const PATH: &str = "/api/v1/namespaces/shop/configmaps/contested";
    let identity = bench.control_plane()?.identity().clone();
    for round in 1..=3 {
        let object = identity.client().get(PATH)?.must("get the config")?;
        let write = |owner: &str| -> Outcome<u16> {
            let mut mine = object.clone();
            mine["data"]["owner"] = json!(format!("{owner}-{round}"));
            Ok(identity.client().put(PATH, &mine)?.status)
        };
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| write("one"));
            let other = scope.spawn(|| write("other"));
            (one.join(), other.join())
        });
        let status = |joined: std::thread::Result<Outcome<u16>>| {
            joined.unwrap_or_else(|_| Err(Failure("a writer panicked".to_owned())))
        };
        let mut codes = [status(one)?, status(other)?];
        codes.sort_unstable();
        bench.transcript.check_equal("200 and 409", &format!("{codes:?}"), "[200, 409]");
    }
    Ok(())
}

pub fn paused(bench: &mut Bench) -> Outcome {
    bench.transcript.step("etcd stands still: no write is called done, no old state is called current");
    bench.transcript.command("kill -STOP $(pidof etcd)");
    bench.etcd.process()?.signal(Signal::STOP)?;
    let limit = "--request-timeout=4s";
    let create = ["-n", "shop", "create", "configmap", "late", limit];
    let get = ["-n", "shop", "get", "configmap", "contested", limit];
    let list = ["-n", "shop", "get", "configmaps", limit];
    let shared = &*bench;
    let (create, get, list) = std::thread::scope(|scope| {
        let all =
            [&create[..], &get[..], &list[..]].map(|words| scope.spawn(move || shared.kubectl(words, None)));
        let [create, get, list] = all.map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Failure("a kubectl thread panicked".to_owned())))
        });
        Outcome::Ok((create?, get?, list?))
    })?;
    let cached = "/api/v1/namespaces/shop/configmaps/contested?resourceVersion=0";
    let from_cache = bench.control_plane()?.admin().get(cached)?.status;
    bench.transcript.command("kill -CONT $(pidof etcd)");
    bench.etcd.process()?.signal(Signal::CONT)?;
    for (what, ran) in [("create", &create), ("get", &get), ("list", &list)] {
        bench.transcript.check(&format!("kubectl {what} fails while etcd stands still"), !ran.success);
        bench.transcript.remark(&ran.stderr);
    }
    bench.transcript.check("a get of resourceVersion=0, which allows old state, answers", from_cache == 200);
    wait::until("kubectl get answers again", SOON, || {
        let ran = bench.kubectl(&get_words(), None).map_err(|error| error.to_string())?;
        if ran.success { Ok(()) } else { Err(ran.stderr) }
    })?;
    let there = bench.kubectl(&["-n", "shop", "get", "configmap", "late"], None)?.success;
    bench.transcript.remark(&format!("the refused object is {}", if there { "there" } else { "absent" }));
    bench.transcript.check("nothing was called created that is absent", there || !create.success);
    bench.kubectl(&["-n", "shop", "delete", "configmap", "late", "--ignore-not-found"], None)?;
    Ok(())
}

fn get_words() -> [&'static str; 5] {
    ["-n", "shop", "get", "configmap", "contested"]
}

const STORM: &str = "/api/v1/namespaces/storm/configmaps";

/// Writes that must have been acknowledged in a round before etcd is killed.
const WRITES_BEFORE_A_KILL: usize = 5;

/// What the writer was told: object to the resourceVersion of the answer.
type Acknowledged = Mutex<BTreeMap<String, String>>;

pub fn killed(bench: &mut Bench, rounds: usize) -> Outcome {
    bench.transcript.step(&format!("etcd is killed {rounds} times under writes"));
    let identity = bench.control_plane()?.identity().clone();
    let version = identity.client().get(STORM)?.must("list")?["metadata"]["resourceVersion"].clone();
    let version = version.as_str().unwrap_or_default().to_owned();
    let acknowledged = Acknowledged::default();
    let seen = Mutex::new(Vec::new());
    let (stop_writing, stop_watching) = (AtomicBool::new(false), AtomicBool::new(false));
    let (killing, refused) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&identity, &acknowledged, &stop_writing));
        let watcher = scope.spawn(|| watch(&identity, &version, &seen, &stop_watching));
        let killing = kill_rounds(bench, rounds, &acknowledged);
        stop_writing.store(true, Ordering::Relaxed);
        let refused = writer.join().unwrap_or_default();
        let all_seen = wait::until("the watch sees every write", SOON, || {
            let (seen, told) = (lock(&seen).len(), lock(&acknowledged).len());
            if seen >= told { Ok(()) } else { Err(format!("{seen} of {told}")) }
        });
        stop_watching.store(true, Ordering::Relaxed);
        let watched = watcher.join().unwrap_or_else(|_| Err(Failure("the watcher panicked".to_owned())));
        (killing.and(watched).and(all_seen), refused)
    });
    killing?;

    let told = lock(&acknowledged).clone();
    let stored = bench.etcd.stored("/registry/configmaps/storm/")?;
    let at_its_revision = |(name, version): (&String, &String)| {
        let stored = stored.get(&format!("/registry/configmaps/storm/{name}"));
        stored.is_some_and(|stored| stored.mod_revision.to_string() == *version)
    };
    bench.transcript.remark(&format!("{} writes acknowledged, {refused} not", told.len()));
    bench
        .transcript
        .check("every acknowledged write is in etcd at the told revision", told.iter().all(at_its_revision));
    let seen = lock(&seen).clone();
    let all_once = told
        .iter()
        .all(|(name, version)| seen.iter().filter(|(seen, at)| seen == name && at == version).count() == 1);
    bench.transcript.check("a watch through all of it saw each of them once", all_once);
    let revisions: Vec<i64> = seen.iter().filter_map(|(_, version)| version.parse().ok()).collect();
    bench.transcript.check("and in the order of revisions", revisions.is_sorted());
    let plane = bench.control_plane_mut()?.still_running();
    bench.transcript.check_equal("the control plane lives", &format!("{plane:?}"), "Ok(())");
    Ok(())
}

fn kill_rounds(bench: &mut Bench, rounds: usize, acknowledged: &Acknowledged) -> Outcome {
    for round in 1..=rounds {
        let wanted = lock(acknowledged).len() + WRITES_BEFORE_A_KILL;
        let started = Instant::now();
        wait::until("writes go on", SOON, || {
            let count = lock(acknowledged).len();
            if count >= wanted { Ok(()) } else { Err(format!("{count} of {wanted} writes")) }
        })?;
        let writable = started.elapsed();
        bench.etcd.kill()?;
        let started = Instant::now();
        bench.etcd.start()?;
        let ready = started.elapsed();
        bench.transcript.remark(&format!(
            "round {round}: {WRITES_BEFORE_A_KILL} writes in {:.2} s, killed, ready again in {:.2} s",
            writable.as_secs_f64(),
            ready.as_secs_f64()
        ));
    }
    // The last start must be followed by writes too.
    let wanted = lock(acknowledged).len() + 1;
    wait::until("writes go on", SOON, || {
        let count = lock(acknowledged).len();
        if count >= wanted { Ok(()) } else { Err(format!("{count} of {wanted} writes")) }
    })
}

/// Creates objects one after the other; the number of those that were not acknowledged.
fn write(identity: &Identity, acknowledged: &Acknowledged, stop: &AtomicBool) -> usize {
    let mut client = identity.client();
    let mut refused = 0;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("write-{number:05}");
        let object = json!({"metadata": {"name": name}, "data": {"number": number.to_string()}});
        match client.post(&format!("{STORM}?timeout=5s"), &object) {
            Ok(answer) if answer.status == 201 => {
                let version =
                    answer.json()["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                lock(acknowledged).insert(name, version);
            }
            _ => {
                refused += 1;
                // Without a pause the API server would be asked thousands of times during one outage.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    refused
}

/// Follows the namespace from `version` on through one watch of the API server.
fn watch(
    identity: &Identity,
    version: &str,
    seen: &Mutex<Vec<(String, String)>>,
    stop: &AtomicBool,
) -> Outcome {
    let mut version = version.to_owned();
    let mut watch = identity.watch(&format!("{STORM}?watch=1&resourceVersion={version}"))?;
    while !stop.load(Ordering::Relaxed) {
        match watch.next()? {
            Next::Quiet => {}
            // The API server may end a watch; its client goes on where it was.
            Next::Ended => watch = identity.watch(&format!("{STORM}?watch=1&resourceVersion={version}"))?,
            Next::Event(event) => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                if event["type"] != "ADDED" {
                    return Err(Failure(format!("the watch told {event}")));
                }
                let metadata = &event["object"]["metadata"];
                version = text(&metadata["resourceVersion"]);
                lock(seen).push((text(&metadata["name"]), version.clone()));
            }
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
