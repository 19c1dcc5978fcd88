#![allow(clippy::unwrap_used)]

//! A whole member behind the edge, asked over loopback by real clients.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::config::{Listener, Serves};
use api::{ApiConfig, Edge};
use futures_util::StreamExt;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::*;
use proto::healthpb::health_client::HealthClient;
use proto::healthpb::{HealthCheckRequest, HealthListRequest};
use server::{Config, Environment, Member};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use transport::ListenUrl;
use transport::tls::{AutoTls, TlsOptions};

struct Running {
    member: Option<Member>,
    address: String,
    metrics_address: String,
    stop: Option<oneshot::Sender<()>>,
    edge: Option<JoinHandle<std::io::Result<()>>>,
    _dir: tempfile::TempDir,
}

async fn start() -> Running {
    start_with(|_| {}).await
}

async fn start_with(change: impl FnOnce(&mut ApiConfig)) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::single("default", dir.path().join("default.etcd"));
    config.heartbeat_interval = Duration::from_millis(10);
    config.election_timeout = Duration::from_millis(100);
    let member = Member::start(config, Environment::default(), &Handle::current()).unwrap();
    member.ready().await;
    let listen = |serves| Listener { url: ListenUrl::parse("http://127.0.0.1:0").unwrap(), serves };
    let mut config = ApiConfig {
        listeners: vec![listen(Serves::GrpcAndHttp), listen(Serves::Metrics)],
        watch_progress_notify_interval: Duration::from_millis(100),
        election_timeout: Duration::from_millis(100),
        ..Default::default()
    };
    change(&mut config);
    let edge = Edge::bind(config).unwrap();
    let addresses = edge.addresses();
    let (stop, stopping) = oneshot::channel::<()>();
    let stopped = async {
        let _ = stopping.await;
    };
    let edge = tokio::spawn(edge.serve(member.server.clone(), std::future::ready(()), stopped));
    Running {
        member: Some(member),
        address: addresses[0].address.clone(),
        metrics_address: addresses[1].address.clone(),
        stop: Some(stop),
        edge: Some(edge),
        _dir: dir,
    }
}

impl Running {
    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn get(&self, path: &str) -> String {
        http_get(&self.address, path).await
    }

    async fn end(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.edge.take().unwrap().await.unwrap().unwrap();
        let member = self.member.take().unwrap();
        tokio::task::spawn_blocking(move || member.stop()).await.unwrap();
    }
}

/// Headers and body.
async fn http_get(address: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..Default::default() }
}

