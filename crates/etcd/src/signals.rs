//! SIGTERM and SIGINT: asked to stop, a member stops cleanly and then ends by that very signal, so that
//! whoever sent it sees it in the exit status.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Interrupt,
    Terminate,
}

impl Ending {
    /// Go's name of the signal, which the log shows.
    pub fn name(self) -> &'static str {
        match self {
            Ending::Interrupt => "interrupt",
            Ending::Terminate => "terminated",
        }
    }

    /// Ends the process: with 0 when it is the first of its system, which no signal can kill, and by the
    /// signal otherwise.
    pub fn end(self) -> ! {
        if std::process::id() == 1 {
            std::process::exit(0);
        }
        let number = match self {
            Ending::Interrupt => SIGINT,
            Ending::Terminate => SIGTERM,
        };
        let _ = signal_hook::low_level::emulate_default_handler(number);
        // Only reached when the signal could not be raised.
        std::process::exit(128 + number);
    }
}

/// From its creation on, the two signals no longer end the process.
pub struct Endings {
    interrupt: Signal,
    terminate: Signal,
}

impl Endings {
    pub fn listen() -> io::Result<Endings> {
        Ok(Endings {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub async fn next(&mut self) -> Ending {
        tokio::select! {
            _ = self.interrupt.recv() => Ending::Interrupt,
            _ = self.terminate.recv() => Ending::Terminate,
        }
    }
}
