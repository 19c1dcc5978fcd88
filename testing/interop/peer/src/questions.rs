//! Everything that a member of ours may ask, asked of etcd.

use std::time::Duration;

use membership::{ClusterId, MemberId, Version};
use mvcc::Revision;
use peer::{PeerConfig, PeerNetwork};
use prometheus::Registry;
use prost::Message as _;
use proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use server::{AskError, Network};
use tokio::runtime::{Builder, Runtime};

use crate::process::Place;
use crate::{Programs, etcdctl};

const LIMIT: Duration = Duration::from_secs(20);

pub fn run(programs: &Programs) -> Result<String, String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let network =
        PeerNetwork::start(PeerConfig::default(), &Registry::new()).map_err(|error| error.to_string())?;
    for (etcd, minor) in [(&programs.etcd_3_7, 7), (&programs.etcd_3_6, 6), (&programs.ours, 7)] {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let place = Place::new("m0", etcd, folder.path())?;
        let mut process = place.start(&place.named_url(), "new")?;
        process.ready()?;
        ask_all(programs, &place, &runtime, &*network, minor)
            .map_err(|error| format!("{}: {error}", etcd.display()))?;
    }
    network.stop();
    Ok("etcd 3.7, etcd 3.6 and ours answered everything".to_owned())
}

fn ask_all(
    programs: &Programs,
    place: &Place,
    runtime: &Runtime,
    network: &dyn Network,
    minor: u64,
) -> Result<(), String> {
    for n in 0..3 {
        etcdctl::call(programs, place, &["put", &format!("k{n}"), "v"])?;
    }
    let granted = etcdctl::json(programs, place, &["lease", "grant", "600"])?;
    let lease = granted["id"].as_i64().or_else(|| granted["ID"].as_i64()).ok_or("no lease id")?;
    let hex = format!("{lease:x}");
    etcdctl::call(programs, place, &["put", "leased", "v", "--lease", &hex])?;
    let status = etcdctl::json(programs, place, &["endpoint", "status"])?;
    let header = &status[0]["Status"]["header"];
    let number = |name: &str| header[name].as_u64().ok_or_else(|| format!("no {name} in {status}"));
    let (own, cluster_id) = (MemberId(number("member_id")?), ClusterId(number("cluster_id")?));

    let (url, wait) = (place.peer_url(), |asked| runtime.block_on(asked));
    let told = runtime.block_on(network.ask_members(&url, LIMIT)).map_err(|error| error.to_string())?;
    let urls: Vec<_> = told.members.iter().map(|member| (member.id, member.peer_urls.clone())).collect();
    expect("the cluster", &(told.cluster_id, urls), &(cluster_id, vec![(own, vec![url.clone()])]))?;
    expect("the name", &told.members[0].attributes.name, &"m0".to_owned())?;
    let version = runtime.block_on(network.ask_version(&url, LIMIT)).map_err(|error| error.to_string())?;
    let minor = u32::try_from(minor).map_err(|error| error.to_string())?;
    expect("the version", &version.server.without_patch(), &Version::new(3, minor.into()))?;
    expect("a downgrade", &wait(network.ask_downgrade_enabled(&url, LIMIT)), &Ok(false))?;

    let refused = |status, text: &str| AskError::Refused { status, text: text.to_owned() };
    let promoted = |id| runtime.block_on(network.ask_promote(&url, id, LIMIT));
    expect("promoting nobody", &promoted(MemberId(5)), &Err(refused(404, "membership: ID not found")))?;
    let not_learner = refused(412, "membership: can only promote a learner member");
    expect("promoting a voter", &promoted(own), &Err(not_learner))?;

    let renewed = |id| runtime.block_on(network.ask_renew(&url, id, LIMIT));
    expect("renewing", &renewed(lease), &Ok(600))?;
    let no_lease = refused(404, "lease not found");
    expect("renewing nothing", &renewed(5), &Err(no_lease.clone()))?;
    let times = |id| {
        let request = LeaseTimeToLiveRequest { id, keys: true }.encode_to_vec();
        runtime.block_on(network.ask_lease_times(&url, request.into(), LIMIT))
    };
    let told = times(lease).map_err(|error| error.to_string())?;
    let told = LeaseTimeToLiveResponse::decode(told).map_err(|error| error.to_string())?;
    let keys: Vec<&[u8]> = told.keys.iter().map(AsRef::as_ref).collect();
    expect("a lease", &(told.id, told.granted_ttl, keys), &(lease, 600, vec![&b"leased"[..]]))?;
    expect("no lease", &times(5), &Err(no_lease))?;

    let hashed = |cluster, revision| runtime.block_on(network.ask_hash_kv(&url, cluster, revision, LIMIT));
    let answer = hashed(cluster_id, 3).map_err(|error| error.to_string())?;
    let revisions = (answer.hash_revision, answer.revision);
    let revision = |number| Revision::from_wire(number).ok_or("no revision");
    expect("a hash", &revisions, &(revision(3)?, revision(5)?))?;
    let future = refused(400, "mvcc: required revision is a future revision");
    expect("a hash of the future", &hashed(cluster_id, 99), &Err(future))?;
    let mismatch = refused(412, "cluster ID mismatch");
    expect("a hash of another cluster", &hashed(ClusterId(1), 3), &Err(mismatch))
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, told: &T, expected: &T) -> Result<(), String> {
    if told == expected { Ok(()) } else { Err(format!("{what}: told {told:?}, not {expected:?}")) }
}
