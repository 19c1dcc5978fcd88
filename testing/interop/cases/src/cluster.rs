//! Members that form a cluster, and what is asked of it with etcd's own etcdctl.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::member::{Member, Ports};

/// A machine under load may take its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A term that elections at the start hardly reach by themselves. Every handover begins the next.
const SETTLED_TERM: u64 = 12;

pub struct Cluster {
    pub members: Vec<Member>,
    etcdctl: PathBuf,
}

impl Cluster {
    /// As many members as there are ports, named `m0`, `m1` …; none runs.
    pub fn new(etcd: &Path, etcdctl: &Path, ports: &[Ports], folder: &Path) -> Cluster {
        let named = ports.iter().enumerate();
        let members = named.map(|(n, ports)| Member::new(etcd, &format!("m{n}"), *ports, folder)).collect();
        Cluster { members, etcdctl: etcdctl.to_owned() }
    }

    /// The first `size` members as `--initial-cluster` names them.
    pub fn initial(&self, size: usize) -> String {
        self.members[..size].iter().map(Member::named_url).collect::<Vec<_>>().join(",")
    }

    /// Starts the first `size` members as a new cluster, or with what they have.
    pub fn start(&mut self, size: usize) -> Result<(), String> {
        let initial = self.initial(size);
        for member in &mut self.members[..size] {
            member.start(&initial, "new")?;
        }
        self.members[..size].iter_mut().try_for_each(Member::ready)
    }

    pub fn endpoints(&self, size: usize) -> String {
        self.members[..size].iter().map(|member| member.ports.endpoint()).collect::<Vec<_>>().join(",")
    }

    /// One call, of which a failure is told. `endpoints` as in the flag.
    pub fn call(&self, endpoints: &str, words: &[&str]) -> Result<String, String> {
        self.call_with(endpoints, words, "")
    }

    pub fn call_with(&self, endpoints: &str, words: &[&str], stdin: &str) -> Result<String, String> {
        use std::io::Write;
        use std::process::Stdio;
        let failed = |what: &str| format!("etcdctl {} at {endpoints}: {what}", words.join(" "));
        let mut child = Command::new(&self.etcdctl)
            .args(["--endpoints", endpoints, "--command-timeout=10s"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&error.to_string()))?;
        if let Some(mut input) = child.stdin.take() {
            let _unread = input.write_all(stdin.as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| failed(&error.to_string()))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(failed(&String::from_utf8_lossy(&output.stderr))),
        }
    }

    pub fn json(&self, endpoints: &str, words: &[&str]) -> Result<Value, String> {
        let text = self.call(endpoints, &[words, &["-w", "json"]].concat())?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}: {text}", words.join(" ")))
    }

    /// Repeats until it gives something.
    pub fn wait<T>(
        &self,
        what: &str,
        mut step: impl FnMut() -> Result<Option<T>, String>,
    ) -> Result<T, String> {
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < PATIENCE {
            match step() {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {}
                Err(error) => last = error,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(self.members[0].with_log(&format!("not in time: {what}: {last}")))
    }

    /// Ids of the first `size` members, in hex as etcdctl takes them.
    pub fn ids(&self, size: usize) -> Result<Vec<String>, String> {
        let endpoints = self.endpoints(size);
        let listed = self.wait("members", || self.json(&endpoints, &["member", "list"]).map(Some))?;
        let members = listed["members"].as_array().cloned().unwrap_or_default();
        let id_of = |member: &Member| {
            let found = members.iter().find(|listed| listed["name"] == member.name.as_str());
            let id = found.and_then(|listed| listed["ID"].as_u64()).ok_or("a member without a name")?;
            Ok(format!("{id:x}"))
        };
        self.members[..size].iter().map(id_of).collect()
    }

    /// Hands leadership around until the first member leads in [`SETTLED_TERM`]: then headers are equal wherever the
    /// history is.
    pub fn settle(&self, size: usize) -> Result<(), String> {
        let ids = self.ids(size)?;
        let endpoints = self.endpoints(size);
        self.wait("the first member leads in the term chosen", || {
            let status = self.json(&endpoints, &["endpoint", "status"])?;
            let term = status[0]["Status"]["raftTerm"].as_u64().unwrap_or(0);
            let leader = format!("{:x}", status[0]["Status"]["leader"].as_u64().unwrap_or(0));
            if term == SETTLED_TERM && leader == ids[0] {
                return Ok(Some(Ok(())));
            }
            if term >= SETTLED_TERM {
                return Ok(Some(Err(format!("the cluster is in term {term} already"))));
            }
            let to = match term + 1 == SETTLED_TERM {
                true => &ids[0],
                false => ids[1..].iter().find(|id| **id != leader).ok_or("a member to lead")?,
            };
            self.call(&endpoints, &["move-leader", to]).map(|_| None)
        })?
    }
}
