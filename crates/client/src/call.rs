//! The client itself, and the way of one unary call: deadline, attempts, token.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use prost::Message;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::auth::Tokens;
use crate::config::Config;
use crate::connect::Connector;
use crate::endpoint::{Endpoint, Security};
use crate::error::Error;
use crate::pool::Pool;
use crate::retry::{self, Repeat};
use crate::transport::Transport;

/// Sent with each call. Source: etcd api/version (3.7.3): major and minor only.
const API_VERSION: &str = "3.7";

/// Connections to the members, and how to speak over them. Clones share the connections.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    config: Arc<Config>,
    tokens: Arc<Tokens>,
    limit: Limit,
}

#[derive(Clone, Copy)]
enum Limit {
    None,
    PerCall(Duration),
    At(Instant),
}

/// An attempt of a call that did not succeed; there may be others.
pub struct Warning<'a> {
    /// `/etcdserverpb.KV/Range`
    pub method: &'a str,
    /// 0 for the first.
    pub attempt: u32,
    /// The member's words, or the trouble on the way to it.
    pub error: String,
    /// The first endpoint, without its scheme.
    pub target: &'a str,
}

impl Client {
    /// Makes a client; connections come with the first call. Reads certificate files.
    pub fn new(config: Config) -> Result<Client, Error> {
        let endpoints = config.endpoints.clone();
        if endpoints.is_empty() {
            return Err(Error::NoEndpoint);
        }
        if config.token.is_some() && config.user.is_some() {
            return Err(Error::TokenAndUser);
        }
        let pool = pool(&config, endpoints)?;
        let tokens = Arc::new(Tokens::new(config.token.as_deref()));
        Ok(Client { pool: Arc::new(pool), config: Arc::new(config), tokens, limit: Limit::None })
    }

    /// The same client with other connections: to this endpoint alone.
    pub fn dial(&self, endpoint: &str) -> Result<Client, Error> {
        let mut config = Config::clone(&self.config);
        config.endpoints = vec![Endpoint::parse(endpoint)];
        let pool = pool(&config, config.endpoints.clone())?;
        Ok(Client { pool: Arc::new(pool), config: Arc::new(config), ..self.clone() })
    }

