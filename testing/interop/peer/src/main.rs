//! The protocol between members, judged by etcd's own binaries.
//!
//!     interop-peer --peers DIR --ours ETCD [routes|questions|secure|mixed…]
//!
//! | suite | does |
//! |---|---|
//! | routes | sends the same requests to the peer ports of etcd 3.7 and of ours, and compares the answers |
//! | questions | asks etcd 3.7 and 3.6 everything that a member of ours may ask |
//! | secure | the same clusters over TLS: certificates of an authority, of their own, and one with the wrong name |
//! | mixed | runs clusters of etcd 3.7, etcd 3.6 and ours: elections, snapshots both ways, restarts, joins |

mod etcdctl;
mod http;
mod mixed;
mod process;
mod questions;
mod routes;
mod secure;

use std::path::PathBuf;
use std::process::ExitCode;

/// What there is to run.
pub struct Programs {
    pub etcd_3_7: PathBuf,
    pub etcd_3_6: PathBuf,
    pub etcdctl: PathBuf,
    pub ours: PathBuf,
}

type Suite = (&'static str, fn(&Programs) -> Result<String, String>);

const SUITES: [Suite; 4] =
    [("routes", routes::run), ("questions", questions::run), ("secure", secure::run), ("mixed", mixed::run)];

fn main() -> ExitCode {
    let (programs, chosen) = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut failed = false;
    for (name, run) in SUITES {
        if !chosen.is_empty() && !chosen.iter().any(|it| it == name) {
            continue;
        }
        match run(&programs) {
            Ok(told) => println!("{name}: {told}"),
            Err(error) => {
                failed = true;
                println!("{name}: FAILED\n{error}");
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn options() -> Result<(Programs, Vec<String>), String> {
    let mut arguments = std::env::args().skip(1);
    let (mut peers, mut ours, mut chosen) = (None, None, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--peers" => peers = Some(PathBuf::from(value()?)),
            "--ours" => ours = Some(PathBuf::from(value()?)),
            name if SUITES.iter().any(|(suite, _)| *suite == name) => chosen.push(argument),
            unknown => return Err(format!("no suite {unknown:?}")),
        }
    }
    let peers = peers.ok_or("--peers is needed")?;
    let programs = Programs {
        etcd_3_7: peers.join("etcd-3.7").join("etcd"),
        etcd_3_6: peers.join("etcd-3.6").join("etcd"),
        etcdctl: peers.join("etcd-3.7").join("etcdctl"),
        ours: ours.ok_or("--ours is needed")?,
    };
    Ok((programs, chosen))
}
