//! Where lines go: stderr, stdout, files, the systemd journal.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;

use super::Level;
use super::line::Record;
use crate::go_value::{io_text, quote};

const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stderr,
    Stdout,
    Journal,
    File(String),
}

enum Target {
    Stderr,
    Stdout,
    Journal(UnixDatagram),
    File(Mutex<File>),
}

/// The outputs in use. One write per record and output, so that lines of several threads do not mix.
pub struct Sink {
    targets: Vec<Target>,
}

impl Sink {
    pub fn stderr() -> Sink {
        Sink { targets: vec![Target::Stderr] }
    }

    /// For unit tests, whose records nobody reads.
    pub fn nowhere() -> Sink {
        Sink { targets: Vec::new() }
    }

    /// Which outputs `--log-outputs` means; the error is etcd's text.
    pub fn check(names: &[String]) -> Result<Vec<Output>, String> {
        if names.len() > 1 {
            if names.iter().any(|name| name == "default") {
                return Err("multi logoutput for \"default\" is not supported yet".to_owned());
            }
            if names.iter().any(|name| name == "systemd/journal") {
                let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
                return Err(format!(
                    "running with systemd/journal but other '--log-outputs' values ([{}]) are configured with 'default'; override 'default' value with something else",
                    names.join(" ")
                ));
            }
        }
        let output = |name: &String| match name.as_str() {
            "default" | "stderr" => Output::Stderr,
            "stdout" => Output::Stdout,
            "systemd/journal" => Output::Journal,
            path => Output::File(path.to_owned()),
        };
        if names.is_empty() { Ok(vec![Output::Stderr]) } else { Ok(names.iter().map(output).collect()) }
    }

    pub fn open(outputs: &[Output]) -> Result<Sink, String> {
        let targets = outputs.iter().map(open).collect::<Result<Vec<Target>, String>>()?;
        Ok(Sink { targets })
    }

    /// A failed write is dropped: there is no better place to complain to.
    pub fn write(&self, record: &Record<'_>, line: &str) {
        for target in &self.targets {
            let _ = match target {
                Target::Stderr => std::io::stderr().lock().write_all(line.as_bytes()),
                Target::Stdout => std::io::stdout().lock().write_all(line.as_bytes()),
                Target::File(file) => match file.lock() {
                    Ok(mut file) => file.write_all(line.as_bytes()),
                    Err(_) => Ok(()),
                },
                Target::Journal(socket) => socket
                    .send(&journal_entry(record, line))
                    .map(|_| ())
                    .or_else(|_| std::io::stderr().lock().write_all(line.as_bytes())),
            };
        }
    }
}

fn open(output: &Output) -> Result<Target, String> {
    match output {
        Output::Stderr => Ok(Target::Stderr),
        Output::Stdout => Ok(Target::Stdout),
        Output::Journal => {
            let socket = UnixDatagram::unbound().and_then(|socket| {
                socket.connect(JOURNAL_SOCKET)?;
                Ok(socket)
            });
            socket.map(Target::Journal).map_err(|error| {
                format!("can't find journal (dial unixgram {JOURNAL_SOCKET}: connect: {})", io_text(&error))
            })
        }
        Output::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map(|file| Target::File(Mutex::new(file)))
                .map_err(|error| format!("open sink {}: open {path}: {}", quote(path), io_text(&error)))
        }
    }
}

/// The journal's native form: `KEY=value` lines; a value that ends in a newline goes with its length.
fn journal_entry(record: &Record<'_>, line: &str) -> Vec<u8> {
    let priority = match record.level {
        Level::Debug => 7,
        Level::Info => 6,
        Level::Warn => 4,
        Level::Error => 3,
        Level::Dpanic | Level::Panic | Level::Fatal => 2,
    };
    let mut entry =
        format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=etcd\nPACKAGE={}\n", record.caller.package());
    entry.push_str("MESSAGE=");
    entry.push_str(line);
    entry.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str]) -> Result<Vec<Output>, String> {
        Sink::check(&names.iter().map(|&name| name.to_owned()).collect::<Vec<String>>())
    }

    #[test]
    fn default_stands_alone() {
        assert_eq!(check(&["default"]), Ok(vec![Output::Stderr]));
        assert_eq!(check(&["/x", "stdout"]), Ok(vec![Output::File("/x".to_owned()), Output::Stdout]));
        assert_eq!(
            check(&["default", "stderr"]),
            Err("multi logoutput for \"default\" is not supported yet".to_owned())
        );
        assert!(check(&["stderr", "systemd/journal"]).is_err());
    }

    #[test]
    fn lines_reach_a_file_whole() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("log").to_string_lossy().into_owned();
        let sink = Sink::open(&[Output::File(path.clone())]).expect("the directory is there");
        let caller = super::super::line::Caller { file: "a/src/b.rs", line: 1 };
        let record = Record { level: Level::Info, logger: None, caller, message: "m", fields: &[] };
        sink.write(&record, "one\n");
        sink.write(&record, "two\n");
        assert_eq!(std::fs::read_to_string(path).expect("written"), "one\ntwo\n");
        assert!(Sink::open(&[Output::File("/nonexistent/x".to_owned())]).is_err());
    }
}
