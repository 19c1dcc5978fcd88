//! Waiting for conditions: polled, with a bound, and ended at once by ctrl-C.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::failure::{During, Outcome, fail};

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(40);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Makes ctrl-C and SIGTERM end every wait, so that the run ends by its ordinary way and ends its processes.
pub fn listen_for_interrupts() -> Outcome {
    let flag = INTERRUPTED.get_or_init(|| Arc::new(AtomicBool::new(false)));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).during("listen for signals")?;
    }
    Ok(())
}

pub fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Looks until `condition` gives a value. Its last error text is told when the time is over.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<T, String>) -> Outcome<T> {
    let started = Instant::now();
    loop {
        let last = match condition() {
            Ok(value) => return Ok(value),
            Err(text) => text,
        };
        if interrupted() {
            return fail("interrupted");
        }
        if started.elapsed() > limit {
            return fail(format!("{what}: not within {} s; at last: {last}", limit.as_secs()));
        }
        std::thread::sleep(POLL);
    }
}
