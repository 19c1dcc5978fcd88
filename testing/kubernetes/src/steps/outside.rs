//! Changes made in etcd, behind the API server's back: it must show them, for it has no store of its own.

use crate::bench::Bench;
use crate::failure::{Failure, Outcome};

const KEY: &str = "/registry/configmaps/shop/colours";

pub fn put_and_delete(bench: &mut Bench) -> Outcome {
    bench.transcript.step("A value changed by etcdctl shows in kubectl get and in a running watch");
    let watch = bench.watch("outside", "-n shop get configmap colours")?;
    watch.event(1)?;

    let stored = bench.etcd.stored(KEY)?;
    let before = stored.get(KEY).ok_or_else(|| Failure(format!("no key {KEY}")))?.value.clone();
    let at = before.windows(4).position(|window| window == b"blue");
    let at = at.ok_or_else(|| Failure("the value does not hold its text".to_owned()))?;
    let mut after = before;
    // Of equal length, so that the lengths before it in the protobuf stay right.
    after[at..at + 4].copy_from_slice(b"pink");
    bench
        .transcript
        .command(&format!("etcdctl get {KEY} --print-value-only | sed s/blue/pink/ | etcdctl put {KEY}"));
    let put = bench.etcd.ctl(&["put", KEY], Some(&after))?.must("etcdctl put")?;
    bench.transcript.output(&String::from_utf8_lossy(&put));
    bench.show("-n shop get configmap colours -o 'jsonpath={.data}'")?;
    bench.transcript.output("");
    watch.event(2)?;

    bench.transcript.command(&format!("etcdctl del {KEY}"));
    let deleted = bench.etcd.ctl(&["del", KEY], None)?.must("etcdctl del")?;
    bench.transcript.output(&String::from_utf8_lossy(&deleted));
    bench.show_refusal("-n shop get configmap colours")?;
    watch.event(3)?;
    for event in watch.events()? {
        bench.transcript.output(&format!("{} {}", event["type"], event["object"]["data"]));
    }
    Ok(())
}
