//! The command line.

use std::path::PathBuf;

use crate::{SUITES, Side};

pub struct Options {
    pub peers: PathBuf,
    /// Folder with our `etcd` and `etcdctl`.
    pub ours: PathBuf,
    /// The top of the source tree, for `deploy/etcd.service` and stored manifests.
    pub root: PathBuf,
    /// How long a static pod must stay ready.
    pub seconds: u64,
    /// Empty: all.
    pub suites: Vec<String>,
}

impl Options {
    pub fn from_args(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut peers, mut ours, mut root, mut seconds) = (None, None, None, None);
        let mut suites = Vec::new();
        while let Some(arg) = args.next() {
            let slot = match arg.as_str() {
                "--peers" => &mut peers,
                "--ours" => &mut ours,
                "--root" => &mut root,
                "--seconds" => &mut seconds,
                name if SUITES.iter().any(|(suite, _)| *suite == name) => {
                    suites.push(arg);
                    continue;
                }
                _ => {
                    let known: Vec<&str> = SUITES.iter().map(|(suite, _)| *suite).collect();
                    return Err(format!("no suite or option {arg}; suites are {}", known.join(", ")));
                }
            };
            *slot = Some(args.next().ok_or_else(|| format!("{arg} needs a value"))?);
        }
        let seconds = seconds.map_or(Ok(20), |text: String| text.parse());
        Ok(Options {
            peers: peers.ok_or("--peers is needed")?.into(),
            ours: ours.ok_or("--ours is needed")?.into(),
            root: root.ok_or("--root is needed")?.into(),
            seconds: seconds.map_err(|error| format!("--seconds: {error}"))?,
            suites,
        })
    }

    /// Go's etcd of a release, such as `3.7`.
    pub fn peer(&self, name: &'static str, release: &str) -> Side {
        Side { name, programs: self.peers.join(format!("etcd-{release}")) }
    }

    pub fn ours(&self) -> Side {
        Side { name: "ours", programs: self.ours.clone() }
    }
}
