//! Deliberate lies between the members and the record, to see the checkers find them: `--lie`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::operation::{Answer, Call, Event, Outcome};

/// What is falsified; one thing in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Linearizable reads are served from whatever the asked member has.
    StaleReads,
    /// One put in some hundreds is called done and never sent.
    LosePut,
    /// A watcher is not told of one event.
    DropEvent,
    /// A watcher is told one event twice.
    RepeatEvent,
}

pub const LIES: [(&str, Lie); 4] = [
    ("stale-reads", Lie::StaleReads),
    ("lose-put", Lie::LosePut),
    ("drop-event", Lie::DropEvent),
    ("repeat-event", Lie::RepeatEvent),
];

/// The put that is lost, and the response of a watch that is falsified, by number.
const VICTIM: u64 = 400;

#[derive(Default)]
pub struct Liar {
    lie: Option<Lie>,
    puts: AtomicU64,
    responses: AtomicU64,
}

impl Liar {
    pub fn new(lie: Option<Lie>) -> Liar {
        Liar { lie, ..Liar::default() }
    }

    /// What is sent in place of the call.
    pub fn changes_call(&self, call: &Call) -> Option<Call> {
        match (self.lie?, call) {
            (Lie::StaleReads, Call::Range(range)) => {
                let mut range = range.clone();
                range.serializable = true;
                Some(Call::Range(range))
            }
            (Lie::LosePut, Call::Put(put)) if self.puts.fetch_add(1, Ordering::SeqCst) == VICTIM => {
                // A read in place of the put; what it says becomes the acknowledgement.
                let span = crate::operation::Span::one(put.key.clone());
                Some(Call::Range(crate::operation::Range::of(span)))
            }
            _ => None,
        }
    }

    pub fn changes_outcome(&self, call: &Call, outcome: &mut Outcome) {
        let (Some(Lie::LosePut), Call::Put(_), Outcome::Answered { revision, answer }) =
            (self.lie, call, outcome)
        else {
            return;
        };
        if matches!(answer, Answer::Range { .. }) {
            *revision += 1;
            *answer = Answer::Put { prev: None };
        }
    }

    /// Falsifies the events of a response.
    pub fn changes_events(&self, events: &mut Vec<Event>) {
        let (Some(lie @ (Lie::DropEvent | Lie::RepeatEvent)), [.., last]) = (self.lie, &events[..]) else {
            return;
        };
        let last = last.clone();
        if self.responses.fetch_add(1, Ordering::SeqCst) != VICTIM {
            return;
        }
        match lie {
            Lie::DropEvent => {
                events.pop();
            }
            _ => events.push(last),
        }
    }
}