fn refused<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, Status>, code: Code, text: &str) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn keys() {
    let running = start().await;
    let mut kv = KvClient::new(running.channel().await);
    for n in 0..300 {
        let answer = kv.put(put(&format!("k{n:03}"), "v")).await.unwrap().into_inner();
        let header = answer.header.unwrap();
        assert_eq!((header.revision, header.raft_term), (n + 2, 2));
        assert!(header.cluster_id != 0 && header.member_id != 0);
    }
    let page = kv.range(RangeRequest { limit: 10, ..range("k", "l") }).await.unwrap().into_inner();
    assert_eq!((page.kvs.len(), page.count, page.more), (10, 300, true));
    let all = kv.range(range("\0", "\0")).await.unwrap().into_inner();
    assert_eq!((all.kvs.len(), all.count, all.more, all.header.unwrap().revision), (300, 300, false, 301));
    assert!(all.kvs.is_sorted_by_key(|kv| kv.key.clone()));

    let mut stream = kv.range_stream(range("k", "l")).await.unwrap().into_inner();
    let (mut chunks, mut keys) = (Vec::new(), Vec::new());
    while let Some(chunk) = stream.message().await.unwrap() {
        let chunk = chunk.range_response.unwrap();
        keys.extend(chunk.kvs.iter().map(|kv| kv.key.clone()));
        chunks.push((chunk.kvs.len(), chunk.count, chunk.header.map(|header| header.revision)));
    }
    let expected = [(10, 0, None), (20, 0, None), (40, 0, None), (80, 0, None), (150, 300, Some(301))];
    assert_eq!(chunks, expected);
    assert_eq!(keys.len(), 300);

    // As the apiserver updates: a guard, a put, and the present value when the guard fails.
    let guarded = |revision| TxnRequest {
        compare: vec![Compare {
            key: "k000".into(),
            target: compare::CompareTarget::Mod as i32,
            target_union: Some(compare::TargetUnion::ModRevision(revision)),
            ..Default::default()
        }],
        success: vec![RequestOp { request: Some(Op::RequestPut(put("k000", "new"))) }],
        failure: vec![RequestOp { request: Some(Op::RequestRange(range("k000", ""))) }],
    };
    let lost = kv.txn(guarded(77)).await.unwrap().into_inner();
    assert_eq!((lost.succeeded, lost.header.unwrap().revision), (false, 301));
    let Some(response_op::Response::ResponseRange(present)) = &lost.responses[0].response else { panic!() };
    assert_eq!((present.kvs[0].mod_revision, &present.kvs[0].value[..]), (2, &b"v"[..]));
    let won = kv.txn(guarded(2)).await.unwrap().into_inner();
    assert_eq!((won.succeeded, won.header.unwrap().revision), (true, 302));
    let reads = TxnRequest {
        success: vec![RequestOp { request: Some(Op::RequestRange(range("k", "l"))) }],
        ..Default::default()
    };
    let read = kv.txn(reads).await.unwrap().into_inner();
    assert_eq!((read.succeeded, read.header.unwrap().revision), (true, 302));

    let delete = DeleteRangeRequest { key: "k1".into(), range_end: "k2".into(), prev_kv: true };
    let deleted = kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, deleted.prev_kvs.len(), deleted.header.unwrap().revision), (100, 100, 303));

    kv.compact(CompactionRequest { revision: 300, physical: true }).await.unwrap();
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let future = "etcdserver: mvcc: required revision is a future revision";
    refused(
        kv.range(RangeRequest { revision: 299, ..range("k", "") }).await.map(|r| r.map(drop)),
        Code::OutOfRange,
        compacted,
    );
    refused(
        kv.range(RangeRequest { revision: 304, ..range("k", "") }).await.map(|r| r.map(drop)),
        Code::OutOfRange,
        future,
    );
    refused(
        kv.compact(CompactionRequest { revision: 300, physical: false }).await,
        Code::OutOfRange,
        compacted,
    );
    refused(
        kv.put(PutRequest { lease: 7, ..put("a", "") }).await,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    refused(
        kv.put(PutRequest { ignore_value: true, ..put("nope", "") }).await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    refused(
        kv.put(put("big", &"x".repeat(1536 * 1024))).await,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    refused(
        kv.range_stream(RangeRequest { sort_order: 2, ..range("k", "") }).await.map(|r| r.map(drop)),
        Code::Unimplemented,
        "RangeStream does not support custom sort orders",
    );
    running.end().await;
}

async fn watch(running: &Running) -> (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>) {
    let (requests, source) = mpsc::channel(8);
    let source = futures_util::stream::unfold(source, |mut source: mpsc::Receiver<_>| async move {
        source.recv().await.map(|request| (request, source))
    });
    requests.send(create("a", "z", 0)).await.unwrap();
    let mut client = WatchClient::new(running.channel().await);
    let mut request = tonic::Request::new(source);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    (requests, client.watch(request).await.unwrap().into_inner())
}

fn create(key: &str, end: &str, start_revision: i64) -> WatchRequest {
    let create = WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        start_revision,
        prev_kv: true,
        ..Default::default()
    };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn watching() {
    let running = start().await;
    let mut kv = KvClient::new(running.channel().await);
    let (requests, mut stream) = watch(&running).await;
    let mut next = async || stream.message().await.unwrap().unwrap();
    let created = next().await;
    assert_eq!((created.watch_id, created.created, created.header.unwrap().revision), (0, true, 1));

    kv.put(put("k", "1")).await.unwrap();
    kv.put(put("k", "2")).await.unwrap();
    let mut events = Vec::new();
    while events.len() < 2 {
        events.extend(next().await.events);
    }
    assert_eq!(events[0].prev_kv, None);
    assert_eq!(events[1].prev_kv.as_ref().unwrap().value, "1");

    // History, a refusal, a cancellation and a progress, all on this stream.
    requests.send(create("k", "", 2)).await.unwrap();
    let answer = next().await;
    assert_eq!((answer.watch_id, answer.created), (1, true));
    let answer = next().await;
    assert_eq!((answer.watch_id, answer.events.len()), (1, 2));
    requests.send(create("b", "a", 0)).await.unwrap();
    let answer = next().await;
    assert_eq!((answer.watch_id, answer.created, answer.canceled), (-1, true, true));
    assert_eq!(answer.cancel_reason, "mvcc: watcher range is empty");
    requests.send(create("a", "", -1)).await.unwrap();
    assert_eq!(next().await.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
    let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 1 });
    requests.send(WatchRequest { request_union: Some(cancel) }).await.unwrap();
    let answer = next().await;
    assert_eq!((answer.watch_id, answer.canceled, answer.header.unwrap().revision), (1, true, 3));
    let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
    requests.send(WatchRequest { request_union: Some(progress) }).await.unwrap();
    let answer = next().await;
    assert_eq!((answer.watch_id, answer.header.unwrap().revision, answer.events.len()), (-1, 3, 0));

    kv.compact(CompactionRequest { revision: 3, physical: false }).await.unwrap();
    requests.send(create("k", "", 2)).await.unwrap();
    assert!(next().await.created);
    let answer = next().await;
    assert!(answer.canceled && answer.cancel_reason.is_empty());
    assert_eq!((answer.compact_revision, answer.header.unwrap().revision), (3, 0));

    // The periodic progress, which a quiet watcher gets without asking.
    let create = WatchCreateRequest { key: "q".into(), progress_notify: true, ..Default::default() };
    requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.unwrap();
    let created = next().await;
    let answer = next().await;
    assert_eq!((answer.watch_id, answer.header.unwrap().revision), (created.watch_id, 3));

    // A client that says no more is still told.
    drop(requests);
    kv.put(put("k", "3")).await.unwrap();
    let answer = loop {
        let answer = next().await;
        if !answer.events.is_empty() {
            break answer;
        }
    };
    assert_eq!(answer.events[0].kv.as_ref().unwrap().value, "3");

    // The end of the member ends the stream.
    let ended = tokio::spawn(async move {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        }
    });
    running.end().await;
    assert_eq!(ended.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn leases() {
    let running = start().await;
    let mut leases = LeaseClient::new(running.channel().await);
    let mut kv = KvClient::new(running.channel().await);
    let granted = leases.lease_grant(LeaseGrantRequest { id: 7, ttl: 100 }).await.unwrap().into_inner();
    assert_eq!((granted.id, granted.ttl, granted.header.unwrap().revision), (7, 100, 1));
    refused(
        leases.lease_grant(LeaseGrantRequest { id: 7, ttl: 100 }).await,
        Code::FailedPrecondition,
        "etcdserver: lease already exists",
    );
    refused(
        leases.lease_grant(LeaseGrantRequest { id: 8, ttl: 9_000_000_001 }).await,
        Code::OutOfRange,
        "etcdserver: too large lease TTL",
    );
    kv.put(PutRequest { lease: 7, ..put("k", "v") }).await.unwrap();
    let times = LeaseTimeToLiveRequest { id: 7, keys: true };
    let times = leases.lease_time_to_live(times).await.unwrap().into_inner();
    assert_eq!((times.granted_ttl, &times.keys[..]), (100, &["k".into()][..]));
    let times = leases.lease_time_to_live(LeaseTimeToLiveRequest { id: 9, keys: false }).await.unwrap();
    assert_eq!((times.get_ref().ttl, times.get_ref().granted_ttl), (-1, 0));
    let list = leases.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner();
    assert_eq!(list.leases, [LeaseStatus { id: 7 }]);

    let requests = [7, 9].map(|id| LeaseKeepAliveRequest { id });
    let mut stream =
        leases.lease_keep_alive(futures_util::stream::iter(requests)).await.unwrap().into_inner();
    for ttl in [100, 0] {
        assert_eq!(stream.message().await.unwrap().unwrap().ttl, ttl);
    }
    assert!(stream.message().await.unwrap().is_none());

    let revoked = leases.lease_revoke(LeaseRevokeRequest { id: 7 }).await.unwrap().into_inner();
    assert_eq!(revoked.header.unwrap().revision, 3);
    refused(
        leases.lease_revoke(LeaseRevokeRequest { id: 7 }).await,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_member_about_itself() {
    let running = start().await;
    let mut cluster = ClusterClient::new(running.channel().await);
    let list = cluster.member_list(MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    assert_eq!((list.members.len(), &list.members[0].name[..]), (1, "default"));
    assert_eq!(list.header.unwrap().revision, 0);
    refused(
        cluster.member_remove(MemberRemoveRequest { id: 1 }).await,
        Code::NotFound,
        "etcdserver: member not found",
    );

    let mut maintenance = MaintenanceClient::new(running.channel().await);
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (&status.version[..], status.leader, &status.errors[..]),
        ("3.7.3", list.members[0].id, &[][..])
    );
    assert!(status.db_size > 0 && status.downgrade_info.is_some());
    assert_eq!(status.db_size_quota, 2 << 30);

    let alarm = |action| AlarmRequest { action, member_id: 5, alarm: AlarmType::Corrupt as i32 };
    let raised = maintenance.alarm(alarm(1)).await.unwrap().into_inner().alarms;
    assert_eq!(raised, [AlarmMember { member_id: 5, alarm: AlarmType::Corrupt as i32 }]);
    assert!(running.get("/health").await.contains(r#"{"health":"false","reason":"ALARM CORRUPT"}"#));
    assert_eq!(body(&running.get("/health?exclude=CORRUPT").await), r#"{"health":"true","reason":""}"#);
    let ready = running.get("/readyz?verbose").await;
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("X-Content-Type-Options: nosniff"));
    assert_eq!(
        body(&ready),
        "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n[+]linearizable_read ok\n\
         [+]non_learner ok\n\n"
    );
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.errors, ["memberID:5 alarm:CORRUPT"]);
    maintenance.alarm(alarm(2)).await.unwrap();

    let hash = maintenance.hash_kv(HashKvRequest { revision: 0 }).await.unwrap().into_inner();
    assert_eq!((hash.hash_revision, hash.compact_revision), (1, -1));
    assert!(maintenance.hash(HashRequest {}).await.unwrap().into_inner().hash != 0);
    assert_eq!(maintenance.defragment(DefragmentRequest {}).await.unwrap().into_inner().header, None);

    let mut snapshot = maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let mut image = Vec::new();
    let mut last = None;
    while let Some(message) = snapshot.message().await.unwrap() {
        image.extend_from_slice(&message.blob);
        last = Some((message.remaining_bytes, message.blob.len()));
    }
    assert_eq!(last, Some((0, 32)));
    let sum = sha2::Digest::finalize(sha2::Digest::chain_update(
        <sha2::Sha256 as sha2::Digest>::new(),
        &image[..image.len() - 32],
    ));
    assert_eq!(&sum[..], &image[image.len() - 32..]);

    let mut health = HealthClient::new(running.channel().await);
    assert_eq!(health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status, 1);
    refused(
        health.check(HealthCheckRequest { service: "etcdserverpb.KV".into() }).await,
        Code::NotFound,
        "unknown service",
    );
    assert_eq!(health.list(HealthListRequest {}).await.unwrap().into_inner().statuses.len(), 1);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn http_routes() {
    let running = start().await;
    let health = running.get("/health").await;
    assert!(health.contains("Content-Type: text/plain; charset=utf-8"), "{health}");
    assert!(health.contains("Access-Control-Allow-Origin: *"));
    assert_eq!(body(&health), r#"{"health":"true","reason":""}"#);
    assert_eq!(body(&running.get("/livez").await), "ok\n");
    assert_eq!(body(&running.get("/livez?verbose=1").await), "[+]serializable_read ok\nok\n");
    assert_eq!(
        body(&running.get("/readyz/linearizable_read?verbose").await),
        "[+]linearizable_read ok\nok\n"
    );
    assert_eq!(
        body(&running.get("/readyz?verbose&exclude=non_learner&exclude=data_corruption").await)
            .lines()
            .count(),
        3
    );
    let version: serde_json::Value = serde_json::from_str(body(&running.get("/version").await)).unwrap();
    assert_eq!(version["etcdserver"], "3.7.3");
    assert_eq!(version["etcdcluster"], "3.7.0");
    let vars: serde_json::Value = serde_json::from_str(body(&running.get("/debug/vars").await)).unwrap();
    assert_eq!(vars["raft.status"]["raftState"], "StateLeader");
    for missing in ["/", "/v3/kv/range", "/readyz/nope", "/livez/non_learner", "/livezz"] {
        let answer = running.get(missing).await;
        assert!(answer.starts_with("HTTP/1.1 404 ") && body(&answer) == "404 page not found\n", "{answer}");
    }
    let metrics = http_get(&running.metrics_address, "/metrics").await;
    for line in [
        "etcd_server_health_success 1",
        r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 0"#,
        r#"etcd_server_healthcheck{name="serializable_read",type="livez"} 1"#,
        "etcd_server_has_leader 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing");
    }
    assert!(http_get(&running.metrics_address, "/version").await.starts_with("HTTP/1.1 404 "));
    running.end().await;
}

fn auto_tls(dir: &Path) -> TlsOptions {
    TlsOptions { auto: Some(AutoTls { dir: dir.join("client"), validity_years: 1 }), ..Default::default() }
}

/// etcd's own kind of certificate (P-521, flagged as CA) serves, and is taken from clients too.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn self_made_certificates_serve_and_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let url = ListenUrl::parse("https://127.0.0.1:0").unwrap();
    let running = start_with(|config| {
        config.tls = auto_tls(dir.path());
        config.listeners[0].url = url.clone();
    })
    .await;
    let cert = std::fs::read(dir.path().join("client/cert.pem")).unwrap();
    let answer = tls_get(&running.address, &cert, None).await.unwrap();
    assert_eq!(body(&answer), r#"{"health":"true","reason":""}"#);
    running.end().await;

    // The same certificate as CA and as the client's: a chain of one, as Go has it.
    let cert_file = dir.path().join("client/cert.pem");
    let key_file = dir.path().join("client/key.pem");
    let tls = TlsOptions {
        cert_file: Some(cert_file.clone()),
        key_file: Some(key_file.clone()),
        trusted_ca_file: Some(cert_file.clone()),
        ..Default::default()
    };
    let running = start_with(|config| {
        config.tls = tls;
        config.listeners[0].url = url;
    })
    .await;
    assert!(tls_get(&running.address, &cert, None).await.is_err(), "without a certificate");
    let key = std::fs::read(&key_file).unwrap();
    // Compat: etcd's auto-tls makes client listeners' certificates for servers only; Go refuses such a client.
    assert!(tls_get(&running.address, &cert, Some((&cert, &key))).await.is_err(), "not for clients");
    running.end().await;
}

async fn tls_get(
    address: &str,
    roots: &[u8],
    identity: Option<(&[u8], &[u8])>,
) -> Result<String, std::io::Error> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Exactly(CertificateDer::from_pem_slice(roots).unwrap())));
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert).unwrap()],
                PrivateKeyDer::from_pem_slice(key).unwrap(),
            )
            .unwrap(),
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let socket = TcpStream::connect(address).await?;
    let mut stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), socket).await?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Trusts one certificate, whatever webpki thinks of its form.
