//! The process as supervisors and scripts meet it: exit codes, texts, readiness, signals.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A machine under load may take its time; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary with an environment of its own.
fn etcd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcd"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

fn run(arguments: &[&str]) -> Output {
    etcd(arguments).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn version_is_four_lines_on_stdout() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0], "etcd Version: 3.7.3");
    assert!(lines[1].starts_with("Git SHA: ") && lines[2].starts_with("Go Version: rustc "));
    assert!(lines[3].starts_with("Go OS/Arch: linux/"));
}

#[test]
fn help_goes_to_both_outputs_and_succeeds() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).starts_with("Usage:"));
    let flags = text(&output.stdout);
    assert!(flags.lines().any(|line| line.trim_start().starts_with("--unsafe-no-fsync ")));
}

/// Codes and texts seen from etcd 3.7.3, where it has the case.
#[test]
fn mistakes_have_gos_exit_codes() {
    for (arguments, code, wanted) in [
        (&["--foo"][..], 2, "flag provided but not defined: -foo\nUsage:"),
        (
            &["--heartbeat-interval=x"],
            2,
            "invalid value \"x\" for flag -heartbeat-interval: parse error\nUsage:",
        ),
        (&["--log-level=x"], 2, "panic: unrecognized level: \"x\""),
        (&["stray"], 1, r#""error":"\"stray\" is not a valid flag""#),
        (&["--heartbeat-interval=0"], 1, r#""error":"--heartbeat-interval must be >0 (set to 0ms)""#),
        (&["--config-file=/nonexistent"], 1, "open /nonexistent: no such file or directory"),
        (&["--listen-client-urls=http://127.0.0.1:0"], 1, "advertise client URLs are not set"),
        (&["--memory-mlock"], 1, "not support"),
        (&["gateway"], 1, "not built"),
    ] {
        let output = run(arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(wanted), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_variable_beside_its_flag_is_fatal() {
    let output = etcd(&["--name=a"]).env("ETCD_NAME", "a").output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains(r#""level":"fatal""#) && stderr.contains("ETCD_NAME"), "{stderr}");
}

/// A machine that is paused and goes on interrupts calls that have a time limit.
fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// A running member whose clients and peers come over unix sockets, so that no test takes a port from another.
struct Running {
    child: Child,
    dir: tempfile::TempDir,
    supervisor: UnixDatagram,
}

impl Running {
    /// Starts and waits until the member tells its supervisor that it is ready.
    fn start(dir: tempfile::TempDir, more: &[&str]) -> Running {
        let mut arguments = vec![
            "--listen-peer-urls=http://127.0.0.1:0",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        ];
        arguments.extend(more);
        let mut running = Running::spawn(dir, "m", &arguments);
        running.wait_until_ready();
        running
    }

    fn spawn(dir: tempfile::TempDir, name: &str, more: &[&str]) -> Running {
        let notified = dir.path().join("notify");
        let _ = std::fs::remove_file(&notified);
        let supervisor = UnixDatagram::bind(&notified).expect("bound");
        supervisor.set_read_timeout(Some(PATIENCE)).expect("set");
        let clients = format!("unix://{}", dir.path().join("clients").display());
        let data_dir = dir.path().join("data").display().to_string();
        let mut arguments = vec![
            "--name",
            name,
            "--data-dir",
            &data_dir,
            "--listen-client-urls",
            &clients,
            "--advertise-client-urls",
            &clients,
            "--unsafe-no-fsync",
            "--heartbeat-interval=10",
            "--election-timeout=50",
            "--log-level=debug",
        ];
        arguments.extend(more);
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let child = etcd(&arguments)
            .env("NOTIFY_SOCKET", &notified)
            .stderr(Stdio::from(log))
            .spawn()
            .expect("the binary starts");
        Running { child, dir, supervisor }
    }

    fn wait_until_ready(&mut self) {
        let mut message = [0; 64];
        match retry_interrupted(|| self.supervisor.recv(&mut message)) {
            Ok(len) => assert_eq!(&message[..len], b"READY=1"),
            Err(error) => panic!("not ready ({error}): {}", self.end(Signal::KILL).1.join("\n")),
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("clients")).expect("the socket is there");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    /// The signal that ended the process, and its log.
    fn end(&mut self, signal: Signal) -> (Option<i32>, Vec<String>) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        let ended = self.child.wait().expect("it ends").signal();
        let log = std::fs::read_to_string(self.dir.path().join("log")).expect("text");
        (ended, log.lines().map(str::to_owned).collect())
    }

    fn becomes_healthy(&self) {
        let started = std::time::Instant::now();
        while !self.get("/health").ends_with(r#"{"health":"true","reason":""}"#) {
            assert!(started.elapsed() < PATIENCE, "not healthy in time");
        }
    }

    fn leads(&self) -> bool {
        self.get("/metrics").lines().any(|line| line == "etcd_server_is_leader 1")
    }
}

fn check_record(line: &str) -> Value {
    let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    for field in ["level", "ts", "caller", "msg"] {
        assert!(record[field].is_string(), "{field}: {line}");
    }
    assert_ne!(record["level"], "error", "{line}");
    record
}

#[test]
fn a_member_is_ready_serves_and_ends_by_the_signal() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut running = Running::start(dir, &["--experimental-initial-corrupt-check=true"]);
    assert!(running.get("/health").ends_with(r#"{"health":"true","reason":""}"#));
    assert!(running.get("/version").contains(r#""etcdserver":"3.7.3""#));
    assert!(running.dir.path().join("data/member/wal").is_dir());
    let (signal, log) = running.end(Signal::TERM);
    assert_eq!(signal, Some(Signal::TERM.as_raw()), "{}", log.join("\n"));
    let messages: Vec<String> =
        log.iter().map(|line| check_record(line)["msg"].as_str().unwrap_or_default().to_owned()).collect();
    for wanted in ["ready to serve client requests", "received signal; shutting down", "closed etcd server"] {
        assert!(messages.iter().any(|message| message == wanted), "{wanted}: {}", log.join("\n"));
    }
    assert!(log.iter().any(|line| line.contains(r#""snapshot-catchup-entries":5000"#)));

    // Again on the same data; what bootstraps a cluster is not read now, so it may name others.
    let dir = std::mem::replace(&mut running.dir, tempfile::tempdir().expect("a temporary directory"));
    let mut running = Running::start(
        dir,
        &["--initial-cluster=x=http://h:1,y=http://h:2", "--feature-gates=InitialCorruptCheck=true"],
    );
    assert!(running.get("/health").contains("200 OK"));
    let (signal, log) = running.end(Signal::INT);
    assert_eq!(signal, Some(Signal::INT.as_raw()), "{}", log.join("\n"));
    for wanted in ["server has already been initialized", "initial corruption checking passed; no corruption"]
    {
        assert!(log.iter().any(|line| line.contains(wanted)), "{wanted}: {}", log.join("\n"));
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}", taken.local_addr().expect("bound"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = start_with(dir.path(), &["--listen-peer-urls", &url]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("bind: address already in use"), "{stderr}");
}

fn start_with(dir: &Path, arguments: &[&str]) -> Output {
    let data_dir = dir.join("data").display().to_string();
    let mut all = vec!["--data-dir", &data_dir];
    all.extend(arguments);
    run(&all)
}

/// Three members over unix sockets, healthy, and how to start one of them again.
fn three_members() -> (Vec<Running>, impl Fn(usize, tempfile::TempDir) -> Running) {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a temporary directory")).collect();
    let urls: Vec<String> =
        dirs.iter().map(|dir| format!("unix://{}", dir.path().join("peers").display())).collect();
    let cluster: Vec<String> = urls.iter().enumerate().map(|(n, url)| format!("m{n}={url}")).collect();
    let cluster = cluster.join(",");
    let spawn = move |n: usize, dir: tempfile::TempDir| {
        let arguments = [
            "--listen-peer-urls",
            &urls[n],
            "--initial-advertise-peer-urls",
            &urls[n],
            "--initial-cluster",
            &cluster,
        ];
        Running::spawn(dir, &format!("m{n}"), &arguments)
    };
    let mut members: Vec<Running> = dirs.into_iter().enumerate().map(|(n, dir)| spawn(n, dir)).collect();
    for member in &mut members {
        member.wait_until_ready();
    }
    members.iter().for_each(Running::becomes_healthy);
    (members, spawn)
}

/// One is killed while it leads, and comes back.
#[test]
fn three_members_survive_the_loss_of_their_leader() {
    let (mut members, spawn) = three_members();
    let started = std::time::Instant::now();
    let leader = loop {
        if let Some(leader) = members.iter().position(Running::leads) {
            break leader;
        }
        assert!(started.elapsed() < PATIENCE, "no leader in time");
    };
    let (signal, _) = members[leader].end(Signal::KILL);
    assert_eq!(signal, Some(Signal::KILL.as_raw()));
    for (n, member) in members.iter().enumerate() {
        if n != leader {
            member.becomes_healthy();
        }
    }
    let dir =
        std::mem::replace(&mut members[leader].dir, tempfile::tempdir().expect("a temporary directory"));
    members[leader] = spawn(leader, dir);
    members[leader].wait_until_ready();
    members[leader].becomes_healthy();
    for member in &mut members {
        let (signal, log) = member.end(Signal::TERM);
        assert_eq!(signal, Some(Signal::TERM.as_raw()), "{}", log.join("\n"));
        log.iter().for_each(|line| drop(check_record(line)));
    }
}

/// All members of a cluster are stopped at once: the last ones have requests that nobody can decide any more.
#[test]
fn a_member_without_a_quorum_stops_without_waiting_for_requests() {
    let (mut members, _) = three_members();
    let mut last = members.pop().expect("three");
    for member in &mut members {
        member.end(Signal::KILL);
    }
    let clients = format!("unix://{}", last.dir.path().join("clients").display());
    let putting = std::thread::spawn(move || {
        let client = client::Client::new(client::Config::to([&clients])).expect("a client");
        let request = proto::etcdserverpb::PutRequest { key: "k".into(), ..Default::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(client.put(request)).expect_err("nobody can decide it").to_string()
    });
    let pending = |member: &Running| {
        member.get("/metrics").lines().any(|line| line == "etcd_server_proposals_pending 1")
    };
    while !pending(&last) {
        assert!(!putting.is_finished(), "refused: {}", putting.join().expect("no panic"));
    }
    let (signal, log) = last.end(Signal::TERM);
    assert_eq!(signal, Some(Signal::TERM.as_raw()), "{}", log.join("\n"));
    // Not "request timed out".
    let answer = putting.join().expect("no panic");
    assert!(answer.contains("etcdserver: server stopped"), "{answer}\n{}", log.join("\n"));
}

#[test]
fn members_find_each_other_by_a_token() {
    const TOKEN: &str = "cluster-of-two";
    let dir = tempfile::tempdir().expect("a temporary directory");
    let registry = format!("unix://{}", dir.path().join("clients").display());
    let mut registrar = Running::start(dir, &[]);
    let put = |key: &str, value: &str| {
        let client = client::Client::new(client::Config::to([&registry])).expect("a client");
        let key = format!("/_etcd/registry/{TOKEN}/{key}");
        let request = proto::etcdserverpb::PutRequest {
            key: key.into(),
            value: value.to_owned().into(),
            ..proto::etcdserverpb::PutRequest::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(client.put(request)).expect("put");
    };
    put("_config/size", "2");
    let spawn = |name: &str| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let peers = format!("unix://{}", dir.path().join("peers").display());
        let arguments = [
            "--listen-peer-urls",
            &peers,
            "--initial-advertise-peer-urls",
            &peers,
            "--discovery-token",
            TOKEN,
            "--discovery-endpoints",
            &registry,
        ];
        Running::spawn(dir, name, &arguments)
    };
    let mut members = ["a", "b"].map(spawn);
    for member in &mut members {
        member.wait_until_ready();
    }
    // The third comes too late.
    let mut late = spawn("c");
    let status = late.child.wait().expect("it ends");
    let log = std::fs::read_to_string(late.dir.path().join("log")).expect("text");
    assert_eq!(status.code(), Some(1), "{log}");
    let expected = r#""error":"failed to join discovery cluster (discovery: cluster is full)""#;
    assert!(log.contains(expected), "{log}");
    for member in members.iter_mut().chain([&mut registrar]) {
        let (signal, log) = member.end(Signal::TERM);
        assert_eq!(signal, Some(Signal::TERM.as_raw()), "{}", log.join("\n"));
    }
}
