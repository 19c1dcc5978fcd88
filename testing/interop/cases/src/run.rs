//! One invocation: run it, and turn what it printed into what can be compared.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::case::Case;
use crate::server::Server;

/// An invocation that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, PartialEq, Eq)]
pub struct Transcript {
    pub stdout: String,
    pub stderr: String,
    /// `None`: ended by a signal.
    pub code: Option<i32>,
}

pub struct Runner<'a> {
    etcdctl: PathBuf,
    server: &'a Server,
    /// Captured ids, by their names.
    captured: BTreeMap<String, String>,
}

impl Runner<'_> {
    pub fn new<'a>(etcdctl: &Path, server: &'a Server) -> Runner<'a> {
        let etcdctl = etcdctl.canonicalize().unwrap_or_else(|_| etcdctl.to_owned());
        Runner { etcdctl, server, captured: BTreeMap::new() }
    }

    pub fn run(&mut self, case: &Case) -> Result<Transcript, String> {
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
        let err: Vec<u8> = stderr.iter().flatten().collect();
        if let Some(name) = &case.capture {
            let id = lease_id(&out).ok_or_else(|| format!("line {}: no id to capture", case.line))?;
            self.captured.insert(name.clone(), id);
        }
        if case.code_only {
            return Ok(Transcript { stdout: String::new(), stderr: String::new(), code });
        }
        let stdout = self.mask(case, &out);
        let stderr = self.mask(case, &without_logs(&err));
        Ok(Transcript { stdout, stderr, code })
    }

    fn spawn(&self, case: &Case) -> Result<Child, String> {
        let mut command = Command::new(&self.etcdctl);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("ETCDCTL_ENDPOINTS", &self.server.endpoint);
        for (name, value) in &case.env {
            match value.as_str() {
                "-" => command.env_remove(name),
                value => command.env(name, self.substitute(value)),
            };
        }
        command.args(case.words.iter().map(|word| self.substitute(word)));
        command.current_dir(self.server.folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| format!("start {}: {error}", self.etcdctl.display()))
    }

    fn substitute(&self, word: &str) -> String {
        let mut word =
            word.replace("$ENDPOINT", &self.server.endpoint).replace("$DEAD", &self.server.dead_endpoint);
        for (name, id) in &self.captured {
            word = word.replace(&format!("${name}"), id);
        }
        word
    }

    fn mask(&self, case: &Case, bytes: &[u8]) -> String {
        let mut text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.escape_ascii().to_string(),
        };
        for (name, id) in &self.captured {
            text = text.replace(id, &format!("<{name}>"));
            let decimal = u64::from_str_radix(id, 16).map(|id| id.to_string()).unwrap_or_default();
            text = text.replace(&decimal, &format!("<{name}>"));
        }
        text = mask_durations(&text);
        if case.mask_numbers {
            text = mask_runs(&text, |c| c.is_ascii_digit(), '#');
        }
        if case.mask_layout {
            text = mask_runs(&mask_runs(&text, |c| c == ' ', ' '), |c| c == '─', '─');
        }
        text
    }
}

impl Transcript {
    pub fn difference(&self, actual: &Transcript) -> String {
        let mut out = String::new();
        if self.code != actual.code {
            out += &format!("exit code {:?}, ours {:?}\n", self.code, actual.code);
        }
        for (name, expected, actual) in
            [("stdout", &self.stdout, &actual.stdout), ("stderr", &self.stderr, &actual.stderr)]
        {
            if expected != actual {
                out += &format!("{name}:\n  theirs {expected:?}\n  ours   {actual:?}\n");
            }
        }
        out
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

/// Go's client logs JSON lines of its own; they are not part of the comparison.
fn without_logs(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !line.starts_with(b"{\"level\":")).flatten().copied().collect()
}

fn lease_id(out: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(out);
    let is_id = |word: &&str| word.len() == 16 && word.chars().all(|c| c.is_ascii_hexdigit());
    text.split_whitespace().find(is_id).map(String::from)
}

/// Numbers with a unit of time behind the word `took`.
fn mask_durations(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.to_lowercase().find("took") {
        let (before, after) = rest.split_at(at + 4);
        out += before;
        let start = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let digits = &after[start..];
        let number = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
        let unit = digits[number..].find(|c: char| !c.is_alphabetic()).unwrap_or(digits.len() - number);
        let near = after[..start].chars().all(|c| " :=\"".contains(c));
        if near && number > 0 {
            out += &after[..start];
            out += "<took>";
            rest = &digits[number + unit..];
        } else {
            rest = after;
        }
    }
    out + rest
}

fn mask_runs(text: &str, in_run: impl Fn(char) -> bool, mask: char) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in text.chars() {
        if !in_run(c) {
            out.push(c);
        } else if !inside {
            out.push(mask);
        }
        inside = in_run(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!(mask_durations("took = 6.67ms\n"), "took = <took>\n");
        assert_eq!(mask_durations("{\"took\":\"4.9µs\"}"), "{\"took\":\"<took>\"}");
        assert_eq!(mask_durations("TOOK    │ it took long"), "TOOK    │ it took long");
        assert_eq!(mask_runs("a12b3", |c| c.is_ascii_digit(), '#'), "a#b#");
        assert_eq!(lease_id(b"lease 390da20b7532c30e granted"), Some("390da20b7532c30e".into()));
    }
}
