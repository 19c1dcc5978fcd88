//! Flags of older releases: those that still work under a new name, and those that mean nothing.

use crate::flag::Flag;
use crate::flag_table;
use crate::settings::Settings;

/// Accepted and without effect, as in 3.7: leftovers of the 0.x and 2.x releases and of coverage runs.
pub const IGNORED: [&str; 15] = [
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
];

/// Flags that still do nothing and are on their way out, with the warning that 3.7 gives.
pub const DEPRECATED: [(&str, &str); 2] = [
    ("max-snapshots", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
    (
        "v2-deprecation",
        "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.",
    ),
];

/// What an `--experimental-` flag of 3.5 and 3.6 has become.
///
/// Compat: 3.7 removed these names. They are kept here because manifests that name them are still
/// around (kubeadm up to 1.33 writes two of them).
#[derive(Clone, Copy, Debug)]
pub enum Successor {
    /// The same flag without the prefix.
    Flag(&'static Flag),
    /// A feature gate.
    Gate(&'static str),
}

impl Successor {
    pub fn is_bool(self) -> bool {
        match self {
            Successor::Flag(flag) => (flag.slot)(&mut Settings::default()).is_bool(),
            Successor::Gate(_) => true,
        }
    }

    /// How a warning names it.
    pub fn advice(self) -> String {
        match self {
            Successor::Flag(flag) => format!("--{}", flag.name),
            Successor::Gate(gate) => format!("--feature-gates={gate}=true"),
        }
    }
}

const GATES: [(&str, &str); 6] = [
    ("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    ("experimental-compact-hash-check-enabled", "CompactHashCheck"),
    ("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    ("experimental-txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
    ("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    ("experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
];

const RENAMED: [(&str, &str); 18] = [
    ("experimental-bootstrap-defrag-threshold-megabytes", "bootstrap-defrag-threshold-megabytes"),
    ("experimental-compact-hash-check-time", "compact-hash-check-time"),
    ("experimental-compaction-batch-limit", "compaction-batch-limit"),
    ("experimental-compaction-sleep-interval", "compaction-sleep-interval"),
    ("experimental-corrupt-check-time", "corrupt-check-time"),
    ("experimental-distributed-tracing-address", "distributed-tracing-address"),
    ("experimental-distributed-tracing-instance-id", "distributed-tracing-instance-id"),
    ("experimental-distributed-tracing-sampling-rate", "distributed-tracing-sampling-rate"),
    ("experimental-distributed-tracing-service-name", "distributed-tracing-service-name"),
    ("experimental-downgrade-check-time", "downgrade-check-time"),
    ("experimental-enable-distributed-tracing", "enable-distributed-tracing"),
    ("experimental-memory-mlock", "memory-mlock"),
    ("experimental-peer-skip-client-san-verification", "peer-skip-client-san-verification"),
    ("experimental-snapshot-catchup-entries", "snapshot-catchup-entries"),
    ("experimental-warning-apply-duration", "warning-apply-duration"),
    ("experimental-warning-unary-request-duration", "warning-unary-request-duration"),
    ("experimental-watch-progress-notify-interval", "watch-progress-notify-interval"),
    // Only the config file of 3.5 and 3.6 spelled it so.
    (SNAPSHOT_CATCHUP_FILE_KEY, "snapshot-catchup-entries"),
];

pub const SNAPSHOT_CATCHUP_FILE_KEY: &str = "experimental-snapshot-catch-up-entries";

/// The successor of an old name, as a flag or as a variable.
pub fn successor(name: &str) -> Option<Successor> {
    if name == SNAPSHOT_CATCHUP_FILE_KEY { None } else { file_successor(name) }
}

/// The successor of an old key in the config file.
pub fn file_successor(key: &str) -> Option<Successor> {
    if let Some((_, gate)) = GATES.iter().find(|(old, _)| *old == key) {
        return Some(Successor::Gate(gate));
    }
    let (_, new) = RENAMED.iter().find(|(old, _)| *old == key)?;
    flag_table::find(new).map(Successor::Flag)
}

/// Every old name that a command line or a variable may use.
pub fn names() -> impl Iterator<Item = &'static str> {
    let gates = GATES.iter().map(|(old, _)| *old);
    gates.chain(RENAMED.iter().map(|(old, _)| *old)).filter(|name| *name != SNAPSHOT_CATCHUP_FILE_KEY)
}

/// Settles what old names said once everything is read: warnings to log, or the text of 3.6 where a
/// setting was given under both of its names.
pub fn settle(settings: &mut Settings) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    for name in settings.explicit.iter() {
        let Some(successor) = file_successor(name) else { continue };
        if let Successor::Flag(flag) = successor
            && settings.is_explicit(flag.name)
        {
            let new = flag.name;
            return Err(format!("cannot set --{name} and --{new} at the same time, please use --{new} only"));
        }
        warnings.push(format!(
            "--{name} is deprecated in v3.6 and was decommissioned in v3.7. Use '{}' instead.",
            successor.advice()
        ));
    }
    for (gate, (old, old_value)) in std::mem::take(&mut settings.retired_gates) {
        if let Some(value) = settings.feature_gates.was_named(gate) {
            return Err(format!(
                "cannot specify both flags: --{old}={old_value} and --feature-gates={gate}={value} at the same time, please just use --feature-gates={gate}={value}"
            ));
        }
        settings.feature_gates.set(&format!("{gate}={old_value}"))?;
    }
    let deprecated = DEPRECATED.iter().filter(|(name, _)| settings.is_explicit(name));
    warnings.extend(deprecated.map(|(_, warning)| (*warning).to_owned()));
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature_gates;

    #[test]
    fn every_old_name_has_a_successor_that_exists() {
        for name in names() {
            match successor(name) {
                Some(Successor::Flag(flag)) => assert!(flag_table::find(flag.name).is_some()),
                Some(Successor::Gate(gate)) => {
                    assert!(feature_gates::GATES.iter().any(|known| known.name == gate), "{name}");
                }
                None => panic!("{name} has no successor"),
            }
        }
        assert!(file_successor(SNAPSHOT_CATCHUP_FILE_KEY).is_some());
    }

    #[test]
    fn a_setting_under_both_names_is_refused() {
        let settle_of = |arguments: &[&str]| {
            let mut settings = Settings::default();
            let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
            crate::command_line::parse(&arguments, &mut settings).expect("valid flags");
            settle(&mut settings).map(|_| settings)
        };
        let old = "--experimental-watch-progress-notify-interval=5s";
        assert_eq!(
            settle_of(&[old, "--watch-progress-notify-interval=5s"]).expect_err("both names"),
            "cannot set --experimental-watch-progress-notify-interval and --watch-progress-notify-interval at the same time, please use --watch-progress-notify-interval only"
        );
        let old = "--experimental-initial-corrupt-check";
        assert_eq!(
            settle_of(&["--feature-gates=InitialCorruptCheck=true", old]).expect_err("both names"),
            "cannot specify both flags: --experimental-initial-corrupt-check=true and --feature-gates=InitialCorruptCheck=true at the same time, please just use --feature-gates=InitialCorruptCheck=true"
        );
        let settings = settle_of(&["--feature-gates=CompactHashCheck=true", old]).expect("two gates");
        assert!(settings.feature_gates.is_enabled("InitialCorruptCheck"));
    }
}
