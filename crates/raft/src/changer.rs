//! The algebra of configuration changes: from one configuration to the next, all at once or not at all.
//!
//! A change works on copies and returns them, so that a refused change leaves nothing behind.

use crate::conf_change::{ConfChangeSingle, ConfChangeStep, ConfChangeType, ConfChangeV2};
use crate::conf_state::ConfState;
use crate::error::ConfChangeError;
use crate::position::{Index, NodeId};
use crate::progress::Progress;
use crate::quorum::MajorityConfig;
use crate::tracker::{Configuration, InflightLimits, ProgressMap, Tracker};

/// A configuration under construction, with the progress that belongs to it.
pub(crate) struct Changer {
    config: Configuration,
    progress: ProgressMap,
    limits: InflightLimits,
    last_index: Index,
}

impl Changer {
    pub fn new(tracker: &Tracker, last_index: Index) -> Changer {
        Changer {
            config: tracker.config.clone(),
            progress: tracker.progress.clone(),
            limits: tracker.limits,
            last_index,
        }
    }

    /// From nothing to what a snapshot describes.
    pub fn restore(
        limits: InflightLimits,
        last_index: Index,
        conf_state: &ConfState,
    ) -> Result<(Configuration, ProgressMap), ConfChangeError> {
        let mut changer = Changer::new(&Tracker::new(limits), last_index);
        for &id in &conf_state.voters_outgoing {
            changer.simple(&[single(ConfChangeType::AddNode, id)])?;
        }
        let removed = conf_state.voters_outgoing.iter().map(|&id| single(ConfChangeType::RemoveNode, id));
        let voters = conf_state.voters.iter().map(|&id| single(ConfChangeType::AddNode, id));
        let learners = conf_state
            .learners
            .iter()
            .chain(&conf_state.learners_next)
            .map(|&id| single(ConfChangeType::AddLearnerNode, id));
        let changes: Vec<ConfChangeSingle> = removed.chain(voters).chain(learners).collect();
        if conf_state.voters_outgoing.is_empty() {
            for change in &changes {
                changer.simple(std::slice::from_ref(change))?;
            }
        } else {
            changer.enter_joint(conf_state.auto_leave, &changes)?;
        }
        if !changer.config.to_conf_state().is_equivalent(conf_state) {
            // A member listed twice, or an id of 0.
            let node_id = changer.first_difference(conf_state);
            return Err(ConfChangeError::Inconsistent { node_id });
        }
        changer.finish()
    }

    pub fn apply(mut self, change: &ConfChangeV2) -> Result<(Configuration, ProgressMap), ConfChangeError> {
        match change.step() {
            ConfChangeStep::Simple => self.simple(&change.changes)?,
            ConfChangeStep::EnterJoint { auto_leave } => self.enter_joint(auto_leave, &change.changes)?,
            ConfChangeStep::LeaveJoint => self.leave_joint()?,
        }
        self.finish()
    }

    /// Two majorities overlap when they differ by one voter, so such a change needs no joint configuration.
    fn simple(&mut self, changes: &[ConfChangeSingle]) -> Result<(), ConfChangeError> {
        if self.config.voters.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        let before = self.config.voters.incoming.0.clone();
        self.apply_each(changes)?;
        let count = before.symmetric_difference(&self.config.voters.incoming.0).count();
        if count > 1 {
            return Err(ConfChangeError::ChangesSeveralVotersAtOnce { count });
        }
        Ok(())
    }

    fn enter_joint(&mut self, auto_leave: bool, changes: &[ConfChangeSingle]) -> Result<(), ConfChangeError> {
        if self.config.voters.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        if self.config.voters.incoming.0.is_empty() {
            return Err(ConfChangeError::NoVoters);
        }
        self.config.voters.outgoing = self.config.voters.incoming.clone();
        self.apply_each(changes)?;
        self.config.auto_leave = auto_leave;
        Ok(())
    }

    fn leave_joint(&mut self) -> Result<(), ConfChangeError> {
        if !self.config.voters.is_joint() {
            return Err(ConfChangeError::NotJoint);
        }
        for id in std::mem::take(&mut self.config.learners_next) {
            self.config.learners.insert(id);
            if let Some(progress) = self.progress.get_mut(&id) {
                progress.is_learner = true;
            }
        }
        let outgoing = std::mem::take(&mut self.config.voters.outgoing);
        for id in outgoing.0 {
            if !self.config.voters.contains(id) && !self.config.learners.contains(&id) {
                self.progress.remove(&id);
            }
        }
        self.config.auto_leave = false;
        Ok(())
    }

    fn apply_each(&mut self, changes: &[ConfChangeSingle]) -> Result<(), ConfChangeError> {
        for change in changes {
            // Compat: etcd zeroes the id of a committed change that it refuses to carry out.
            if change.node_id == 0 {
                continue;
            }
            match change.change {
                ConfChangeType::AddNode => self.make_voter(change.node_id),
                ConfChangeType::AddLearnerNode => self.make_learner(change.node_id),
                ConfChangeType::RemoveNode => self.remove(change.node_id),
                ConfChangeType::UpdateNode => {}
            }
        }
        if self.config.voters.incoming.0.is_empty() {
            return Err(ConfChangeError::RemovesAllVoters);
        }
        Ok(())
    }

