//! From path to handler, and what every call goes through on the way.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method as HttpMethod, Request, Response};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::body::{Body, BoxFuture, CONTENT_TYPE, GrpcBody, Stream, status_response};
use super::call::{Call, CallGuard, Connection};
use super::framing::Encoding;
use super::inbound::{Inbound, decode};
use super::message::Message;
use super::metrics::{GrpcMetrics, Kind, MethodMetrics};
use super::status::{Code, Status};
use super::timeout;

/// Compat: etcd's send limit.
const SEND_MAX_BYTES: usize = i32::MAX as usize;
/// Messages a bidirectional handler may be ahead of its client. Events are references into the ring, so they are light.
const BIDI_AHEAD: usize = 32;
/// Server streams make large messages: the next is made when the last is on its way.
const SERVER_STREAM_AHEAD: usize = 1;

type UnaryHandler =
    Box<dyn Fn(Call, Bytes) -> Result<BoxFuture<Result<Message, Status>>, Status> + Send + Sync>;
type StreamHandler = Box<dyn Fn(Call, Inbound, Outbound) -> BoxFuture<Result<(), Status>> + Send + Sync>;

enum Handler {
    Unary(UnaryHandler, fn(&Bytes) -> RequestSummary),
    Stream(StreamHandler, usize),
}

struct Method {
    path: &'static str,
    handler: Handler,
    metrics: Arc<MethodMetrics>,
}

/// Where a streaming handler puts its messages. Waits while the client is not ready for more.
pub(crate) struct Outbound {
    queue: mpsc::Sender<Message>,
}

/// The response is gone, and with it the client.
#[derive(Debug)]
pub(crate) struct ClientGone;

impl From<ClientGone> for Status {
    fn from(_: ClientGone) -> Status {
        Status::new(Code::Canceled, "context canceled")
    }
}

impl Outbound {
    pub(crate) async fn send(&self, message: Message) -> Result<(), ClientGone> {
        self.queue.send(message).await.map_err(|_| ClientGone)
    }
}

/// What the request log says about a request; −1 where that makes no sense.
#[derive(Debug, Default)]
pub(crate) struct RequestSummary {
    pub(crate) count: i64,
    pub(crate) size: i64,
    pub(crate) content: String,
}

/// Requests that the log can sum up.
pub(crate) trait Summarize: Sized {
    fn summarize(&self) -> RequestSummary {
        RequestSummary { count: -1, size: -1, content: String::new() }
    }
}

/// All methods, and the settings common to them.
pub(crate) struct Router {
    methods: HashMap<String, Arc<Method>>,
    services: Vec<&'static str>,
    metrics: Arc<GrpcMetrics>,
    receive_limit_bytes: usize,
    warn_above: Duration,
}

impl Router {
    pub(crate) fn new(metrics: Arc<GrpcMetrics>, receive_limit_bytes: usize, warn_above: Duration) -> Router {
        Router { methods: HashMap::new(), services: Vec::new(), metrics, receive_limit_bytes, warn_above }
    }

    /// Adds a unary method.
    pub(crate) fn unary<M, F, R>(&mut self, service: &'static str, method: &'static str, handler: F)
    where
        M: prost::Message + Default + Summarize + 'static,
        F: Fn(Call, M) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Message, Status>> + Send + 'static,
    {
        let handler: UnaryHandler = Box::new(move |call, payload| {
            let request = decode::<M>(payload)?;
            Ok(Box::pin(handler(call, request)))
        });
        let summarize = |payload: &Bytes| {
            M::decode(payload.clone()).map(|request| request.summarize()).unwrap_or_default()
        };
        self.add(service, method, Kind::Unary, Handler::Unary(handler, summarize));
    }

