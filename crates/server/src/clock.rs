//! The member's own clock: monotonic, from its start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lease::Now;

/// What a simulated wall clock begins with, since 1970.
const SIMULATED_EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// Time as the member's threads see it. Clones show the same time.
#[derive(Clone)]
pub struct Clock {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Machine {
        start: Instant,
    },
    /// Nanoseconds; moved by hand.
    Simulated(Arc<AtomicU64>),
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { source: Source::Machine { start: Instant::now() } }
    }
}

impl Clock {
    /// A clock that stands still until [`Clock::advance`], for the simulator.
    pub fn simulated() -> Clock {
        Clock { source: Source::Simulated(Arc::default()) }
    }

    /// Moves a simulated clock forward.
    ///
    /// # Panics
    /// When it is the machine's clock.
    pub fn advance(&self, by: Duration) {
        match &self.source {
            Source::Machine { .. } => panic!("the machine's clock moves by itself"),
            Source::Simulated(nanos) => nanos.fetch_add(by.as_nanos() as u64, Ordering::Relaxed),
        };
    }

    pub fn is_simulated(&self) -> bool {
        matches!(self.source, Source::Simulated(_))
    }

    pub fn elapsed(&self) -> Duration {
        match &self.source {
            Source::Machine { start } => start.elapsed(),
            Source::Simulated(nanos) => Duration::from_nanos(nanos.load(Ordering::Relaxed)),
        }
    }

    /// The wall clock since 1970, for ids and for what people read.
    pub fn unix_time(&self) -> Duration {
        match &self.source {
            Source::Machine { .. } => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Source::Simulated(_) => SIMULATED_EPOCH + self.elapsed(),
        }
    }

    pub fn now(&self) -> Now {
        Now(self.elapsed())
    }
}