    fn make_voter(&mut self, id: NodeId) {
        self.config.learners.remove(&id);
        self.config.learners_next.remove(&id);
        self.config.voters.incoming.0.insert(id);
        self.progress_of(id).is_learner = false;
    }

    fn make_learner(&mut self, id: NodeId) {
        if self.progress.get(&id).is_some_and(|progress| progress.is_learner) {
            return;
        }
        self.config.voters.incoming.0.remove(&id);
        self.config.learners_next.remove(&id);
        if self.config.voters.outgoing.0.contains(&id) {
            self.config.learners_next.insert(id);
        } else {
            self.config.learners.insert(id);
            self.progress_of(id).is_learner = true;
        }
    }

    fn remove(&mut self, id: NodeId) {
        self.config.voters.incoming.0.remove(&id);
        self.config.learners.remove(&id);
        self.config.learners_next.remove(&id);
        if !self.config.voters.outgoing.0.contains(&id) {
            self.progress.remove(&id);
        }
    }

    /// A new member counts as active, or the next quorum check could depose the leader before the member
    /// had a chance to speak.
    fn progress_of(&mut self, id: NodeId) -> &mut Progress {
        let next = self.last_index.max(Index(1));
        let limits = self.limits;
        self.progress.entry(id).or_insert_with(|| {
            let mut progress = Progress::new(next, limits.count_max, limits.bytes_max);
            progress.heard();
            progress
        })
    }

    fn finish(self) -> Result<(Configuration, ProgressMap), ConfChangeError> {
        self.check()?;
        Ok((self.config, self.progress))
    }

    fn check(&self) -> Result<(), ConfChangeError> {
        let Configuration { voters, learners, learners_next, auto_leave } = &self.config;
        let inconsistent = |node_id| Err(ConfChangeError::Inconsistent { node_id });
        for id in voters.ids().into_iter().chain(learners.iter().copied()) {
            let Some(progress) = self.progress.get(&id) else { return inconsistent(id) };
            if progress.is_learner != learners.contains(&id) {
                return inconsistent(id);
            }
        }
        if let Some(&id) = learners.iter().find(|&&id| voters.contains(id)) {
            return inconsistent(id);
        }
        if let Some(&id) = learners_next.iter().find(|id| !voters.outgoing.0.contains(id)) {
            return inconsistent(id);
        }
        assert!(
            voters.is_joint() || !auto_leave,
            "a configuration that is not joint is to be left: {:?}",
            self.config
        );
        let known = |id: &NodeId| voters.contains(*id) || learners.contains(id);
        assert!(self.progress.keys().all(known), "progress of a stranger in {:?}", self.config);
        Ok(())
    }

    fn first_difference(&self, conf_state: &ConfState) -> NodeId {
        let MajorityConfig(incoming) = &self.config.voters.incoming;
        let lost = conf_state.voters.iter().find(|id| !incoming.contains(id));
        lost.or(conf_state.learners.first()).or(conf_state.voters.first()).copied().unwrap_or(0)
    }
}

