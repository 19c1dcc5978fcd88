//! Three masters: each an etcd member, an API server over that member alone, a controller manager and a
//! scheduler, on a machine of its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::control_plane::ControlPlane;
use crate::etcd::{Etcd, Programs};
use crate::failure::{During, Failure, Outcome, fail};
use crate::ha::disk::Disk;
use crate::ha::gap::Gap;
use crate::ha::network::Network;
use crate::host::Host;
use crate::http::Identity;
use crate::node::Nodes;
use crate::pki::{Authorities, Pki};
use crate::process::{Ran, run};
use crate::transcript::Transcript;
use crate::wait;

pub const MASTER_COUNT: usize = 3;

pub const NODE_COUNT: usize = 3;

/// Limit of waits for things that take a moment on an idle machine.
pub const SOON: Duration = Duration::from_secs(90);

const KUBECTL_LIMIT: Duration = Duration::from_secs(120);

/// What keeps three API servers on one small machine from throttling each other.
const APISERVER_FLAGS: [&str; 3] = [
    "--enable-priority-and-fairness=false",
    "--max-requests-inflight=0",
    "--max-mutating-requests-inflight=0",
];

pub struct Master {
    pub host: Host,
    /// Where the member's data is, when it shall be able to hang. Goes first: see there.
    disk: Option<Disk>,
    pub etcd: Etcd,
    pub folder: PathBuf,
    pub pki: Pki,
    plane: Option<ControlPlane>,
}

impl Master {
    pub fn disk(&self) -> Outcome<&Disk> {
        self.disk.as_ref().ok_or_else(|| Failure(format!("{} has no disk of its own", self.host.name)))
    }

    pub fn plane(&self) -> Outcome<&ControlPlane> {
        self.plane.as_ref().ok_or_else(|| Failure(format!("no API server runs at {}", self.host.name)))
    }

    /// Ends what runs over its etcd.
    pub fn drop_plane(&mut self) {
        self.plane = None;
    }

    pub fn plane_mut(&mut self) -> Outcome<&mut ControlPlane> {
        let name = &self.host.name;
        self.plane.as_mut().ok_or_else(|| Failure(format!("no API server runs at {name}")))
    }
}

/// What becomes of a machine's data.
#[derive(Clone, Copy, PartialEq)]
pub enum Storage {
    Shared,
    /// Each machine has a [`Disk`].
    Own,
}

/// What one member says of itself.
#[derive(Clone, Debug)]
pub struct Status {
    pub member_id: u64,
    /// Zero when it knows none.
    pub leader: u64,
    pub term: u64,
    pub revision: i64,
}

pub struct Cluster {
    pub transcript: Transcript,
    pub masters: Vec<Master>,
    pub network: Network,
    pub folder: PathBuf,
    /// The longest times without a write, one for each fault so far.
    pub gaps: Vec<Gap>,
    /// Controllers that had to be started again.
    pub controller_restarts: usize,
    authorities: Arc<Authorities>,
    programs: Programs,
    kubernetes: PathBuf,
    nodes: Option<Nodes>,
    /// Namespaces of loads so far: each gets the next number.
    load_count: usize,
    storage: Storage,
}

impl Cluster {
    /// Machines, certificates and the transcript; starts nothing.
    pub fn create(
        folder: &Path,
        kubernetes: &Path,
        programs: &Programs,
        storage: Storage,
    ) -> Outcome<Cluster> {
        let mut cluster = Cluster {
            transcript: Transcript::create(&folder.join("transcript.txt"))?,
            masters: Vec::new(),
            network: Network::create()?,
            folder: folder.to_owned(),
            gaps: Vec::new(),
            controller_restarts: 0,
            authorities: Authorities::create()?,
            programs: programs.clone(),
            kubernetes: kubernetes.to_owned(),
            nodes: None,
            load_count: 0,
            storage,
        };
        for number in 1..=MASTER_COUNT {
            cluster.add_machine(number)?;
        }
        let all = cluster.initial_cluster();
        for master in &mut cluster.masters {
            master.etcd.bootstrap.cluster.clone_from(&all);
        }
        Ok(cluster)
    }

