//! Members start from what etcdutl made, and hold what they held.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::fixture::{Content, Fixture, copy, hash_at};
use crate::cluster::Cluster;
use crate::member::Ports;
use crate::{Options, Programs};

pub const CLUSTER_SIZE: usize = 3;

/// By how much revisions are bumped, where they are.
const BUMP: i64 = 1_000_000;

struct Restored<'a> {
    title: String,
    tool: &'a Programs,
    servers: &'a Programs,
    bumped: bool,
}

/// Errors tell what does not hold.
pub fn check(options: &Options, origin: &str, fixture: &Fixture, ports: &[Ports]) -> Result<(), String> {
    let (theirs, ours) = (&options.theirs, &options.ours);
    for (by, at, tool, servers) in [
        ("our etcdutl", "etcd", ours, theirs),
        ("our etcdutl", "our etcd", ours, ours),
        ("etcd's etcdutl", "our etcd", theirs, ours),
    ] {
        for bumped in [false, true] {
            let what = if bumped { "restored and bumped" } else { "restored" };
            let title = format!("{origin}, {what} by {by}, at {at}");
            let restored = Restored { title, tool, servers, bumped };
            restored
                .check(options, fixture, ports)
                .map_err(|error| format!("{}: {error}", restored.title))?;
        }
    }
    for (title, words, tool, etcd) in [
        ("defragmented by ours, at etcd", &["defrag"][..], ours, &theirs.etcd),
        ("defragmented by etcd's, at ours", &["defrag"], theirs, &ours.etcd),
        ("moved to 3.5 by ours, at etcd", &["migrate", "--target-version=3.5"], ours, &theirs.etcd),
        ("moved to 3.5 by etcd's, at ours", &["migrate", "--target-version=3.5"], theirs, &ours.etcd),
    ] {
        starts_after(options, words, tool, etcd, fixture, ports[0])
            .map_err(|error| format!("{origin}, {title}: {error}"))?;
    }
    Ok(())
}

impl Restored<'_> {
    /// Restores three members, one of them with its log elsewhere, and starts them.
    fn check(&self, options: &Options, fixture: &Fixture, ports: &[Ports]) -> Result<(), String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let etcdctl = &options.theirs.etcdctl;
        let mut cluster = Cluster::new(&self.servers.etcd, etcdctl, &ports[..CLUSTER_SIZE], folder.path());
        let initial = cluster.initial(CLUSTER_SIZE);
        for (n, member) in cluster.members.iter_mut().enumerate() {
            let mut restore = Command::new(&self.tool.etcdutl);
            restore.args(["snapshot", "restore"]).arg(fixture.folder().join("snapshot.db"));
            restore.args(["--name", &member.name, "--initial-cluster", &initial]);
            restore.args(["--initial-cluster-token=interop", "--initial-advertise-peer-urls"]);
            restore.arg(member.ports.peer_url()).arg("--data-dir").arg(&member.data_dir);
            if n == 1 {
                let wal_dir = folder.path().join("elsewhere");
                member.more = vec![format!("--wal-dir={}", wal_dir.display())];
                restore.arg("--wal-dir").arg(wal_dir);
            }
            if self.bumped {
                restore.arg(format!("--bump-revision={BUMP}")).arg("--mark-compacted");
            }
            succeed(&mut restore)?;
        }
        cluster.start(CLUSTER_SIZE)?;
        self.check_content(&cluster, &fixture.content)
    }

    fn check_content(&self, cluster: &Cluster, before: &Content) -> Result<(), String> {
        let endpoints = cluster.endpoints(CLUSTER_SIZE);
        cluster.wait("a write", || cluster.call(&endpoints, &["put", "after", "1"]).map(Some))?;
        let next = before.revision + 1 + if self.bumped { BUMP } else { 0 };
        let mut hashes = Vec::new();
        for endpoint in endpoints.split(',') {
            let after = cluster.json(endpoint, &["get", "after"])?;
            let revision = after["header"]["revision"].as_i64();
            if revision != Some(next) {
                return Err(format!("{endpoint} is at revision {revision:?}, not {next}"));
            }
            hashes.push(hash_at(cluster, endpoint, next)?);
            let old = before.revision.to_string();
            let at_old = cluster.json(endpoint, &["get", "", "--from-key", "--rev", &old]);
            match (self.bumped, at_old) {
                (true, Err(error)) if error.contains("required revision has been compacted") => {}
                (true, told) => return Err(format!("{endpoint} has revision {old}: {told:?}")),
                (false, told) => {
                    let keys = told?["kvs"].take();
                    let hash = hash_at(cluster, endpoint, before.revision)?;
                    if keys != before.keys || hash != before.hash {
                        return Err(format!("{endpoint} has other keys or another hash than before"));
                    }
                }
            }
            let removed =
                cluster.json(endpoint, &["get", "", "--from-key", "--rev", &(next - 1).to_string()]);
            if self.bumped && removed.map(|mut told| told["kvs"].take())? != before.keys {
                return Err(format!("{endpoint} has other keys than before"));
            }
        }
        let equal = hashes.windows(2).all(|pair| pair[0] == pair[1]);
        if equal { Ok(()) } else { Err(format!("hashes differ: {hashes:?}")) }
    }
}

/// A copy of the directory, worked on, is one that this server starts from with all that it held.
fn starts_after(
    options: &Options,
    words: &[&str],
    tool: &Programs,
    etcd: &Path,
    fixture: &Fixture,
    ports: Ports,
) -> Result<(), String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let mut cluster = Cluster::new(etcd, &options.theirs.etcdctl, &[ports], folder.path());
    let data_dir = &cluster.members[0].data_dir;
    copy(&fixture.folder().join("data.etcd"), data_dir)?;
    succeed(Command::new(&tool.etcdutl).args(words).arg("--data-dir").arg(data_dir))?;
    cluster.start(1)?;
    let content = Content::of(&cluster, &ports.endpoint())?;
    if content == fixture.content { Ok(()) } else { Err("other keys or another hash than before".to_owned()) }
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
