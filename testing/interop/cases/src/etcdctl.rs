//! etcd's etcdctl at etcd's members is what ours at etcd's members, and etcd's at ours, must equal.

use tempfile::TempDir;

use crate::case::{Case, Step};
use crate::cluster::Cluster;
use crate::member::Ports;
use crate::run::Runner;
use crate::transcript::{Run, Tally, compare};
use crate::{Options, Programs, cases, invocations};

const CLUSTER_SIZE: usize = 3;
/// Others that may join.
const SPARE: usize = 2;

/// One member.
pub fn run(options: &Options) -> Result<Tally, String> {
    compare_all(options, &cases("etcdctl")?, 1, 0)
}

/// Three members.
pub fn run_cluster(options: &Options) -> Result<Tally, String> {
    compare_all(options, &cases("etcdctl-cluster")?, CLUSTER_SIZE, SPARE)
}

fn compare_all(options: &Options, steps: &[Step], size: usize, spare: usize) -> Result<Tally, String> {
    let (ports, dead) = Ports::free(size + spare)?;
    let (theirs, ours) = (&options.theirs, &options.ours);
    let pass = |title: &str, tool: &Programs, servers: &Programs| -> Result<Run, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let mut cluster = Cluster::new(&servers.etcd, &theirs.etcdctl, &ports, folder.path());
        let mut pass = Pass::start(&mut cluster, tool, size, dead, &folder)
            .map_err(|error| format!("{title}: {error}"))?;
        let mut transcripts = Vec::new();
        for step in steps {
            match step {
                Step::Invoke(case) => transcripts.push(pass.runner.run(case)?),
                Step::Act { place, words } => {
                    pass.act(words).map_err(|error| format!("{title}, {place}: {error}"))?;
                }
            }
        }
        Ok(Run { title: title.to_owned(), transcripts })
    };
    let expected = pass("etcd's etcdctl at etcd", theirs, theirs)?;
    let mut total = Tally::default();
    let actual = pass("our etcdctl at etcd", ours, theirs)?;
    let invocations = invocations(steps);
    total += compare("etcdctl", &invocations, |case| options.is_chosen(case), &expected, &actual);
    let actual = pass("etcd's etcdctl at our etcd", theirs, ours)?;
    let is_chosen = |case: &Case| options.is_chosen(case) && !case.tools_only;
    total += compare("etcdctl", &invocations, is_chosen, &expected, &actual);
    Ok(total)
}

struct Pass<'a> {
    runner: Runner,
    cluster: &'a mut Cluster,
    /// The members of the cluster by their place among all that there may be.
    joined: Vec<usize>,
}

impl<'a> Pass<'a> {
    /// `$E0`, `$P0`, `$M0` are endpoint, peer URL and id of the first member; `$ENDPOINT` is `$E0`, `$ALL` are
    /// the endpoints of all that the cluster begins with, and nobody listens at `$DEAD`.
    fn start(
        cluster: &'a mut Cluster,
        tool: &Programs,
        size: usize,
        dead: u16,
        folder: &TempDir,
    ) -> Result<Pass<'a>, String> {
        cluster.start(size)?;
        let mut runner = Runner::new(&tool.etcdctl, folder.path(), without_logs);
        for (n, member) in cluster.members.iter().enumerate() {
            runner.name(&format!("E{n}"), &member.ports.endpoint());
            runner.name(&format!("P{n}"), &member.ports.peer_url());
        }
        let endpoint = cluster.members[0].ports.endpoint();
        runner.name("ENDPOINT", &endpoint);
        runner.env("ETCDCTL_ENDPOINTS", &endpoint);
        runner.name("ALL", &cluster.endpoints(size));
        runner.name("DEAD", &format!("127.0.0.1:{dead}"));
        if size > 1 {
            cluster.settle(size)?;
            for (n, id) in cluster.ids(size)?.iter().enumerate() {
                runner.name(&format!("M{n}"), id);
            }
        }
        Ok(Pass { runner, cluster, joined: (0..size).collect() })
    }

    /// | step | does |
    /// |---|---|
    /// | `@ start N` | starts a member that was added or was stopped |
    /// | `@ stop N` | stops it |
    /// | `@ forget N` | stops it, and it is no longer named to those that join |
    /// | `@ leader N` | waits until it leads, in the eyes of all that run |
    fn act(&mut self, words: &[String]) -> Result<(), String> {
        let [verb, number] = words else { return Err("a step has two words".to_owned()) };
        let n: usize = number.parse().map_err(|error| format!("{number}: {error}"))?;
        let member = self.cluster.members.get_mut(n).ok_or("no such member")?;
        match verb.as_str() {
            "start" => {
                if !self.joined.contains(&n) {
                    self.joined.push(n);
                }
                let named = self.joined.iter().map(|&n| self.cluster.members[n].named_url());
                let named = named.collect::<Vec<_>>().join(",");
                let member = &mut self.cluster.members[n];
                member.start(&named, "existing")?;
                member.ready()
            }
            "stop" => member.stop(),
            "forget" => {
                self.joined.retain(|&joined| joined != n);
                member.stop()?;
                match std::fs::remove_dir_all(&member.data_dir) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.to_string()),
                    _ => Ok(()),
                }
            }
            "leader" => self.leads(n),
            unknown => Err(format!("no step {unknown:?}")),
        }
    }

    fn leads(&self, n: usize) -> Result<(), String> {
        let running = self.joined.iter().map(|&n| &self.cluster.members[n]).filter(|it| it.is_running());
        let endpoints: Vec<String> = running.map(|member| member.ports.endpoint()).collect();
        let leader = self.cluster.members[n].ports.endpoint();
        self.cluster.wait("it leads", || {
            let id = self.cluster.json(&leader, &["endpoint", "status"])?;
            let id = id[0]["Status"]["header"]["member_id"].clone();
            let all = self.cluster.json(&endpoints.join(","), &["endpoint", "status"])?;
            let agree = |all: &serde_json::Value| {
                all.as_array().is_some_and(|all| all.iter().all(|it| it["Status"]["leader"] == id))
            };
            Ok(agree(&all).then_some(()))
        })
    }
}

/// Go's client logs JSON lines of its own; they are not part of the comparison.
fn without_logs(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with("{\"level\":")).collect()
}