    /// The same client, each of whose calls ends in error after this long.
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { limit: Limit::PerCall(timeout), ..self.clone() }
    }

    /// The same client, whose calls together end at this point in time.
    pub fn with_deadline(&self, deadline: Instant) -> Client {
        Client { limit: Limit::At(deadline), ..self.clone() }
    }

    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.config.endpoints.iter()
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What stubs of `proto` run on, for calls that are to go out once and bare.
    pub fn transport(&self) -> Transport {
        Transport::new(self.pool.clone())
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.limit {
            Limit::None => None,
            Limit::PerCall(timeout) => Some(Instant::now() + timeout),
            Limit::At(deadline) => Some(deadline),
        }
    }

    /// Runs until the deadline, if there is one.
    pub(crate) async fn within<T>(
        &self,
        deadline: Option<Instant>,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match deadline {
            None => work.await,
            Some(deadline) => match tokio::time::timeout_at(deadline, work).await {
                // The member was told of the deadline too, and its answer may come a moment before our clock's.
                Ok(Err(error)) if error.code() == Some(Code::DeadlineExceeded) => {
                    Err(Error::DeadlineExceeded { last: self.pool.last_error() })
                }
                Ok(outcome) => outcome,
                Err(_) => Err(Error::DeadlineExceeded { last: self.pool.last_error() }),
            },
        }
    }

    /// One request, one response: the token first if need be, then attempts while `repeat` allows.
    pub(crate) async fn unary<Req, Res>(
        &self,
        method: &'static str,
        repeat: Repeat,
        request: Req,
    ) -> Result<Res, Error>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        let size = request.encoded_len();
        if size > self.config.max_send_bytes {
            let max = self.config.max_send_bytes;
            let text = format!("trying to send message larger than max ({size} vs. {max})");
            return Err(Status::resource_exhausted(text).into());
        }
        self.log_in().await?;
        let deadline = self.deadline();
        let outcome = self.within(deadline, self.attempts(method, repeat, request, deadline)).await;
        if let Err(Error::DeadlineExceeded { last }) = &outcome {
            let latest = last.as_deref().map(|last| format!(" latest balancer error: {last}"));
            self.warn(method, 0, || {
                format!(
                    "rpc error: code = DeadlineExceeded desc ={}",
                    latest.as_deref().unwrap_or(" context deadline exceeded")
                )
            });
        }
        outcome
    }

    async fn attempts<Req, Res>(
        &self,
        method: &'static str,
        repeat: Repeat,
        request: Req,
        deadline: Option<Instant>,
    ) -> Result<Res, Error>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        let mut attempt = 0;
        loop {
            let pause = retry::pause_before(attempt, self.pool.len(), jitter());
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let status = match self.attempt(method, request.clone(), deadline).await {
                Ok(response) => return Ok(response),
                Err(status) => clean(status),
            };
            self.warn(method, attempt, || Error::from(status.clone()).to_string());
            attempt += 1;
            let again = attempt < retry::ATTEMPTS_MAX
                && (self.renews_token_after(&status).await? || repeat.allows(&status));
            if !again {
                return Err(status.into());
            }
        }
    }

    async fn attempt<Req, Res>(
        &self,
        method: &'static str,
        request: Req,
        deadline: Option<Instant>,
    ) -> Result<Res, Status>
    where
        Req: Message + 'static,
        Res: Message + Default + 'static,
    {
        let mut request = self.request(request);
        if let Some(deadline) = deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let mut grpc = self.grpc();
        let codec = ProstCodec::<Req, Res>::default();
        let response = grpc.unary(request, PathAndQuery::from_static(method), codec).await?;
        Ok(response.into_inner())
    }

    /// One request, many responses. No attempts: callers know best where to go on.
    pub(crate) async fn server_streaming<Req, Res>(
        &self,
        method: &'static str,
        request: Req,
    ) -> Result<Streaming<Res>, Error>
    where
        Req: Message + 'static,
        Res: Message + Default + 'static,
    {
        self.log_in().await?;
        let codec = ProstCodec::<Req, Res>::default();
        let path = PathAndQuery::from_static(method);
        match self.grpc().server_streaming(self.request(request), path, codec).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(clean(status).into()),
        }
    }

    /// Gives the request what each call carries: the version, and the token if there is one.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("client-api-version", MetadataValue::from_static(API_VERSION));
        if let Some(token) = self.tokens.current() {
            metadata.insert("token", token);
        }
        request
    }

    pub(crate) fn grpc(&self) -> Grpc<Transport> {
        Grpc::new(self.transport())
            .max_decoding_message_size(self.config.max_recv_bytes)
            .max_encoding_message_size(usize::MAX)
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn warn(&self, method: &str, attempt: u32, error: impl FnOnce() -> String) {
        let Some(listener) = &self.config.on_warning else { return };
        let target = self.config.endpoints[0].as_str();
        let target = target.split_once("://").map_or(target, |(_, rest)| rest);
        listener(&Warning { method, attempt, error: error(), target });
    }
}

fn pool(config: &Config, endpoints: Vec<Endpoint>) -> Result<Pool, Error> {
    let wants_tls = |endpoint: &Endpoint| match endpoint.security() {
        Security::Plain => false,
        Security::Tls => true,
        Security::AsConfigured => config.tls.is_some(),
    };
    let tls = match endpoints.iter().any(wants_tls) {
        true => Some(Arc::new(config.tls.clone().unwrap_or_default().client_config()?)),
        false => None,
    };
    let named = config.tls.as_ref().and_then(|tls| tls.server_name.clone());
    let nodes = endpoints.into_iter().map(|endpoint| {
        let tls = tls.clone().filter(|_| wants_tls(&endpoint));
        let name = named.clone().unwrap_or_else(|| endpoint.server_name().to_owned());
        let connector = Connector {
            tls: tls.map(|tls| (tls, name)),
            keepalive_time: config.keepalive_time,
            keepalive_timeout: config.keepalive_timeout,
        };
        (endpoint, connector)
    });
    Ok(Pool::new(nodes.collect()))
}

/// Says in Go's words what tonic says in its own.
pub(crate) fn clean(status: Status) -> Status {
    let numbers = status
        .message()
        .strip_prefix("Error, decoded message length too large: found ")
        .and_then(|rest| rest.strip_suffix(" bytes"))
        .and_then(|rest| rest.split_once(" bytes, the limit is: "));
    match numbers {
        Some((found, limit)) => {
            let text = format!("grpc: received message larger than max ({found} vs. {limit})");
            Status::new(Code::ResourceExhausted, text)
        }
        None => status,
    }
}

/// Anything between 0 and 1: it only keeps clients from marching in step.
fn jitter() -> f64 {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    f64::from(nanos % 1000) / 1000.0
}

/// Declares plain calls: name, messages, method, and whether they may be repeated.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $response:ty: $method:literal, $repeat:ident;)*) => {
        impl $crate::Client {
            $($(#[$doc])*
            pub async fn $name(&self, request: $request) -> Result<$response, $crate::Error> {
                self.unary($method, $crate::retry::Repeat::$repeat, request).await
            })*
        }
    };
}
pub(crate) use calls;
