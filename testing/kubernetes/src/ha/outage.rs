//! More than one member fails: nothing is served, nothing is lost, and nothing old is called current.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::failure::{Outcome, fail};
use crate::ha::cluster::{Cluster, SOON};
use crate::ha::load::Measure;
use crate::ha::{Plan, settled};

pub fn all_killed(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    cluster.transcript.step("All three members are killed at once and started again");
    let all = cluster.all();
    let load = cluster.start_load(&all)?;
    let since = Instant::now();
    for master in &mut cluster.masters {
        master.etcd.kill()?;
    }
    cluster.start_members()?;
    let ready = since.elapsed();
    cluster.wait_writes(&load, &all)?;
    cluster.transcript.remark(&format!("all ready after {:.2} s", ready.as_secs_f64()));
    let written = cluster.end_load(load, "all three killed and started", since, &all)?;
    settled::check(cluster, &written, plan.rounds)
}

/// What the survivor's API server is asked while nothing can be decided.
const DEFAULT: &str = "/api/v1/namespaces/default/configmaps";

pub fn two_of_three(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    cluster
        .transcript
        .step("Two of three are lost: no write, and no get of what may be old; one of them returns");
    let (survivor, all) = (0, cluster.all());
    let lost = cluster.others(survivor);
    cluster.make_leader(survivor)?;
    cluster.masters[survivor]
        .plane()?
        .admin()
        .post(DEFAULT, &json!({"metadata": {"name": "witness"}}))?
        .must("create the witness")?;
    let load = cluster.start_load(&all)?;
    for index in &lost {
        cluster.masters[*index].etcd.kill()?;
    }
    let dead = Instant::now();
    cluster.hold(plan.hold)?;
    ask_in_vain(cluster, survivor)?;
    let (writes, reads) = (load.writes_since(dead), load.reads_since(dead));
    cluster.transcript.check_equal(
        "nothing that was asked for since was acknowledged or answered",
        &format!("{writes} writes, {reads} reads"),
        "0 writes, 0 reads",
    );

    let back = Instant::now();
    cluster.masters[lost[0]].etcd.spawn()?;
    cluster.wait_writes(&load, &[survivor])?;
    cluster
        .transcript
        .remark(&format!("writes go on {:.2} s after one is started", back.elapsed().as_secs_f64()));
    cluster.transcript.check("writes go on when one returns", true);
    cluster.masters[lost[1]].etcd.start()?;
    cluster.masters[lost[0]].etcd.wait_ready()?;
    cluster.wait_writes(&load, &all)?;
    let fault = "two of three lost: after the return of one";
    let written = cluster.end_load_from(load, fault, back, Measure::FromThen, &all)?;
    let witness =
        cluster.masters[survivor].plane()?.admin().delete(&format!("{DEFAULT}/witness"), &json!({}))?;
    witness.must("delete the witness")?;
    settled::check(cluster, &written, plan.rounds)
}

fn ask_in_vain(cluster: &mut Cluster, survivor: usize) -> Outcome {
    let identity = cluster.masters[survivor].plane()?.identity().clone();
    let identity = identity.with_limit(Duration::from_secs(10));
    let late = json!({"metadata": {"name": "late"}});
    let asked = std::thread::scope(|scope| {
        let create = scope.spawn(|| identity.client().post(&format!("{DEFAULT}?timeout=3s"), &late));
        let get = scope.spawn(|| identity.client().get(&format!("{DEFAULT}/witness?timeout=3s")));
        let list = scope.spawn(|| identity.client().get(&format!("{DEFAULT}?timeout=3s")));
        [("create", create), ("get", get), ("list", list)].map(|(what, thread)| {
            (what, thread.join().unwrap_or_else(|_| fail("the thread that asks panicked")))
        })
    });
    for (what, answer) in asked {
        let text = match &answer {
            Ok(answer) => format!("{what}: {} {}", answer.status, answer.json()["message"]),
            Err(error) => format!("{what}: {error}"),
        };
        cluster.transcript.remark(&text);
        let succeeded = answer.is_ok_and(|answer| (200..300).contains(&answer.status));
        cluster.transcript.check(&format!("{what} through the survivor is refused"), !succeeded);
    }
    let cached = identity.client().get(&format!("{DEFAULT}/witness?resourceVersion=0"))?;
    cluster
        .transcript
        .check("a get of resourceVersion=0, which allows old state, answers", cached.status == 200);
    // The refused object may have been written later: only a proposal that was never made is sure to be absent.
    let ready = cluster.wait("the survivor's API server is not ready", SOON, |cluster| {
        let plane = cluster.masters[survivor].plane().map_err(|error| error.to_string())?;
        plane.ready().err().ok_or_else(|| "it is ready".to_owned())
    });
    cluster.transcript.check("the survivor's API server fails /readyz", ready.is_ok());
    Ok(())
}
