//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::failure::{During, Outcome, fail};

pub const USAGE: &str = "\
kubernetes [options]
  --peers DIR      Go's etcd-3.7 and kubernetes programs            (.peers)
  --etcd PATH      the etcd under test                              (needed, but with --reference)
  --etcdctl PATH   its etcdctl                                      (needed, but with --reference)
  --etcdutl PATH   what restores a snapshot, for several masters    (Go's)
  --out DIR        folder for transcripts, logs and data            (target/kubernetes/run)
  --reference      run on Go's etcd only
  --alone          run on the etcd under test only
one master:
  --kills N        times that etcd is killed under writes           (10)
  --soak MINUTES   more writes and kills, so long that every cache is compared (none; 8 is enough)
three masters:
  --ha             each member and each master fails in turn; needs network namespaces
  --quick          fewer faults and rounds
  --short          one of each kind, for every change
  --part NAME      only this part, and each that is named so: faults snapshots outages members programs
                   restore kubeadm";

/// How much of a script is run.
#[derive(Clone, Copy, PartialEq)]
pub enum Depth {
    Short,
    Quick,
    Full,
}

/// What can be run alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// One member or its machine fails and comes back.
    Faults,
    /// A rolling restart, and a follower that needs a snapshot.
    Snapshots,
    /// More than one member fails.
    Outages,
    /// Members come and go.
    Members,
    /// Go's etcd takes over in place, and gives back.
    Programs,
    /// Back to a snapshot.
    Restore,
    /// The real kubeadm joins and resets.
    Kubeadm,
}

impl Part {
    const ALL: [(&str, Part); 7] = [
        ("faults", Part::Faults),
        ("snapshots", Part::Snapshots),
        ("outages", Part::Outages),
        ("members", Part::Members),
        ("programs", Part::Programs),
        ("restore", Part::Restore),
        ("kubeadm", Part::Kubeadm),
    ];

    fn named(name: &str) -> Outcome<Part> {
        match Part::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, part)) => Ok(*part),
            None => fail(format!("no part {name:?}\n{USAGE}")),
        }
    }
}

pub enum Script {
    /// One etcd, one control plane.
    Single { kill_rounds: usize, soak: Option<Duration> },
    /// Three of each. No part stands for all of that depth.
    HighAvailability { depth: Depth, parts: Vec<Part> },
}

pub struct Options {
    pub peers: PathBuf,
    pub etcd: Option<PathBuf>,
    pub etcdctl: Option<PathBuf>,
    pub etcdutl: Option<PathBuf>,
    pub out: PathBuf,
    pub on_reference: bool,
    pub on_ours: bool,
    pub script: Script,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Options> {
        let mut options = Options {
            peers: PathBuf::from(".peers"),
            etcd: None,
            etcdctl: None,
            etcdutl: None,
            out: PathBuf::from("target/kubernetes/run"),
            on_reference: true,
            on_ours: true,
            script: Script::Single { kill_rounds: 10, soak: None },
        };
        let (mut kills, mut length, mut several, mut depth) = (None, None, false, None);
        let mut parts = Vec::new();
        while let Some(flag) = arguments.next() {
            let mut value = || match arguments.next() {
                Some(value) => Ok(value),
                None => fail(format!("{flag} needs a value\n{USAGE}")),
            };
            match flag.as_str() {
                "--peers" => options.peers = value()?.into(),
                "--etcd" => options.etcd = Some(value()?.into()),
                "--etcdctl" => options.etcdctl = Some(value()?.into()),
                "--etcdutl" => options.etcdutl = Some(value()?.into()),
                "--out" => options.out = value()?.into(),
                "--kills" => kills = Some(value()?.parse().during("--kills")?),
                "--soak" => {
                    let minutes: u64 = value()?.parse().during("--soak")?;
                    length = Some(Duration::from_secs(60 * minutes));
                }
                "--reference" => options.on_ours = false,
                "--alone" => options.on_reference = false,
                "--ha" => several = true,
                "--quick" => depth = Some(Depth::Quick),
                "--short" => depth = Some(Depth::Short),
                "--part" => parts.push(Part::named(&value()?)?),
                "--help" => return fail(USAGE),
                _ => return fail(format!("unknown option {flag:?}\n{USAGE}")),
            }
        }
        if several && (kills.is_some() || length.is_some()) {
            return fail(format!("--kills and --soak are for one master, not for --ha\n{USAGE}"));
        }
        if !several && (depth.is_some() || !parts.is_empty()) {
            return fail(format!("--quick, --short and --part go with --ha\n{USAGE}"));
        }
        options.script = if several {
            Script::HighAvailability { depth: depth.unwrap_or(Depth::Full), parts }
        } else {
            Script::Single { kill_rounds: kills.unwrap_or(10), soak: length }
        };
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_of_the_other_script_are_refused() {
        let script = parse("--ha --quick --part kubeadm").unwrap().script;
        let Script::HighAvailability { depth: Depth::Quick, parts } = script else {
            panic!("another script")
        };
        assert_eq!(parts, [Part::Kubeadm]);
        assert!(parse("--ha --part nothing").is_err());
        assert!(matches!(parse("--kills 3").unwrap().script, Script::Single { kill_rounds: 3, .. }));
        assert!(parse("--ha --kills 3").is_err());
        assert!(parse("--quick").is_err());
    }
}
