//! Watchers: who is told what, from which revision on, completely and in order.
//!
//! ```text
//! apply ── Hub::publish ──▶ range index ──▶ ring of encoded events
//!                               │ hits          ▲ resolved when sent
//!                               ▼               │
//!                     each stream's queue of references ── Stream::poll_next ──▶ api
//!                               ▲
//! catch-up thread ── Hub::catch_up: history read from a View, in chunks
//! ```
//!
//! An event is encoded once, in a form that serves every watcher (with `prev_kv` last, so that the form
//! without it is a prefix), into a ring bounded in bytes and in events. Streams queue references of 16
//! bytes, bounded too. A watcher whose stream's queue is full, or whose reference outlived the ring, is
//! [`WatcherState::CatchingUp`]: it remembers one revision and reads history from the store, as one does
//! that starts in the past. So the producer never waits, memory is bounded, and no event is lost.
//!
//! What must hold, for each watcher:
//! * its events leave in revision order, none twice, none left out, those of one revision in one batch;
//! * nothing leaves before its `Created`, nothing after its `Canceled`;
//! * a `Progress` of revision R leaves only after all its events up to R.
//!
//! Locks, in the order in which they may be taken together: hub → one stream's queue → ring or list of
//! streams that want history. No lock is held while a view is read by catch-up, nor while wakers are called.
//! Publishing reads previous values under the hub lock; only creating and canceling watchers and asking for
//! progress wait for it, delivering does not.

mod catch_up;
mod event;
mod hub;
mod queue;
mod range_index;
mod ring;
mod store_view;
mod stream;
mod watcher;

#[cfg(test)]
mod fake_store;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod real_store;
#[cfg(test)]
mod tests;

pub use event::{EventBatch, fragments};
pub use hub::{Counters, Hub, HubConfig};
pub use store_view::StoreView;
pub use stream::{CancelReason, Output, Stream};
pub use watcher::{CreateError, Created, Filters, WatchId, WatchSpec, WatchStart, WatcherState};
