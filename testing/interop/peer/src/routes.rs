//! The same requests to the peer ports of etcd and of ours.

use std::path::Path;

use membership::MemberId;
use prost::Message as _;
use proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseTimeToLiveRequest};
use proto::leasepb::LeaseInternalRequest;
use raft::{Message, MessageType, Term, codec};

use crate::Programs;
use crate::etcdctl;
use crate::http::{Answer, ask};
use crate::process::Place;

/// What both sides are known by; nobody listens there.
const ADVERTISED: &str = "http://127.0.0.1:23800";

/// Never in the cluster.
const STRANGER: MemberId = MemberId(0x77);

struct Case {
    name: String,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What the requests of one run are made of.
struct Cluster {
    own: MemberId,
    cluster_id: String,
    removed: MemberId,
    learner: MemberId,
    lease: i64,
}

pub fn run(programs: &Programs) -> Result<String, String> {
    let theirs = answers(programs, &programs.etcd_3_7)?;
    let ours = answers(programs, &programs.ours)?;
    let mut differences = Vec::new();
    for ((name, theirs), (_, ours)) in theirs.iter().zip(&ours) {
        if theirs != ours {
            differences.push(format!("{name}\n  theirs {theirs}\n  ours   {ours}"));
        }
    }
    match differences.len() {
        0 => Ok(format!("{} requests answered alike", theirs.len())),
        count => Err(format!("{count} of {} differ\n{}", theirs.len(), differences.join("\n"))),
    }
}

fn answers(programs: &Programs, etcd: &Path) -> Result<Vec<(String, Answer)>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut place = Place::new("m0", etcd, folder.path())?;
    // The last of a flag counts.
    place.more.push(format!("--initial-advertise-peer-urls={ADVERTISED}"));
    let mut process = place.start(&format!("m0={ADVERTISED}"), "new")?;
    process.ready()?;
    let cluster = prepare(programs, &place)?;
    let mut answers = Vec::new();
    for case in cases(&cluster) {
        let answer = ask(place.peer_port, case.method, &case.path, &case.headers, &case.body)?;
        answers.push((case.name.clone(), masked(&cluster, &place, answer)));
    }
    Ok(answers)
}

fn prepare(programs: &Programs, place: &Place) -> Result<Cluster, String> {
    for n in 0..5 {
        etcdctl::call(programs, place, &["put", &format!("k{n}"), "v"])?;
    }
    etcdctl::call(programs, place, &["compact", "3"])?;
    let granted = etcdctl::json(programs, place, &["lease", "grant", "600"])?;
    let add = |name: &str, url: &str| {
        let url = format!("--peer-urls={url}");
        let added = etcdctl::json(programs, place, &["member", "add", name, "--learner", &url])?;
        added["member"]["ID"].as_u64().map(MemberId).ok_or_else(|| format!("no id in {added}"))
    };
    let removed = add("gone", "http://127.0.0.1:1")?;
    etcdctl::call(programs, place, &["member", "remove", &removed.to_string()])?;
    let learner = add("learner", "http://127.0.0.1:2")?;
    let own = granted["member_id"].as_u64().or_else(|| granted["header"]["member_id"].as_u64());
    let cluster_id = granted["cluster_id"].as_u64().or_else(|| granted["header"]["cluster_id"].as_u64());
    let lease = granted["id"].as_i64().or_else(|| granted["ID"].as_i64());
    match (own, cluster_id, lease) {
        (Some(own), Some(cluster_id), Some(lease)) => {
            Ok(Cluster { own: MemberId(own), cluster_id: format!("{cluster_id:x}"), removed, learner, lease })
        }
        _ => Err(format!("no ids in {granted}")),
    }
}

