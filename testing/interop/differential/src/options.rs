//! The command line.

use std::path::PathBuf;

pub struct Options {
    pub peers: PathBuf,
    pub ours: PathBuf,
    pub seed: u64,
    pub requests: usize,
    pub rounds: usize,
    /// Empty: all.
    pub suites: Vec<String>,
}

impl Options {
    pub fn from_args(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut peers, mut ours, mut seed, mut requests, mut rounds) = (None, None, None, None, None);
        let mut suites = Vec::new();
        while let Some(arg) = args.next() {
            let slot = match arg.as_str() {
                "--peers" => &mut peers,
                "--ours" => &mut ours,
                "--seed" => &mut seed,
                "--requests" => &mut requests,
                "--rounds" => &mut rounds,
                option if option.starts_with('-') => return Err(format!("no option {option}")),
                _ => {
                    suites.push(arg);
                    continue;
                }
            };
            *slot = Some(args.next().ok_or_else(|| format!("{arg} needs a value"))?);
        }
        let number = |value: Option<String>, default: u64| match value {
            Some(value) => value.parse::<u64>().map_err(|error| format!("{value:?}: {error}")),
            None => Ok(default),
        };
        let count =
            |value, default| usize::try_from(number(value, default)?).map_err(|error| error.to_string());
        Ok(Options {
            peers: peers.ok_or("--peers is needed")?.into(),
            ours: ours.ok_or("--ours is needed")?.into(),
            seed: number(seed, u64::from(std::process::id()))?,
            requests: count(requests, 4000)?,
            rounds: count(rounds, 20)?,
            suites,
        })
    }

    pub fn etcd(&self) -> PathBuf {
        self.peers.join("etcd-3.7").join("etcd")
    }

    pub fn etcdutl(&self) -> PathBuf {
        self.peers.join("etcd-3.7").join("etcdutl")
    }

    /// A release before, such as `3.6`.
    pub fn old_etcd(&self, release: &str) -> PathBuf {
        self.peers.join(format!("etcd-{release}")).join("etcd")
    }
}
