//! What of Go shows through in etcdctl's input and output: its notations for numbers, durations and
//! quoted strings, and its JSON.

pub mod duration;
pub mod json;
pub mod number;
pub mod quote;
