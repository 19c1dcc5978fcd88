//! One invocation: run it, and turn what it printed into what can be compared.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::case::Case;
use crate::mask;
use crate::transcript::Transcript;

/// An invocation that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(15);

/// For all exit codes of a case that is to fail.
const FAILED: i32 = 1;

/// How long an invocation is repeated for a passing reason.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of the lines that programs log on stderr.
pub type Logs = fn(&str) -> String;

pub struct Runner {
    program: PathBuf,
    folder: PathBuf,
    env: Vec<(String, String)>,
    logs: Logs,
    /// What `$NAME` stands for; equal in all runs, so that nothing is masked.
    names: BTreeMap<String, String>,
    /// Ids that differ from run to run, by their names.
    captured: BTreeMap<String, String>,
}

/// How a program ended, and what it printed.
struct Raw {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    code: Option<i32>,
}

impl Runner {
    /// `folder` is where the program runs.
    pub fn new(program: &Path, folder: &Path, logs: Logs) -> Runner {
        let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
        let folder = folder.to_owned();
        Runner { program, folder, env: Vec::new(), logs, names: BTreeMap::new(), captured: BTreeMap::new() }
    }

    pub fn env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    pub fn name(&mut self, name: &str, value: &str) {
        self.names.insert(name.to_owned(), value.to_owned());
    }

    pub fn run(&mut self, case: &Case) -> Result<Transcript, String> {
        let start = Instant::now();
        let raw = loop {
            let raw = self.once(case)?;
            let again = case.retry.as_ref().is_some_and(|text| {
                String::from_utf8_lossy(&raw.stderr).contains(text) && start.elapsed() < PATIENCE
            });
            if !again {
                break raw;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        if let Some(name) = &case.capture {
            let id = mask::first_id(&raw.stdout).ok_or_else(|| {
                let stderr = String::from_utf8_lossy(&raw.stderr).into_owned();
                format!("{}: no id to capture: {stderr}", case.place)
            })?;
            self.captured.insert(name.clone(), id);
        }
        if case.code_only || case.fails {
            let code = if case.fails && raw.code != Some(0) { Some(FAILED) } else { raw.code };
            return Ok(Transcript { stdout: String::new(), stderr: String::new(), code });
        }
        let stdout = self.mask(case, &text(&raw.stdout));
        let stderr = self.mask(case, &(self.logs)(&text(&raw.stderr)));
        Ok(Transcript { stdout, stderr, code: raw.code })
    }

    fn once(&self, case: &Case) -> Result<Raw, String> {
        let mut child = self.spawn(case)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read its input is fine.
            let _unread = stdin.write_all(&case.stdin);
            if case.until.is_some() && !case.stdin.is_empty() {
                std::mem::forget(stdin);
            }
        }
        let stdout = read_in_background(child.stdout.take());
        let stderr = read_in_background(child.stderr.take());
        let (out, code) = wait(&mut child, &stdout, case.until)?;
        Ok(Raw { stdout: out, stderr: stderr.iter().flatten().collect(), code })
    }

    fn spawn(&self, case: &Case) -> Result<Child, String> {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        for (name, value) in &case.env {
            match value.as_str() {
                "-" => command.env_remove(name),
                value => command.env(name, self.substitute(value)),
            };
        }
        command.args(case.words.iter().map(|word| self.substitute(word)));
        command.current_dir(&self.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| format!("start {}: {error}", self.program.display()))
    }

    /// Longer names first: `$M10` is not `$M1` with a zero behind it.
    pub fn substitute(&self, word: &str) -> String {
        let mut word = word.to_owned();
        for (name, value) in self.names.iter().chain(&self.captured).rev() {
            word = word.replace(&format!("${name}"), value);
        }
        word
    }

    fn mask(&self, case: &Case, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, id) in &self.captured {
            text = mask::id(&text, id, name);
        }
        text = mask::durations(&text);
        if case.mask_sizes {
            text = mask::sizes(&text);
        }
        if case.mask_numbers {
            text = mask::numbers(&text);
        }
        if case.mask_layout {
            text = mask::layout(&text);
        }
        if case.mask_order {
            text = mask::order(&text);
        }
        text
    }
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// Pieces as they come, so that nobody waits for a program that goes on.
fn read_in_background(source: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    if let Some(mut source) = source {
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = source.read(&mut buffer) {
                if send.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
    }
    receive
}

/// Collects stdout until it ends, or until it has so many lines; then the exit code.
fn wait(
    child: &mut Child,
    stdout: &Receiver<Vec<u8>>,
    until: Option<usize>,
) -> Result<(Vec<u8>, Option<i32>), String> {
    let start = Instant::now();
    let mut out = Vec::new();
    while let Ok(piece) = stdout.recv_timeout(TIMEOUT.saturating_sub(start.elapsed())) {
        out.extend(piece);
        let lines = out.iter().filter(|&&byte| byte == b'\n').count();
        if until.is_some_and(|until| lines >= until) {
            break;
        }
    }
    if until.is_some() || start.elapsed() >= TIMEOUT {
        child.kill().map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if let Some(until) = until {
        out = out.split_inclusive(|&byte| byte == b'\n').take(until).flatten().copied().collect();
    }
    Ok((out, status.code()))
}
