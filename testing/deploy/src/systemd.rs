//! `deploy/etcd.service`, and the unit that courses teach, under a real systemd.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::machine::{self, ADDRESS, Machine, NAME};
use crate::options::Options;
use crate::shell::{Ran, wait_until};
use crate::transcript::Transcript;
use crate::{Side, compare, notify, pki};

/// A member that was killed is back by then; the unit waits five seconds before it tries.
const BACK_LIMIT: Duration = Duration::from_secs(90);

const PKI: &str = "/etc/etcd/pki";

pub fn run(options: &Options) -> Result<(), String> {
    let unit = fs::read_to_string(options.root.join("deploy").join("etcd.service"));
    let unit = unit.map_err(|error| format!("deploy/etcd.service: {error}"))?;
    let reference = options.peer("etcd 3.7.3", "3.7");
    let check = match machine::is_possible(&reference.programs) {
        Ok(()) => in_machine,
        Err(why) => {
            println!("   no machine here ({why}): what a supervisor sees is checked without one");
            notify::check
        }
    };
    let reference = check(&reference, &unit)?;
    let ours = check(&options.ours(), &unit)?;
    compare(&reference, &ours)
}

fn in_machine(side: &Side, unit: &str) -> Result<Transcript, String> {
    let mut transcript = Transcript::new(side.name);
    let host = Machine::boot(&side.programs, |root| furnish(root, unit))?;
    let mut member = Member { host };
    let steps: [Step; 6] = [shipped_unit, environment, lives, wrong_files, reboot, course_unit];
    for step in steps {
        step(&mut member, &mut transcript)
            .map_err(|error| format!("{}: {error}\n{}", side.name, member.journal()))?;
    }
    Ok(transcript)
}