    /// One more machine `m<number>`, with certificates and nothing that runs.
    pub fn add_machine(&mut self, number: usize) -> Outcome {
        let name = format!("m{number}");
        let host = self.network.add(&name, 10 + u8::try_from(number)?)?;
        let folder = self.folder.join(&name);
        fs::create_dir_all(folder.join("logs")).during(folder.display())?;
        let pki = Pki::create(&folder.join("pki"), &self.authorities, &host)?;
        let mut etcd = Etcd::new(&self.programs, &pki, &host, &folder)?;
        let disk = match self.storage {
            Storage::Shared => None,
            Storage::Own => Some(Disk::create(&folder.join("disk"))?),
        };
        if let Some(disk) = &disk {
            etcd.data_dir = disk.folder.join("etcd");
        }
        self.masters.push(Master { host, disk, etcd, folder, pki, plane: None });
        Ok(())
    }

    /// `--initial-cluster` of all masters there are.
    pub fn initial_cluster(&self) -> String {
        let one = |master: &Master| format!("{}={}", master.host.name, master.etcd.peer_url());
        self.masters.iter().map(one).collect::<Vec<_>>().join(",")
    }

    pub fn start_members(&mut self) -> Outcome {
        for master in &mut self.masters {
            master.etcd.spawn()?;
        }
        self.masters.iter_mut().try_for_each(|master| master.etcd.wait_ready())
    }

    /// An API server at each master, then the rest.
    pub fn start_control_planes(&mut self) -> Outcome {
        // The first one fills the empty store; three at once would meet in every object.
        for index in 0..self.masters.len() {
            self.spawn_apiserver(index)?;
            if index == 0 {
                self.masters[0].plane_mut()?.wait_ready()?;
            }
        }
        for master in &mut self.masters {
            master.plane_mut()?.wait_ready()?;
            master.plane_mut()?.start_controllers()?;
        }
        Ok(())
    }

    pub fn spawn_apiserver(&mut self, index: usize) -> Outcome {
        let master = &mut self.masters[index];
        let (name, folder) = (&master.host.name, &master.folder);
        let plane =
            ControlPlane::spawn(name, &self.kubernetes, &master.pki, &master.etcd, folder, &APISERVER_FLAGS)?;
        master.plane = Some(plane);
        Ok(())
    }

    /// Takes a machine away with all that still runs there.
    pub fn remove_machine(&mut self, index: usize) -> Outcome {
        let mut master = self.masters.remove(index);
        self.network.cut(&master.host)?;
        master.etcd.kill()?;
        // Dropping its programs kills them: told to stop, they would try to write to the last.
        drop(master);
        Ok(())
    }

    /// Nodes that know every API server of the moment: started, or told.
    pub fn serve_nodes(&mut self) -> Outcome {
        let servers = self.masters.iter().map(|master| Ok(master.plane()?.address));
        let servers: Vec<SocketAddr> = servers.collect::<Outcome<_>>()?;
        match &self.nodes {
            Some(nodes) => nodes.change_servers(&servers),
            None => self.nodes = Some(Nodes::start(NODE_COUNT, &self.masters[0].pki, &servers)?),
        }
        Ok(())
    }

    pub fn stop_everything(&mut self) -> Outcome {
        self.nodes = None;
        for master in &mut self.masters {
            master.plane.take().map_or(Ok(()), ControlPlane::stop)?;
        }
        for master in &mut self.masters {
            master.etcd.stop()?;
        }
        Ok(())
    }

    /// An administrator at each API server.
    pub fn identities(&self) -> Outcome<Vec<Identity>> {
        self.masters.iter().map(|master| Ok(master.plane()?.identity().clone())).collect()
    }

    /// The number of the next namespace of writes.
    pub fn next_load(&mut self) -> usize {
        self.load_count += 1;
        self.load_count
    }

