//! Commands and flags in the manner of Go's tools, to the letter of their messages.

pub mod command;
pub mod env;
pub mod flags;
pub mod help;
pub mod parse;
