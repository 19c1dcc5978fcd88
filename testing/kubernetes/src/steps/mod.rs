//! What a run does, in order. Each step says in the transcript what it shows.

mod create;
mod durability;
mod listing;
mod outside;
mod read;
mod restart;
mod soak;
mod stored;
mod workload;

use std::time::Duration;

use crate::bench::Bench;
use crate::failure::Outcome;

pub fn all(bench: &mut Bench, kill_rounds: usize, soak: Option<Duration>) -> Outcome {
    create::control_plane(bench)?;
    create::nodes(bench)?;
    create::objects(bench)?;
    stored::places(bench)?;
    stored::encryption(bench)?;
    workload::deployment(bench)?;
    workload::events(bench)?;
    read::counted(bench)?;
    read::pages(bench)?;
    read::changes(bench)?;
    read::caches(bench)?;
    outside::put_and_delete(bench)?;
    durability::conflict(bench)?;
    durability::paused(bench)?;
    durability::killed(bench, kill_rounds)?;
    if let Some(length) = soak {
        soak::soak(bench, length)?;
    }
    listing::compaction(bench)?;
    listing::keys(bench)?;
    restart::everything(bench)?;
    restart::logs(bench)
}