    /// Waits as [`wait::until`] does, and meanwhile plays the kubelet of the masters.
    pub fn wait<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&mut Cluster) -> Result<T, String>,
    ) -> Outcome<T> {
        wait::until(what, limit, || {
            self.tend().map_err(|error| error.to_string())?;
            condition(self)
        })
    }

    /// Starts ended controllers again. An API server must never end.
    pub fn tend(&mut self) -> Outcome {
        for master in &mut self.masters {
            if let Some(plane) = &mut master.plane {
                self.controller_restarts += plane.tend_controllers()?;
                plane.apiserver_still_running().map_err(Failure)?;
            }
        }
        Ok(())
    }

    /// What the member of this master says; an error when it does not answer.
    pub fn status(&self, index: usize) -> Outcome<Status> {
        let etcd = &self.masters[index].etcd;
        let arguments = ["endpoint", "status", "-w", "json", "--command-timeout=2s"];
        let answer = etcd.ctl(&arguments, None)?.must("endpoint status")?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let status = &answer[0]["Status"];
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        Ok(Status {
            member_id: number(&status["header"]["member_id"]),
            leader: number(&status["leader"]),
            term: number(&status["raftTerm"]),
            revision: status["header"]["revision"].as_i64().unwrap_or(0),
        })
    }

    /// Index of the master whose member leads, as all of those say that answer.
    pub fn leader(&self) -> Result<usize, String> {
        let all: BTreeMap<usize, Status> = (0..self.masters.len())
            .filter(|index| self.masters[*index].etcd.process().is_ok())
            .filter_map(|index| Some((index, self.status(index).ok()?)))
            .collect();
        let Some(newest) = all.values().max_by_key(|status| status.term) else {
            return Err("no member answers".to_owned());
        };
        if newest.leader == 0 || all.values().any(|status| status.leader != newest.leader) {
            return Err(format!("no common leader: {all:x?}"));
        }
        let leads = |(_, status): &(&usize, &Status)| status.member_id == newest.leader;
        all.iter().find(leads).map(|(index, _)| *index).ok_or_else(|| "the leader is silent".to_owned())
    }

    /// Sees to it that this master's member leads.
    pub fn make_leader(&mut self, index: usize) -> Outcome {
        let name = self.masters[index].host.name.clone();
        self.wait(&format!("{name} leads"), SOON, |cluster| {
            let leader = cluster.leader()?;
            if leader == index {
                return Ok(());
            }
            let id = cluster.status(index).map_err(|error| error.to_string())?.member_id;
            let moved = cluster.masters[leader].etcd.ctl(&["move-leader", &format!("{id:x}")], None);
            let moved = moved.map_err(|error| error.to_string())?;
            Err(format!("{} leads; move-leader: {}{}", cluster.name(leader), moved.text(), moved.stderr))
        })
    }

    pub fn programs_of_kubernetes(&self) -> &Path {
        &self.kubernetes
    }

    pub fn name(&self, index: usize) -> &str {
        &self.masters[index].host.name
    }

    pub fn all(&self) -> Vec<usize> {
        (0..self.masters.len()).collect()
    }

    /// The others, in order.
    pub fn others(&self, index: usize) -> Vec<usize> {
        self.all().into_iter().filter(|other| *other != index).collect()
    }

    pub fn other_hosts(&self, index: usize) -> Vec<Host> {
        self.others(index).into_iter().map(|other| self.masters[other].host.clone()).collect()
    }

    /// Runs kubectl against one master's API server, without a word in the transcript.
    pub fn kubectl(&self, index: usize, arguments: &[&str]) -> Outcome<Ran> {
        let master = &self.masters[index];
        let mut command = master.host.command(&self.kubernetes.join("kubectl"));
        command.arg("--kubeconfig").arg(&master.plane()?.kubeconfig).args(arguments);
        command.env("HOME", &self.folder).env("KUBECACHEDIR", master.folder.join("kubectl-cache"));
        run(&mut command, None, KUBECTL_LIMIT)
    }

    /// Shows a command of one master's etcdctl that must succeed. Its output holds names of this run.
    pub fn show_etcdctl(&mut self, index: usize, line: &str) -> Outcome<String> {
        self.transcript.command(&format!("etcdctl {line}"));
        let words: Vec<&str> = line.split(' ').collect();
        let ran = self.masters[index].etcd.ctl(&words, None)?;
        self.transcript.remark(&ran.text());
        self.transcript.remark(&ran.stderr);
        if !ran.success {
            return fail(format!("etcdctl {line}: {}", ran.stderr.trim()));
        }
        Ok(ran.text())
    }
}
