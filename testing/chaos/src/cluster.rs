//! The members of a run: where they are, how they are started, who of them leads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::{Client, Config, Tls};
use proto::etcdserverpb::{Member, StatusResponse};
use rustix::process::Signal;

use crate::data::DATA;
use crate::failure::{During, Outcome, fail};
use crate::history::Recorder;
use crate::member::Process;
use crate::namespace::{CLIENT_PORT, PEER_PORT, address, command_in, proxy_address};
use crate::pki::Pki;
use crate::proxy::Proxy;
use crate::slow_disk::{Disk, Library};

/// Entries between two snapshots, and entries that are kept behind one: so few that a member that was away
/// for some seconds needs a snapshot.
const SNAPSHOT_COUNT: u32 = 100;
const SNAPSHOT_CATCHUP_ENTRIES: u32 = 50;
/// How long one member may take to say how it is.
const STATUS_TIMEOUT: Duration = Duration::from_millis(800);

/// A kind of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// For people: `go`, `ours`, or the path.
    pub name: String,
    pub path: PathBuf,
    /// Reaches its disk through libc, so that faults of the disk can be played.
    pub uses_libc: bool,
}

impl Program {
    /// The release before ours: a cluster goes back to it only by a downgrade.
    pub const GO_3_6: &str = "go-3.6";

    pub fn is_3_6(&self) -> bool {
        self.name == Program::GO_3_6
    }

    /// The version under which it stores its data.
    pub fn storage_version(&self) -> &'static str {
        if self.is_3_6() { "3.6.0" } else { "3.7.0" }
    }
}

pub struct Setup {
    pub seed: u64,
    /// What each slot begins with; the last is the spare one, for members that are added.
    pub programs: Vec<Program>,
    pub with_proxy: bool,
    pub with_tls: bool,
    /// Further flags for every member.
    pub flags: Vec<String>,
}

pub struct Cluster {
    setup: Setup,
    folder: PathBuf,
    pub recorder: Arc<Recorder>,
    pub proxy: Option<Proxy>,
    pki: Option<Pki>,
    disks: Option<Library>,
    slots: Mutex<Vec<Slot>>,
}

struct Slot {
    program: Program,
    /// Counts the members that lived here, each with a fresh directory.
    life: u32,
    /// Whether it is to be in the cluster.
    is_member: bool,
    /// Whether it has had its first start, and which members it was told of for that.
    initial: Option<(String, &'static str)>,
    process: Option<Arc<Process>>,
}

impl Cluster {
    /// Prepares everything and starts all but the spare slot.
    pub async fn start(setup: Setup, folder: &Path, recorder: Arc<Recorder>) -> Outcome<Cluster> {
        let count = setup.programs.len();
        let proxy = if setup.with_proxy { Some(Proxy::start(count).await?) } else { None };
        let pki = if setup.with_tls { Some(Pki::create(&folder.join("pki"), count)?) } else { None };
        let any_libc = setup.programs.iter().any(|program| program.uses_libc);
        let disks = if any_libc { Some(Library::build(folder)?) } else { None };
        let programs = setup.programs.iter().cloned().enumerate();
        let slots = programs.map(|(slot, program)| Slot {
            program,
            life: 0,
            is_member: slot + 1 < count,
            initial: None,
            process: None,
        });
        let slots = Mutex::new(slots.collect());
        let cluster = Cluster { setup, folder: folder.to_owned(), recorder, proxy, pki, disks, slots };
        let members: Vec<String> =
            (0..count - 1).map(|slot| format!("{}={}", name(slot, 0), cluster.peer_url(slot))).collect();
        let initial = members.join(",");
        for slot in 0..count - 1 {
            cluster.lock()[slot].initial = Some((initial.clone(), "new"));
            cluster.run(slot)?;
        }
        Ok(cluster)
    }

    /// What runs in this slot, now or when it is started next.
    pub fn program(&self, slot: usize) -> Program {
        self.lock()[slot].program.clone()
    }

    /// From its next start on, the slot's member runs this program on what the other one left.
    pub fn change_program(&self, slot: usize, program: &Program) {
        self.lock()[slot].program = program.clone();
    }

