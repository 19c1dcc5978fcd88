//! Feature gates: named switches for what etcd calls alpha and beta features.

use std::collections::BTreeMap;

use crate::go_value::{parse_bool, quote};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Alpha,
    Beta,
}

#[derive(Debug)]
pub struct Gate {
    pub name: &'static str,
    pub stage: Stage,
    pub default: bool,
}

const fn gate(name: &'static str, stage: Stage, default: bool) -> Gate {
    Gate { name, stage, default }
}

/// Every gate of 3.7.3, sorted by name.
pub const GATES: [Gate; 11] = [
    gate("AllAlpha", Stage::Alpha, false),
    gate("AllBeta", Stage::Beta, false),
    gate("CompactHashCheck", Stage::Alpha, false),
    gate("FastLeaseKeepAlive", Stage::Beta, true),
    gate("InitialCorruptCheck", Stage::Alpha, false),
    gate("LeaseCheckpoint", Stage::Alpha, false),
    gate("LeaseCheckpointPersist", Stage::Alpha, false),
    gate("PriorityRequest", Stage::Alpha, false),
    gate("SetMemberLocalAddr", Stage::Alpha, false),
    gate("StopGRPCServiceOnDefrag", Stage::Alpha, false),
    gate("TxnModeWriteWithSharedBuffer", Stage::Beta, true),
];

/// Which gates were set, by hand or by a bulk switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    set: BTreeMap<&'static str, bool>,
    /// Those the user named one by one: an old flag for the same gate then conflicts.
    named: BTreeMap<&'static str, bool>,
}

impl FeatureGates {
    /// Adds `A=true,B=false`; the error is etcd's text.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let mut pairs = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None => return Err(format!("missing bool value for {}", part.trim())),
            };
            let value = parse_bool(value).ok_or_else(|| {
                format!(
                    "invalid value of {name}={value}, err: strconv.ParseBool: parsing {}: invalid syntax",
                    quote(value)
                )
            })?;
            pairs.insert(name.to_owned(), value);
        }
        let mut known = Vec::with_capacity(pairs.len());
        for (name, value) in &pairs {
            let gate = GATES.iter().find(|gate| gate.name == name);
            known.push((gate.ok_or_else(|| format!("unrecognized feature gate: {name}"))?, *value));
        }
        for (gate, value) in known {
            self.named.insert(gate.name, value);
            self.set_one(gate, value);
        }
        Ok(())
    }

    /// A bulk switch moves every gate of its stage that nobody has set.
    fn set_one(&mut self, gate: &'static Gate, value: bool) {
        self.set.insert(gate.name, value);
        if matches!(gate.name, "AllAlpha" | "AllBeta") {
            for other in GATES.iter().filter(|other| other.stage == gate.stage) {
                self.set.entry(other.name).or_insert(value);
            }
        }
    }

    pub fn was_named(&self, name: &str) -> Option<bool> {
        self.named.get(name).copied()
    }

    pub fn is_enabled(&self, name: &str) -> bool {
        let default = || GATES.iter().any(|gate| gate.name == name && gate.default);
        self.set.get(name).copied().unwrap_or_else(default)
    }

    /// The gates that differ from their default, for refusing those that are not built.
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        GATES
            .iter()
            .map(|gate| (gate.name, self.is_enabled(gate.name)))
            .filter(|(name, value)| GATES.iter().any(|gate| gate.name == *name && gate.default != *value))
    }

    /// `A=true,B=false` of all that was set, as the start-up log shows it.
    pub fn text(&self) -> String {
        let pairs: Vec<String> = self.set.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        FeatureGates::default().set(text).expect_err(text)
    }

    #[test]
    fn refusals_are_worded_as_etcd_words_them() {
        assert_eq!(error("X=true"), "unrecognized feature gate: X");
        assert_eq!(error("AllAlpha"), "missing bool value for AllAlpha");
        assert_eq!(
            error("AllAlpha=z"),
            "invalid value of AllAlpha=z, err: strconv.ParseBool: parsing \"z\": invalid syntax"
        );
    }

    #[test]
    fn a_bulk_switch_spares_what_was_set_by_name() {
        let mut gates = FeatureGates::default();
        gates.set("LeaseCheckpoint=false").expect("valid");
        gates.set("AllAlpha=true,").expect("valid");
        assert!(gates.is_enabled("InitialCorruptCheck"));
        assert!(!gates.is_enabled("LeaseCheckpoint"));
        assert!(gates.is_enabled("FastLeaseKeepAlive"));
        assert_eq!(gates.was_named("InitialCorruptCheck"), None);
    }

    #[test]
    fn only_gates_away_from_their_default_count_as_changed() {
        let mut gates = FeatureGates::default();
        gates.set("InitialCorruptCheck=true,FastLeaseKeepAlive=true").expect("valid");
        assert_eq!(gates.changed().collect::<Vec<_>>(), [("InitialCorruptCheck", true)]);
    }
}
