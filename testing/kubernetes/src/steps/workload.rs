//! A deployment from its first pod to a rolling update, with the controllers at work.

use std::collections::BTreeSet;

use crate::bench::{Bench, SOON};
use crate::failure::Outcome;
use crate::wait;

const STATUS: &str = "-n shop get deployment web -o 'jsonpath={.status.replicas} {.status.updatedReplicas} {.status.readyReplicas}'";
const IMAGES: &str = r#"-n shop get pods -l app=web --field-selector=status.phase=Running -o 'jsonpath={range .items[*]}{.spec.containers[0].image}{"\n"}{end}'"#;

pub fn deployment(bench: &mut Bench) -> Outcome {
    bench.transcript.step("A deployment of 10 runs, is scaled to 25, rolls to a new image, is scaled to 5");
    bench.show_when(STATUS, "10 10 10")?;
    bench.show("-n shop scale deployment web --replicas=25")?;
    bench.show_when(STATUS, "25 25 25")?;
    bench.show_remark("-n shop get pods -o wide")?;
    addresses(bench, 25)?;
    bench.show("-n shop set image deployment/web web=example.org/web:2")?;
    bench.show_remark("-n shop rollout status deployment/web --timeout=180s")?;
    bench.show_when(STATUS, "25 25 25")?;
    bench.show_when(IMAGES, &"example.org/web:2\n".repeat(25))?;
    bench.show("-n shop scale deployment web --replicas=5")?;
    bench.show_when(STATUS, "5 5 5")?;
    bench.show_when(IMAGES, &"example.org/web:2\n".repeat(5))?;
    addresses(bench, 5)?;
    bench.show("-n shop get replicasets -o 'jsonpath={range .items[*]}{.spec.template.spec.containers[0].image} {.status.replicas}{\"\\n\"}{end}' --sort-by=.status.replicas")?;
    Ok(())
}

/// The service's slices name as many pods as run.
fn addresses(bench: &mut Bench, count: usize) -> Outcome {
    let command = "-n shop get endpointslices -l kubernetes.io/service-name=web";
    let output = "jsonpath={.items[*].endpoints[*].addresses[0]}";
    bench.transcript.command(&format!("kubectl {command}"));
    let arguments: Vec<&str> = command.split(' ').chain(["-o", output]).collect();
    wait::until("the addresses of the service", SOON, || {
        let text = bench.ask(&arguments).map_err(|error| error.to_string())?;
        let addresses: BTreeSet<&str> = text.split_whitespace().collect();
        if addresses.len() == count { Ok(()) } else { Err(format!("{} addresses", addresses.len())) }
    })?;
    bench.transcript.output(&format!("{count} addresses"));
    Ok(())
}

pub fn events(bench: &mut Bench) -> Outcome {
    bench.transcript.step("Events are stored under leases");
    let events = bench.etcd.stored("/registry/events/shop/")?;
    bench.transcript.remark(&format!("{} events", events.len()));
    bench.transcript.check("there are events", !events.is_empty());
    bench.transcript.check("each is bound to a lease", events.values().all(|event| event.lease != 0));
    let leases: BTreeSet<i64> = events.values().map(|event| event.lease).collect();
    let mut granted = true;
    for lease in &leases {
        let answer = bench.etcd.ctl(&["lease", "timetolive", &format!("{lease:x}")], None)?;
        bench.transcript.remark(&answer.text());
        granted &= answer.text().contains("granted with TTL(3660s)");
    }
    bench.transcript.check("each lease is granted for an hour and a minute", granted);
    bench.show("-n shop get events --field-selector=reason=Scheduled,involvedObject.name=lone -o 'jsonpath={.items[*].reason}'")?;
    bench.transcript.output("");
    Ok(())
}
