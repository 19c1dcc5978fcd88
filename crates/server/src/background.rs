//! Threads for work that no put and no get waits for: hashes, copies, snapshots. They leave the processor to
//! those that serve.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use crate::error::Error;

/// Linux gives such a thread about a tenth of what one that serves gets, when both want the same processor. Not
/// less: it may hold a lock for a moment that the others need.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Runs `work` on a thread of its own.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let work = || {
        give_way();
        work()
    };
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Runs `work` on a thread of its own and waits for what it gives.
pub async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (done, finished) = oneshot::channel();
    let work = move || {
        // Nobody may be waiting any more.
        done.send(work()).ok();
    };
    if let Err(error) = spawn(name, work) {
        tracing::warn!(%error, name, "failed to start a thread");
        return Err(Error::TooManyRequests);
    }
    finished.await.map_err(|_| Error::Stopped)
}

/// For the rest of the calling thread's life; on Linux a priority is a thread's own.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}