    /// All places for members, the spare one too.
    pub fn slots(&self) -> std::ops::Range<usize> {
        0..self.setup.programs.len()
    }

    /// Slots that are to be in the cluster.
    pub fn members(&self) -> Vec<usize> {
        let slots = self.lock();
        self.slots().filter(|slot| slots[*slot].is_member).collect()
    }

    pub fn is_running(&self, slot: usize) -> bool {
        let slots = self.lock();
        slots[slot].process.as_ref().is_some_and(|process| process.is_running())
    }

    /// Starts the member of this slot if it does not run.
    pub fn run(&self, slot: usize) -> Outcome {
        let mut slots = self.lock();
        if slots[slot].process.as_ref().is_some_and(|process| process.is_running()) {
            return Ok(());
        }
        let Some((initial, state)) = slots[slot].initial.clone() else {
            return fail(format!("slot {slot} has no member"));
        };
        let (life, program) = (slots[slot].life, slots[slot].program.clone());
        let command = self.command(slot, life, &program, &initial, state)?;
        let log = self.folder.join(format!("{}.log", name(slot, life)));
        let process = Process::start(slot, &log, command, Arc::clone(&self.recorder))?;
        slots[slot].process = Some(Arc::new(process));
        Ok(())
    }

    fn command(
        &self,
        slot: usize,
        life: u32,
        program: &Program,
        initial: &str,
        state: &str,
    ) -> Outcome<tokio::process::Command> {
        let data = self.data(slot, life);
        let scheme = self.scheme();
        let mut command = command_in(slot);
        command.arg(&program.path);
        let mut flag = |name: &str, value: &str| {
            command.arg(format!("--{name}={value}"));
        };
        flag("name", &name(slot, life));
        flag("data-dir", &data.display().to_string());
        flag("listen-peer-urls", &format!("{scheme}://{}:{PEER_PORT}", address(slot)));
        flag("initial-advertise-peer-urls", &self.peer_url(slot));
        flag("listen-client-urls", &self.client_url(slot));
        flag("advertise-client-urls", &self.client_url(slot));
        flag("initial-cluster", initial);
        flag("initial-cluster-state", state);
        flag("initial-cluster-token", &format!("chaos-{}", self.setup.seed));
        flag("snapshot-count", &SNAPSHOT_COUNT.to_string());
        let experimental = if program.is_3_6() { "experimental-" } else { "" };
        flag(&format!("{experimental}snapshot-catchup-entries"), &SNAPSHOT_CATCHUP_ENTRIES.to_string());
        flag(&format!("{experimental}watch-progress-notify-interval"), "1s");
        if let Some(pki) = &self.pki {
            let pair = pki.member(slot);
            for side in ["", "peer-"] {
                flag(&format!("{side}cert-file"), &pair.certificate.display().to_string());
                flag(&format!("{side}key-file"), &pair.key.display().to_string());
                flag(&format!("{side}trusted-ca-file"), &pki.authority().display().to_string());
                flag(&format!("{side}client-cert-auth"), "true");
            }
        }
        command.args(&self.setup.flags);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if let (Some(disks), true) = (&self.disks, program.uses_libc) {
            disks.set(slot, Disk::default())?;
            command.envs(disks.environment(slot, &data));
        }
        Ok(command)
    }

