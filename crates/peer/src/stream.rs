//! The answers that never end: messages for a member that has asked for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use http::HeaderMap;

use crate::body::Body;
use crate::codec::Encode;
use crate::codec::message::MessageEncoder;
use crate::codec::msgapp::AppendEncoder;
use crate::network::Shared;
use crate::outlet::{Framing, Outlet, Times, Wire};
use crate::peer::Peer;

/// Bytes between a stream and whoever frames it.
const PIPE_BYTES: usize = 64 << 10;

/// The two kinds of streams, which numbers are positions in a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Everything, but appends only while there is no stream for them.
    Message = 0,
    Append = 1,
}

impl StreamKind {
    pub const BOTH: [StreamKind; 2] = [StreamKind::Message, StreamKind::Append];

    pub fn path(self) -> &'static str {
        match self {
            StreamKind::Message => "/raft/stream/message",
            StreamKind::Append => "/raft/stream/msgapp",
        }
    }

    /// What etcd calls it in logs.
    pub fn name(self) -> &'static str {
        match self {
            StreamKind::Message => "stream Message",
            StreamKind::Append => "stream MsgApp v2",
        }
    }

    fn encoder(self) -> Box<dyn Encode> {
        match self {
            StreamKind::Message => Box::new(MessageEncoder),
            StreamKind::Append => Box::new(AppendEncoder::default()),
        }
    }
}

/// A stream that may begin.
pub struct Admitted {
    pub peer: Arc<Peer>,
    pub kind: StreamKind,
    /// Of the answer.
    pub headers: HeaderMap,
}

/// Serves a stream on a connection of which the request was read, and nothing answered yet. Returns when it ends.
pub async fn serve_on(shared: &Arc<Shared>, admitted: Admitted, wire: Box<dyn Wire>) {
    let Admitted { peer, kind, headers } = admitted;
    let outlet = attach(shared, &peer, kind, wire, head_of_chunks(&headers), Framing::Chunks);
    serve(shared, &peer, kind, &outlet).await;
}

/// Begins a stream, and returns the answer's body.
pub fn begin(shared: &Arc<Shared>, peer: Arc<Peer>, kind: StreamKind) -> Body {
    let (wire, body) = tokio::io::duplex(PIPE_BYTES);
    // Before the answer is seen: what is sent from then on must not go to an older stream.
    let outlet = attach(shared, &peer, kind, Box::new(wire), BytesMut::new(), Framing::Plain);
    let shared = shared.clone();
    tokio::spawn(async move { serve(&shared, &peer, kind, &outlet).await });
    Body::Pipe(body)
}

fn attach(
    shared: &Shared,
    peer: &Peer,
    kind: StreamKind,
    wire: Box<dyn Wire>,
    head: BytesMut,
    framing: Framing,
) -> Arc<Outlet> {
    let sent_bytes = shared.metrics.sent_bytes.with_label_values(&[&peer.id.to_string()]);
    let outlet = Arc::new(Outlet::new(wire, head, framing, kind.encoder(), sent_bytes));
    peer.attach(kind, outlet.clone());
    tracing::info!(
        remote_peer_id = %peer.id,
        stream_writer_type = kind.name(),
        "established TCP streaming connection with remote peer"
    );
    outlet
}

async fn serve(shared: &Shared, peer: &Peer, kind: StreamKind, outlet: &Arc<Outlet>) {
    let times = Times {
        write_timeout: shared.config.write_timeout,
        heartbeat_interval: heartbeat_interval(shared.config.read_timeout),
    };
    outlet.serve(times).await;
    peer.detach(kind, outlet);
    tracing::warn!(
        remote_peer_id = %peer.id,
        stream_writer_type = kind.name(),
        "lost TCP streaming connection with remote peer"
    );
    // What was still in the queue is lost.
    shared.report_unreachable(peer.id);
}

/// The head of an answer without end.
fn head_of_chunks(headers: &HeaderMap) -> BytesMut {
    let mut head = BytesMut::from(&b"HTTP/1.1 200 OK\r\n"[..]);
    for (name, value) in headers {
        head.put_slice(title_case(name.as_str()).as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    head.put_slice(format!("Date: {date}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
    head
}

/// As Go spells names of headers.
fn title_case(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}

/// The other side gives a silent stream up after its read timeout: it hears something three times before.
/// Source: etcd `server/etcdserver/api/rafthttp/stream.go`.
fn heartbeat_interval(read_timeout: Duration) -> Duration {
    read_timeout / 3
}