#[derive(Debug)]
struct Exactly(rustls::pki_types::CertificateDer<'static>);

impl rustls::client::danger::ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        assert_eq!(end_entity, &self.0);
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A burst holds its sender back, as the windows say, and does not end the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_small_messages_is_answered_whole() {
    const COUNT: usize = 50_000;
    let running = start().await;
    let mut leases = LeaseClient::new(running.channel().await);
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    // One at a time, each in a frame of its own.
    let requests = futures_util::stream::iter(0..COUNT).then(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {
            tokio::task::yield_now().await;
            LeaseKeepAliveRequest { id: 7 }
        }
    });
    let mut answers = leases.lease_keep_alive(requests).await.unwrap().into_inner();
    // Nobody reads answers yet. More than h2 would put up with by itself, fewer than the call's window holds.
    let ahead = async {
        while sent.load(Ordering::Relaxed) < 20_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ahead).await.unwrap();
    let mut count = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!((answer.id, answer.ttl), (7, 0));
        count += 1;
    }
    assert_eq!(count, COUNT);
    running.end().await;
}

/// A load balancer's probe, or a pool's spare connection.
#[tokio::test]
async fn a_connection_that_says_nothing_does_not_hold_up_the_stop() {
    let running = start().await;
    let mut silent = TcpStream::connect(&running.address).await.unwrap();
    // Behind it in the queue, so that it is accepted.
    assert!(running.get("/health").await.contains("200 OK"));
    let ending = tokio::spawn(running.end());
    let read = tokio::time::timeout(Duration::from_secs(60), silent.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(Ok(0))), "{read:?}");
    ending.await.unwrap();
}
