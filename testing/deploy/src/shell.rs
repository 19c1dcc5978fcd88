//! Running programs and waiting for what they lead to.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often something is looked at that no one tells of.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub struct Ran {
    /// −1: ended by a signal.
    pub code: i32,
    pub stdout: String,
    /// Both streams, one behind the other.
    pub text: String,
}

impl Ran {
    pub fn is_ok(&self) -> bool {
        self.code == 0
    }

    /// The last line of what it says on standard output.
    pub fn line(&self) -> String {
        self.stdout.trim().lines().last().unwrap_or_default().to_owned()
    }
}

pub fn run(command: &mut Command) -> Result<Ran, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("start {}: {error}", command.get_program().display()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
    Ok(Ran { code: output.status.code().unwrap_or(-1), stdout, text })
}

/// As [`run`], for what must succeed.
pub fn succeed(command: &mut Command) -> Result<String, String> {
    let ran = run(command)?;
    match ran.is_ok() {
        true => Ok(ran.text),
        false => Err(format!("{command:?} ended with {}: {}", ran.code, ran.text)),
    }
}

/// Looks until something is so. A machine under load takes its time, so limits are wide.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            return Err(format!("{what}: not within {limit:?}"));
        }
        sleep(LOOK_INTERVAL);
    }
}
