//! Who waits for which proposal.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Callers that wait for a request id to be applied. The apply thread answers; a caller that gives up
/// takes itself out.
pub struct Waiters<T> {
    by_id: Mutex<HashMap<u64, oneshot::Sender<T>>>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Waiters<T> {
        Waiters { by_id: Mutex::new(HashMap::new()) }
    }
}

impl<T> Waiters<T> {
    pub fn register(&self, id: u64) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let earlier = self.by_id.lock().insert(id, sender);
        assert!(earlier.is_none(), "request id {id:x} drawn twice");
        receiver
    }

    /// Whether anyone here waits for `id`: if not, this member need not work out the answer.
    pub fn is_awaited(&self, id: u64) -> bool {
        self.by_id.lock().contains_key(&id)
    }

    pub fn answer(&self, id: u64, answer: T) {
        if let Some(sender) = self.by_id.lock().remove(&id) {
            // A caller that has just given up has nobody left to tell.
            sender.send(answer).ok();
        }
    }

    pub fn forget(&self, id: u64) {
        self.by_id.lock().remove(&id);
    }

    pub fn count(&self) -> usize {
        self.by_id.lock().len()
    }

    /// Drops every caller: their receivers report that the server stopped.
    pub fn clear(&self) {
        self.by_id.lock().clear();
    }
}
