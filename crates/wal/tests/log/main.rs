//! The log as a whole, on the in-memory disk: what it gives back, what it makes of damage, and what a power
//! cut at any moment leaves.

#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

mod crash;
mod damage;
mod golden;
mod life;
mod model;
