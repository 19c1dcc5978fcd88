//! Watches on one stream to each, while both are written to: for every watch the same controls and events.
//!
//! How events are cut into responses depends on time, so a watch's events are compared end to end; but one
//! revision must not be in two responses, fragments aside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb as pb;

use pb::watch_request::RequestUnion;

use crate::ask::Ask;
use crate::generate::Generator;
use crate::options::Options;
use crate::pair::Pair;
use crate::wire::{Call, Manners};

const PATH: &str = "/etcdserverpb.Watch/Watch";
/// This long nothing came and both said the same: it was all.
const QUIET: Duration = Duration::from_millis(120);
/// After this long without agreement it is a difference.
const PATIENCE: Duration = Duration::from_secs(5);
const WATCHES: u64 = 12;
const WRITES: usize = 25;
/// Rounds of a run with the default count of requests.
const REQUESTS_PER_ROUND: usize = 250;

/// What one server told one stream, per watch.
#[derive(Default)]
struct Story {
    watches: BTreeMap<i64, Vec<String>>,
    /// Highest revision of each watch, and whether more of it may come.
    last_revisions: BTreeMap<i64, (i64, bool)>,
    broken_rules: Vec<String>,
    /// Watches that ended because what they asked for is compacted. In etcd they keep their id, and as long as
    /// the stream lives no request for progress is answered any more: docs/compat.md.
    compacted: BTreeSet<i64>,
}

impl Story {
    fn take(&mut self, message: &Bytes) {
        let response = match pb::WatchResponse::decode(message.clone()) {
            Ok(response) => response,
            Err(error) => return self.broken_rules.push(format!("{error}: {message:?}")),
        };
        let id = response.watch_id;
        if response.compact_revision != 0 {
            self.compacted.insert(id);
        }
        let lines = self.watches.entry(id).or_default();
        if response.events.is_empty() {
            let line = format!("{response:?}");
            // Progress is due at least once per request, more often is fine.
            if response.created || response.canceled || lines.last() != Some(&line) {
                lines.push(line);
            }
            return;
        }
        if response.created || response.canceled || response.compact_revision != 0 {
            self.broken_rules.push(format!("events and more in one response: {response:?}"));
        }
        let revision = |event: Option<&proto::mvccpb::Event>| {
            event.and_then(|event| event.kv.as_ref()).map_or(0, |kv| kv.mod_revision)
        };
        let (first, last) = (revision(response.events.first()), revision(response.events.last()));
        let (before, open) = self.last_revisions.get(&id).copied().unwrap_or_default();
        if first < before || (first == before && !open) {
            self.broken_rules
                .push(format!("watch {id}: revision {first} after {before}: split or out of order"));
        }
        if response.header.is_none_or(|header| header.revision < last) {
            self.broken_rules.push(format!("watch {id}: header before its events: {:?}", response.header));
        }
        self.last_revisions.insert(id, (last, response.fragment));
        lines.extend(response.events.iter().map(|event| format!("{event:?}")));
    }
}

pub async fn run(options: &Options) -> Result<(), String> {
    let mut pair = Pair::start(&options.etcd(), &options.ours, &["--max-request-bytes=1500000"]).await?;
    let mut generator = Generator::new(options.seed);
    for _ in 0..60 {
        write(&mut pair, &mut generator).await?;
    }
    let rounds = (options.requests / REQUESTS_PER_ROUND).max(1);
    for round in 0..rounds {
        if let Err(difference) = one_stream(&mut pair, &mut generator).await {
            pair.note(format!("round {round}: {difference}"));
        }
        if pair.differences.len() > 10 {
            break;
        }
    }
    pair.verdict(&format!("watches ({rounds} streams of {WATCHES})"))
}

async fn write(pair: &mut Pair, generator: &mut Generator) -> Result<(), String> {
    for ask in generator.next_write() {
        let answer = pair.ask(&ask).await?;
        if let Some(revision) = Ask::revision(&answer) {
            generator.revision = generator.revision.max(revision);
        }
    }
    Ok(())
}

