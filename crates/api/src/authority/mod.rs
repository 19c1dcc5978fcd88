//! A stage between the socket and HTTP/2 that lets old clients in, and sends hasty pingers away.
//!
//! Old clients send an `:authority` that is no authority: etcdctl 3.4.23 and Kubernetes 1.20 put a whole
//! URL there for `Maintenance/Status`, client 3.5.0 sends `#initially=[http://a:2379;…]` with every call.
//! Go serves them; h2 resets the stream before anyone sees the request. So each header block is decoded
//! here. While all authorities are valid, bytes pass untouched, straight into the reader's buffer. From the
//! first bad one on, header blocks are written anew, as literals that use no table, with an authority made
//! good: from then on h2's table is never referred to again, so it cannot fall out of step.
//!
//! The same frames carry pings. hyper answers them but counts none, so grpc-go's policy
//! (`--grpc-keepalive-min-time`) is kept here: see [`ping`].

mod frames;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod hpack;
mod huffman;
mod outgoing;
pub(crate) mod ping;
mod stage;

pub(crate) use stage::MendedStream;
