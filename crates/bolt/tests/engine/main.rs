//! The engine against an obvious model, against power cuts, and against damaged files.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod concurrent;
mod copies;
mod crash;
mod faults;
mod hostile;
mod model;
mod random;
