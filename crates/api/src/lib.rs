//! The edge that clients meet: gRPC, health, metrics and TLS on one port.
//!
//! **No gRPC framework on the server side.** The behaviours of grpc-go are part of etcd's contract:
//! its texts and codes for oversized and unreadable messages, unknown methods and encodings, its
//! byte counters, its ping policy. A generic framework has its own ideas about all of these, and it
//! wants whole messages to encode, where our answers are written from records that are encoded
//! already. So [`grpc`] is a thin layer of our own over hyper's HTTP/2.
//!
//! A connection passes, from the socket inwards: [`transport::Security`] (TLS, if any), `authority` (mends
//! header blocks of old clients, counts pings), hyper, `mux` (gRPC or HTTP), `grpc` or `http`,
//! `service`, and then [`server::Server`].

mod authority;
pub mod config;
mod connection;
mod edge;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grpc;
mod http;
mod service;

pub use config::ApiConfig;
pub use edge::{BindError, BoundAddress, Edge};

#[cfg(test)]
mod loopback_tests;
