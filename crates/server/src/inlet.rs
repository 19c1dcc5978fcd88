//! The way into a stage of the pipeline, and who takes its turns.
//!
//! Each stage has a queue and a thread. Waking a thread costs more than most turns, so whoever has put something
//! into the queue may take the turn itself while nobody else does: a lone request then passes several stages
//! on one thread, and a stage that is busy gathers what comes, as before. In a simulation no stage is seated, and
//! an inlet is its queue.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::shared::Flow;

/// Turns that one caller takes, as others put in more meanwhile, before it leaves the rest to the stage's thread.
const TURNS_HERE_MAX: usize = 3;

/// A stage of the pipeline. It holds the other end of its queue.
pub trait TakesTurns: Send {
    type Input: Send;

    /// Takes what waits, and does what is due. Does not wait for more.
    fn turn(&mut self) -> Flow;

    /// After how long the next turn is due although nothing comes; `None` when only an input makes one due.
    fn idle_for(&self) -> Option<Duration>;

    /// What is left to do after the last turn.
    fn end(self);
}

/// The stage has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// The way into one stage. Clones lead to the same.
pub struct Inlet<S: TakesTurns> {
    queue: Sender<S::Input>,
    seat: Arc<Seat<S>>,
}

struct Seat<S> {
    /// Whoever holds it takes the turns. `None` before the thread has begun and after the stage has ended.
    stage: Mutex<Option<S>>,
    thread: OnceLock<Thread>,
    /// Somebody will look after the queue in a moment, so that the thread need not be woken.
    is_claimed: AtomicBool,
    /// When the thread last held the stage nothing was to become due, so it sleeps until it is woken. Written
    /// and read by whoever holds the stage.
    sleeps_long: AtomicBool,
}

impl<S: TakesTurns> Clone for Inlet<S> {
    fn clone(&self) -> Inlet<S> {
        Inlet { queue: self.queue.clone(), seat: self.seat.clone() }
    }
}

impl<S: TakesTurns> Inlet<S> {
    pub fn new(queue: Sender<S::Input>) -> Inlet<S> {
        let seat = Seat {
            stage: Mutex::new(None),
            thread: OnceLock::new(),
            is_claimed: AtomicBool::new(false),
            sleeps_long: AtomicBool::new(false),
        };
        Inlet { queue, seat: Arc::new(seat) }
    }

    /// Puts an input in, and has the stage's thread take it.
    pub fn send(&self, input: S::Input) -> Result<(), Ended> {
        self.put(input)?;
        self.wake();
        Ok(())
    }

    /// Puts an input in. Something must follow: [`Inlet::wake`] or [`Inlet::turn_here`].
    pub fn put(&self, input: S::Input) -> Result<(), Ended> {
        self.queue.send(input).map_err(|_| Ended)
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Has the stage's thread take what waits.
    pub fn wake(&self) {
        // Between the caller's input and the look: see `turn_here`, and the end of a claim.
        fence(Ordering::SeqCst);
        if !self.seat.is_claimed.load(Ordering::Relaxed) {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(thread) = self.seat.thread.get() {
            thread.unpark();
        }
    }

    /// Takes the stage's turn on this thread. When another thread is at it, that one sees what waits.
    pub fn turn_here(&self) {
        for _ in 0..TURNS_HERE_MAX {
            // Either this thread gets the seat, or whoever holds it looks at the queue after giving it up.
            fence(Ordering::SeqCst);
            let Some(mut seat) = self.seat.stage.try_lock() else { return };
            let Some(stage) = seat.as_mut() else { return };
            if stage.turn() == Flow::Stop {
                end(&mut seat);
                return self.unpark();
            }
            // What this turn has begun goes on by itself: the thread must learn when it is due.
            if stage.idle_for().is_some() && self.seat.sleeps_long.load(Ordering::Relaxed) {
                self.unpark();
            }
            drop(seat);
            fence(Ordering::SeqCst);
            if self.is_empty() {
                return;
            }
        }
        self.wake();
    }

    /// Keeps the stage's thread asleep until the claim ends, for somebody who may take the turn then.
    pub fn claim(&self) -> Claim<'_, S> {
        self.seat.is_claimed.store(true, Ordering::SeqCst);
        Claim { inlet: self }
    }

    /// The stage's thread: takes turns until the stage has ended.
    pub fn run(&self, stage: S) {
        self.seat.thread.set(thread::current()).expect("a stage has one thread");
        *self.seat.stage.lock() = Some(stage);
        while let Some(idle) = self.turn_of_thread() {
            fence(Ordering::SeqCst);
            if !self.is_empty() {
                continue;
            }
            match idle {
                Some(Duration::ZERO) => {}
                Some(idle) => thread::park_timeout(idle),
                None => thread::park(),
            }
        }
    }

    /// `None` once the stage has ended; else after how long the next turn is due.
    fn turn_of_thread(&self) -> Option<Option<Duration>> {
        let mut seat = self.seat.stage.lock();
        let stage = seat.as_mut()?;
        if stage.turn() == Flow::Continue {
            let idle = stage.idle_for();
            self.seat.sleeps_long.store(idle.is_none(), Ordering::Relaxed);
            return Some(idle);
        }
        end(&mut seat);
        None
    }
}

fn end<S: TakesTurns>(seat: &mut Option<S>) {
    seat.take().expect("it has just taken a turn").end();
}

/// A promise to look after a stage's queue: see [`Inlet::claim`].
pub struct Claim<'a, S: TakesTurns> {
    inlet: &'a Inlet<S>,
}

