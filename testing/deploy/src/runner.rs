//! A kubelet for one static pod: starts its command, carries out its probes, restarts it when it must.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::pod::{Pod, Probe};
use crate::probe;
use crate::shell::{run, wait_until};

const TICK: Duration = Duration::from_millis(100);
/// A kubelet's default `terminationGracePeriodSeconds`.
const GRACE: Duration = Duration::from_secs(30);

pub struct Kubelet {
    pod: Pod,
    /// The image's `/usr/local/bin`.
    programs: PathBuf,
    log: PathBuf,
    child: Child,
    startup: Watched,
    liveness: Watched,
    readiness: Option<Watched>,
    pub restarts: u32,
    /// Why it was restarted, or not ready, the last time.
    pub complaint: String,
}

/// A probe with what it has shown since the container started.
struct Watched {
    probe: Probe,
    next: Instant,
    failures: u32,
    passes: bool,
}

impl Watched {
    fn new(probe: &Probe) -> Watched {
        Watched {
            probe: probe.clone(),
            next: Instant::now() + probe.initial_delay,
            failures: 0,
            passes: false,
        }
    }

    /// Asks if it is time to. The answer that it has failed too often in a row comes as an error.
    fn tick(&mut self) -> Result<(), String> {
        if Instant::now() < self.next {
            return Ok(());
        }
        let answer = probe::ask(&self.probe);
        self.next = Instant::now() + self.probe.period;
        match answer {
            Ok(()) => (self.passes, self.failures) = (true, 0),
            Err(why) => {
                self.failures += 1;
                if self.failures >= self.probe.failure_threshold {
                    self.passes = false;
                    return Err(format!("{}: {why}", self.probe.path));
                }
            }
        }
        Ok(())
    }
}

impl Kubelet {
    pub fn start(pod: Pod, programs: &Path, log: &Path) -> Result<Kubelet, String> {
        for folder in &pod.folders {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let child = spawn(&pod, programs, log)?;
        Ok(Kubelet {
            startup: Watched::new(&pod.startup),
            liveness: Watched::new(&pod.liveness),
            readiness: pod.readiness.as_ref().map(Watched::new),
            programs: programs.to_owned(),
            log: log.to_owned(),
            pod,
            child,
            restarts: 0,
            complaint: String::new(),
        })
    }

    pub fn is_started(&self) -> bool {
        self.startup.passes
    }

    pub fn is_ready(&self) -> bool {
        self.is_started() && self.readiness.as_ref().is_none_or(|readiness| readiness.passes)
    }

    /// Ticks until the pod is ready; an error when a start takes longer than its startup probe allows.
    pub fn until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + self.pod.startup.budget() + GRACE;
        while !self.is_ready() {
            if Instant::now() > deadline {
                return Err(format!("not ready in time: {}\n{}", self.complaint, self.last_words()));
            }
            self.tick()?;
            sleep(TICK);
        }
        Ok(())
    }

    /// One look at everything that is due.
    pub fn tick(&mut self) -> Result<(), String> {
        if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
            return self.restart(format!("the container ended with {status}"));
        }
        if !self.startup.passes {
            if let Err(why) = self.startup.tick() {
                return self.kill_and_restart(why);
            }
            return Ok(());
        }
        if let Err(why) = self.liveness.tick() {
            return self.kill_and_restart(why);
        }
        if let Some(readiness) = &mut self.readiness
            && let Err(why) = readiness.tick()
        {
            self.complaint = why;
        }
        Ok(())
    }

    /// The container's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// As when the manifest is taken away.
    pub fn stop(mut self) -> Result<ExitStatus, String> {
        self.terminate()
    }

    fn kill_and_restart(&mut self, why: String) -> Result<(), String> {
        self.terminate()?;
        self.restart(why)
    }

    fn restart(&mut self, why: String) -> Result<(), String> {
        self.restarts += 1;
        self.complaint = why;
        self.child = spawn(&self.pod, &self.programs, &self.log)?;
        self.startup = Watched::new(&self.pod.startup);
        self.liveness = Watched::new(&self.pod.liveness);
        self.readiness = self.pod.readiness.as_ref().map(Watched::new);
        Ok(())
    }

    fn terminate(&mut self) -> Result<ExitStatus, String> {
        run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let ended =
            wait_until("the container ends", GRACE, || self.child.try_wait().map_err(|e| e.to_string()));
        match ended {
            Ok(status) => Ok(status),
            Err(_) => {
                self.child.kill().map_err(|error| error.to_string())?;
                self.child.wait().map_err(|error| error.to_string())
            }
        }
    }

    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn spawn(pod: &Pod, programs: &Path, log: &Path) -> Result<Child, String> {
    let opened: Result<File, _> = OpenOptions::new().create(true).append(true).open(log);
    let log = opened.map_err(|error| format!("{}: {error}", log.display()))?;
    let (program, arguments) = pod.command.split_first().ok_or("no command")?;
    // Found as an image's PATH finds it.
    let program = if program.contains('/') { PathBuf::from(program) } else { programs.join(program) };
    Command::new(&program)
        .args(arguments)
        .env_clear()
        .env("PATH", programs)
        .envs(pod.environment.iter().cloned())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(|error| error.to_string())?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("start {}: {error}", program.display()))
}
