//! Longer than a change's run: minutes of writes with kills among them, so long that the API server compares
//! each of its caches with a whole list from etcd. It does that every five to seven and a half minutes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::{Bench, SOON};
use crate::failure::Outcome;
use crate::http::Identity;
use crate::wait;

const OBJECTS: &str = "/api/v1/namespaces/storm/secrets";

/// Objects that are written again and again.
const OBJECT_COUNT: usize = 200;

const WRITE_PAUSE: Duration = Duration::from_millis(5);

const TIME_BETWEEN_KILLS: Duration = Duration::from_secs(45);

pub fn soak(bench: &mut Bench, length: Duration) -> Outcome {
    bench.transcript.step(&format!("{} minutes of writes, with kills", length.as_secs() / 60));
    let identity = bench.control_plane()?.identity().clone();
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let began = Instant::now();
    let done = std::thread::scope(|scope| {
        scope.spawn(|| write(&identity, &written, &stop));
        let done = kill_now_and_then(bench, began + length, &written);
        stop.store(true, Ordering::Relaxed);
        done
    });
    done?;
    let report = bench.control_plane()?.consistency()?;
    let written = written.load(Ordering::Relaxed);
    bench.transcript.remark(&format!("{written} writes; {}", report.summary));
    bench.transcript.check("the API server compared its caches with etcd", report.equal > 0.0);
    bench.transcript.check_equal("and found no difference", &report.problems.join("\n"), "");
    Ok(())
}

fn kill_now_and_then(bench: &mut Bench, end: Instant, written: &AtomicUsize) -> Outcome {
    while Instant::now() < end {
        let next = end.min(Instant::now() + TIME_BETWEEN_KILLS);
        // The condition is a time; it is polled so that ctrl-C and a dead program end it.
        wait::until("the next kill", 2 * TIME_BETWEEN_KILLS, || {
            if Instant::now() >= next { Ok(()) } else { Err(String::new()) }
        })?;
        bench.control_plane_mut()?.still_running().map_err(crate::failure::Failure)?;
        bench.etcd.kill()?;
        bench.etcd.start()?;
        let before = written.load(Ordering::Relaxed);
        wait::until("writes go on", SOON, || {
            if written.load(Ordering::Relaxed) > before { Ok(()) } else { Err("none".to_owned()) }
        })?;
    }
    Ok(())
}

fn write(identity: &Identity, written: &AtomicUsize, stop: &AtomicBool) {
    let mut client = identity.client();
    let mut number = 0usize;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("soak-{:03}", number % OBJECT_COUNT);
        let object = json!({"metadata": {"name": name}, "stringData": {"number": number.to_string()}});
        let answer = if number < OBJECT_COUNT {
            client.post(&format!("{OBJECTS}?timeout=5s"), &object)
        } else {
            client.put(&format!("{OBJECTS}/{name}?timeout=5s"), &object)
        };
        if answer.is_ok_and(|answer| matches!(answer.status, 200 | 201)) {
            written.fetch_add(1, Ordering::Relaxed);
        }
        number += 1;
        std::thread::sleep(WRITE_PAUSE);
    }
}
