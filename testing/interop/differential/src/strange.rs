//! What no client sends: bodies that are no protobuf, methods that are not there, sizes over the limit,
//! encodings that nobody has, and the plain pages beside gRPC.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use bytes::{Bytes, BytesMut};
use prost::Message;
use proto::etcdserverpb as pb;

use crate::ask::Ask;
use crate::options::Options;
use crate::pair::Pair;
use crate::server::ask as fetch;
use crate::wire::{Answer, Manners, frame};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
/// Pages whose body is compared word by word.
const PAGES: &[(&str, &str)] = &[
    ("GET", "/health"),
    ("GET", "/health?serializable=true"),
    ("GET", "/health?exclude=NOSPACE"),
    ("POST", "/health"),
    ("GET", "/livez"),
    ("GET", "/livez?verbose"),
    ("GET", "/livez/serializable_read"),
    ("GET", "/livez/nothing"),
    ("GET", "/readyz"),
    ("GET", "/readyz?verbose"),
    ("GET", "/readyz?exclude=linearizable_read&verbose"),
    ("GET", "/readyz/data_corruption"),
    ("POST", "/readyz"),
    ("GET", "/version"),
    ("POST", "/version"),
    ("GET", "/nothing"),
    ("GET", "/config/local/log"),
];

pub async fn run(options: &Options) -> Result<(), String> {
    let mut pair = Pair::start(&options.etcd(), &options.ours, &[]).await?;
    bodies(&mut pair).await?;
    pair.ask(&Ask::range(&pb::RangeRequest { key: "k".into(), ..Default::default() })).await?;
    for (method, path) in PAGES {
        let theirs = page(&fetch(pair.their_server.port, method, path).map_err(|error| error.to_string())?);
        let ours = page(&fetch(pair.our_server.port, method, path).map_err(|error| error.to_string())?);
        pair.asked += 1;
        if theirs != ours {
            pair.note(format!("{method} {path}\n  etcd: {theirs:?}\n  ours: {ours:?}"));
        }
    }
    metrics(&mut pair)?;
    pair.verdict("strange")
}

/// Metrics that we do not have: docs/compat.md.
const ABSENT: &[&str] = &["go_", "promhttp_", "process_network_", "etcd_debugging_store_"];

/// Status line and the lines of the body, sorted: etcd names its checks in the order of a Go map.
fn page(answer: &str) -> (String, Vec<String>) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut lines: Vec<String> = body.split('\n').map(str::to_owned).collect();
    lines.sort();
    (head.lines().next().unwrap_or_default().to_owned(), lines)
}

/// Names and types of etcd's own metrics.
fn metrics(pair: &mut Pair) -> Result<(), String> {
    let names = |port| -> Result<BTreeSet<String>, String> {
        let page = fetch(port, "GET", "/metrics").map_err(|error| error.to_string())?;
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let ours_too = |name: &&str| !ABSENT.iter().any(|absent| name.starts_with(absent));
        Ok(types.filter(ours_too).map(str::to_owned).collect())
    };
    let (theirs, ours) = (names(pair.their_server.port)?, names(pair.our_server.port)?);
    pair.asked += 1;
    let missing: Vec<&String> = theirs.difference(&ours).collect();
    if !missing.is_empty() {
        pair.note(format!("metrics that etcd has and ours has not: {missing:?}"));
    }
    Ok(())
}

