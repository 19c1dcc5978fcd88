//! All members change their program, one after the other, each going on with the data that the other one left.

use std::sync::Arc;
use std::time::Duration;

use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::etcdserverpb::{DowngradeRequest, StatusResponse};
use tokio::time::Instant;

use crate::cluster::{Cluster, Program};
use crate::failure::Outcome;
use crate::schedule::{Fault, Turn};

/// The members are well so soon after one of them was started; generous, for slow machines.
const WELL_LIMIT: Duration = Duration::from_secs(60);
/// The cluster takes so long at most to decide on its version, which it looks at every few seconds.
const VERSION_LIMIT: Duration = Duration::from_secs(90);
/// One call to one member.
const CALL_LIMIT: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(100);
/// Load on each mixture of programs.
pub const QUIET: Duration = Duration::from_millis(1_500);

/// Every member changes to each of the programs in turn. Who begins is another one each time, so that the
/// leader is now among the first and now among the last.
pub fn turns(programs: &[Program], members: usize) -> Vec<Turn> {
    let mut turns = Vec::new();
    let turn = |fault| Turn { quiet: QUIET, fault, hold: Duration::ZERO };
    for (index, pair) in programs.windows(2).enumerate() {
        let [from, program] = pair else { continue };
        if program.is_3_6() && !from.is_3_6() {
            turns.push(turn(Fault::Downgrade { version: "3.6".to_owned() }));
        }
        for step in 0..members {
            let slot = (index + step) % members;
            turns.push(turn(Fault::Change { slot, program: program.clone() }));
        }
    }
    turns
}

/// Waits until all members are well and, once they are of one version, store their data as it does.
pub async fn until_settled(cluster: &Arc<Cluster>) {
    until_well(cluster).await;
    let mut versions: Vec<&str> =
        cluster.members().iter().map(|slot| cluster.program(*slot).storage_version()).collect();
    versions.dedup();
    if let [version] = versions[..] {
        until_version(cluster, version).await;
    }
}

/// Every member knows a leader and has applied what the leader had.
async fn until_well(cluster: &Arc<Cluster>) {
    let mut goal = 0;
    let is_well = |statuses: &[StatusResponse]| {
        if goal == 0 && statuses.len() == cluster.members().len() {
            goal = statuses.iter().map(|status| status.raft_index).max().unwrap_or(0);
        }
        goal > 0 && statuses.iter().all(|status| status.leader != 0 && status.raft_applied_index >= goal)
    };
    wait(cluster, WELL_LIMIT, "members are well after a change of program", is_well).await;
}

/// All members store their data under that version.
async fn until_version(cluster: &Arc<Cluster>, version: &str) {
    let has_version =
        |statuses: &[StatusResponse]| statuses.iter().all(|status| status.storage_version == version);
    wait(cluster, VERSION_LIMIT, &format!("data is stored as of {version}"), has_version).await;
}

/// Lets members of an older version in, and waits until the data is theirs to read.
pub async fn downgrade(cluster: &Arc<Cluster>, version: &str) -> Outcome {
    let end = Instant::now() + VERSION_LIMIT;
    let mut last = String::new();
    let mut is_enabled = false;
    while !is_enabled && Instant::now() < end {
        for slot in cluster.members() {
            let client = cluster.client(slot)?.with_timeout(CALL_LIMIT);
            let action = DowngradeAction::Enable.into();
            let request = DowngradeRequest { action, version: version.to_owned() };
            match client.downgrade(request).await {
                Ok(_) => is_enabled = true,
                // An attempt of unknown outcome may have been the one.
                Err(error) if error.to_string().contains("downgrade job in progress") => is_enabled = true,
                Err(error) => last = error.to_string(),
            }
            if is_enabled {
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    if !is_enabled {
        cluster.recorder.seen("versions change", None, format!("no downgrade to {version}: {last}"));
    }
    until_version(cluster, &format!("{version}.0")).await;
    Ok(())
}

/// What does not come about is seen as wrong. All members must answer for it.
async fn wait(
    cluster: &Arc<Cluster>,
    limit: Duration,
    what: &str,
    mut holds: impl FnMut(&[StatusResponse]) -> bool,
) {
    let end = Instant::now() + limit;
    let mut last = Vec::new();
    while Instant::now() < end {
        last = cluster.statuses().await.into_iter().map(|(_, status)| status).collect();
        if last.len() == cluster.members().len() && holds(&last) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let what = format!("{what}: not within {} s; {last:?}", limit.as_secs());
    cluster.recorder.seen("versions change", None, what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_takes_each_program_and_an_older_one_only_after_a_downgrade() {
        let program = |name: &str| Program { name: name.to_owned(), path: name.into(), uses_libc: true };
        let programs = [Program::GO_3_6, "ours", Program::GO_3_6].map(program);
        let kinds: Vec<String> = turns(&programs, 3).iter().map(|turn| turn.fault.kind()).collect();
        let back = "change to go-3.6";
        let there = "change to ours";
        assert_eq!(kinds, [there, there, there, "downgrade", back, back, back]);
        let slots: Vec<Option<usize>> = turns(&programs, 3)
            .iter()
            .map(|turn| match turn.fault {
                Fault::Change { slot, .. } => Some(slot),
                _ => None,
            })
            .collect();
        assert_eq!(slots, [Some(0), Some(1), Some(2), None, Some(1), Some(2), Some(0)]);
    }
}