/// Ids that depend on the clock, the time itself, and where the clients listen.
fn masked(cluster: &Cluster, place: &Place, mut answer: Answer) -> Answer {
    let lease = LeaseKeepAliveRequest { id: cluster.lease }.encode_to_vec();
    if let Some(at) = answer.body.windows(lease.len() - 1).position(|bytes| bytes == &lease[1..]) {
        answer.body.splice(at..at + lease.len() - 1, *b"<lease>");
    }
    let Ok(mut text) = String::from_utf8(answer.body.clone()) else { return answer };
    text = text.replace(&cluster.learner.0.to_string(), "<learner>");
    text = text.replace(&cluster.removed.0.to_string(), "<removed>");
    text = text.replace(&place.client_url(), "<client>");
    if let Some(list) = text.strip_prefix("[{").and_then(|text| text.strip_suffix("}]\n")) {
        // Sorted by ids, which are as good as random.
        let mut members: Vec<&str> = list.split("},{").collect();
        members.sort_unstable();
        text = members.join("},{");
    }
    if let Some(at) = text.find("\"Now\":\"") {
        let end = text[at + 7..].find('"').map_or(text.len(), |len| at + 7 + len);
        text.replace_range(at + 7..end, "<now>");
    }
    answer.body = text.into_bytes();
    answer
}

/// Requests in the order in which both are asked.
#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(
        &mut self,
        name: impl Into<String>,
        method: &'static str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) {
        let (path, headers, body) = (path.to_owned(), headers.to_vec(), body.to_vec());
        self.0.push(Case { name: name.into(), method, path, headers, body });
    }

    /// Named by its first line.
    fn plain(&mut self, method: &'static str, path: &str, headers: &[(String, String)], body: &[u8]) {
        let name = format!("{method} {path} {}", body.escape_ascii());
        self.add(name, method, path, headers, body);
    }
}

fn cases(cluster: &Cluster) -> Vec<Case> {
    let mut cases = Cases::default();
    add_misfits(&mut cases, cluster);
    add_raft(&mut cases, cluster);
    add_cluster(&mut cases, cluster);
    add_leases(&mut cases, cluster);
    cases.0
}

fn add_misfits(cases: &mut Cases, cluster: &Cluster) {
    let stream = format!("/raft/stream/message/{STRANGER}");
    let late = message(STRANGER, cluster.own);
    for (name, value) in [
        ("X-Etcd-Cluster-ID", Some("1")),
        ("X-Etcd-Cluster-ID", None),
        ("X-Server-Version", Some("2.3.8")),
        ("X-Server-Version", None),
        ("X-Server-Version", Some("4.0.0")),
        ("X-Min-Cluster-Version", Some("3.8.0")),
        ("X-Min-Cluster-Version", Some("3.7.9")),
        ("X-Min-Cluster-Version", None),
    ] {
        let headers = with_header(&introduction(cluster, STRANGER), name, value);
        for (method, path, body) in
            [("POST", "/raft", &late[..]), ("POST", "/raft/snapshot", b""), ("GET", &stream, b"")]
        {
            cases.add(format!("{method} {path} with {name}: {value:?}"), method, path, &headers, body);
        }
    }
    for path in ["/raft", "/raft/snapshot", "/members/promote/1", "/leases", "/leases/internal"] {
        for method in ["GET", "PUT", "DELETE"] {
            cases.plain(method, path, &introduction(cluster, STRANGER), b"");
        }
    }
    for path in ["/members", "/members/hashkv", "/downgrade/enabled", "/version", &stream] {
        cases.plain("POST", path, &introduction(cluster, STRANGER), b"");
    }
}

fn add_raft(cases: &mut Cases, cluster: &Cluster) {
    let learner = introduction(cluster, cluster.learner);
    let good = message(cluster.learner, cluster.own);
    cases.add("a message", "POST", "/raft", &learner, &good);
    let elsewhere = message(cluster.learner, STRANGER);
    cases.add("a message to somebody else", "POST", "/raft", &learner, &elsewhere);
    cases.add("no message", "POST", "/raft", &learner, b"\xff\xff\xff");
    let removed = introduction(cluster, cluster.removed);
    let late = message(cluster.removed, cluster.own);
    cases.add("a message of a removed member", "POST", "/raft", &removed, &late);
    for (who, id) in [("learner", cluster.learner), ("removed", cluster.removed), ("stranger", STRANGER)] {
        let headers = introduction(cluster, id);
        for kind in ["message", "msgapp"] {
            let path = format!("/raft/stream/{kind}/{id}");
            cases.add(format!("stream {kind} for {who}"), "GET", &path, &headers, b"");
        }
        for (to, name) in [(None, "nobody"), (Some("1"), "another")] {
            let headers = with_header(&headers, "X-Raft-To", to);
            let path = format!("/raft/stream/message/{id}");
            cases.add(format!("stream for {who} from {name}"), "GET", &path, &headers, b"");
        }
    }
    for end in ["message/zz", "message/", "x/1", "message/1/2"] {
        let headers = introduction(cluster, STRANGER);
        cases.plain("GET", &format!("/raft/stream/{end}"), &headers, b"");
    }
    let framed = [&(good.len() as u64).to_be_bytes(), &good[..]].concat();
    cases.add("a snapshot that is none", "POST", "/raft/snapshot", &learner, &framed);
}

