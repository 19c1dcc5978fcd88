//! The engine against an obvious model, against power cuts, and against damaged files.

mod copies;
mod crash;
mod faults;
mod hostile;
mod model;
mod random;
