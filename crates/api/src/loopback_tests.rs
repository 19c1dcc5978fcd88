//! The whole edge over loopback, with real clients, in front of handlers made for the test.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use hyper::body::Incoming;
use prometheus::Registry;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, PutResponse, RangeRequest, SnapshotRequest,
    SnapshotResponse, StatusRequest, WatchRequest, WatchResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use transport::ListenUrl;

use crate::config::{ApiConfig, Listener, MetricsLevel, Serves};
use crate::connection::{HttpService, Via};
use crate::edge::Edge;
use crate::grpc::body::BoxFuture;
use crate::grpc::message::{PIECE_BYTES, PieceSource};
use crate::grpc::metrics::GrpcMetrics;
use crate::grpc::{Body, Code, Message, Router, Status};

struct NoHttp;

impl HttpService for NoHttp {
    fn respond(&self, request: Request<Incoming>, via: Via) -> BoxFuture<Response<Body>> {
        let text = format!("{} {via:?}", request.uri().path());
        Box::pin(async move { Response::new(Body::Http(text.into())) })
    }
}

/// So many records of 1 KiB.
struct Records(usize);

impl PieceSource for Records {
    fn fill(&mut self, out: &mut BytesMut) -> bool {
        while self.0 > 0 && out.len() < PIECE_BYTES {
            out.put_slice(&[0x12, 0xfd, 0x07, 0x2a, 0xfa, 0x07]); // kvs { value: [1018 bytes] }
            out.put_bytes(b'v', 1018);
            self.0 -= 1;
        }
        self.0 > 0
    }
}

struct Running {
    address: String,
    registry: Registry,
    _stop: watch::Sender<bool>,
}

impl Running {
    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        family
            .get_metric()
            .iter()
            .filter(|metric| {
                labels.iter().all(|label| metric.get_label().iter().any(|pair| pair.value() == *label))
            })
            .map(|metric| metric.get_counter().get_value())
            .sum()
    }
}

fn start(config: ApiConfig) -> Running {
    let registry = Registry::new();
    let metrics = Arc::new(GrpcMetrics::register(&registry, MetricsLevel::Extensive).unwrap());
    let mut router = Router::new(metrics, 1 << 20, Duration::from_secs(1));
    router.unary("etcdserverpb.KV", "Put", |call, request: PutRequest| async move {
        assert!(call.metadata("content-type").is_some());
        if request.key.is_empty() {
            return Err(Status::new(Code::InvalidArgument, "etcdserver: key is not provided"));
        }
        Ok(Message::encode(&PutResponse::default()))
    });
    router.unary("etcdserverpb.KV", "Compact", |_, _: CompactionRequest| std::future::pending());
    router.unary("etcdserverpb.KV", "Range", |_, request: RangeRequest| async move {
        let limit = request.limit as usize;
        Ok(Message::from_source(limit * 1024, |_| {}, Box::new(Records(limit))))
    });
    router.unary("etcdserverpb.Maintenance", "Status", |_, _: StatusRequest| async move {
        Ok(Message::encode(&proto::etcdserverpb::StatusResponse {
            version: "3.7.3".into(),
            ..Default::default()
        }))
    });
    router.server_stream("etcdserverpb.Maintenance", "Snapshot", |_, _: SnapshotRequest, out| async move {
        for remaining_bytes in (0..100).rev() {
            out.send(Message::encode(&SnapshotResponse { remaining_bytes, ..Default::default() })).await?;
        }
        Ok(())
    });
    router.bidi_stream("etcdserverpb.Watch", "Watch", |_, mut inbound, out| async move {
        let mut watch_id = 0;
        while let Some(request) = inbound.next::<WatchRequest>().await? {
            if request.request_union.is_none() {
                return Err(Status::new(Code::Unavailable, "etcdserver: no leader"));
            }
            for _ in 0..100 {
                out.send(Message::encode(&WatchResponse { watch_id, ..Default::default() })).await?;
                watch_id += 1;
            }
        }
        Ok(())
    });
    let config = ApiConfig {
        listeners: vec![Listener {
            url: ListenUrl::parse("http://127.0.0.1:0").unwrap(),
            serves: Serves::GrpcAndHttp,
        }],
        request_timeout: Duration::from_secs(1),
        ..config
    };
    let edge = Edge::bind(config).unwrap();
    let address = edge.addresses()[0].address.clone();
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(edge.serve_with(Arc::new(router), Arc::new(NoHttp), std::future::ready(()), stopping));
    Running { address, registry, _stop: stop }
}