    /// Adds a method with one request and many answers.
    pub(crate) fn server_stream<M, F, R>(&mut self, service: &'static str, method: &'static str, handler: F)
    where
        M: prost::Message + Default + 'static,
        F: Fn(Call, M, Outbound) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let handler: StreamHandler = Box::new(move |call, mut inbound, outbound| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                let request = inbound.next::<M>().await?.ok_or_else(no_message)?;
                handler(call, request, outbound).await
            })
        });
        self.add(service, method, Kind::ServerStream, Handler::Stream(handler, SERVER_STREAM_AHEAD));
    }

    /// Adds a method with many requests and many answers.
    pub(crate) fn bidi_stream<F, R>(&mut self, service: &'static str, method: &'static str, handler: F)
    where
        F: Fn(Call, Inbound, Outbound) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let handler: StreamHandler =
            Box::new(move |call, inbound, outbound| Box::pin(handler(call, inbound, outbound)));
        self.add(service, method, Kind::BidiStream, Handler::Stream(handler, BIDI_AHEAD));
    }

    fn add(&mut self, service: &'static str, method: &'static str, kind: Kind, handler: Handler) {
        if !self.services.contains(&service) {
            self.services.push(service);
        }
        // Once per method of the process: a path that lives as long as it.
        let path: &'static str = Box::leak(format!("/{service}/{method}").into_boxed_str());
        let metrics = self.metrics.method(service, method, kind);
        self.methods.insert(path.to_owned(), Arc::new(Method { path, handler, metrics }));
    }

    /// Answers one call.
    pub(crate) async fn serve(
        &self,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Response<Body> {
        match self.call(request, &connection).await {
            Ok(response) => response,
            Err(status) => status_response(&status),
        }
    }

    async fn call(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        if head.method != HttpMethod::POST {
            let text = format!(
                "Received a HEADERS frame with :method {:?} which should be POST",
                head.method.as_str()
            );
            return Err(Status::new(Code::Internal, text));
        }
        let method = self.methods.get(head.uri.path()).ok_or_else(|| self.unknown(head.uri.path()))?;
        let encoding = Encoding::of(&head.headers)?;
        let deadline = timeout::of(&head.headers)?.map(|timeout| tokio::time::Instant::now() + timeout);

        let mut guard = CallGuard::new(&connection.activity, self.metrics.bytes.clone());
        let mut inbound = Inbound::new(body, self.receive_limit_bytes, encoding, self.metrics.bytes.clone());
        let call = Call { metadata: head.headers, connection: Arc::clone(connection) };
        let body = match &method.handler {
            Handler::Unary(handler, summarize) => {
                let payload = inbound.next_payload().await?.ok_or_else(no_message)?;
                let answer = handler(call, payload.clone())?;
                guard.begin(&method.metrics);
                method.metrics.msg_received.inc();
                let begun_at = Instant::now();
                let outcome = within(deadline, answer).await;
                self.log(method.path, &connection.remote, begun_at, || summarize(&payload), &outcome);
                let message = outcome.and_then(check_size).inspect_err(|status| guard.end(status.code))?;
                GrpcBody::unary(message, encoding, guard)
            }
            Handler::Stream(handler, ahead) => {
                guard.begin(&method.metrics);
                inbound.count_for(Arc::clone(&method.metrics));
                let (queue, sent) = mpsc::channel(*ahead);
                let answer = handler(call, inbound, Outbound { queue });
                let answer: BoxFuture<_> = match deadline {
                    None => answer,
                    Some(_) => Box::pin(within(deadline, answer)),
                };
                let mut stream = Stream::new(answer, sent);
                // Headers leave with the first message, or are the trailers of a call that has none.
                match std::future::poll_fn(|cx| stream.poll_next(cx)).await {
                    Ok(first) => GrpcBody::stream(first, stream, encoding, guard),
                    Err(status) => {
                        guard.end(status.code);
                        return Ok(ended_response(&status));
                    }
                }
            }
        };
        let mut response = Response::new(Body::Grpc(Box::new(body)));
        response.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
        if encoding == Encoding::Gzip {
            response.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
        }
        Ok(response)
    }

    /// Compat: grpc-go's texts. Clients fall back on another method when they see Unimplemented.
    fn unknown(&self, path: &str) -> Status {
        let text = match path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) {
            None => format!("malformed method name: {path:?}"),
            Some((service, method)) if self.services.contains(&service) => {
                format!("unknown method {method} for service {service}")
            }
            Some((service, _)) => format!("unknown service {service}"),
        };
        Status::new(Code::Unimplemented, text)
    }

    fn log(
        &self,
        path: &str,
        remote: &str,
        begun_at: Instant,
        summarize: impl FnOnce() -> RequestSummary,
        outcome: &Result<Message, Status>,
    ) {
        let took = begun_at.elapsed();
        let slow = took > self.warn_above;
        if !slow && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let request = summarize();
        let (response_count, response_size) = match outcome {
            Ok(message) if request.count >= 0 => (message.log_count, message.payload_len() as i64),
            _ => (-1, -1),
        };
        macro_rules! record {
            ($level:ident) => {
                tracing::$level!(
                    "time spent" = ?took,
                    remote,
                    "response type" = path,
                    "request count" = request.count,
                    "request size" = request.size,
                    "response count" = response_count,
                    "response size" = response_size,
                    "request content" = request.content,
                    "request stats"
                )
            };
        }
        if slow {
            record!(warn);
        } else {
            record!(debug);
        }
    }
}

fn no_message() -> Status {
    Status::new(Code::Internal, "unexpected EOF")
}

/// A stream that ended before its first message.
fn ended_response(status: &Status) -> Response<Body> {
    if status.code != Code::Ok {
        return status_response(status);
    }
    let mut response = Response::new(Body::Empty);
    response.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
    status.write(response.headers_mut());
    response
}

fn check_size(message: Message) -> Result<Message, Status> {
    let len = message.payload_len();
    if len > SEND_MAX_BYTES {
        let text = format!("grpc: trying to send message larger than max ({len} vs. {SEND_MAX_BYTES})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(message)
}

async fn within<T>(
    deadline: Option<tokio::time::Instant>,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match deadline {
        None => answer.await,
        Some(deadline) => tokio::time::timeout_at(deadline, answer)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded())),
    }
}