fn furnish(root: &Path, unit: &str) -> Result<(), String> {
    let write = |name: &str, text: &str| {
        let path = root.join("etc").join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let pki = root.join("etc/etcd/pki");
    pki::write(&pki, &["127.0.0.1".to_owned(), ADDRESS.to_owned(), "localhost".to_owned()])?;
    machine::hand_to_etcd(&pki)?;
    write("systemd/system/etcd.service", unit)?;
    write("systemd/system/course.service", &course())
}

/// The unit of "the hard way", every flag in the course's spelling.
fn course() -> String {
    format!(
        "[Unit]\nDescription=etcd\n\n[Service]\nType=notify\nExecStart=/usr/local/bin/etcd \\\n  \
         --name {NAME} \\\n  --cert-file={PKI}/server.crt \\\n  --key-file={PKI}/server.key \\\n  \
         --peer-cert-file={PKI}/server.crt \\\n  --peer-key-file={PKI}/server.key \\\n  \
         --trusted-ca-file={PKI}/ca.crt \\\n  --peer-trusted-ca-file={PKI}/ca.crt \\\n  \
         --peer-client-cert-auth \\\n  --client-cert-auth \\\n  \
         --initial-advertise-peer-urls https://{ADDRESS}:2380 \\\n  --listen-peer-urls https://{ADDRESS}:2380 \\\n  \
         --listen-client-urls https://{ADDRESS}:2379,https://127.0.0.1:2379 \\\n  \
         --advertise-client-urls https://{ADDRESS}:2379 \\\n  --initial-cluster-token etcd-cluster-0 \\\n  \
         --initial-cluster {NAME}=https://{ADDRESS}:2380 \\\n  --initial-cluster-state new \\\n  \
         --data-dir=/var/lib/course\nRestart=on-failure\nRestartSec=5\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}

type Step = fn(&mut Member, &mut Transcript) -> Result<(), String>;

struct Member {
    host: Machine,
}

impl Member {
    fn systemctl(&self, words: &[&str]) -> Result<Ran, String> {
        self.host.run(&[&["systemctl"], words].concat())
    }

    fn must(&self, words: &[&str]) -> Result<(), String> {
        let ran = self.systemctl(words)?;
        match ran.is_ok() {
            true => Ok(()),
            false => Err(format!("systemctl {words:?} ended with {}: {}", ran.code, ran.text)),
        }
    }

    fn etcdctl(&self, words: &[&str]) -> Result<Ran, String> {
        let (ca, cert, key) = (file("ca.crt"), file("client.crt"), file("client.key"));
        let tls = ["--cacert", &ca, "--cert", &cert, "--key", &key];
        self.host.run(&[&["etcdctl", "--endpoints=https://127.0.0.1:2379"], &tls[..], words].concat())
    }

    fn greeting(&self) -> Result<String, String> {
        Ok(self.etcdctl(&["get", "greeting", "--print-value-only"])?.line())
    }

    /// Properties of a unit, in the order asked for.
    fn show(&self, unit: &str, properties: &[&str]) -> Result<String, String> {
        let list = properties.join(",");
        let text = self.systemctl(&["show", unit, "--property", &list])?.text;
        let mut lines: Vec<&str> = text.lines().collect();
        let place = |line: &&str| properties.iter().position(|name| line.starts_with(&format!("{name}=")));
        lines.sort_by_key(place);
        Ok(lines.join(" "))
    }

    fn journal(&self) -> String {
        let text = self.host.run(&["journalctl", "--no-pager", "-o", "cat", "-n", "30"]);
        text.map_or_else(|error| error, |ran| ran.text)
    }

    /// Whether the journal of this start of the machine has a line with this text.
    fn told(&self, unit: &str, text: &str) -> Result<&'static str, String> {
        let journal = self.host.run(&["journalctl", "--no-pager", "-o", "cat", "-b", "-u", unit])?;
        Ok(if journal.text.contains(text) { "told" } else { "not told" })
    }
}

fn file(name: &str) -> String {
    format!("{PKI}/{name}")
}

fn shipped_unit(member: &mut Member, transcript: &mut Transcript) -> Result<(), String> {
    member.must(&["enable", "etcd"])?;
    member.must(&["start", "etcd"])?;
    // No waiting: "started" means that it serves.
    let health = member.etcdctl(&["endpoint", "health"])?;
    transcript.expect(
        "health at the moment when start returns",
        format!("exit code {}", health.code),
        "exit code 0",
    )?;
    transcript.tell(health.text.trim());
    let state = member.show("etcd", &["Type", "ActiveState", "SubState", "NRestarts"])?;
    transcript.expect("the unit", state, "Type=notify ActiveState=active SubState=running NRestarts=0")?;
    let members = member.etcdctl(&["member", "list", "-w", "simple"])?.text;
    let members = members.trim().split_once(", ").map_or("none", |(_id, rest)| rest).to_owned();
    transcript.note("the member, but for its id", members);
    for (who, words) in [
        ("a client without a certificate", vec!["--cacert", "/etc/etcd/pki/ca.crt"]),
        (
            "a client of another authority",
            vec![
                "--cacert",
                "/etc/etcd/pki/ca.crt",
                "--cert",
                "/etc/etcd/pki/stranger.crt",
                "--key",
                "/etc/etcd/pki/stranger.key",
            ],
        ),
    ] {
        let command = [
            &["etcdctl", "--endpoints=https://127.0.0.1:2379", "--command-timeout=2s", "--dial-timeout=2s"],
            &words[..],
            &["get", "a"],
        ];
        let ran = member.host.run(&command.concat())?;
        transcript.expect(who, if ran.is_ok() { "served" } else { "refused" }, "refused")?;
    }
    let plain = ["etcdctl", "--endpoints=http://127.0.0.1:2379", "--command-timeout=2s", "get", "a"];
    let plain = member.host.run(&plain)?;
    transcript.expect("a client without TLS", if plain.is_ok() { "served" } else { "refused" }, "refused")?;
    let told = member.told("etcd", "rejected connection on client endpoint")?;
    transcript.expect("refusals in the journal", told, "told")?;
    let owner = member.host.run(&["stat", "--format", "%U %a", "/var/lib/etcd/member"])?;
    transcript.expect("owner and mode of the data", owner.line(), "etcd 700")
}

fn environment(member: &mut Member, transcript: &mut Transcript) -> Result<(), String> {
    let path = member.host.root().join("etc/etcd/etcd.env");
    let write = |text: &str| fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()));
    write("ETCD_QUOTA_BACKEND_BYTES=1234567890\nETCD_SNAPSHOT_COUNT=5000\n")?;
    member.must(&["restart", "etcd"])?;
    let metrics = member.host.run(&["curl", "-s", "http://127.0.0.1:2381/metrics"])?;
    let quota = metrics.text.lines().find_map(|line| line.strip_prefix("etcd_server_quota_backend_bytes "));
    // Go's spelling of large numbers is another.
    let quota = quota.and_then(|quota| quota.parse::<f64>().ok());
    let quota = quota.map_or("missing".to_owned(), |quota| quota.to_string());
    transcript.expect("the quota from the environment file", quota, "1234567890")?;
    let told = member.told("etcd", "recognized and used environment variable")?;
    transcript.expect("its use", told, "told")?;

    write("ETCD_NAME=x\n")?;
    member.must(&["stop", "etcd"])?;
    restart_never(member)?;
    let start = member.systemctl(&["start", "etcd"])?;
    let state = member.show("etcd", &["ActiveState", "Result", "ExecMainStatus"])?;
    transcript.note("a flag and its variable at once", format!("exit code {}: {state}", start.code));
    let why = "conflicting environment variable is shadowed by corresponding command-line flag";
    transcript.expect("the reason", member.told("etcd", why)?, "told")?;
    fs::remove_file(&path).map_err(|error| error.to_string())?;
    restart_as_shipped(member)?;
    member.must(&["start", "etcd"])
}

/// So that a failure stays to be looked at.
fn restart_never(member: &Member) -> Result<(), String> {
    drop_in(member, "[Service]\nRestart=no\n")
}