async fn one_stream(pair: &mut Pair, generator: &mut Generator) -> Result<(), String> {
    let mut theirs = pair.theirs.open(PATH, &Manners::default()).await?;
    let mut ours = pair.ours.open(PATH, &Manners::default()).await?;
    let (mut their_story, mut our_story) = (Story::default(), Story::default());
    let mut asked = Vec::new();
    for phase in 0..4_u32 {
        let requests = match phase {
            0 | 1 => (0..WATCHES / 2).map(|_| create(generator)).collect(),
            2 if !their_story.compacted.is_empty() => Vec::new(),
            2 => vec![RequestUnion::ProgressRequest(pb::WatchProgressRequest {})],
            _ => (0..6)
                .map(|_| *generator.random.pick(&[0, 1, 2, 3, 4, 41, 45, 77, -1]))
                .filter(|id| !their_story.compacted.contains(id))
                .map(|watch_id| RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }))
                .collect(),
        };
        for request in requests {
            let request = pb::WatchRequest { request_union: Some(request) };
            asked.push(format!("  {request:?}"));
            theirs.send_message(&request).await;
            ours.send_message(&request).await;
        }
        let told = agree(&mut theirs, &mut their_story, &mut ours, &mut our_story).await;
        told.map_err(|error| format!("{error}\nasked on the stream:\n{}", asked.join("\n")))?;
        for _ in 0..WRITES {
            write(pair, generator).await?;
        }
        let told = agree(&mut theirs, &mut their_story, &mut ours, &mut our_story).await;
        told.map_err(|error| format!("{error}\nasked on the stream:\n{}", asked.join("\n")))?;
    }
    Ok(())
}

fn create(generator: &mut Generator) -> RequestUnion {
    let key = if generator.random.one_in(10) { Bytes::new() } else { generator.key() };
    let range_end =
        if generator.random.one_in(3) { Bytes::from_static(b"\0") } else { generator.range_end(&key) };
    let filters = match generator.random.below(8) {
        0 => vec![0],
        1 => vec![1],
        2 => vec![0, 1],
        3 => vec![7],
        _ => Vec::new(),
    };
    let start_revision = if generator.random.one_in(2) { 0 } else { generator.near_revision() };
    // Not -1: etcd then mixes the watch up with answers that belong to no watch.
    let ids: &[i64] = if start_revision == 0 { &[0, 0, 0, 41, 45, 77, -7, i64::MAX] } else { &[0] };
    RequestUnion::CreateRequest(pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify: generator.random.one_in(3),
        filters,
        prev_kv: generator.random.one_in(3),
        watch_id: *generator.random.pick(ids),
        fragment: generator.random.one_in(3),
    })
}

/// Reads from both until they said the same and nothing more comes.
async fn agree(
    theirs: &mut Call,
    their_story: &mut Story,
    ours: &mut Call,
    our_story: &mut Story,
) -> Result<(), String> {
    let start = Instant::now();
    let mut last_news = Instant::now();
    loop {
        let step = Duration::from_millis(10);
        for (call, story) in [(&mut *theirs, &mut *their_story), (&mut *ours, &mut *our_story)] {
            while let Some(next) = call.next_within(step).await {
                let Some(message) = next else { return Err("a stream ended".to_owned()) };
                story.take(&message);
                last_news = Instant::now();
            }
        }
        let equal = their_story.watches == our_story.watches;
        if let Some(broken) = our_story.broken_rules.first() {
            return Err(format!("ours broke a rule: {broken}"));
        }
        if equal && last_news.elapsed() >= QUIET {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(difference(their_story, our_story));
        }
    }
}

fn difference(theirs: &Story, ours: &Story) -> String {
    let mut ids: Vec<i64> = theirs.watches.keys().chain(ours.watches.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let empty = Vec::new();
    let mut text = String::new();
    for id in ids {
        let their_lines = theirs.watches.get(&id).unwrap_or(&empty);
        let our_lines = ours.watches.get(&id).unwrap_or(&empty);
        if their_lines == our_lines {
            continue;
        }
        let same = their_lines.iter().zip(our_lines).take_while(|(theirs, ours)| theirs == ours).count();
        text.push_str(&format!(
            "watch {id}: {} lines and {}, the first {same} equal\n  etcd: {:?}\n  ours: {:?}\n",
            their_lines.len(),
            our_lines.len(),
            their_lines.get(same),
            our_lines.get(same),
        ));
    }
    text
}
