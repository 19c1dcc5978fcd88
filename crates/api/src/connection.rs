//! One connection: TLS if asked for, then HTTP/1 or HTTP/2 by its first bytes, then gRPC or HTTP by content type.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::watch;
use transport::{Prefixed, Rejected, Secured, Security, Stream};

use crate::authority::MendedStream;
use crate::authority::ping::Activity;
use crate::config::{Keepalive, Serves};
use crate::grpc::body::BoxFuture;
use crate::grpc::call::Connection;
use crate::grpc::{Body, Router};

/// What begins every HTTP/2 connection.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Compat: etcd's `ReadHeaderTimeout`.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// For what is still to be sent when a connection has ended.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// Octets a client may send ahead of us, per call and per connection.
///
/// They also decide how many small messages may wait unread: h2 ends the connection when these, at 256 octets each, come to
/// half the connection's window. A call with messages of 8 octets, as a burst of keep-alives is, must meet the end
/// of its own window before, which only holds its client back.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const _: () = assert!(STREAM_WINDOW_BYTES / 8 * 256 <= CONNECTION_WINDOW_BYTES / 2);
/// Octets of answers held per call beyond what the client has room for.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// As grpc-go's default would be 16 MiB; a token of 1 MiB is beyond reason.
const HEADER_LIST_BYTES: u32 = 1 << 20;
/// Streams a client reset before we took them. Go cancels calls in bursts; the default of 20 would answer
/// a busy apiserver with GOAWAY. Taking such a stream costs little, so the bound is generous.
const PENDING_RESETS_MAX: usize = 64 * 1024;

/// Answers what is not gRPC.
pub(crate) trait HttpService: Send + Sync + 'static {
    fn respond(&self, request: Request<Incoming>, via: Via) -> BoxFuture<Response<Body>>;
}

/// How an HTTP request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Plain,
    Tls,
    /// A metrics listener, of either kind.
    Metrics,
}

/// What all connections of one listener share.
pub(crate) struct Shared {
    pub(crate) router: Arc<Router>,
    pub(crate) http: Arc<dyn HttpService>,
    pub(crate) serves: Serves,
    pub(crate) security: Security,
    pub(crate) keepalive: Keepalive,
    pub(crate) max_concurrent_streams: u32,
}

/// Serves one client until it leaves, or until `stop` turns true and its calls are done.
pub(crate) async fn serve(shared: Arc<Shared>, stream: Stream, remote: String, stop: watch::Receiver<bool>) {
    let securing = tokio::select! {
        secured = shared.security.secure(stream) => secured,
        // Nothing was asked yet.
        () = stopped(stop.clone()) => return,
    };
    let secured = match securing {
        Ok(secured) => secured,
        Err(Rejected::Silent) => return,
        Err(Rejected::Handshake { server_name, error }) => {
            tracing::warn!(
                "remote-addr" = remote,
                "server-name" = server_name,
                error,
                "rejected connection on client endpoint"
            );
            return;
        }
    };
    let connection = Connection { remote, activity: Arc::default() };
    match secured {
        Secured::Plain(stream) => serve_http(shared, stream, connection, Via::Plain, stop).await,
        Secured::Tls(stream) => serve_http(shared, *stream, connection, Via::Tls, stop).await,
    }
}

/// Serves one client that is known to speak plainly, or whose TLS is done.
pub(crate) async fn serve_http<S>(
    shared: Arc<Shared>,
    mut stream: S,
    connection: Connection,
    via: Via,
    stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let reading = tokio::select! {
        first = tokio::time::timeout(HEADER_READ_TIMEOUT, read_first(&mut stream)) => first,
        () = stopped(stop.clone()) => return,
    };
    let first = match reading {
        Ok(Ok(first)) => first,
        Ok(Err(_)) | Err(_) => return, // gone, or silent for too long
    };
    let via = if shared.serves == Serves::Metrics { Via::Metrics } else { via };
    let connection = Arc::new(connection);
    if first == PREFACE[..] {
        serve_h2(shared, stream, connection, via, stop).await;
    } else {
        serve_h1(shared, Prefixed::new(first, stream), connection, via, stop).await;
    }
}