#[tokio::test]
async fn unary_calls_and_their_errors() {
    let edge = start(ApiConfig::default());
    let mut kv = KvClient::new(edge.channel().await);
    let put = |key: &'static str| PutRequest { key: key.into(), ..Default::default() };
    kv.put(put("k")).await.unwrap();

    let status = kv.put(put("")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::InvalidArgument, "etcdserver: key is not provided")
    );
    let status = kv.delete_range(DeleteRangeRequest::default()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::Unimplemented, "unknown method DeleteRange for service etcdserverpb.KV")
    );
    let status = proto::v3lockpb::lock_client::LockClient::new(edge.channel().await)
        .unlock(proto::v3lockpb::UnlockRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.message(), "unknown service v3lockpb.Lock");

    let large = PutRequest { key: "k".into(), value: vec![0; 2 << 20].into(), ..Default::default() };
    let status = kv.put(large).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::ResourceExhausted, "grpc: received message larger than max (2097160 vs. 1048576)")
    );

    let mut request = tonic::Request::new(CompactionRequest::default());
    request.set_timeout(Duration::from_millis(1));
    let status = kv.compact(request).await.unwrap_err();
    // Whose clock is first does not matter; our code is looked at in the metric.
    assert!(matches!(status.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{status:?}");

    assert_eq!(edge.metric("grpc_server_started_total", &["Put"]), 2.0);
    assert_eq!(edge.metric("grpc_server_handled_total", &["Put", "OK"]), 1.0);
    assert_eq!(edge.metric("grpc_server_handled_total", &["Put", "InvalidArgument"]), 1.0);
    assert_eq!(edge.metric("etcd_network_client_grpc_received_bytes_total", &[]), 3.0);
}

#[tokio::test]
async fn gzip_is_answered_in_gzip_and_others_are_refused() {
    let edge = start(ApiConfig::default());
    let mut kv = KvClient::new(edge.channel().await)
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let answer = kv.range(RangeRequest { limit: 100, ..Default::default() }).await.unwrap();
    assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(answer.into_inner().kvs.len(), 100);
    // A put whose compressed form is small but whose plain form is too large.
    let bomb = PutRequest { key: "k".into(), value: vec![0; 2 << 20].into(), ..Default::default() };
    let status = kv.put(bomb).await.unwrap_err();
    assert_eq!(status.message(), "grpc: received message after decompression larger than max 1048576");
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let edge = start(ApiConfig::default());
    let mut kv = KvClient::new(edge.channel().await).max_decoding_message_size(usize::MAX);
    let answer = kv.range(RangeRequest { limit: 20_000, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!(answer.kvs.len(), 20_000);
    assert!(answer.kvs.iter().all(|kv| kv.value.len() == 1018));
}

#[tokio::test]
async fn streams() {
    let edge = start(ApiConfig::default());
    let mut maintenance = MaintenanceClient::new(edge.channel().await);
    let mut stream = maintenance.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let mut left = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        left.push(message.remaining_bytes);
    }
    assert_eq!(left, (0..100).rev().collect::<Vec<_>>());

    let mut watch = WatchClient::new(edge.channel().await);
    let create = WatchRequest {
        request_union: Some(proto::etcdserverpb::watch_request::RequestUnion::ProgressRequest(
            Default::default(),
        )),
    };
    let (requests, source) = tokio::sync::mpsc::channel(4);
    let source = futures_util::stream::unfold(source, |mut source| async move {
        source.recv().await.map(|request| (request, source))
    });
    requests.send(create).await.unwrap();
    let mut stream = watch.watch(source).await.unwrap().into_inner();
    for watch_id in 0..100 {
        assert_eq!(stream.message().await.unwrap().unwrap().watch_id, watch_id);
    }
    requests.send(WatchRequest::default()).await.unwrap();
    let status = stream.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "etcdserver: no leader"));
    assert_eq!(edge.metric("grpc_server_msg_sent_total", &["Watch", "etcdserverpb.Watch"]), 100.0);
    assert_eq!(edge.metric("grpc_server_handled_total", &["Watch", "Unavailable"]), 1.0);
}

