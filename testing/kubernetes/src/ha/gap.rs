//! The figure that the run is about: the longest time in which no write was acknowledged by anyone.

use std::time::Duration;

/// One fault.
#[derive(Clone)]
pub struct Gap {
    pub fault: String,
    /// Without one acknowledged write over all masters.
    pub all: Duration,
    /// Without one acknowledged write through each of the masters alone.
    pub each: Vec<Duration>,
    /// The longest that one write took whose client waits as long as the API server lets it, at a master that
    /// was not struck itself.
    pub patient: Duration,
    pub patient_story: String,
    /// Writes that were answered by an error or by nothing.
    pub refused: usize,
    /// The longest that a thread of ours which does nothing was kept from doing it: what is shorter than this
    /// says nothing of etcd.
    pub stall: Duration,
}

/// One run's table.
pub fn table(gaps: &[Gap]) -> String {
    let mut lines = vec![format!(
        "{:44} {:>8}  {:>23}  {:>8}  {:>7}  {:>6}",
        "fault", "no write", "through each master", "longest", "refused", "stall"
    )];
    for gap in gaps {
        let each: Vec<String> = gap.each.iter().map(|gap| secs(*gap)).collect();
        lines.push(format!(
            "{:44} {:>8}  {:>23}  {:>8}  {:>7}  {:>6}",
            gap.fault,
            secs(gap.all),
            each.join(" "),
            secs(gap.patient),
            gap.refused,
            secs(gap.stall)
        ));
    }
    lines.push(
        "seconds; no write: longest time without one acknowledged write; longest: one write of a client that waits"
            .to_owned(),
    );
    lines.join("\n")
}

/// Both runs' longest times without a write, side by side.
pub fn side_by_side(reference: &[Gap], ours: &[Gap]) -> String {
    let mut lines = vec![format!(
        "{:44} {:>11} {:>8}   {:>13} {:>8}",
        "fault", "etcd 3.7.3", "Kelson", "longest: etcd", "Kelson"
    )];
    for gap in reference {
        let other = ours.iter().find(|other| other.fault == gap.fault);
        let of = |value: fn(&Gap) -> Duration| other.map_or("-".to_owned(), |gap| secs(value(gap)));
        lines.push(format!(
            "{:44} {:>11} {:>8}   {:>13} {:>8}",
            gap.fault,
            secs(gap.all),
            of(|gap| gap.all),
            secs(gap.patient),
            of(|gap| gap.patient)
        ));
    }
    lines
        .push("seconds without one acknowledged write; longest: one write of a client that waits".to_owned());
    lines.join("\n")
}

pub fn secs(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}
