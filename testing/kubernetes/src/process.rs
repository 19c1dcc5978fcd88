//! Programs of the test bench: started with a log file, ended by their id, whatever happens.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{During, Outcome, fail};
use crate::wait;

/// Time that a program has to end by itself after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A long-running program. Dropping it kills it.
pub struct Process {
    pub name: String,
    pub log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts the program, with both outputs appended to `<logs>/<name>.log`.
    pub fn start(name: &str, logs: &Path, command: &mut Command) -> Outcome<Process> {
        let log = logs.join(format!("{name}.log"));
        let mut file = append(&log)?;
        writeln!(file, "---- {command:?}").during("write a log")?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // Its own group: ctrl-C reaches us alone, and we end our programs in order.
        command.process_group(0);
        let child = command.spawn().during(format!("start {name}"))?;
        Ok(Process { name: name.to_owned(), log, child })
    }

    /// An error when the program has ended by itself.
    pub fn still_running(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended with {status}", self.name)),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    /// The text of its exit status once it has ended by itself.
    pub fn ended(&mut self) -> Result<String, String> {
        match self.child.try_wait() {
            Ok(Some(status)) => Ok(status.to_string()),
            Ok(None) => Err(format!("{} still runs", self.name)),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) -> Outcome {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).during(format!("signal {}", self.name))
    }

    /// Ends it as a power cut would and waits until it is gone.
    pub fn kill(&mut self) -> Outcome {
        self.child.kill().during(format!("kill {}", self.name))?;
        self.child.wait().during(format!("wait for {}", self.name))?;
        Ok(())
    }

    /// SIGTERM; the text of its exit status.
    pub fn stop(mut self) -> Outcome<String> {
        self.signal(Signal::TERM)?;
        let status =
            wait::until(&format!("{} ends", self.name), STOP_LIMIT, || match self.child.try_wait() {
                Ok(Some(status)) => Ok(status),
                Ok(None) => Err("it still runs".to_owned()),
                Err(error) => Err(error.to_string()),
            })?;
        Ok(status.to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn append(path: &Path) -> Outcome<File> {
    OpenOptions::new().create(true).append(true).open(path).during(path.display())
}

/// What a short program printed, and whether it succeeded.
pub struct Ran {
    pub success: bool,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The standard output of a program that must succeed.
    pub fn must(self, what: &str) -> Outcome<Vec<u8>> {
        if !self.success {
            return fail(format!("{what}: {}", self.stderr.trim()));
        }
        Ok(self.stdout)
    }
}

/// Runs a program to its end, at most `limit`, with `input` at its standard input.
pub fn run(command: &mut Command, input: Option<&[u8]>, limit: Duration) -> Outcome<Ran> {
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().during(format!("start {program}"))?;
    let stdin = child.stdin.take();
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_all(out.as_mut()));
        let error_reader = scope.spawn(move || read_all(err.as_mut()));
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program that ends early closes its input: its status tells why.
            let _ = stdin.write_all(input);
        }
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().during(&program)? {
                break status;
            }
            if wait::interrupted() || started.elapsed() > limit {
                let _ = child.kill();
                let _ = child.wait();
                if wait::interrupted() {
                    return fail("interrupted");
                }
                return fail(format!("{program}: not done within {} s", limit.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let stdout = reader.join().unwrap_or_default();
        let stderr = String::from_utf8_lossy(&error_reader.join().unwrap_or_default()).into_owned();
        Ok(Ran { success: status.success(), stdout, stderr })
    })
}

fn read_all(source: Option<&mut impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        let _ = source.read_to_end(&mut bytes);
    }
    bytes
}
