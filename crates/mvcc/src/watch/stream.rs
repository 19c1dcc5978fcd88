//! One client's watch stream, as the api's task holds it.

use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;

use super::event::EventBatch;
use super::hub::Shared;
use super::queue::Queue;
use super::watcher::{CreateError, Created, WatchId, WatchSpec};
use crate::Revision;

/// Created and canceled answers that may wait in one stream; past it the owner stops reading requests.
/// Source: the control channel of etcd `server/etcdserver/api/v3rpc/watch.go` 3.7.
const CONTROL_LEN_MAX: usize = 16;

/// What is to be sent next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// First of its watcher.
    Created(Created),
    Events(EventBatch),
    /// Everything up to `revision` has been sent: to this watcher, or (`None`, −1 on the wire) to all of
    /// the stream.
    Progress {
        watch_id: Option<WatchId>,
        revision: Revision,
    },
    /// Last of its watcher.
    Canceled {
        watch_id: WatchId,
        reason: CancelReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// The client asked; the revision is for the header.
    Requested { revision: Revision },
    /// History it needs is gone. On the wire: `compact_revision` set, no reason, header revision 0.
    Compacted { compact_revision: Revision },
}

/// A stream's half of the queue between it and the hub.
#[derive(Debug)]
pub(super) struct StreamShared {
    /// Of this stream in the hub, for as long as it is open.
    pub(super) index: u32,
    pub(super) queue: Mutex<Queue>,
}

/// A watch stream. Dropping it cancels its watchers.
///
/// Requests never wait for the client. After any of them the owner polls again, as they may have made an
/// output ready. None of the calls blocks on IO; those that change watchers wait for a running publish.
#[derive(Debug)]
pub struct Stream {
    hub: Arc<Shared>,
    shared: Arc<StreamShared>,
}

impl Stream {
    pub(super) fn new(hub: Arc<Shared>, shared: Arc<StreamShared>) -> Stream {
        Stream { hub, shared }
    }

    /// Creates a watcher. `view_revision` is that of the view loaded just before: the hub is told of a
    /// revision a moment after readers can see it, and a watch from "now" must not report it again.
    ///
    /// # Errors
    /// [`CreateError`]: nothing has changed, and the owner tells the client.
    pub fn create(&mut self, spec: WatchSpec, view_revision: Revision) -> Result<Created, CreateError> {
        let created = self.hub.create(&self.shared, spec, view_revision);
        self.hub.list_if_wanted(&self.shared);
        created
    }

    /// Cancels a watcher; what it still had to send is dropped. Nothing happens when there is none.
    pub fn cancel(&mut self, id: WatchId) {
        self.hub.cancel(&self.shared, id);
        // The room of its chunk is another's now.
        self.hub.list_if_wanted(&self.shared);
    }

    /// Queues a progress for the whole stream behind all its events, if every watcher is synced and none
    /// starts in the future; otherwise there is no answer, as in etcd: clients ask again.
    pub fn request_progress(&mut self) {
        self.hub.request_progress(&self.shared);
    }

    /// The api's progress timer has come: queues a progress for each watcher with `progress_notify` that is
    /// synced and was silent since the last call.
    pub fn tick_progress(&mut self) {
        self.hub.tick_progress(&self.shared);
    }

    /// False while so many answers wait to be sent that the owner must not read further requests.
    #[must_use]
    pub fn accepts_requests(&self) -> bool {
        self.shared.queue.lock().control_len() < CONTROL_LEN_MAX
    }

    /// The next output. Pending until something is ready; the waker is woken then, at most once per
    /// publish.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Output> {
        let mut queue = self.shared.queue.lock();
        let output = queue.next_output(&self.hub.ring, &self.hub.config, &self.hub.counts);
        let wants_listing = queue.wants_listing(&self.hub.config);
        let mut old_waker = None;
        if output.is_none() && !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            old_waker = queue.waker.replace(cx.waker().clone());
        }
        drop(queue);
        // Dropping a waker can run anything, so not under the lock.
        drop(old_waker);
        if wants_listing {
            self.hub.list_if_wanted(&self.shared);
        }
        match output {
            Some(output) => Poll::Ready(output),
            None => Poll::Pending,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.hub.close(&self.shared);
    }
}
