//! What a supervisor sees of the process where no machine can be had: readiness, exit codes, the last log line.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::shell::{run, succeed, wait_until};
use crate::transcript::Transcript;
use crate::{Side, pki};

const LIMIT: Duration = Duration::from_secs(90);

struct Place {
    folder: TempDir,
    etcd: PathBuf,
    etcdctl: PathBuf,
    client: u16,
    peer: u16,
}

pub fn check(side: &Side, unit: &str) -> Result<Transcript, String> {
    let mut transcript = Transcript::new(side.name);
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    pki::write(folder.path(), &["127.0.0.1".to_owned()])?;
    let [client, peer] = ports::free_array().map_err(|error| error.to_string())?;
    let programs = &side.programs;
    let place =
        Place { folder, etcd: programs.join("etcd"), etcdctl: programs.join("etcdctl"), client, peer };
    verify_unit(&place, unit, &mut transcript)?;

    let (member, socket) = place.start(&[], &[])?;
    let mut member = Running(member);
    let said = receive(&socket)?;
    transcript.expect("said to the supervisor", said.trim(), "READY=1")?;
    let health = run(&mut place.ctl(&["endpoint", "health"]))?;
    transcript.expect("health at that moment", format!("exit code {}", health.code), "exit code 0")?;
    succeed(&mut place.ctl(&["put", "greeting", "hello"]))?;
    member.0.kill().map_err(|error| error.to_string())?;
    transcript.note("killed", member.ended()?);

    let (child, socket) = place.start(&[], &[("ETCD_QUOTA_BACKEND_BYTES", "1234567890")])?;
    member = Running(child);
    receive(&socket)?;
    let value = succeed(&mut place.ctl(&["get", "greeting", "--print-value-only"]))?;
    transcript.expect("after that", value.trim(), "hello")?;
    let id = member.0.id().to_string();
    succeed(Command::new("kill").args(["-TERM", &id]))?;
    transcript.note("ended by SIGTERM", member.ended()?);
    transcript.expect("a variable", place.told("recognized and used environment variable"), "told")?;

    let (child, _socket) = place.start(&[], &[("ETCD_NAME", "x")])?;
    transcript.note("a flag and its variable at once", Running(child).ended()?);
    transcript.expect("the reason", place.told("conflicting environment variable is shadowed"), "told")?;
    for (flag, file, reason) in [
        ("--cert-file", "missing.crt", "missing.crt: no such file or directory"),
        ("--key-file", "missing.key", "missing.key: no such file or directory"),
        ("--trusted-ca-file", "missing-ca.crt", "missing-ca.crt: no such file or directory"),
        ("--key-file", "client.key", "private key does not match public key"),
    ] {
        let value = format!("{flag}={}", place.file(file));
        let (child, _socket) = place.start(&[&value], &[])?;
        let ended = Running(child).ended()?;
        transcript.note(&format!("{flag} {file}"), ended);
        transcript.expect("the reason", place.told(reason), "told")?;
    }
    Ok(transcript)
}

/// Where systemd is not running, its parser may still be there.
fn verify_unit(place: &Place, unit: &str, transcript: &mut Transcript) -> Result<(), String> {
    let path = place.folder.path().join("etcd.service");
    let etcd = place.etcd.display().to_string();
    fs::write(&path, unit.replace("/usr/local/bin/etcd", &etcd)).map_err(|error| error.to_string())?;
    let mut verify = Command::new("systemd-analyze");
    match run(verify.args(["verify", "--man=no", "--generators=no"]).arg(&path)) {
        Ok(ran) => transcript.tell(&format!("systemd-analyze verify: {} {}", ran.code, ran.text)),
        Err(error) => transcript.tell(&error),
    }
    Ok(())
}

impl Place {
    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn start(&self, more: &[&str], variables: &[(&str, &str)]) -> Result<(Child, UnixDatagram), String> {
        let path = self.folder.path().join("notify");
        let _left_over = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        socket.set_read_timeout(Some(LIMIT)).map_err(|error| error.to_string())?;
        let log = fs::File::create(self.folder.path().join("log")).map_err(|error| error.to_string())?;
        let (client, peer) = (self.client, self.peer);
        let child = Command::new(&self.etcd)
            .env_clear()
            .env("NOTIFY_SOCKET", &path)
            .envs(variables.iter().copied())
            .arg("--name=controller-0")
            .arg(format!("--data-dir={}", self.file("data")))
            .arg(format!("--listen-client-urls=https://127.0.0.1:{client}"))
            .arg(format!("--advertise-client-urls=https://127.0.0.1:{client}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"))
            .arg(format!("--initial-cluster=controller-0=http://127.0.0.1:{peer}"))
            .arg(format!("--cert-file={}", self.file("server.crt")))
            .arg(format!("--key-file={}", self.file("server.key")))
            .arg(format!("--trusted-ca-file={}", self.file("ca.crt")))
            .arg("--client-cert-auth")
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Ok((child.map_err(|error| format!("start {}: {error}", self.etcd.display()))?, socket))
    }

    fn ctl(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.etcdctl);
        command.arg(format!("--endpoints=https://127.0.0.1:{}", self.client));
        command.args(["--cacert", &self.file("ca.crt"), "--cert", &self.file("client.crt")]);
        command.args(["--key", &self.file("client.key")]).args(words);
        command
    }

    fn told(&self, text: &str) -> &'static str {
        let log = fs::read_to_string(Path::new(&self.file("log"))).unwrap_or_default();
        if log.contains(text) { "told" } else { "not told" }
    }
}

/// Killed when it is dropped.
struct Running(Child);

impl Running {
    fn ended(&mut self) -> Result<String, String> {
        let status = wait_until("the process ends", LIMIT, || self.0.try_wait().map_err(|e| e.to_string()))?;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => status.to_string(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn receive(socket: &UnixDatagram) -> Result<String, String> {
    let mut said = [0; 256];
    let len =
        socket.recv(&mut said).map_err(|error| format!("nothing was said to the supervisor: {error}"))?;
    Ok(String::from_utf8_lossy(&said[..len]).into_owned())
}
