//! One committed entry applied to everything the cluster agrees on: keys, leases, alarms, membership.
//!
//! Every member runs this over the same entries and must come to the same bytes, so nothing here sees a
//! clock, randomness, IO or an unordered map. What an entry changes in the file comes out as data, for
//! the backend to write; what it changes for watchers comes out as changes, for the hub.

mod alarms;
mod command;
mod outcome;
mod state;
mod v2_request;
mod wire;

pub use alarms::{Alarm, AlarmKind, Alarms};
pub use command::{Command, CommandError, Request};
pub use outcome::{DeleteRangeOutcome, OpOutcome, Outcome, PutOutcome, RangeOutcome, TxnOutcome};
pub use state::{ApplyError, Effects, Fatal, State, Write, read_range, read_txn};
pub use wire::{range_query, txn};
