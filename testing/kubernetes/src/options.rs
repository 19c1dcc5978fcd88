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
  --quick          fewer faults and rounds, for every change";

/// How much of a script is run.
#[derive(Clone, Copy, PartialEq)]
pub enum Depth {
    Quick,
    Full,
}

pub enum Script {
    /// One etcd, one control plane.
    Single { kill_rounds: usize, soak: Option<Duration> },
    /// Three of each.
    HighAvailability(Depth),
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
        let (mut kills, mut length, mut several, mut depth) = (None, None, false, Depth::Full);
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
                "--quick" => depth = Depth::Quick,
                "--help" => return fail(USAGE),
                _ => return fail(format!("unknown option {flag:?}\n{USAGE}")),
            }
        }
        if several && (kills.is_some() || length.is_some()) {
            return fail(format!("--kills and --soak are for one master, not for --ha\n{USAGE}"));
        }
        if !several && depth == Depth::Quick {
            return fail(format!("--quick goes with --ha\n{USAGE}"));
        }
        options.script = if several {
            Script::HighAvailability(depth)
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
        assert!(matches!(parse("--ha --quick").unwrap().script, Script::HighAvailability(Depth::Quick)));
        assert!(matches!(parse("--kills 3").unwrap().script, Script::Single { kill_rounds: 3, .. }));
        assert!(parse("--ha --kills 3").is_err());
        assert!(parse("--quick").is_err());
    }
}
