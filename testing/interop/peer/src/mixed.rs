//! Clusters of etcd 3.7, etcd 3.6 and ours.

use serde_json::Value;

use crate::process::{Place, Process, wait};
use crate::{Programs, etcdctl, http};

/// Writes behind the back of a member, so many that it needs a snapshot afterwards. Each is an entry of its own.
const BEHIND: usize = 300;

/// How often a member is left behind until it needs a snapshot.
const ATTEMPTS: usize = 30;

pub struct Member {
    pub place: Place,
    pub process: Option<Process>,
}

pub struct Cluster<'a> {
    programs: &'a Programs,
    pub members: Vec<Member>,
    writes: usize,
}

pub fn run(programs: &Programs) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut cluster = Cluster::new(programs, folder.path())?;
    cluster.settle()?;
    for leader in 0..cluster.members.len() {
        cluster.lead(leader)?;
        cluster.write_everywhere()?;
        cluster.leases(leader)?;
        // Whoever comes back gets a snapshot of this leader.
        for other in (0..cluster.members.len()).filter(|other| *other != leader) {
            cluster.catch_up_by_snapshot(other)?;
        }
    }
    // The leader dies.
    for leader in 0..cluster.members.len() {
        cluster.lead(leader)?;
        cluster.kill(leader)?;
        cluster.write_everywhere()?;
        cluster.start(leader)?;
        cluster.agree()?;
    }
    cluster.join_and_leave(folder.path())?;
    let writes = cluster.writes;
    Ok(format!(
        "{writes} writes, each of etcd 3.7, etcd 3.6 and ours led, died, and got snapshots of the others"
    ))
}

impl<'a> Cluster<'a> {
    pub fn new(programs: &'a Programs, root: &std::path::Path) -> Result<Cluster<'a>, String> {
        let mut members = Vec::new();
        for (name, etcd, catch_up) in [
            ("go37", &programs.etcd_3_7, "--snapshot-catchup-entries=20"),
            ("go36", &programs.etcd_3_6, "--experimental-snapshot-catchup-entries=20"),
            ("ours", &programs.ours, "--snapshot-catchup-entries=20"),
        ] {
            let mut place = Place::new(name, etcd, root)?;
            place.more = vec!["--snapshot-count=50".to_owned(), catch_up.to_owned()];
            members.push(Member { place, process: None });
        }
        Ok(Cluster { programs, members, writes: 0 })
    }

    /// As the members' flags name it.
    pub fn initial(&self) -> String {
        let all: Vec<String> = self.members.iter().map(|member| member.place.named_url()).collect();
        all.join(",")
    }

    pub fn settle(&mut self) -> Result<(), String> {
        let initial = self.initial();
        for member in &mut self.members {
            member.process = Some(member.place.start(&initial, "new")?);
        }
        for member in &mut self.members {
            member.process.as_mut().ok_or("started")?.ready()?;
        }
        self.agree()
    }

    fn start(&mut self, n: usize) -> Result<(), String> {
        let initial = self.initial();
        let member = &mut self.members[n];
        let process = member.process.insert(member.place.start(&initial, "new")?);
        process.ready()
    }

    pub fn kill(&mut self, n: usize) -> Result<(), String> {
        self.members[n].process.take().ok_or("it runs")?.kill()
    }

    fn running(&self) -> Vec<&Place> {
        self.members.iter().filter(|member| member.process.is_some()).map(|member| &member.place).collect()
    }

    fn write(&mut self, place: &Place) -> Result<(), String> {
        self.writes += 1;
        let key = format!("k{}", self.writes % 97);
        etcdctl::surely(self.programs, place, &["put", &key, &self.writes.to_string()]).map(drop)
    }

    pub fn write_everywhere(&mut self) -> Result<(), String> {
        let places: Vec<Place> = self.running().into_iter().cloned().collect();
        for place in &places {
            self.write(place)?;
        }
        // Read by another one than it was written by.
        for (n, place) in places.iter().enumerate() {
            let key = format!("k{}", (self.writes - (places.len() - 1 - n)) % 97);
            let expected = (self.writes - (places.len() - 1 - n)).to_string();
            let other = &places[(n + 1) % places.len()];
            let told = etcdctl::surely(self.programs, other, &["get", &key, "--print-value-only"])?;
            if told.trim() != expected {
                return Err(format!("{key}, written at {}, is {told:?} at {}", place.name, other.name));
            }
        }
        Ok(())
    }

    fn status(&self, place: &Place) -> Result<Value, String> {
        let status = etcdctl::json(self.programs, place, &["endpoint", "status"])?;
        Ok(status[0]["Status"].clone())
    }

    /// Moves the leadership there.
    pub fn lead(&mut self, n: usize) -> Result<(), String> {
        let mut last = String::new();
        let places: Vec<Place> = self.running().into_iter().cloned().collect();
        let next = self.members[n].place.clone();
        let moved = wait("it leads", || {
            let status = match self.status(&next) {
                Ok(status) => status,
                Err(error) => {
                    last = error;
                    return Ok(false);
                }
            };
            let id = status["header"]["member_id"].as_u64().unwrap_or(0);
            if status["leader"].as_u64() == Some(id) {
                return Ok(true);
            }
            let endpoints: Vec<String> = places.iter().map(Place::client_url).collect();
            let everywhere = format!("--endpoints={}", endpoints.join(","));
            let words = [everywhere.as_str(), "move-leader", &format!("{id:x}")];
            last = etcdctl::call(self.programs, &next, &words).err().unwrap_or_default();
            Ok(false)
        });
        moved.map_err(|error| format!("{}: {error}: {last}", next.name))
    }

    /// Granted at one member, renewed and asked for at the others, which ask the leader.
    fn leases(&mut self, leader: usize) -> Result<(), String> {
        let places: Vec<Place> = self.running().into_iter().cloned().collect();
        let follower = &places[(leader + 1) % places.len()];
        let granted = etcdctl::surely(self.programs, follower, &["lease", "grant", "600"])?;
        let id = granted.split_whitespace().nth(1).ok_or("a lease id")?.to_owned();
        for place in &places {
            let renewed = etcdctl::surely(self.programs, place, &["lease", "keep-alive", "--once", &id])?;
            let times = etcdctl::surely(self.programs, place, &["lease", "timetolive", &id])?;
            if !renewed.contains("TTL(600)") || !times.contains("granted with TTL(600s)") {
                return Err(format!("lease {id} at {}: {renewed}{times}", place.name));
            }
        }
        etcdctl::surely(self.programs, follower, &["lease", "revoke", &id]).map(drop)
    }

    /// Kills a member, writes so much that it cannot catch up from the log, and starts it again.
    fn restart_behind(&mut self, n: usize) -> Result<(), String> {
        self.kill(n)?;
        let place = self.running()[0].clone();
        for n in 0..BEHIND {
            etcdctl::surely(self.programs, &place, &["put", &format!("b{n}"), &n.to_string()])?;
        }
        self.writes += BEHIND;
        self.start(n)
    }

    /// A leader that has just sent a snapshot keeps its log for half a minute, from which the next one catches up:
    /// then it is left behind again.
    fn catch_up_by_snapshot(&mut self, n: usize) -> Result<(), String> {
        for _ in 0..ATTEMPTS {
            self.restart_behind(n)?;
            self.agree()?;
            if self.had_snapshot(n)? {
                return Ok(());
            }
        }
        let member = &self.members[n];
        let log = member.process.as_ref().map(Process::last_lines).unwrap_or_default();
        Err(format!("{} never needed a snapshot; its log:\n{log}", member.place.name))
    }

    /// Whether it has received one since its last start. Counted by itself, in etcd's metric.
    fn had_snapshot(&self, n: usize) -> Result<bool, String> {
        let place = &self.members[n].place;
        let page = http::ask(place.client_port, "GET", "/metrics", &[], b"")?;
        let page = String::from_utf8_lossy(&page.body).into_owned();
        Ok(page.lines().any(|line| line.starts_with("etcd_network_snapshot_receive_success{")))
    }

    /// All running members come to have applied the same, and have equal hashes then.
    pub fn agree(&self) -> Result<(), String> {
        let places = self.running();
        let mut last = String::new();
        let agreed = wait("all have the same", || {
            let mut seen = Vec::new();
            for place in &places {
                match etcdctl::json(self.programs, place, &["endpoint", "hashkv"]) {
                    Ok(told) => {
                        let told = &told[0]["HashKV"];
                        seen.push((told["header"]["revision"].as_i64(), told["hash"].as_u64()));
                    }
                    Err(error) => {
                        last = error;
                        return Ok(false);
                    }
                }
            }
            last = format!("{seen:?}");
            let revisions_agree = seen.windows(2).all(|pair| pair[0].0 == pair[1].0);
            if revisions_agree && seen.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                return Err(format!("at equal revisions the hashes differ: {last}"));
            }
            Ok(revisions_agree)
        });
        agreed.map_err(|error| format!("{error}: {last}"))
    }