fn add_cluster(cases: &mut Cases, cluster: &Cluster) {
    for path in ["/", "/nothing", "/raft/", "/raft/nothing", "/raft/probing", "/raft/probing/x"] {
        cases.plain("GET", path, &[], b"");
    }
    for path in ["/members", "/version", "/downgrade/enabled"] {
        cases.plain("GET", path, &[], b"");
    }
    cases.plain("POST", "/raft/probing", &[], b"");
    for id in ["1", "abc", "", "+1", &cluster.own.0.to_string()] {
        cases.plain("POST", &format!("/members/promote/{id}"), &[], b"");
    }
    let path = format!("/members/promote/{}", cluster.learner.0);
    cases.add("promote a learner that is not ready", "POST", &path, &[], b"");
    for body in [
        "{\"revision\":4}",
        "{\"revision\":0}",
        "{}",
        "null",
        "{\"revision\":2}",
        "{\"revision\":99}",
        "",
        "[]",
        "{\"revision\":\"4\"}",
        "nonsense",
    ] {
        cases.plain("GET", "/members/hashkv", &[], body.as_bytes());
    }
    for id in ["1", &cluster.cluster_id] {
        let headers = [("X-Etcd-Cluster-ID".to_owned(), id.to_owned())];
        let name = format!("hash in cluster {id}");
        cases.add(name, "GET", "/members/hashkv", &headers, b"{\"revision\":4}");
    }
}

fn add_leases(cases: &mut Cases, cluster: &Cluster) {
    let renew = |id| LeaseKeepAliveRequest { id }.encode_to_vec();
    let asked = LeaseTimeToLiveRequest { id: 5, keys: true };
    let times = LeaseInternalRequest { lease_time_to_live_request: Some(asked) }.encode_to_vec();
    let too_long = vec![0; (64 << 10) + 1];
    cases.add("renew", "POST", "/leases", &[], &renew(cluster.lease));
    cases.add("renew what is not there", "POST", "/leases", &[], &renew(5));
    cases.add("times of what is not there", "POST", "/leases/internal", &[], &times);
    for path in ["/leases", "/leases/internal"] {
        cases.add(format!("{path}: no request"), "POST", path, &[], b"\xff");
        cases.add(format!("{path}: too long"), "POST", path, &[], &too_long);
    }
}

fn with_header(headers: &[(String, String)], name: &str, value: Option<&str>) -> Vec<(String, String)> {
    let mut changed: Vec<_> = headers.iter().filter(|(key, _)| key != name).cloned().collect();
    changed.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    changed
}

fn introduction(cluster: &Cluster, from: MemberId) -> Vec<(String, String)> {
    let header = |name: &str, value: String| (name.to_owned(), value);
    vec![
        header("X-Server-From", from.to_string()),
        header("X-Server-Version", "3.7.3".to_owned()),
        header("X-Min-Cluster-Version", "3.0.0".to_owned()),
        header("X-Etcd-Cluster-ID", cluster.cluster_id.clone()),
        header("X-Raft-To", cluster.own.to_string()),
    ]
}

/// A heartbeat of a term that is over, which changes nothing.
fn message(from: MemberId, to: MemberId) -> Vec<u8> {
    let message = Message { from: from.0, term: Term(1), ..Message::new(MessageType::Heartbeat, to.0) };
    codec::encode_message(&message).to_vec()
}
