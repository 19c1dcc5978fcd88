//! Threads for work that no put and no get waits for: hashes, copies, snapshots. They leave the processor to
//! those that serve.
//!
//! A low priority alone does not: Linux lets a thread that has a processor keep it for some milliseconds, whoever
//! else wants it. So long work also rests now and then: see [`Rests`].

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::Error;

/// Linux gives such a thread about a tenth of what one that serves gets, when both want the same processor. Not
/// less: it may hold a lock for a moment that the others need.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Work between two rests, and how long a rest lasts: a tenth of the time.
const WORK: Duration = Duration::from_millis(1);
const REST: Duration = Duration::from_micros(100);

/// Pieces of work between two looks at the time.
const PIECES: u32 = 32;

/// Short rests in long work, in which others get the processor.
pub struct Rests {
    pieces: u32,
    since: Instant,
}

impl Rests {
    pub fn begin() -> Rests {
        Rests { pieces: 0, since: Instant::now() }
    }

    /// To be called behind each small piece of work.
    pub fn when_due(&mut self) {
        self.pieces += 1;
        if self.pieces < PIECES {
            return;
        }
        self.pieces = 0;
        if self.since.elapsed() >= WORK {
            thread::sleep(REST);
            self.since = Instant::now();
        }
    }
}

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
