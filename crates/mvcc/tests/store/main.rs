//! The store against an obvious model, and the behaviours that clients of etcd rely on, one by one.

mod golden;
mod member;
mod model;
mod properties;
