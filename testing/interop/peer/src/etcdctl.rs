//! etcd's own etcdctl, asked for JSON.

use std::process::Command;

use serde_json::Value;

use crate::Programs;
use crate::process::{Place, wait};

/// One call, of which a failure is told.
pub fn call(programs: &Programs, place: &Place, words: &[&str]) -> Result<String, String> {
    let output = Command::new(&programs.etcdctl)
        .args(["--endpoints", &place.client_url(), "--command-timeout=10s"])
        .args(words)
        .output()
        .map_err(|error| format!("etcdctl: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("etcdctl {} at {}: {text}", words.join(" "), place.name));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub fn json(programs: &Programs, place: &Place, words: &[&str]) -> Result<Value, String> {
    let text = call(programs, place, &[words, &["-w", "json"]].concat())?;
    serde_json::from_str(&text).map_err(|error| format!("etcdctl {}: {error}: {text}", words.join(" ")))
}

/// Repeated while the cluster is between two leaders.
pub fn surely(programs: &Programs, place: &Place, words: &[&str]) -> Result<String, String> {
    let (mut told, mut last) = (None, String::new());
    let waited = wait(&words.join(" "), || {
        match call(programs, place, words) {
            Ok(text) => told = Some(text),
            Err(error) => last = error,
        }
        Ok(told.is_some())
    });
    told.ok_or_else(|| format!("{}: {last}", waited.err().unwrap_or_default()))
}