    pub async fn kill(&self, slot: usize) -> Outcome {
        match self.process(slot) {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    pub async fn stop(&self, slot: usize, limit: Duration) -> Outcome {
        match self.process(slot) {
            Some(process) => process.stop(limit).await.map(|_| ()),
            None => Ok(()),
        }
    }

    pub fn signal(&self, slot: usize, signal: Signal) -> Outcome {
        match self.process(slot) {
            Some(process) => process.signal(signal),
            None => Ok(()),
        }
    }

    /// From now on the member may end by itself: its disk fails, or it is removed.
    pub fn may_end(&self, slot: usize) {
        if let Some(process) = self.process(slot) {
            process.may_end();
        }
    }

    pub async fn wait_end(&self, slot: usize, limit: Duration) -> Outcome {
        match self.process(slot) {
            Some(process) => process.wait_end(limit).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Sets what the member's disk does, if it can be set.
    pub fn set_disk(&self, slot: usize, disk: Disk) -> Outcome<bool> {
        match (&self.disks, self.program(slot).uses_libc) {
            (Some(disks), true) => disks.set(slot, disk).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Gives the slot a new member with a fresh directory, to be started with [`Cluster::run`].
    pub fn settle(&self, slot: usize, known: &[Member]) {
        let mut slots = self.lock();
        let life = slots[slot].life + 1;
        let url = self.peer_url(slot);
        let others =
            known.iter().filter(|member| !member.peer_ur_ls.contains(&url) && !member.name.is_empty());
        let mut initial: Vec<String> = others
            .flat_map(|member| member.peer_ur_ls.iter().map(|url| format!("{}={url}", member.name)))
            .collect();
        initial.push(format!("{}={url}", name(slot, life)));
        let slot = &mut slots[slot];
        slot.life = life;
        slot.is_member = true;
        slot.initial = Some((initial.join(","), "existing"));
        slot.process = None;
    }

    /// The slot's member was removed: its data goes.
    pub fn vacate(&self, slot: usize) -> Outcome {
        let mut slots = self.lock();
        slots[slot].is_member = false;
        slots[slot].initial = None;
        let data = self.data(slot, slots[slot].life);
        if data.exists() {
            std::fs::remove_dir_all(&data).during(data.display())?;
        }
        Ok(())
    }

    pub fn free_slot(&self) -> Option<usize> {
        let slots = self.lock();
        self.slots().find(|slot| !slots[*slot].is_member)
    }

    fn process(&self, slot: usize) -> Option<Arc<Process>> {
        self.lock()[slot].process.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        // Whatever panicked, a slot is changed in one step.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self, slot: usize, life: u32) -> PathBuf {
        self.folder.join(DATA).join(name(slot, life))
    }

    fn scheme(&self) -> &'static str {
        if self.pki.is_some() { "https" } else { "http" }
    }

    pub fn client_url(&self, slot: usize) -> String {
        format!("{}://{}:{CLIENT_PORT}", self.scheme(), address(slot))
    }

    pub fn peer_url(&self, slot: usize) -> String {
        let address = if self.proxy.is_some() { proxy_address(slot) } else { address(slot) };
        format!("{}://{address}:{PEER_PORT}", self.scheme())
    }

    /// A client of this member alone, with a connection of its own.
    pub fn client(&self, slot: usize) -> Outcome<Client> {
        let mut config = Config::to([self.client_url(slot)]);
        config.tls = self.pki.as_ref().map(|pki| Tls {
            ca_file: Some(pki.authority()),
            cert_file: Some(pki.client().certificate),
            key_file: Some(pki.client().key),
            ..Tls::default()
        });
        Client::new(config).during("make a client")
    }

    /// How the member sees itself; nothing if it does not answer soon.
    pub async fn status(&self, slot: usize) -> Option<StatusResponse> {
        let client = self.client(slot).ok()?.with_timeout(STATUS_TIMEOUT);
        let url = self.client_url(slot);
        let status = tokio::time::timeout(STATUS_TIMEOUT * 2, client.status(&url)).await;
        status.ok()?.ok()
    }

    /// The statuses of all members, of those that answer.
    pub async fn statuses(&self) -> Vec<(usize, StatusResponse)> {
        let members = self.members();
        let asked = members.iter().map(|slot| async { Some((*slot, self.status(*slot).await?)) });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// The slot of the leader in the newest term that a member knows of.
    pub async fn leader(&self) -> Option<usize> {
        let statuses = self.statuses().await;
        let newest = statuses.iter().filter(|(_, status)| status.leader != 0);
        let (_, newest) = newest.max_by_key(|(_, status)| status.raft_term)?;
        let leads = |status: &StatusResponse| {
            status.header.as_ref().is_some_and(|header| header.member_id == newest.leader)
        };
        statuses.iter().find(|(_, status)| leads(status)).map(|(slot, _)| *slot)
    }
}

fn name(slot: usize, life: u32) -> String {
    format!("m{slot}-{life}")
}