async fn bodies(pair: &mut Pair) -> Result<(), String> {
    let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() }.encode_to_vec();
    let big = pb::PutRequest { key: "k".into(), value: vec![0; 1_600_000].into(), ..Default::default() };
    let huge = pb::PutRequest { key: "k".into(), value: vec![0; 3_000_000].into(), ..Default::default() };
    let plain = Manners::default;
    let with = |name: &'static str, value: &str| Manners {
        headers: vec![(name, value.to_owned())],
        ..Manners::default()
    };
    let mut twice = BytesMut::from(&frame(0, &put)[..]);
    twice.extend_from_slice(&frame(0, &put));
    let cases: Vec<(&str, &str, Bytes, Manners)> = vec![
        ("a field cut short", PUT, frame(0, &[0x0a, 0x05, b'a']), plain()),
        ("a wire type that is not there", PUT, frame(0, &[0x0f]), plain()),
        ("an endless number", PUT, frame(0, &[0x18; 12]), plain()),
        ("an unknown field", PUT, frame(0, &[&put[..], &[0xfa, 0x07, 0x01, b'x']].concat()), plain()),
        ("no message", PUT, Bytes::new(), plain()),
        ("two messages", PUT, twice.freeze(), plain()),
        ("a message cut short", PUT, frame(0, &put).slice(..6), plain()),
        ("marked as compressed, no encoding said", PUT, frame(1, &put), plain()),
        ("gzip", PUT, frame(1, &gzip(&put)), with("grpc-encoding", "gzip")),
        ("gzip said, not done", PUT, frame(0, &put), with("grpc-encoding", "gzip")),
        ("gzip of nothing", PUT, frame(1, b"none"), with("grpc-encoding", "gzip")),
        ("an encoding nobody has", PUT, frame(1, &put), with("grpc-encoding", "snappy")),
        ("over the request limit", PUT, frame(0, &big.encode_to_vec()), plain()),
        ("over the message limit", PUT, frame(0, &huge.encode_to_vec()), plain()),
        ("no such method", "/etcdserverpb.KV/Nothing", frame(0, &put), plain()),
        ("no such service", "/etcdserverpb.Nothing/Put", frame(0, &put), plain()),
        ("a path of one part", "/nothing", frame(0, &put), plain()),
        ("a timeout that is none", RANGE, frame(0, &put), with("grpc-timeout", "soon")),
        ("a timeout without unit", RANGE, frame(0, &put), with("grpc-timeout", "100")),
        ("a timeout too long", RANGE, frame(0, &put), with("grpc-timeout", "123456789S")),
        ("a good timeout", PUT, frame(0, &put), with("grpc-timeout", "20S")),
    ];
    for (name, path, body, manners) in cases {
        let theirs = sent(&pair.theirs, path, &body, &manners).await;
        let ours = sent(&pair.ours, path, &body, &manners).await;
        pair.asked += 1;
        let both_refuse =
            [&theirs, &ours].iter().all(|answer| answer.as_ref().is_ok_and(|answer| !answer.is_ok()));
        if theirs != ours && !(both_refuse && REFUSED.contains(&name)) {
            pair.note(format!("{name}: {path}\n  etcd: {theirs:?}\n  ours: {ours:?}"));
        }
    }
    Ok(())
}

/// Refused by HTTP already, or by the decoder of another library: that both refuse is enough; docs/compat.md.
const REFUSED: &[&str] = &[
    "no message",
    "a message cut short",
    "gzip of nothing",
    "a timeout that is none",
    "a timeout without unit",
    "a timeout too long",
];

/// Texts of broken messages are the decoder's own; the code before them is not.
async fn sent(
    wire: &crate::wire::Wire,
    path: &str,
    body: &Bytes,
    manners: &Manners,
) -> Result<Answer, String> {
    let mut answer = wire.raw(path, body.clone(), manners).await?;
    if let Some((start, _)) = answer.text.split_once("unmarshal") {
        answer.text = start.to_owned();
    }
    for message in &mut answer.messages {
        // Compressed, with its prefix: two libraries pack differently.
        if message.first() == Some(&1) {
            let mut plain = Vec::new();
            let packed = message.get(5..).unwrap_or_default();
            flate2::read::GzDecoder::new(packed)
                .read_to_end(&mut plain)
                .map_err(|error| error.to_string())?;
            *message = plain.into();
        }
    }
    answer.broken = answer.broken.map(|_| "broken".to_owned());
    Ok(answer)
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}