fn drop_in(member: &Member, text: &str) -> Result<(), String> {
    let folder = member.host.root().join("etc/systemd/system/etcd.service.d");
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join("test.conf"), text))
        .map_err(|e| e.to_string())?;
    member.must(&["daemon-reload"])
}

fn restart_as_shipped(member: &Member) -> Result<(), String> {
    let folder = member.host.root().join("etc/systemd/system/etcd.service.d");
    fs::remove_dir_all(folder).map_err(|error| error.to_string())?;
    member.must(&["daemon-reload"])?;
    member.must(&["reset-failed"])
}

fn lives(member: &mut Member, transcript: &mut Transcript) -> Result<(), String> {
    let put = member.etcdctl(&["put", "greeting", "hello"])?;
    transcript.note("put", put.line());
    member.must(&["restart", "etcd"])?;
    transcript.expect("after a restart", member.greeting()?, "hello")?;

    member.must(&["kill", "--signal=KILL", "etcd"])?;
    wait_until("the member comes back", BACK_LIMIT, || {
        let state = member.show("etcd", &["ActiveState", "NRestarts"])?;
        Ok((state == "ActiveState=active NRestarts=1").then_some(()))
    })?;
    transcript.expect("killed, and restarted by systemd", member.greeting()?, "hello")?;

    member.must(&["stop", "etcd"])?;
    let state = member.show("etcd", &["ActiveState", "Result", "ExecMainCode", "ExecMainStatus"])?;
    transcript.note("stopped", state);
    member.must(&["start", "etcd"])?;
    member.must(&["kill", "--signal=TERM", "etcd"])?;
    wait_until("SIGTERM ends the member", BACK_LIMIT, || {
        Ok(member.show("etcd", &["ActiveState"])?.ends_with("=inactive").then_some(()))
    })?;
    transcript.note("ended by SIGTERM", member.show("etcd", &["Result", "NRestarts", "ExecMainStatus"])?);
    member.must(&["start", "etcd"])
}

fn wrong_files(member: &mut Member, transcript: &mut Transcript) -> Result<(), String> {
    let unit = fs::read_to_string(member.host.root().join("etc/systemd/system/etcd.service"));
    let unit = unit.map_err(|error| error.to_string())?;
    let start = unit.find("ExecStart=").ok_or("the unit starts nothing")?;
    let command = &unit[start + "ExecStart=".len()..];
    // Up to the first line that does not go on.
    let end = command
        .match_indices('\n')
        .find(|(at, _)| !command[..*at].ends_with('\\'))
        .map_or(command.len(), |(at, _)| at);
    let command = &command[..end];
    member.must(&["stop", "etcd"])?;
    for (what, from, to, told) in [
        (
            "a certificate that is not there",
            "server.crt",
            "missing.crt",
            "missing.crt: no such file or directory",
        ),
        ("a key that is not there", "server.key", "missing.key", "missing.key: no such file or directory"),
        (
            "an authority that is not there",
            "ca.crt",
            "missing-ca.crt",
            "missing-ca.crt: no such file or directory",
        ),
        ("a key of another certificate", "server.key", "client.key", "private key does not match public key"),
    ] {
        drop_in(
            member,
            &format!("[Service]\nRestart=no\nExecStart=\nExecStart={}\n", command.replace(from, to)),
        )?;
        let start = member.systemctl(&["start", "etcd"])?;
        // etcd says that it is ready before it opens these files, so that its start may even succeed.
        transcript.tell(&format!("systemctl start: exit code {}", start.code));
        wait_until("the member gives up", BACK_LIMIT, || {
            Ok(member.show("etcd", &["ActiveState"])?.ends_with("=failed").then_some(()))
        })?;
        let state = member.show("etcd", &["ActiveState", "Result", "ExecMainStatus"])?;
        transcript.note(what, state);
        transcript.expect("the reason", member.told("etcd", told)?, "told")?;
    }
    restart_as_shipped(member)?;
    member.must(&["start", "etcd"])
}

fn reboot(member: &mut Member, transcript: &mut Transcript) -> Result<(), String> {
    member.host.reboot()?;
    let state = member.show("etcd", &["ActiveState", "NRestarts"])?;
    transcript.expect("the unit after a reboot", state, "ActiveState=active NRestarts=0")?;
    transcript.expect("the data after a reboot", member.greeting()?, "hello")?;
    member.must(&["disable", "--now", "etcd"])
}

fn course_unit(member: &mut Member, transcript: &mut Transcript) -> Result<(), String> {
    member.must(&["start", "course"])?;
    let health = member.etcdctl(&["endpoint", "health"])?;
    let health = format!("exit code {}", health.code);
    transcript.expect("the course's unit: health when start returns", health, "exit code 0")?;
    let members = member.etcdctl(&["member", "list", "-w", "table"])?.text;
    let wanted = format!("https://{ADDRESS}:2379");
    let shown = if members.contains(&wanted) { wanted.clone() } else { members };
    transcript.expect("its member", shown, &wanted)?;
    member.must(&["stop", "course"])
}
