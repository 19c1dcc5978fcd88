//! What of Go shows through in the input and output of etcd's tools: its notations for numbers, durations
//! and quoted strings, its JSON, its URLs, its words for errors of the system, and the tables of its libraries.

pub mod duration;
pub mod json;
pub mod number;
pub mod quote;
pub mod resolve;
pub mod system_error;
pub mod table;
pub mod url;
