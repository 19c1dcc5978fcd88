//! Keeping a lease alive.

use std::time::Duration;

use http::uri::PathAndQuery;
use proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::call::clean;
use crate::watch::ReceiverStream;
use crate::{Client, Error};

/// Pause before a lost stream is opened again. Source: client/v3/lease.go.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";

/// Renews one lease each third of its time to live, for as long as [`KeepAlive::next`] is called.
pub struct KeepAlive {
    client: Client,
    id: i64,
    stream: Option<Exchange>,
    /// When the next renewal is due; at once at first.
    due: Instant,
    /// When the lease ends unless it is renewed before.
    deadline: Instant,
}

struct Exchange {
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    responses: Streaming<LeaseKeepAliveResponse>,
}

impl Client {
    /// Renews the lease once. An unknown lease is an error.
    pub async fn lease_keep_alive_once(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        let deadline = self.deadline();
        self.within(deadline, async {
            loop {
                match self.exchange(id).await {
                    Ok(response) if response.ttl <= 0 => {
                        return Err(Status::not_found(LEASE_NOT_FOUND).into());
                    }
                    Ok(response) => return Ok(response),
                    Err(Error::Rpc(status)) if may_retry(&status) => {}
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(crate::retry::PAUSE).await;
            }
        })
        .await
    }

    /// Keeps the lease alive; nothing is sent before the first [`KeepAlive::next`].
    pub fn lease_keep_alive(&self, id: i64) -> KeepAlive {
        let now = Instant::now();
        // Until the first answer nobody knows the time to live. Source: client/v3/lease.go.
        let deadline = now + self.config().dial_timeout.max(Duration::from_secs(4)) + Duration::from_secs(1);
        KeepAlive { client: self.clone(), id, stream: None, due: now, deadline }
    }

    async fn exchange(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        let mut exchange = self.open_keep_alive(id).await?;
        receive(&mut exchange).await
    }

    /// Opens a stream with the first renewal already in it: a member answers nothing, not even that
    /// the stream is open, before it has one.
    async fn open_keep_alive(&self, id: i64) -> Result<Exchange, Error> {
        self.log_in().await?;
        let (requests, receiver) = mpsc::channel(4);
        send(&requests, id)?;
        let codec = ProstCodec::<LeaseKeepAliveRequest, LeaseKeepAliveResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
        let request = self.request(ReceiverStream(receiver));
        let response = self.grpc().streaming(request, path, codec).await.map_err(clean)?;
        Ok(Exchange { requests, responses: response.into_inner() })
    }
}

impl KeepAlive {
    /// Waits until the next renewal is due, and renews; `None` once the lease is gone.
    pub async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Error> {
        loop {
            tokio::time::sleep_until(self.due).await;
            let outcome = match tokio::time::timeout_at(self.deadline, self.renew()).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(None),
            };
            match outcome {
                Ok(response) if response.ttl <= 0 => return Ok(None),
                Ok(response) => {
                    let ttl = Duration::from_secs(u64::try_from(response.ttl).unwrap_or(0));
                    self.due = Instant::now() + ttl / 3;
                    self.deadline = Instant::now() + ttl;
                    return Ok(Some(response));
                }
                // Any other end of the stream is tried again until the lease must be gone.
                Err(_) if Instant::now() >= self.deadline => return Ok(None),
                Err(_) => {
                    self.stream = None;
                    self.due = Instant::now() + RECONNECT_PAUSE;
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<LeaseKeepAliveResponse, Error> {
        match &mut self.stream {
            Some(exchange) => {
                send(&exchange.requests, self.id)?;
                receive(exchange).await
            }
            none => receive(none.insert(self.client.open_keep_alive(self.id).await?)).await,
        }
    }
}

fn send(requests: &mpsc::Sender<LeaseKeepAliveRequest>, id: i64) -> Result<(), Error> {
    let sent = requests.try_send(LeaseKeepAliveRequest { id });
    sent.map_err(|_| Status::unavailable("lease stream ended").into())
}

async fn receive(exchange: &mut Exchange) -> Result<LeaseKeepAliveResponse, Error> {
    let response = exchange.responses.message().await.map_err(clean)?;
    response.ok_or_else(|| Status::unavailable("lease stream ended").into())
}

fn may_retry(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Internal)
}
