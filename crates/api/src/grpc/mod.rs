//! gRPC over hyper's HTTP/2, with grpc-go's behaviour at every edge a client can see.
//!
//! A call comes in as an HTTP request, [`router::Router`] finds its method, `inbound` cuts messages out
//! of the body within the receive limit, a handler answers with [`message::Message`]s, and `body`
//! streams them out in pieces, paced by the client's flow control, with the status as trailers.

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod framing;
mod inbound;
pub(crate) mod message;
pub(crate) mod metrics;
pub(crate) mod router;
pub(crate) mod status;
mod timeout;

pub(crate) use body::Body;
pub(crate) use call::Call;
pub(crate) use inbound::Inbound;
pub(crate) use message::Message;
pub(crate) use router::{Outbound, Router};
pub(crate) use status::{Code, Status};
