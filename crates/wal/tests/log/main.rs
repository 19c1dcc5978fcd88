//! The log as a whole, on the in-memory disk: what it gives back, what it makes of damage, and what a power
//! cut at any moment leaves.

mod crash;
mod damage;
mod golden;
mod life;
mod model;
