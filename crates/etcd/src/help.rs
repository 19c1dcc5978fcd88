//! `--help`: the usage on stderr, the flags on stdout, each as `  --name 'default'` and a line of text.

use std::fmt::Write;

use crate::feature_gates::{GATES, Stage};
use crate::flag::{Section, Slot, Support};
use crate::flag_table;
use crate::settings::Settings;

pub const USAGE: &str = "\
Usage:

  etcd [flags]
    Start an etcd server.

  etcd --version
    Show the version of etcd.

  etcd -h | --help
    Show this text.

  etcd --config-file <path>
    Take the configuration from a YAML or JSON file. Other flags and ETCD_* variables are then ignored.
    Durations in the file are integers: nanoseconds, except --heartbeat-interval and --election-timeout,
    which are milliseconds as on the command line.

Every flag can also be given as a variable: --data-dir as ETCD_DATA_DIR. Giving both is an error.
";

pub fn flags() -> String {
    let mut settings = Settings::default();
    let mut out = String::new();
    for section in Section::LISTED {
        let _ = writeln!(out, "{}{}:", if out.is_empty() { "" } else { "\n" }, section.title());
        for flag in flag_table::all().filter(|flag| flag.section == section) {
            let slot = (flag.slot)(&mut settings);
            let is_gates = matches!(slot, Slot::Gates(_));
            let default = match (flag.name, slot.show()) {
                ("data-dir", _) => "${name}.etcd".to_owned(),
                (_, default) => default,
            };
            let _ = writeln!(out, "  --{} '{default}'\n    {}", flag.name, flag.help);
            if is_gates {
                list_gates(&mut out);
            }
            let _ = match flag.support {
                Support::Wired => Ok(()),
                Support::Inert(why) => writeln!(out, "    Without effect: {why}."),
                Support::Refused { why, .. } => writeln!(out, "    Not supported by this release: {why}."),
            };
        }
    }
    out.push_str("\nAn unsafe flag may break what the consensus protocol promises.\n");
    out
}

fn list_gates(out: &mut String) {
    for gate in GATES {
        let stage = match gate.stage {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        };
        let _ = writeln!(out, "    {}=true|false ({stage} - default={})", gate.name, gate.default);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operator test framework of Kubernetes looks for this line before it uses the flag.
    #[test]
    fn the_unsafe_flag_starts_a_line() {
        assert!(flags().lines().any(|line| line.trim_start().starts_with("--unsafe-no-fsync ")));
    }
}