    /// A member of etcd that got a snapshot of more than 5,000 entries takes nothing for applied before an entry follows:
    /// should its first publication be lost on its way, it refuses all further ones ("too many requests") in a
    /// cluster where nobody writes. Seen between two members of etcd.
    fn ready_under_writes(&self, process: &mut Process, at: &Place) -> Result<(), String> {
        wait("it is ready while others write", || {
            etcdctl::surely(self.programs, at, &["put", "beside", "v"])?;
            Ok(process.ended().is_some() || process.log_text().contains("ready to serve client requests"))
        })
        .and_then(|()| process.ready())
    }

    /// A member of ours joins, is told of its removal, and ends; then one of etcd's does.
    fn join_and_leave(&mut self, root: &std::path::Path) -> Result<(), String> {
        let first = self.members[0].place.clone();
        for (name, etcd) in [("ours2", &self.programs.ours), ("go37b", &self.programs.etcd_3_7)] {
            let place = Place::new(name, etcd, root)?;
            let url = format!("--peer-urls={}", place.peer_url());
            let added = etcdctl::surely(self.programs, &first, &["member", "add", name, &url])?;
            let id = added.split_whitespace().nth(1).ok_or("a member id")?.to_owned();
            let mut process =
                place.start(&format!("{},{}", self.initial(), place.named_url()), "existing")?;
            if etcd == &self.programs.ours {
                process.ready()?;
            } else {
                self.ready_under_writes(&mut process, &first)?;
            }
            self.members.push(Member { place, process: Some(process) });
            self.write_everywhere()?;
            self.agree()?;
            etcdctl::surely(self.programs, &first, &["member", "remove", &id])?;
            let mut left = self.members.pop().ok_or("just added")?;
            let process = left.process.as_mut().ok_or("it runs")?;
            let log = |process: &Process| process.last_lines();
            wait("a removed member ends", || Ok(process.ended().is_some()))
                .map_err(|error| format!("{name}: {error}; its log:\n{}", log(process)))?;
            if !process.ended().is_some_and(|status| status.success()) {
                return Err(format!("{name} ended badly; its log:\n{}", process.last_lines()));
            }
        }
        Ok(())
    }
}