#[tokio::test]
async fn an_old_clients_authority_is_served() {
    let edge = start(ApiConfig::default());
    for origin in ["http://127.0.0.1:2379", "#initially=[http://a:2379;http://b:2379]"] {
        let mut socket = TcpStream::connect(&edge.address).await.unwrap();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]); // SETTINGS
        let mut block = Vec::new();
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/etcdserverpb.Maintenance/Status"),
            (":authority", origin),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        for (name, value) in fields {
            block.extend_from_slice(&[0x40, name.len() as u8]);
            block.extend_from_slice(name.as_bytes());
            block.push(value.len() as u8);
            block.extend_from_slice(value.as_bytes());
        }
        // Twice on one connection, the second time from the table alone.
        for (stream, block) in [(1u8, block), (3, (0..6).map(|n| 0x80 | (62 + 5 - n)).collect())] {
            bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 4, 0, 0, 0, stream]);
            bytes.extend_from_slice(&block);
            bytes.extend_from_slice(&[0, 0, 5, 0, 1, 0, 0, 0, stream, 0, 0, 0, 0, 0]);
        }
        socket.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        while answer.windows(5).filter(|window| window == b"3.7.3").count() < 2 {
            assert_ne!(socket.read_buf(&mut answer).await.unwrap(), 0, "connection closed: {answer:?}");
        }
    }
}

/// Compat: seen from etcd 3.7.3 while it read its data: clients wait, probes are refused.
#[tokio::test]
async fn until_it_is_served_a_metrics_listener_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let unix = format!("unix://{}", dir.path().join("metrics").display());
    let listen = |url: &str, serves| Listener { url: ListenUrl::parse(url).unwrap(), serves };
    let config = ApiConfig {
        listeners: vec![
            listen("http://127.0.0.1:0", Serves::GrpcAndHttp),
            listen("http://127.0.0.1:0", Serves::Metrics),
            listen(&unix, Serves::Metrics),
        ],
        request_timeout: Duration::from_secs(1),
        ..ApiConfig::default()
    };
    let edge = Edge::bind(config).unwrap();
    let [client, metrics, unix] = &edge.addresses()[..] else { panic!("three listeners") };
    let (metrics, unix) = (metrics.address.clone(), unix.address.clone());
    TcpStream::connect(&client.address).await.unwrap();
    let refused = Some(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(TcpStream::connect(&metrics).await.err().map(|error| error.kind()), refused);
    assert_eq!(tokio::net::UnixStream::connect(&unix).await.err().map(|error| error.kind()), refused);

    let grpc = Arc::new(GrpcMetrics::register(&Registry::new(), MetricsLevel::Basic).unwrap());
    let router = Arc::new(Router::new(grpc, 1 << 20, Duration::from_secs(1)));
    let (_stop, stopping) = watch::channel(false);
    // The member is not ready, and never will be.
    let serving = edge.serve_with(router, Arc::new(NoHttp), std::future::pending(), stopping);
    let asking = async {
        loop {
            // Serving begins when the other future runs.
            let Ok(mut socket) = TcpStream::connect(&metrics).await else {
                tokio::task::yield_now().await;
                continue;
            };
            socket.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            tokio::net::UnixStream::connect(&unix).await.unwrap();
            return answer;
        }
    };
    let answer = tokio::select! {
        _ = serving => panic!("it serves until it is told to stop"),
        answer = asking => answer,
    };
    assert!(answer.ends_with("/livez Metrics"), "{answer}");
}

#[tokio::test]
async fn http_1_and_2_share_the_port() {
    let edge = start(ApiConfig::default());
    let mut socket = TcpStream::connect(&edge.address).await.unwrap();
    socket.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n/health Plain"), "{answer}");

    let socket = TcpStream::connect(&edge.address).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http2::handshake::<_, _, http_body_util::Empty<Bytes>>(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(socket),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://a/version").body(http_body_util::Empty::new()).unwrap();
    let answer = send.send_request(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert_eq!(&body[..], b"/version Plain");
}
