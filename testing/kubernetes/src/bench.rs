//! One run: an etcd, a control plane over it, fake nodes, and the `kubectl` that drives them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::control_plane::ControlPlane;
use crate::etcd::{Etcd, Programs};
use crate::failure::{During, Failure, Outcome, fail};
use crate::host::Host;
use crate::node::Nodes;
use crate::pki::{Authorities, Pki};
use crate::process::{Process, Ran, run};
use crate::transcript::Transcript;
use crate::wait;

pub const NODE_COUNT: usize = 3;

const KUBECTL_LIMIT: Duration = Duration::from_secs(180);

/// Limit of waits for things that take a moment on an idle machine.
pub const SOON: Duration = Duration::from_secs(60);

pub struct Bench {
    pub transcript: Transcript,
    pub etcd: Etcd,
    pub pki: Pki,
    pub folder: PathBuf,
    kubernetes: PathBuf,
    control_plane: Option<ControlPlane>,
    nodes: Option<Nodes>,
}

impl Bench {
    /// Makes the certificates and the transcript; starts nothing.
    pub fn create(folder: &Path, kubernetes: &Path, programs: &Programs) -> Outcome<Bench> {
        fs::create_dir_all(folder.join("logs")).during("create the folder of the run")?;
        let transcript = Transcript::create(&folder.join("transcript.txt"))?;
        let host = Host::loopback("master");
        let pki = Pki::create(&folder.join("pki"), &Authorities::create()?, &host)?;
        let etcd = Etcd::new(programs, &pki, &host, folder)?;
        Ok(Bench {
            transcript,
            etcd,
            pki,
            folder: folder.to_owned(),
            kubernetes: kubernetes.to_owned(),
            control_plane: None,
            nodes: None,
        })
    }

    /// Starts an API server over etcd.
    pub fn start_apiserver(&mut self, name: &str) -> Outcome {
        let started = ControlPlane::start(name, &self.kubernetes, &self.pki, &self.etcd, &self.folder)?;
        self.control_plane = Some(started);
        Ok(())
    }

    pub fn start_controllers_and_nodes(&mut self) -> Outcome {
        self.control_plane_mut()?.start_controllers()?;
        let servers = [self.control_plane()?.address];
        self.nodes = Some(Nodes::start(NODE_COUNT, &self.pki, &servers)?);
        Ok(())
    }

    /// Ends all but the API server and etcd, so that nothing changes any more.
    pub fn stop_controllers_and_nodes(&mut self) -> Outcome {
        self.nodes = None;
        self.control_plane_mut()?.stop_controllers()
    }

    pub fn stop_apiserver(&mut self) -> Outcome {
        self.control_plane.take().map_or(Ok(()), ControlPlane::stop)
    }

    pub fn control_plane(&self) -> Outcome<&ControlPlane> {
        self.control_plane.as_ref().ok_or_else(|| Failure("no control plane runs".to_owned()))
    }

    pub fn control_plane_mut(&mut self) -> Outcome<&mut ControlPlane> {
        self.control_plane.as_mut().ok_or_else(|| Failure("no control plane runs".to_owned()))
    }

    /// The command, ready to run: its paths are those of the bench's own folder.
    fn kubectl_command(&self, arguments: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(self.kubernetes.join("kubectl"));
        command.arg("--kubeconfig").arg(&self.control_plane()?.kubeconfig).args(arguments);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.env("HOME", &self.folder).env("KUBECACHEDIR", self.folder.join("kubectl-cache"));
        Ok(command)
    }

    /// Runs kubectl without a word in the transcript.
    pub fn kubectl(&self, arguments: &[&str], input: Option<&[u8]>) -> Outcome<Ran> {
        run(&mut self.kubectl_command(arguments)?, input, KUBECTL_LIMIT)
    }

    /// The output of a kubectl that must succeed, without a word in the transcript.
    pub fn ask(&self, arguments: &[&str]) -> Outcome<String> {
        let bytes = self.kubectl(arguments, None)?.must(&format!("kubectl {}", arguments.join(" ")))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Runs a kubectl that must succeed and shows it with its output, which must be the same on every etcd.
    pub fn show(&mut self, command_line: &str) -> Outcome<String> {
        self.transcript.command(&format!("kubectl {command_line}"));
        let text = self.ask(&words(command_line))?;
        self.transcript.output(&text);
        Ok(text)
    }

    /// As [`Self::show`], for output that no two runs share.
    pub fn show_remark(&mut self, command_line: &str) -> Outcome<String> {
        self.transcript.command(&format!("kubectl {command_line}"));
        let text = self.ask(&words(command_line))?;
        self.transcript.remark(&text);
        Ok(text)
    }

    /// Shows a kubectl that must fail, and what it says.
    pub fn show_refusal(&mut self, command_line: &str) -> Outcome {
        self.transcript.command(&format!("kubectl {command_line}"));
        let ran = self.kubectl(&words(command_line), None)?;
        if ran.success {
            return fail(format!("kubectl {command_line}: succeeded, but must not"));
        }
        self.transcript.output(&format!("{}{}", ran.text(), ran.stderr));
        Ok(())
    }

    /// Asks until the answer is `wanted`, then shows it.
    pub fn show_when(&mut self, command_line: &str, wanted: &str) -> Outcome {
        self.transcript.command(&format!("kubectl {command_line}"));
        let arguments = words(command_line);
        wait::until(command_line, KUBECTL_LIMIT, || {
            let text = self.ask(&arguments).map_err(|error| error.to_string())?;
            if text.trim() == wanted.trim() { Ok(()) } else { Err(text) }
        })?;
        self.transcript.output(wanted);
        Ok(())
    }

    /// Starts `kubectl get … --watch`.
    pub fn watch(&mut self, name: &str, command_line: &str) -> Outcome<RunningWatch> {
        let command_line = format!("{command_line} --watch --output-watch-events -o json");
        self.transcript.command(&format!("kubectl {command_line} &"));
        let mut command = self.kubectl_command(&words(&command_line))?;
        let process = Process::start(&format!("watch-{name}"), &self.folder.join("logs"), &mut command)?;
        Ok(RunningWatch { process })
    }
}

/// Splits at spaces; no argument of ours holds one, except inside single quotes.
fn words(command_line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (index, part) in command_line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part);
        } else {
            words.extend(part.split_whitespace());
        }
    }
    words
}

/// A kubectl that watches, and what it printed so far.
pub struct RunningWatch {
    process: Process,
}

impl RunningWatch {
    /// The events so far, oldest first.
    pub fn events(&self) -> Outcome<Vec<Value>> {
        let text = fs::read_to_string(&self.process.log)?;
        // The first line is the log's own.
        let json = text.split_once('\n').map(|(_, rest)| rest).unwrap_or_default();
        let all = serde_json::Deserializer::from_str(json).into_iter::<Value>();
        Ok(all.map_while(Result::ok).collect())
    }

    /// Waits for the event number `count`, counted from 1.
    pub fn event(&self, count: usize) -> Outcome<Value> {
        wait::until("an event of the watch", SOON, || {
            let events = self.events().map_err(|error| error.to_string())?;
            events.get(count - 1).cloned().ok_or_else(|| format!("{} events", events.len()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_spaces() {
        assert_eq!(words("get cm -p '{a b}' x"), ["get", "cm", "-p", "{a b}", "x"]);
    }
}
