//! How long nobody could write: the longest gap between acknowledged writes around each fault.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::history::{FaultRecord, Record};
use crate::operation::Micros;

/// What comes so long after a fault is still due to it, unless the next fault comes first. Microseconds.
const AFTERMATH: Micros = 15_000_000;

/// Gaps in microseconds, by kind of fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(BTreeMap<String, Vec<Micros>>);

impl Gaps {
    pub fn of(records: &[Record]) -> Gaps {
        let mut writes: Vec<Micros> = records.iter().filter_map(acknowledged_write).collect();
        writes.sort_unstable();
        let enough = records.iter().find_map(enough).unwrap_or(Micros::MAX);
        let faults: Vec<&FaultRecord> = records.iter().filter_map(fault).collect();
        let mut gaps = Gaps::default();
        for (index, fault) in faults.iter().enumerate() {
            let next = faults.get(index + 1).map_or(enough, |next| next.from);
            let end = next.min(fault.healed.saturating_add(AFTERMATH));
            gaps.0.entry(fault.kind.clone()).or_default().push(longest(&writes, fault.from, end));
        }
        gaps
    }

    pub fn add(&mut self, other: Gaps) {
        for (kind, gaps) in other.0 {
            self.0.entry(kind).or_default().extend(gaps);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut table =
            format!("{:<32} {:>5} {:>10} {:>10}\n", "longest gap between writes", "times", "median", "most");
        for (kind, gaps) in &self.0 {
            let mut gaps = gaps.clone();
            gaps.sort_unstable();
            let (median, most) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
            let seconds = |micros: Micros| micros as f64 / 1e6;
            // Writing to a string cannot fail.
            let _fine = writeln!(
                table,
                "{kind:<32} {:>5} {:>8.2} s {:>8.2} s",
                gaps.len(),
                seconds(median),
                seconds(most)
            );
        }
        table
    }
}

fn acknowledged_write(record: &Record) -> Option<Micros> {
    match record {
        Record::Operation(operation) if operation.call.may_write() => {
            operation.answered().map(|_| operation.finished)
        }
        _ => None,
    }
}

/// From here on the silence is the clients' own.
fn enough(record: &Record) -> Option<Micros> {
    match record {
        Record::Enough(enough) => Some(enough.at),
        _ => None,
    }
}

fn fault(record: &Record) -> Option<&FaultRecord> {
    match record {
        Record::Fault(fault) => Some(fault),
        _ => None,
    }
}

/// The longest time without a write that touches the window. What goes on behind it is not counted: it may be
/// due to the next fault.
fn longest(writes: &[Micros], from: Micros, end: Micros) -> Micros {
    let before = writes.partition_point(|at| *at < from).saturating_sub(1);
    let within = writes[before..].windows(2).take_while(|pair| pair[0] < end);
    within.map(|pair| pair[1].min(end) - pair[0]).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_that_touch_the_window_count() {
        let writes = [10, 20, 90, 100, 400, 410];
        assert_eq!(longest(&writes, 50, 95), 70, "it began before the fault");
        assert_eq!(longest(&writes, 50, 200), 100, "it began in the window and ended later");
        assert_eq!(longest(&writes, 50, 1_000), 300);
        assert_eq!(longest(&writes, 405, 500), 10);
        assert_eq!(longest(&writes, 500, 600), 0);
    }
}
