//! What strangers send us, one function per stage, for `testing/fuzz`. Not in shipped builds: feature `fuzzing`.

use std::sync::Arc;
use std::time::Duration;

use apply::{Command, Request};
use bytes::Bytes;
use disk::MemDisk;
use prometheus::Registry;
use prost::Message;
use proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberListRequest, RangeRequest,
    TxnRequest, WatchRequest,
};
use server::{Config, Environment, Member};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use transport::Security;

use crate::authority::fuzzing::Mended;
use crate::config::{ApiConfig, MetricsLevel, Serves};
use crate::connection::{PREFACE, Shared, Via, serve_http};
use crate::grpc::Router;
use crate::grpc::call::Connection;
use crate::grpc::framing::{Encoding, Framing};
use crate::grpc::metrics::GrpcMetrics;
use crate::http::Routes;
use crate::service::{Services, check};

/// Largest message of [`messages`]: small, so that inputs reach it.
const LIMIT_BYTES: usize = 4096;
/// Octets of an answer that may wait for the reader of [`Front::connection`].
const PIPE_BYTES: usize = 64 * 1024;
/// How long a client that has said everything waits for a further answer: several times what the member needs. HTTP
/// drops what is under way when its client leaves, so one that left at once would never see a request done.
const QUIET: Duration = Duration::from_millis(3);
/// A connection whose client said its last word ends; this long is a hang.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// A client's octets behind the preface, through the stage that mends `:authority`; the first octet says how
/// they are cut.
///
/// Holds: cuts make no difference, and what comes out needs no mending.
pub fn authority(data: &[u8]) {
    let Some((&cut, client)) = data.split_first() else { return };
    let client = [PREFACE, client].concat();
    let whole = Mended::of(&client, client.len());
    let pieces = Mended::of(&client, usize::from(cut).max(1));
    assert_eq!(whole, pieces, "the outcome depends on how octets arrive");
    let Mended::Passed(out) = whole else { return };
    match Mended::of(&out, out.len()) {
        Mended::Passed(again) => assert_eq!(out, again, "mended octets need mending"),
        // Written anew, a block may be larger than one that is taken; h2 refuses it as well.
        Mended::TooLarge => {}
        Mended::Refused => panic!("mended octets are refused"),
    }
}

