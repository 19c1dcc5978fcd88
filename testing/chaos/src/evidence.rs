//! What watchers and answers show of the store's history, before anything is judged.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::history::{Notice, WatchRecord};
use crate::operation::{Event, Micros, Operation, Revision};

/// The changes of each revision as watchers of the whole key space were told them.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// One entry if all agree. None of the events says what was there before.
    told: BTreeMap<Revision, Vec<Vec<Event>>>,
    /// Changes that watchers of a part were told, as bare.
    glimpsed: BTreeMap<Revision, Vec<Event>>,
    /// When a watcher heard of which revision.
    heard: Vec<(Micros, Revision)>,
}

impl Evidence {
    pub fn of<'a>(watches: impl IntoIterator<Item = &'a [WatchRecord]>) -> Evidence {
        let mut evidence = Evidence::default();
        for watch in watches {
            let mut sees_all = false;
            for record in watch {
                match &record.notice {
                    Notice::Opened { span, deletes, .. } => sees_all = span.is_everything() && *deletes,
                    Notice::Events { events, .. } => evidence.hear(record.at, events, sees_all),
                    _ => {}
                }
            }
        }
        evidence
    }

    fn hear(&mut self, at: Micros, events: &[Event], is_whole: bool) {
        if let Some(last) = events.last() {
            self.heard.push((at, last.kv.mod_revision));
        }
        if !is_whole {
            for event in events {
                let glimpsed = self.glimpsed.entry(event.kv.mod_revision).or_default();
                let bare = event.bare();
                if !glimpsed.contains(&bare) {
                    glimpsed.push(bare);
                }
            }
            return;
        }
        for group in events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
            let bare: Vec<Event> = group.iter().map(Event::bare).collect();
            let variants = self.told.entry(group[0].kv.mod_revision).or_default();
            if !variants.contains(&bare) {
                variants.push(bare);
            }
        }
    }

    /// What watchers say happened at this revision; nothing if none of them got that far.
    pub fn at(&self, revision: Revision) -> &[Vec<Event>] {
        self.told.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// Whether these changes are what a watcher says; also if none says anything.
    pub fn allows(&self, revision: Revision, events: &[Event]) -> bool {
        let variants = self.at(revision);
        variants.is_empty()
            || variants.iter().any(|told| {
                told.len() == events.len() && told.iter().zip(events).all(|(a, b)| *a == b.bare())
            })
    }

    /// Whether these changes include all that watchers of a part saw.
    pub fn includes_glimpses(&self, revision: Revision, events: &[Event]) -> bool {
        let glimpsed = self.glimpsed.get(&revision).into_iter().flatten();
        glimpsed.into_iter().all(|glimpse| events.iter().any(|event| event.bare() == *glimpse))
    }

    pub fn last(&self) -> Revision {
        self.told.last_key_value().map_or(0, |(revision, _)| *revision)
    }

    /// Revisions that are not the same to all watchers.
    pub fn disagreements(&self) -> Vec<Finding> {
        let torn = self.told.iter().filter(|(_, variants)| variants.len() > 1);
        torn.map(|(revision, variants)| {
            let what = format!("watchers were told different changes of revision {revision}: {variants:?}");
            Finding::new("one history", what).at(*revision)
        })
        .collect()
    }
}

/// When which revision was first seen by anybody: the real-time order in one curve.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    /// Ascending in both.
    steps: Vec<(Micros, Revision)>,
}

impl Sightings {
    pub fn of(operations: &[Operation], evidence: &Evidence) -> Sightings {
        let answered = operations.iter().filter_map(|operation| {
            let (revision, _) = operation.answered()?;
            Some((operation.finished, revision))
        });
        let mut all: Vec<(Micros, Revision)> = answered.chain(evidence.heard.iter().copied()).collect();
        all.sort_unstable();
        let mut steps: Vec<(Micros, Revision)> = Vec::new();
        for (at, revision) in all {
            if steps.last().is_none_or(|(_, highest)| revision > *highest) {
                steps.push((at, revision));
            }
        }
        Sightings { steps }
    }

    /// The highest revision that somebody had seen before this moment.
    pub fn before(&self, moment: Micros) -> Revision {
        let count = self.steps.partition_point(|(at, _)| *at < moment);
        count.checked_sub(1).map_or(0, |last| self.steps[last].1)
    }

    /// When somebody first saw this revision, or one behind it.
    pub fn first_of(&self, revision: Revision) -> Option<Micros> {
        let index = self.steps.partition_point(|(_, seen)| *seen < revision);
        self.steps.get(index).map(|(at, _)| *at)
    }

    pub fn last(&self) -> Revision {
        self.steps.last().map_or(0, |(_, revision)| *revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sightings_rise() {
        let heard = vec![(50, 9), (10, 3), (20, 2), (30, 5)];
        let evidence = Evidence { heard, ..Evidence::default() };
        let sightings = Sightings::of(&[], &evidence);
        let seen = [10, 11, 25, 30, 31, 90].map(|moment| sightings.before(moment));
        assert_eq!(seen, [0, 3, 3, 3, 5, 9], "what is seen at the very moment is not before it");
        let first = [1, 3, 4, 5, 9, 10].map(|revision| sightings.first_of(revision));
        assert_eq!(first, [Some(10), Some(10), Some(30), Some(30), Some(50), None]);
    }
}
