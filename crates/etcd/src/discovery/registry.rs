//! Members from another etcd: each registers under a token, the first ones make the cluster.
//!
//! | key below `/_etcd/registry/<token>` | value |
//! |---|---|
//! | `/_config/size` | how many members, in decimal; whoever makes the token writes it |
//! | `/members/<id in hex>` | `name=peerURL[,name=peerURL…]` |
//!
//! Source: etcd `server/etcdserver/api/v3discovery/discovery.go`.

use std::path::PathBuf;
use std::time::Duration;

use client::{Client, Config, Tls, prefix_end};
use membership::MemberId;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, request_op,
};

use crate::log;
use crate::logging::Level;
use crate::settings::Settings;

const REGISTRY: &str = "/_etcd/registry";

/// Pauses between tries grow to two to the power of this, in seconds.
const BACKOFF_POWER_MAX: u32 = 8;

const FULL: &str = "discovery: cluster is full";
const SIZE_NOT_FOUND: &str = "discovery: size key not found";
const SIZE_IS_BAD: &str = "discovery: size key is bad";
const URL_IS_INVALID: &str = "discovery: invalid peer URL";
const DUPLICATE: &str = "found duplicate peer from discovery service";

/// Why a try failed.
#[derive(Debug)]
enum Failure {
    /// Another try may do better.
    Unreachable(client::Error),
    Final(String),
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Failure::Unreachable(error)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Failure {
        Failure::Final(text.to_owned())
    }
}

/// A member that has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registered {
    /// The first ones by this are the cluster.
    create_revision: i64,
    key: String,
    urls: String,
}

struct Registry {
    client: Client,
    settings: Settings,
    prefix: String,
    own_key: String,
}

/// Registers this member and waits for the others; what they are, as `--initial-cluster` has it.
pub async fn join(settings: &Settings) -> Result<String, String> {
    let client = Client::new(client_config(settings)).map_err(|error| error.to_string())?;
    let client = client.with_timeout(settings.discovery_request_timeout.to_std());
    let own: Vec<(String, String)> = settings
        .initial_advertise_peer_urls
        .iter()
        .map(|url| (settings.name.clone(), url.to_string()))
        .collect();
    let members = membership::initial_members(&own, &settings.discovery_token);
    let members = members.map_err(|error| error.to_string())?;
    let id = members.first().map(|member| member.id).ok_or("no URL is advertised")?;
    let urls: Vec<String> = own.iter().map(|(name, url)| format!("{name}={url}")).collect();
    let registry = Registry::new(client, settings.clone(), id);
    registry.join(&urls.join(",")).await
}

impl Registry {
    fn new(client: Client, settings: Settings, id: MemberId) -> Registry {
        let prefix = format!("{REGISTRY}/{}", settings.discovery_token);
        let own_key = format!("{prefix}/members/{id}");
        Registry { client, settings, prefix, own_key }
    }

    async fn join(&self, urls: &str) -> Result<String, String> {
        let mut tries = 0;
        loop {
            let why = match self.try_join(urls).await {
                Ok(cluster) => return Ok(cluster),
                Err(Failure::Final(why)) => return Err(why),
                Err(Failure::Unreachable(why)) => why,
            };
            tries += 1;
            let pause = Duration::from_secs(1 << tries.min(BACKOFF_POWER_MAX));
            log!(
                Level::Warn,
                "error connecting to discovery service, retrying",
                "discovery-endpoints" => self.settings.discovery_endpoints,
                "error" => why.to_string(),
                "backoff" => format!("{}s", pause.as_secs())
            );
            tokio::time::sleep(pause).await;
        }
    }

    async fn try_join(&self, urls: &str) -> Result<String, Failure> {
        let size = self.size().await?;
        // Asked first, so that a cluster that is full is not registered with.
        let (members, _) = self.members().await?;
        self.own_part(members, size)?;
        self.register(urls).await?;
        let (members, revision) = self.members().await?;
        let members = self.own_part(members, size)?;
        let members = self.wait(members, size, revision).await?;
        initial_cluster(&members)
    }