/// Reads no more than it takes to tell HTTP/2 from HTTP/1.
async fn read_first(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let mut rest = [0; PREFACE.len()];
        let n = stream.read(&mut rest[..PREFACE.len() - first.len()]).await?;
        if n == 0 {
            return if first.is_empty() {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(first.into())
            };
        }
        first.extend_from_slice(&rest[..n]);
    }
    Ok(first.into())
}

async fn serve_h2<S>(
    shared: Arc<Shared>,
    stream: S,
    connection: Arc<Connection>,
    via: Via,
    stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Compat: etcd enforces its ping policy only where grpc-go owns the connection, which is not so with
    // TLS and HTTP on one port.
    let policed =
        shared.serves == Serves::GrpcOnly || (via == Via::Plain && shared.serves == Serves::GrpcAndHttp);
    let min_time = policed.then_some(shared.keepalive.min_time);
    let activity: Arc<Activity> = Arc::clone(&connection.activity);
    let stream = MendedStream::new(stream, PREFACE, min_time, activity);

    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_concurrent_streams(shared.max_concurrent_streams)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(None)
        .keep_alive_interval(shared.keepalive.interval)
        .keep_alive_timeout(shared.keepalive.timeout);
    let service = service_fn(move |request| {
        let (shared, connection) = (Arc::clone(&shared), Arc::clone(&connection));
        async move { Ok::<_, Infallible>(answer_h2(&shared, request, connection, via).await) }
    });
    let writes = stream.writes();
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stopping = std::pin::pin!(stopped(stop));
    let mut told_to_stop = false;
    let mut waited = false;
    let outcome = std::future::poll_fn(|cx| {
        if !told_to_stop && stopping.as_mut().poll(cx).is_ready() {
            told_to_stop = true;
            served.as_mut().graceful_shutdown();
        }
        // Calls that are about to answer go first, so that one write carries all their answers.
        waited = !waited;
        if waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let outcome = served.as_mut().poll(cx);
        match writes.poll_flush(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(Ok(())), // nobody is there to read it
            Poll::Ready(Ok(())) | Poll::Pending => outcome,
        }
    })
    .await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "client connection ended");
    }
    // The last frames, such as the reason why the connection ends.
    if tokio::time::timeout(LAST_WORDS_TIMEOUT, std::future::poll_fn(|cx| writes.poll_flush(cx)))
        .await
        .is_err()
    {
        tracing::debug!("client connection closed before its last frames were out");
    }
}

async fn answer_h2(
    shared: &Shared,
    request: Request<Incoming>,
    connection: Arc<Connection>,
    via: Via,
) -> Response<Body> {
    let is_grpc = request
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    match (shared.serves, is_grpc) {
        (Serves::GrpcAndHttp | Serves::GrpcOnly, true) => shared.router.serve(request, connection).await,
        (Serves::GrpcOnly, false) => {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            response
        }
        (Serves::GrpcAndHttp, false) | (Serves::HttpOnly | Serves::Metrics, _) => {
            shared.http.respond(request, via).await
        }
    }
}

async fn serve_h1<S>(
    shared: Arc<Shared>,
    stream: S,
    connection: Arc<Connection>,
    via: Via,
    stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if shared.serves == Serves::GrpcOnly {
        tracing::debug!(remote = connection.remote, "HTTP/1 on a gRPC listener");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        debug_assert!(request.version() < Version::HTTP_2);
        let answer = shared.http.respond(request, via);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // Scripts grep headers as Go spells them.
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT).title_case_headers(true);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = stopped(stop) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "client connection ended");
    }
}

/// Resolves once `stop` is true, or its sender gone.
pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that nobody can say "stop" any more: the same.
    let _ = stop.wait_for(|stop| *stop).await;
}
