//! A word now and then about long work, for a person who watches. Each is a line of its own, as the output may
//! go through a terminal into a file.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use golang::number::human_bytes;

use crate::log::{self, Level, Value};

/// Short work passes without a word.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells of work until it is dropped.
pub struct Progress {
    shared: Arc<Shared>,
    teller: Option<JoinHandle<()>>,
}

struct Shared {
    what: &'static str,
    done_bytes: AtomicU64,
    /// 0 when it is not known.
    total_bytes: u64,
    is_over: Mutex<bool>,
    over: Condvar,
}

impl Progress {
    /// Begins to tell, on a terminal. `total_bytes` is 0 when there is nothing to count.
    pub fn of(what: &'static str, total_bytes: u64) -> Progress {
        let shared = Arc::new(Shared {
            what,
            done_bytes: AtomicU64::new(0),
            total_bytes,
            is_over: Mutex::new(false),
            over: Condvar::new(),
        });
        let teller = std::io::stderr().is_terminal().then(|| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.tell())
        });
        Progress { shared, teller }
    }

    pub fn set(&self, done_bytes: u64) {
        self.shared.done_bytes.store(done_bytes, Ordering::Relaxed);
    }
}

impl Shared {
    fn tell(&self) {
        let started = Instant::now();
        let mut is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let waited = self.over.wait_timeout(is_over, INTERVAL).unwrap_or_else(PoisonError::into_inner);
            is_over = waited.0;
            if *is_over {
                return;
            }
            let mut fields = vec![("elapsed", Value::text(format!("{}s", started.elapsed().as_secs())))];
            if self.total_bytes > 0 {
                fields.push(("done", Value::text(human_bytes(self.done_bytes.load(Ordering::Relaxed)))));
                fields.push(("total", Value::text(human_bytes(self.total_bytes))));
            }
            log::line(Level::Info, "progress.rs", self.what, &fields);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        *self.shared.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.over.notify_all();
        if let Some(teller) = self.teller.take() {
            teller.join().ok();
        }
    }
}