/// Octets of a request's body: the first says whether they are packed, the second which method they are for,
/// the third how they are cut.
///
/// Holds: a request that is taken can be read back from the log.
pub fn messages(data: &[u8]) {
    let Some((&[packed, method, cut], body)) = data.split_first_chunk() else { return };
    let encoding = if packed % 2 == 0 { Encoding::Identity } else { Encoding::Gzip };
    let mut framing = Framing::new(LIMIT_BYTES, encoding);
    for piece in body.chunks(usize::from(cut).max(1)) {
        framing.push(Bytes::copy_from_slice(piece));
        loop {
            match framing.next() {
                Ok(Some(payload)) => {
                    assert!(payload.len() <= LIMIT_BYTES, "a message past the limit");
                    request(method, payload);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn request(method: u8, payload: Bytes) {
    let command = match method % 13 {
        0 => decoded(payload, check::put).map(Command::Put),
        1 => decoded(payload, |request: &RangeRequest| {
            let _ = check::range_stream(request);
            check::range(request)?;
            let _ = apply::range_query(request);
            Ok(())
        })
        .map(Command::Range),
        2 => decoded(payload, |request: &DeleteRangeRequest| check::delete_range(request))
            .map(Command::DeleteRange),
        3 => decoded(payload, |request: &TxnRequest| {
            check::txn(request, 128)?;
            let _ = check::is_read_only(request);
            let _ = apply::txn(request.clone());
            Ok(())
        })
        .map(Command::Txn),
        4 => decoded(payload, |_: &CompactionRequest| Ok(())).map(Command::Compaction),
        5 => decoded(payload, |_: &LeaseGrantRequest| Ok(())).map(Command::LeaseGrant),
        6 => decoded(payload, |_: &LeaseRevokeRequest| Ok(())).map(Command::LeaseRevoke),
        7 => decoded(payload, |_: &AlarmRequest| Ok(())).map(Command::Alarm),
        8 => return drop(WatchRequest::decode(payload)),
        9 => return drop(LeaseKeepAliveRequest::decode(payload)),
        10 => return drop(LeaseTimeToLiveRequest::decode(payload)),
        11 => return drop(HashKvRequest::decode(payload)),
        _ => return drop(MemberListRequest::decode(payload)),
    };
    let Some(command) = command else { return };
    let request = Request { id: u64::MAX, command };
    let again = Request::decode(request.clone().encode());
    assert_eq!(again, Ok(request), "a request that was taken is lost in the log");
}

/// The request, if it can be read and passes its check.
fn decoded<M: Message + Default>(
    payload: Bytes,
    check: impl FnOnce(&M) -> Result<(), crate::error::RequestError>,
) -> Option<M> {
    let request = M::decode(payload).ok()?;
    check(&request).ok()?;
    Some(request)
}

/// A member in memory, and what stands before it.
pub struct Front {
    runtime: Runtime,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// Its threads serve as long as the front is there.
    _member: Member,
}

impl Front {
    /// # Panics
    /// A member in an empty memory disk does not start.
    pub fn new() -> Front {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads start");
        let mut config = Config::single("default", "default.etcd".into());
        config.heartbeat_interval = Duration::from_millis(10);
        config.election_timeout = Duration::from_millis(100);
        config.snapshot_count = 1000;
        config.snapshot_catchup_entries = 100;
        let environment = Environment { disk: Arc::new(MemDisk::new()), ..Environment::default() };
        let member = Member::start(config, environment, runtime.handle());
        let member = member.expect("an empty disk is a new member");
        runtime.block_on(member.ready());
        let (stop, stopping) = watch::channel(false);
        let config = ApiConfig { max_request_bytes: LIMIT_BYTES, ..ApiConfig::default() };
        let registry = Registry::new();
        let metrics = GrpcMetrics::register(&registry, MetricsLevel::Extensive).expect("a new registry");
        let metrics = Arc::new(metrics);
        let limit = config.receive_limit_bytes();
        let mut router = Router::new(Arc::clone(&metrics), limit, Duration::from_secs(60));
        Services::new(&config, member.server.clone(), metrics, stopping).register(&mut router);
        let http = Routes::new(&config, member.server.clone(), &registry).expect("a new registry");
        let shared = Arc::new(Shared {
            router: Arc::new(router),
            http: Arc::new(http),
            serves: Serves::GrpcAndHttp,
            security: Security::Plain,
            keepalive: config.keepalive,
            max_concurrent_streams: config.max_concurrent_streams,
        });
        Front { runtime, shared, stop, _member: member }
    }

    /// A whole connection: `data` is all that the client sends. Returns what it is answered.
    ///
    /// # Panics
    /// The connection does not end.
    pub fn connection(&self, data: &[u8]) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(PIPE_BYTES);
        let stop = self.stop.subscribe();
        let connection = Connection { remote: "fuzz".to_owned(), activity: Arc::default() };
        let served = serve_http(Arc::clone(&self.shared), server, connection, Via::Plain, stop);
        let served = self.runtime.spawn(served);
        let talked = async {
            let mut answer = Vec::new();
            let mut unsent = data;
            loop {
                let (mut answers, mut requests) = tokio::io::split(&mut client);
                tokio::select! {
                    sent = requests.write(unsent), if !unsent.is_empty() => match sent {
                        Ok(sent) => unsent = &unsent[sent..],
                        // Refused halfway is as good as heard out.
                        Err(_) => unsent = b"",
                    },
                    read = answers.read_buf(&mut answer) => if !read.is_ok_and(|read| read > 0) { break },
                    () = tokio::time::sleep(QUIET), if unsent.is_empty() => break,
                }
            }
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut answer).await;
            served.await.expect("the connection does not panic");
            answer
        };
        let ended = async { tokio::time::timeout(CONNECTION_TIMEOUT, talked).await };
        self.runtime.block_on(ended).expect("a connection whose client is done ends")
    }
}

impl Default for Front {
    fn default() -> Front {
        Front::new()
    }
}
