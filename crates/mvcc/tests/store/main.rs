//! The store against an obvious model, and the behaviours that clients of etcd rely on, one by one.

#![allow(clippy::unwrap_used)] // the lint knows test functions, not their helpers

mod golden;
mod member;
mod model;
mod properties;
