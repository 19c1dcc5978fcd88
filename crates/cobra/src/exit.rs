//! How a command ends when it does not end well. Source of the codes: etcd pkg/cobrautl (3.7.3).

use std::fmt::Display;

pub const ERROR: u8 = 1;
pub const BAD_CONNECTION: u8 = 2;
/// Of a transaction or a watch typed by hand.
pub const INVALID_INPUT: u8 = 3;
/// A known flag with a value that is not supported.
pub const BAD_FEATURE: u8 = 4;
pub const INTERRUPTED: u8 = 5;
pub const BAD_ARGS: u8 = 128;

/// The code, and what is still to be said on stderr.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: u8,
    pub message: Option<String>,
}

pub type Outcome = Result<(), Exit>;

impl Exit {
    pub fn new(code: u8, message: impl Display) -> Exit {
        Exit { code, message: Some(message.to_string()) }
    }

    pub fn error(message: impl Display) -> Exit {
        Exit::new(ERROR, message)
    }

    pub fn bad_args(message: impl Display) -> Exit {
        Exit::new(BAD_ARGS, message)
    }

    /// All was said already.
    pub fn silent(code: u8) -> Exit {
        Exit { code, message: None }
    }
}

/// Whatever a command has no better word for ends it with code 1 and the error's own text.
impl<E: std::error::Error> From<E> for Exit {
    fn from(error: E) -> Exit {
        Exit::error(error)
    }
}