    async fn size(&self) -> Result<usize, Failure> {
        let request = RangeRequest { key: self.key("_config/size").into(), ..RangeRequest::default() };
        let answer = self.client.range(request).await?;
        let size = answer.kvs.first().ok_or(SIZE_NOT_FOUND)?;
        let text = std::str::from_utf8(&size.value).map_err(|_| SIZE_IS_BAD)?;
        text.parse().ok().filter(|size| *size > 0).ok_or_else(|| SIZE_IS_BAD.into())
    }

    /// In the order in which they registered, and the revision at which this is all.
    async fn members(&self) -> Result<(Vec<Registered>, i64), Failure> {
        let prefix = self.key("members/");
        let range_end = prefix_end(prefix.as_bytes()).into();
        let request = RangeRequest { key: prefix.into(), range_end, ..RangeRequest::default() };
        let answer = self.client.range(request).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        let mut members: Vec<Registered> = answer.kvs.iter().map(registered).collect();
        members.sort_by_key(|member| member.create_revision);
        Ok((members, revision))
    }

    /// Those of `members` that are in the cluster; an error when it is complete without this member.
    fn own_part(&self, mut members: Vec<Registered>, size: usize) -> Result<Vec<Registered>, Failure> {
        let has_own = members.iter().take(size).any(|member| member.key == self.own_key);
        if !has_own && members.len() >= size {
            return Err(FULL.into());
        }
        members.truncate(size);
        Ok(members)
    }

    /// A try before may have done it, unless its answer was lost.
    async fn register(&self, urls: &str) -> Result<(), Failure> {
        let is_absent = Compare {
            key: self.own_key.clone().into(),
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Compare::default()
        };
        let put = PutRequest {
            key: self.own_key.clone().into(),
            value: urls.to_owned().into(),
            ..PutRequest::default()
        };
        let success = vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }];
        self.client.txn(TxnRequest { compare: vec![is_absent], success, failure: Vec::new() }).await?;
        log!(Level::Info, "register member itself successfully", "member-key" => self.own_key);
        Ok(())
    }

    /// Until there are `size` of them.
    async fn wait(
        &self,
        mut members: Vec<Registered>,
        size: usize,
        revision: i64,
    ) -> Result<Vec<Registered>, Failure> {
        let prefix = self.key("members/");
        let create = WatchCreateRequest {
            range_end: prefix_end(prefix.as_bytes()).into(),
            key: prefix.into(),
            start_revision: revision + 1,
            ..WatchCreateRequest::default()
        };
        let mut watcher = self.client.watch(create, false);
        while members.len() < size {
            log!(
                Level::Info,
                "waiting for peers from discovery service",
                "found-peers" => members.len(),
                "cluster-size" => size
            );
            let Some(response) = watcher.next().await? else {
                return Err("the watch on the registry has ended".into());
            };
            if response.canceled {
                return Err(Failure::Final(response.cancel_reason));
            }
            for kv in response.events.iter().filter_map(|event| event.kv.as_ref()) {
                let new = registered(kv);
                if new.create_revision > 0 && members.iter().all(|member| member.key != new.key) {
                    members.push(new);
                }
            }
        }
        members.truncate(size);
        log!(Level::Info, "found all needed peers from discovery service", "cluster-size" => size);
        Ok(members)
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }
}

fn registered(kv: &proto::mvccpb::KeyValue) -> Registered {
    Registered {
        create_revision: kv.create_revision,
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        urls: String::from_utf8_lossy(&kv.value).trim().to_owned(),
    }
}

fn initial_cluster(members: &[Registered]) -> Result<String, Failure> {
    let mut urls: Vec<&str> = Vec::new();
    for member in members {
        for named in member.urls.split(',') {
            let Some((_, url)) = named.split_once('=') else { return Err(URL_IS_INVALID.into()) };
            if urls.contains(&url) {
                return Err(DUPLICATE.into());
            }
            urls.push(url);
        }
    }
    Ok(members.iter().map(|member| member.urls.as_str()).collect::<Vec<_>>().join(","))
}