impl<S: TakesTurns> Claim<'_, S> {
    /// Takes the stage's turn, if something waits.
    pub fn turn_here(self) {
        let inlet = self.inlet;
        self.end();
        if !inlet.is_empty() {
            inlet.turn_here();
        }
    }

    fn end(&self) {
        self.inlet.seat.is_claimed.store(false, Ordering::SeqCst);
        // Whoever put something in before this either saw the claim, and it is there now, or wakes the thread.
        fence(Ordering::SeqCst);
    }
}

/// Leaves the turn to the stage's thread.
impl<S: TakesTurns> Drop for Claim<'_, S> {
    fn drop(&mut self) {
        self.end();
        if !self.inlet.is_empty() {
            self.inlet.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::thread::ThreadId;

    use crossbeam_channel::{Receiver, unbounded};

    use super::*;

    /// Gives three further turns something to do.
    const LONG: u64 = u64::MAX;

    /// Adds up its inputs; 0 stops it.
    struct Sum {
        left: u64,
        queue: Receiver<u64>,
        sum: Arc<AtomicU64>,
        taken_by: Arc<Mutex<Option<ThreadId>>>,
    }

    impl TakesTurns for Sum {
        type Input = u64;

        fn turn(&mut self) -> Flow {
            if self.left > 0 {
                self.left -= 1;
                self.sum.fetch_add(1, Ordering::Relaxed);
            }
            while let Ok(input) = self.queue.try_recv() {
                *self.taken_by.lock() = Some(thread::current().id());
                if input == 0 {
                    return Flow::Stop;
                }
                if input == LONG {
                    self.left = 3;
                    continue;
                }
                self.sum.fetch_add(input, Ordering::Relaxed);
            }
            Flow::Continue
        }

        fn idle_for(&self) -> Option<Duration> {
            (self.left > 0).then_some(Duration::ZERO)
        }

        fn end(self) {
            self.sum.fetch_add(1_000_000_000, Ordering::Relaxed);
        }
    }

    fn stage() -> (Inlet<Sum>, Sum) {
        let (sender, queue) = unbounded();
        (Inlet::new(sender), Sum { left: 0, queue, sum: Arc::default(), taken_by: Arc::default() })
    }

    #[test]
    fn every_input_is_taken_whoever_takes_the_turn() {
        const EACH: u64 = 20_000;
        let (inlet, stage) = stage();
        let sum = stage.sum.clone();
        let its_thread = inlet.clone();
        let thread = thread::spawn(move || its_thread.run(stage));
        let senders: Vec<_> = (0..4)
            .map(|number| {
                let inlet = inlet.clone();
                thread::spawn(move || {
                    for input in 1..=EACH {
                        inlet.put(input).unwrap();
                        match (input + number) % 3 {
                            0 => inlet.wake(),
                            1 => inlet.turn_here(),
                            2 if input % 2 == 0 => inlet.claim().turn_here(),
                            _ => drop(inlet.claim()),
                        }
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        // Nothing more comes: what was put in last must not wait for a later wake-up.
        while sum.load(Ordering::Relaxed) < 4 * EACH * (EACH + 1) / 2 {
            thread::yield_now();
        }
        inlet.send(0).unwrap();
        thread.join().unwrap();
        assert_eq!(sum.load(Ordering::Relaxed), 4 * EACH * (EACH + 1) / 2 + 1_000_000_000);
        assert_eq!(inlet.put(1), Err(Ended));
    }

    #[test]
    fn the_caller_takes_the_turn_of_a_free_stage() {
        let (inlet, stage) = stage();
        let taken_by = stage.taken_by.clone();
        *inlet.seat.stage.lock() = Some(stage);
        inlet.put(1).unwrap();
        inlet.turn_here();
        assert_eq!(taken_by.lock().take(), Some(thread::current().id()));
        let claim = inlet.claim();
        let other = inlet.clone();
        thread::spawn(move || other.send(1)).join().unwrap().unwrap();
        claim.turn_here();
        assert_eq!(taken_by.lock().take(), Some(thread::current().id()));
        inlet.put(0).unwrap();
        inlet.turn_here();
        assert_eq!(inlet.put(1), Err(Ended));
    }
    #[test]
    fn the_thread_goes_on_with_what_a_caller_has_begun() {
        let (inlet, stage) = stage();
        let sum = stage.sum.clone();
        let its_thread = inlet.clone();
        let thread = thread::spawn(move || its_thread.run(stage));
        while !inlet.seat.sleeps_long.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        inlet.put(LONG).unwrap();
        inlet.turn_here();
        // Nobody calls again.
        while sum.load(Ordering::Relaxed) < 3 {
            thread::yield_now();
        }
        inlet.send(0).unwrap();
        thread.join().unwrap();
    }
}