fn single(change: ConfChangeType, node_id: NodeId) -> ConfChangeSingle {
    ConfChangeSingle { change, node_id }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conf_change::ConfChangeTransition;

    const LIMITS: InflightLimits = InflightLimits { count_max: 10, bytes_max: u64::MAX };

    /// `v1 l2 r3 u4` in the notation of etcd's tests.
    fn changes(text: &str) -> Vec<ConfChangeSingle> {
        text.split_whitespace()
            .map(|token| {
                let change = match &token[..1] {
                    "v" => ConfChangeType::AddNode,
                    "l" => ConfChangeType::AddLearnerNode,
                    "r" => ConfChangeType::RemoveNode,
                    "u" => ConfChangeType::UpdateNode,
                    other => panic!("{other}"),
                };
                single(change, token[1..].parse().unwrap())
            })
            .collect()
    }

    fn tracker(conf_state: &ConfState) -> Tracker {
        let mut tracker = Tracker::new(LIMITS);
        let (config, progress) = Changer::restore(LIMITS, Index(10), conf_state).unwrap();
        tracker.config = config;
        tracker.progress = progress;
        tracker
    }

    fn change(
        from: &ConfState,
        transition: ConfChangeTransition,
        text: &str,
    ) -> Result<ConfState, ConfChangeError> {
        let change = ConfChangeV2 { transition, changes: changes(text), ..ConfChangeV2::default() };
        let (config, _) = Changer::new(&tracker(from), Index(10)).apply(&change)?;
        Ok(config.to_conf_state())
    }

    fn show(state: &ConfState) -> String {
        let auto = if state.auto_leave { " auto" } else { "" };
        format!(
            "{:?}&{:?} learners {:?} next {:?}{auto}",
            state.voters, state.voters_outgoing, state.learners, state.learners_next
        )
    }

    #[test]
    fn simple_changes_table() {
        use ConfChangeTransition::Auto;
        let three = ConfState::of_voters([1, 2, 3]);
        for (text, expected) in [
            ("v4", "[1, 2, 3, 4]&[] learners [] next []"),
            ("v3", "[1, 2, 3]&[] learners [] next []"),
            ("r3", "[1, 2]&[] learners [] next []"),
            ("r9", "[1, 2, 3]&[] learners [] next []"),
            ("l4", "[1, 2, 3]&[] learners [4] next []"),
            ("l3", "[1, 2]&[] learners [3] next []"),
            ("u3", "[1, 2, 3]&[] learners [] next []"),
            ("v0", "[1, 2, 3]&[] learners [] next []"),
        ] {
            assert_eq!(show(&change(&three, Auto, text).unwrap()), expected, "{text}");
        }
        let one = ConfState::of_voters([1]);
        assert_eq!(change(&one, Auto, "r1"), Err(ConfChangeError::RemovesAllVoters));
        assert_eq!(change(&one, Auto, "l1"), Err(ConfChangeError::RemovesAllVoters));
        assert_eq!(change(&one, Auto, ""), Err(ConfChangeError::NotJoint));
    }

    #[test]
    fn joint_changes_table() {
        use ConfChangeTransition::{Auto, JointExplicit, JointImplicit};
        let three = ConfState::of_voters([1, 2, 3]);
        for (transition, text, expected) in [
            (Auto, "v4 r1", "[2, 3, 4]&[1, 2, 3] learners [] next [] auto"),
            (JointImplicit, "v4", "[1, 2, 3, 4]&[1, 2, 3] learners [] next [] auto"),
            (JointExplicit, "l3 v4", "[1, 2, 4]&[1, 2, 3] learners [] next [3]"),
            (JointExplicit, "l3 v3", "[1, 2, 3]&[1, 2, 3] learners [] next []"),
            (JointExplicit, "l3 r3", "[1, 2]&[1, 2, 3] learners [] next []"),
            (JointExplicit, "l4 v4 l5", "[1, 2, 3, 4]&[1, 2, 3] learners [5] next []"),
        ] {
            assert_eq!(show(&change(&three, transition, text).unwrap()), expected, "{text}");
        }
        let joint = change(&three, JointExplicit, "l3 v4").unwrap();
        assert_eq!(change(&joint, JointExplicit, "v5"), Err(ConfChangeError::AlreadyJoint));
        assert_eq!(change(&joint, Auto, "v5"), Err(ConfChangeError::AlreadyJoint));
        assert_eq!(show(&change(&joint, Auto, "").unwrap()), "[1, 2, 4]&[] learners [3] next []");
    }

    #[test]
    fn contradicting_snapshots_are_refused() {
        let state = |voters: &[u64], learners: &[u64], outgoing: &[u64], next: &[u64]| ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            voters_outgoing: outgoing.to_vec(),
            learners_next: next.to_vec(),
            auto_leave: false,
        };
        for bad in [
            state(&[1, 2], &[2], &[], &[]),
            state(&[1], &[], &[], &[2]),
            state(&[1, 0], &[], &[], &[]),
            state(&[1, 1], &[], &[], &[]),
            state(&[1], &[3], &[2, 3], &[]),
            state(&[], &[1], &[], &[]),
            state(&[], &[], &[1], &[]),
        ] {
            assert!(Changer::restore(LIMITS, Index(1), &bad).is_err(), "{bad:?}");
        }
        assert!(Changer::restore(LIMITS, Index(1), &ConfState::default()).is_ok());
    }

    fn any_changes(
        count: impl Into<prop::collection::SizeRange>,
    ) -> impl Strategy<Value = Vec<ConfChangeSingle>> {
        let kinds = prop::sample::select(vec![
            ConfChangeType::AddNode,
            ConfChangeType::AddLearnerNode,
            ConfChangeType::RemoveNode,
            ConfChangeType::UpdateNode,
        ]);
        prop::collection::vec((kinds, 1..8u64).prop_map(|(kind, id)| single(kind, id)), count)
    }

    proptest! {
        /// Entering and leaving a joint configuration ends where the changes made one by one end.
        #[test]
        fn joint_ends_where_single_steps_end(
            start in prop::collection::btree_set(1..8u64, 1..5),
            list in any_changes(0..6),
        ) {
            let start = ConfState::of_voters(start);
            let mut stepwise = Changer::new(&tracker(&start), Index(10));
            let all_simple = list.iter().all(|one| stepwise.simple(std::slice::from_ref(one)).is_ok());
            prop_assume!(all_simple);
            let stepwise = stepwise.config.to_conf_state();

            let mut joint = Changer::new(&tracker(&start), Index(10));
            prop_assume!(joint.enter_joint(false, &list).is_ok());
            let entered = joint.config.to_conf_state();
            // What a snapshot in the joint state says leads back to the same state.
            let (restored, _) = Changer::restore(LIMITS, Index(1), &entered).unwrap();
            prop_assert_eq!(&restored, &joint.config);
            joint.leave_joint().unwrap();
            prop_assert_eq!(joint.config.to_conf_state(), stepwise);
            prop_assert!(joint.finish().is_ok());
        }
    }
}
