//! A hundred watch streams with a hundred watchers each, all on one key: every put is ten thousand events.

use std::path::Path;
use std::time::Instant;

use crate::http2::{Event, Keep};
use crate::load::{Pool, Slice};
use crate::rows::{Side, start_all};
use crate::work::{PUT, Put, WATCH, watch_request};
use crate::{Failure, Plan};

const STREAMS: usize = 100;
const WATCHERS: usize = 100;
const CONNECTIONS: usize = 10;
/// The client number of the one that puts.
const WRITER: usize = usize::MAX;
/// Puts of one slice.
const PUTS: u64 = 40;

pub fn run(plan: &Plan, home: &Path) -> Result<Vec<Side>, Failure> {
    let servers = start_all(plan, home, "watch")?;
    let mut pools = Vec::new();
    for server in &servers {
        // The writer has the last connection.
        let mut pool = Pool::open(server.address, CONNECTIONS + 1)?;
        open_watchers(&mut pool)?;
        pools.push((pool, Put::new("watch/", 1, 256)));
    }
    let mut sides = vec![Side::default(); servers.len()];
    for (pool, put) in &mut pools {
        rounds(pool, put, 2)?;
    }
    let started = Instant::now();
    loop {
        for ((server, (pool, put)), side) in servers.iter().zip(&mut pools).zip(&mut sides) {
            side.measure(std::slice::from_ref(server), || rounds(pool, put, plan.sized(PUTS)))?;
        }
        if started.elapsed() >= plan.row_time {
            return Ok(sides);
        }
    }
}

fn open_watchers(pool: &mut Pool) -> Result<(), Failure> {
    let request = watch_request(&format!("watch/{:012}", 0));
    for stream in 0..STREAMS {
        let connection = &mut pool.connections[stream % CONNECTIONS];
        let id = connection.start(stream, WATCH, &request, Keep::Messages, false);
        for _ in 1..WATCHERS {
            connection.send(id, &request, false);
        }
    }
    let mut created = 0;
    while created < STREAMS * WATCHERS {
        pool.turn(|_, event| created += usize::from(matches!(event, Event::Message { .. })))?;
    }
    Ok(())
}

/// Puts one after the other, each when all watchers have the one before. An operation is an event; the
/// latency is from sending the put to the last of its events.
fn rounds(pool: &mut Pool, put: &mut Put, count: u64) -> Result<Slice, Failure> {
    let mut slice = Slice::default();
    let begun = Instant::now();
    for _ in 0..count {
        let started = Instant::now();
        let mut message = Vec::new();
        crate::load::Work::request(put, WRITER, &mut message);
        pool.connections[CONNECTIONS].start(WRITER, PUT, &message, Keep::Nothing, true);
        let mut missing = STREAMS * WATCHERS;
        let mut answered = false;
        while missing > 0 || !answered {
            pool.turn(|_, event| match event {
                Event::Message { message, .. } => {
                    slice.bytes += message.len() as u64;
                    missing = missing.saturating_sub(events(message));
                }
                Event::End { .. } => answered = true,
            })?;
        }
        slice.latencies.record(started.elapsed());
    }
    slice.ops = count * (STREAMS * WATCHERS) as u64;
    slice.seconds = begun.elapsed().as_secs_f64();
    Ok(slice)
}

/// How many events a `WatchResponse` holds: its fields of number 11, without looking into them.
fn events(message: &[u8]) -> usize {
    let mut rest = message;
    let mut events = 0;
    while let Some(tag) = varint(&mut rest) {
        let skip = if tag & 7 == 2 { varint(&mut rest) } else { varint(&mut rest).map(|_| 0) };
        events += usize::from(tag == (11 << 3 | 2));
        rest = rest.get(skip.unwrap_or(u64::MAX) as usize..).unwrap_or_default();
    }
    events
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use proto::{etcdserverpb::WatchResponse, mvccpb};

    #[test]
    fn events_are_counted_without_decoding() {
        let kv = mvccpb::KeyValue { key: "k".into(), value: vec![0; 300].into(), ..Default::default() };
        let event = mvccpb::Event { kv: Some(kv), ..Default::default() };
        for count in [0, 1, 3] {
            let header = Some(proto::etcdserverpb::ResponseHeader { revision: 300, ..Default::default() });
            let events_ = vec![event.clone(); count];
            let response = WatchResponse { header, watch_id: 7, events: events_, ..Default::default() };
            assert_eq!(events(&response.encode_to_vec()), count);
        }
    }
}
