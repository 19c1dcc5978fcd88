//! Changes of the members while everything else goes on: one joins as a learner, is promoted, and another leaves.

use std::sync::Arc;
use std::time::Duration;

use membership::MemberId;
use parking_lot::Mutex;
use server::{Error, JoinAs, Server};
use tokio::time::sleep;

use crate::network::Wires;

/// Tries of a step before the change is given up.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(300);

/// What the world is to do for a change.
#[derive(Debug, Default)]
pub struct Orders {
    /// Start this member, of a cluster with these members' numbers.
    pub start: Option<usize>,
    /// One change at a time.
    pub is_busy: bool,
}

/// Adds the member `number` at `url`, and removes `leaving` once the new one votes.
pub async fn replace(
    wires: Wires,
    number: usize,
    url: String,
    leaving: Option<MemberId>,
    orders: Arc<Mutex<Orders>>,
) {
    if let Some(id) = add(&wires, number, &url, &orders).await
        && promote(&wires, id).await
        && all_let_it_vote(&wires, id).await
        && let Some(leaving) = leaving
    {
        remove(&wires, leaving).await;
    }
    orders.lock().is_busy = false;
}

async fn add(wires: &Wires, number: usize, url: &str, orders: &Mutex<Orders>) -> Option<MemberId> {
    for _ in 0..TRIES {
        if let Some(server) = wires.any_server()
            && let Ok(_) | Err(Error::PeerUrlExists) =
                server.member_add(&[url.to_owned()], JoinAs::Learner).await
        {
            let cluster = server.cluster();
            let added = cluster.members().find(|member| member.peer_urls.iter().any(|it| it == url));
            if let Some(added) = added {
                orders.lock().start = Some(number);
                return Some(added.id);
            }
        }
        sleep(PAUSE).await;
    }
    None
}

async fn promote(wires: &Wires, id: MemberId) -> bool {
    for _ in 0..TRIES {
        if let Some(server) = wires.any_server()
            && let Ok(_) | Err(Error::MemberNotLearner) = server.member_promote(id).await
        {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}

/// Waits until no member can be found that does not know of the new voter. Who removes a leader before, and
/// loses it before it has told the others, may have to restore: they wait for a vote that nobody gives any
/// more, as they would with etcd. For the same reason two members stay two.
async fn all_let_it_vote(wires: &Wires, id: MemberId) -> bool {
    for _ in 0..TRIES {
        let servers = wires.servers();
        let knows = |server: &Server| {
            let cluster = server.cluster();
            let voters = cluster.members().filter(|member| !member.is_learner).count();
            voters >= 3 && cluster.member(id).is_some_and(|member| !member.is_learner)
        };
        let known_to_all =
            servers.first().is_some_and(|first| servers.len() == first.cluster().members().count());
        if known_to_all && servers.iter().all(knows) {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}

async fn remove(wires: &Wires, id: MemberId) {
    for _ in 0..TRIES {
        if let Some(server) = wires.any_server()
            && let Ok(_) | Err(Error::MemberNotFound) = server.member_remove(id).await
        {
            return;
        }
        sleep(PAUSE).await;
    }
}