fn client_config(settings: &Settings) -> Config {
    let path = |text: &String| (!text.is_empty()).then(|| PathBuf::from(text));
    let files = [&settings.discovery_cert, &settings.discovery_key, &settings.discovery_cacert].map(path);
    let has_tls = files.iter().any(Option::is_some)
        || settings.discovery_insecure_skip_tls_verify
        || !settings.discovery_insecure_transport;
    let [cert_file, key_file, ca_file] = files;
    let insecure_skip_verify = settings.discovery_insecure_skip_tls_verify;
    let tls = Tls { ca_file, cert_file, key_file, insecure_skip_verify, server_name: None };
    Config {
        tls: has_tls.then_some(tls),
        dial_timeout: settings.discovery_dial_timeout.to_std(),
        keepalive_time: settings.discovery_keepalive_time.to_std(),
        keepalive_timeout: settings.discovery_keepalive_timeout.to_std(),
        user: user(settings),
        ..Config::to(&settings.discovery_endpoints)
    }
}

/// The password may stand behind the name, or in a flag of its own.
fn user(settings: &Settings) -> Option<(String, String)> {
    let name = &settings.discovery_user;
    if name.is_empty() {
        return None;
    }
    match name.split_once(':') {
        Some((name, password)) if settings.discovery_password.is_empty() => {
            Some((name.to_owned(), password.to_owned()))
        }
        _ => Some((name.clone(), settings.discovery_password.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(create_revision: i64, id: &str, urls: &str) -> Registered {
        Registered { create_revision, key: format!("/_etcd/registry/t/members/{id}"), urls: urls.to_owned() }
    }

    fn registry() -> Registry {
        let settings = Settings { discovery_token: "t".to_owned(), ..Settings::default() };
        let client = Client::new(Config::to(["http://127.0.0.1:1"])).unwrap();
        Registry::new(client, settings, MemberId(0xa1))
    }

    #[test]
    fn the_first_ones_are_the_cluster() {
        let registry = registry();
        let all = vec![member(3, "a1", "a=http://a:1"), member(4, "b", "b=http://b:1")];
        assert_eq!(registry.own_part(all.clone(), 1).unwrap(), all[..1]);
        assert_eq!(registry.own_part(all.clone(), 3).unwrap(), all);
        assert_eq!(registry.own_part(Vec::new(), 1).unwrap(), []);
        let late = vec![member(3, "b", "b=http://b:1"), member(4, "a1", "a=http://a:1")];
        assert!(matches!(registry.own_part(late, 1), Err(Failure::Final(why)) if why == FULL));
    }

    #[test]
    fn what_members_say_of_themselves() {
        let told = |members: &[Registered]| match initial_cluster(members) {
            Ok(cluster) => cluster,
            Err(Failure::Final(why)) => why,
            Err(Failure::Unreachable(why)) => panic!("{why}"),
        };
        let good = [member(1, "1", "a=http://a:1,a=http://a:2"), member(2, "2", "b=http://b:1")];
        assert_eq!(told(&good), "a=http://a:1,a=http://a:2,b=http://b:1");
        assert_eq!(told(&[member(1, "1", "http://a:1")]), URL_IS_INVALID);
        assert_eq!(told(&[member(1, "1", "a=http://a:1"), member(2, "2", "b=http://a:1")]), DUPLICATE);
    }

    #[test]
    fn names_and_passwords() {
        let with = |name: &str, password: &str| {
            user(&Settings {
                discovery_user: name.to_owned(),
                discovery_password: password.to_owned(),
                ..Settings::default()
            })
        };
        assert_eq!(with("", "p"), None);
        assert_eq!(with("u:p", ""), Some(("u".to_owned(), "p".to_owned())));
        assert_eq!(with("u", "p"), Some(("u".to_owned(), "p".to_owned())));
    }
}
