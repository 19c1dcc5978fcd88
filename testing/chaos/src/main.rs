//! Clusters of real etcd processes under faults and load, and checkers for every answer they gave.
#![allow(dead_code)]

mod evidence;
mod failure;
mod finding;
mod hash_check;
mod history;
mod lease_bound;
mod linearizable;
mod model;
mod operation;
mod real_time;
#[cfg(test)]
mod synthetic;
mod watch_check;

fn main() {}
