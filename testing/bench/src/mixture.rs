//! A mixture shaped like a control plane's: objects are read, listed and updated by comparing their revision,
//! leases are renewed, and watchers see every change.

use prost::Message;
use proto::etcdserverpb as pb;

use crate::Failure;
use crate::http2::Keep;
use crate::load::{Pool, Work};
use crate::rows::fill;
use crate::server::Server;
use crate::work::{RANGE, Update, WATCH, encode};

const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// Objects of 1 KiB beside those that are updated.
const OBJECTS: u64 = 5_000;
const OBJECT_PREFIX: &str = "/registry/configmaps/";
/// Objects of one list, as the API server pages.
const PAGE: i64 = 500;
/// Streams that watch everything that is updated, over all connections together.
const WATCHERS: usize = 12;
const LEASE_SECONDS: i64 = 3_600;

/// One client's next request, out of a hundred.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// 40
    Update,
    /// 38
    Get,
    /// 20
    Renew,
    /// 2
    List,
}

pub struct Mixture {
    update: Update,
    /// One for each client.
    leases: Vec<i64>,
    /// What each client waits for.
    asked: Vec<Ask>,
    next: u64,
}

impl Mixture {
    pub fn prepare(server: &Server, clients: usize) -> Result<Mixture, Failure> {
        fill(server, OBJECT_PREFIX, OBJECTS, 1024)?;
        let mut grants = Grants(Vec::new());
        Pool::open(server.address, 1)?.run(1, clients as u64, &mut grants)?;
        Ok(Mixture {
            update: Update::new(clients, 1024),
            leases: grants.0,
            asked: vec![Ask::Get; clients],
            next: 0,
        })
    }
}

impl Work for Mixture {
    const KEEP: Keep = Keep::Messages;

    fn request(&mut self, client: usize, message: &mut Vec<u8>) -> &'static str {
        // A stride that is coprime with a hundred visits all of them, out of order.
        self.next += 37;
        let ask = match self.next % 100 {
            0..40 => Ask::Update,
            40..78 => Ask::Get,
            78..98 => Ask::Renew,
            _ => Ask::List,
        };
        self.asked[client] = ask;
        match ask {
            Ask::Update => self.update.request(client, message),
            Ask::Get => {
                let key = format!("{OBJECT_PREFIX}{:012}", self.next * 7919 % OBJECTS).into();
                encode(&pb::RangeRequest { key, ..Default::default() }, message);
                RANGE
            }
            Ask::Renew => {
                encode(&pb::LeaseKeepAliveRequest { id: self.leases[client] }, message);
                LEASE_KEEP_ALIVE
            }
            Ask::List => {
                let end = OBJECT_PREFIX.replace("configmaps/", "configmaps0");
                let key = format!("{OBJECT_PREFIX}{:012}", self.next * 31 % OBJECTS).into();
                let request =
                    pb::RangeRequest { key, range_end: end.into(), limit: PAGE, ..Default::default() };
                encode(&request, message);
                RANGE
            }
        }
    }

    fn answer(&mut self, client: usize, message: &[u8]) {
        if self.asked[client] == Ask::Update {
            self.update.answer(client, message);
        }
    }
}

/// Watchers on all that [`Update`] writes. Their events are taken and not counted.
pub fn open_watchers(pool: &mut Pool) -> Result<(), Failure> {
    let create = pb::WatchCreateRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        ..Default::default()
    };
    let union = pb::watch_request::RequestUnion::CreateRequest(create);
    let request = pb::WatchRequest { request_union: Some(union) }.encode_to_vec();
    let count = pool.connections.len();
    for watcher in 0..WATCHERS {
        pool.connections[watcher % count].start(usize::MAX, WATCH, &request, Keep::Nothing, false);
    }
    Ok(())
}

struct Grants(Vec<i64>);

impl Work for Grants {
    const KEEP: Keep = Keep::Messages;

    fn request(&mut self, _client: usize, message: &mut Vec<u8>) -> &'static str {
        encode(&pb::LeaseGrantRequest { ttl: LEASE_SECONDS, id: 0 }, message);
        LEASE_GRANT
    }

    fn answer(&mut self, _client: usize, message: &[u8]) {
        self.0.push(pb::LeaseGrantResponse::decode(message).unwrap_or_default().id);
    }
}
