//! The process of a member: started with its log, watched while it runs, ended by its id.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::sync::watch;

use crate::failure::{During, Outcome, fail};
use crate::history::Recorder;

/// Lines of the log that are told when a member ends by itself.
const TAIL_LINES: usize = 6;

/// A running member, or what is left of it.
pub struct Process {
    slot: usize,
    pid: Pid,
    may_end: Arc<AtomicBool>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts it. If it ends before it may, that is noted as seen.
    pub fn start(slot: usize, log: &Path, mut command: Command, recorder: Arc<Recorder>) -> Outcome<Process> {
        let mut file = OpenOptions::new().create(true).append(true).open(log).during(log.display())?;
        writeln!(file, "---- {:?}", command.as_std()).during("write a log")?;
        command.stdin(Stdio::null()).stdout(file.try_clone().during("open a log")?).stderr(file);
        command.kill_on_drop(true);
        let mut child = command.spawn().during(format!("start member {slot}"))?;
        let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else {
            return fail(format!("member {slot} ended at once"));
        };
        let may_end = Arc::new(AtomicBool::new(false));
        let (sender, ended) = watch::channel(None);
        let (may, log) = (Arc::clone(&may_end), log.to_owned());
        tokio::spawn(async move {
            let Ok(status) = child.wait().await else { return };
            if !may.load(Ordering::SeqCst) {
                let what = format!("member {slot} ended by itself with {status}; its log: {}", tail(&log));
                recorder.seen("members run", Some(slot), what);
            }
            sender.send_replace(Some(status));
        });
        Ok(Process { slot, pid, may_end, ended })
    }

    pub fn is_running(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// From now on its end is no surprise.
    pub fn may_end(&self) {
        self.may_end.store(true, Ordering::SeqCst);
    }

    pub fn signal(&self, signal: Signal) -> Outcome {
        // One that has ended is past signals, and its id may be another's.
        if !self.is_running() {
            return Ok(());
        }
        kill_process(self.pid, signal).during(format!("signal member {}", self.slot))
    }

    /// As a power cut would; the files keep what reached the kernel.
    pub async fn kill(&self) -> Outcome {
        self.may_end();
        self.signal(Signal::KILL)?;
        self.wait_end(Duration::from_secs(30)).await.map(|_| ())
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(&self, limit: Duration) -> Outcome<ExitStatus> {
        self.may_end();
        self.signal(Signal::TERM)?;
        self.wait_end(limit).await
    }

    pub async fn wait_end(&self, limit: Duration) -> Outcome<ExitStatus> {
        let mut ended = self.ended.clone();
        let waited = tokio::time::timeout(limit, ended.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(status)) => Ok(status.unwrap_or_default()),
            Ok(Err(_)) => fail(format!("member {}: its end was not seen", self.slot)),
            Err(_) => fail(format!("member {} still runs after {} s", self.slot, limit.as_secs())),
        }
    }
}

fn tail(log: &PathBuf) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].iter();
    last.map(|line| line.chars().take(400).collect::<String>()).collect::<Vec<_>>().join("\n    ")
}
