//! Files of a member with some history, whole and spoilt.
//!
//! | name | is |
//! |---|---|
//! | `data.etcd` | the directory of a member that was stopped |
//! | `snapshot.db` | what `etcdctl snapshot save` wrote |
//! | `bare.db` | its database file, which has no hash |
//! | `bent.db` | the snapshot with another hash behind it |
//! | `cut.db` | the first half of the snapshot |
//! | `empty.db`, `text.db` | no databases |

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::Programs;
use crate::cluster::Cluster;
use crate::member::Ports;

/// Puts in one transaction, and how many of these.
const BATCH: usize = 100;
const BATCHES: usize = 5;

pub struct Fixture {
    folder: TempDir,
    /// What the member held when it was stopped.
    pub content: Content,
}

/// What a member holds, as etcd's etcdctl tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub keys: Value,
    pub revision: i64,
    /// HashKV at that revision.
    pub hash: u64,
}

impl Content {
    pub fn of(cluster: &Cluster, endpoint: &str) -> Result<Content, String> {
        let all = cluster.json(endpoint, &["get", "", "--from-key"])?;
        let revision = all["header"]["revision"].as_i64().ok_or("a revision")?;
        let hash = hash_at(cluster, endpoint, revision)?;
        Ok(Content { keys: all["kvs"].clone(), revision, hash })
    }
}

pub fn hash_at(cluster: &Cluster, endpoint: &str, revision: i64) -> Result<u64, String> {
    let hash = cluster.json(endpoint, &["endpoint", "hashkv", "--rev", &revision.to_string()])?;
    hash[0]["HashKV"]["hash"].as_u64().ok_or_else(|| format!("a hash: {hash}"))
}

impl Fixture {
    /// Files of that server; the history is written by etcd's etcdctl.
    pub fn make(servers: &Programs, theirs: &Programs, ports: Ports) -> Result<Fixture, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let running = TempDir::new().map_err(|error| error.to_string())?;
        let mut cluster = Cluster::new(&servers.etcd, &theirs.etcdctl, &[ports], running.path());
        cluster.start(1)?;
        let endpoint = ports.endpoint();
        write_history(&cluster, &endpoint)?;
        let path = |name: &str| folder.path().join(name);
        let snapshot = path("snapshot.db").to_string_lossy().into_owned();
        cluster.call(&endpoint, &["snapshot", "save", &snapshot])?;
        let content = Content::of(&cluster, &endpoint)?;
        cluster.members[0].stop()?;
        copy(&cluster.members[0].data_dir, &path("data.etcd"))?;
        copy(&path("data.etcd").join("member").join("snap").join("db"), &path("bare.db"))?;

        let told = |error: std::io::Error| error.to_string();
        let mut bytes = fs::read(&snapshot).map_err(told)?;
        fs::write(path("cut.db"), &bytes[..bytes.len() / 2]).map_err(told)?;
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        fs::write(path("bent.db"), &bytes).map_err(told)?;
        fs::write(path("empty.db"), "").map_err(told)?;
        fs::write(path("text.db"), "this is no database\n".repeat(1000)).map_err(told)?;
        Ok(Fixture { folder, content })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Keys written once and again, deleted, and with a lease; a compaction; space that is free again.
fn write_history(cluster: &Cluster, endpoint: &str) -> Result<(), String> {
    let txn = |requests: &str| cluster.call_with(endpoint, &["txn"], &format!("\n{requests}\n\n\n"));
    for batch in 0..BATCHES {
        let value = "x".repeat(600 + batch);
        let puts = (0..BATCH).map(|n| format!("put many/{batch}/{n:03} {value}\n"));
        txn(&puts.collect::<String>())?;
    }
    for n in 0..10 {
        cluster.call(endpoint, &["put", &format!("key/{n}"), &format!("value of {n}")])?;
        cluster.call(endpoint, &["put", "counter", &n.to_string()])?;
    }
    let granted = cluster.json(endpoint, &["lease", "grant", "100000"])?;
    let lease = format!("{:x}", granted["ID"].as_i64().ok_or("a lease")?);
    cluster.call(endpoint, &["put", "leased", "x", "--lease", &lease])?;
    cluster.call(endpoint, &["del", "key/3"])?;
    cluster.call(endpoint, &["del", "--prefix", "many/1/"])?;
    cluster.call(endpoint, &["put", "key/3", "again"])?;
    cluster.call(endpoint, &["del", "counter"])?;
    cluster.call(endpoint, &["compaction", "20", "--physical"])?;
    cluster.call(endpoint, &["del", "--prefix", "many/2/"])?;
    cluster.call(endpoint, &["put", "last", "one"]).map(drop)
}

/// A file, or a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("copy {} to {}: {error}", from.display(), to.display());
    if !from.is_dir() {
        return fs::copy(from, to).map(drop).map_err(failed);
    }
    fs::create_dir_all(to).map_err(failed)?;
    fs::set_permissions(to, fs::metadata(from).map_err(failed)?.permissions()).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
