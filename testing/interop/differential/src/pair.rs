//! etcd and ours, side by side, asked the same in the same order.

use std::collections::VecDeque;
use std::path::Path;

use tempfile::TempDir;

use crate::ask::Ask;
use crate::server::Server;
use crate::wire::{Answer, Wire};

/// So many requests before a difference are shown with it.
const CONTEXT_LEN: usize = 12;
/// More differences than this say nothing new.
const DIFFERENCES_MAX: usize = 25;

pub struct Pair {
    pub theirs: Wire,
    pub ours: Wire,
    pub their_server: Server,
    pub our_server: Server,
    pub asked: usize,
    pub differences: Vec<String>,
    before: VecDeque<String>,
    _folders: [TempDir; 2],
}

impl Pair {
    pub async fn start(theirs: &Path, ours: &Path, more: &[&str]) -> Result<Pair, String> {
        let folder = || TempDir::new().map_err(|error| error.to_string());
        let folders = [folder()?, folder()?];
        let their_server = Server::start(theirs, folders[0].path(), more)?;
        let our_server = Server::start(ours, folders[1].path(), more)?;
        Ok(Pair {
            theirs: Wire::connect(their_server.port).await?,
            ours: Wire::connect(our_server.port).await?,
            their_server,
            our_server,
            asked: 0,
            differences: Vec::new(),
            before: VecDeque::new(),
            _folders: folders,
        })
    }

    /// Asks both, notes a difference, hands on etcd's answer.
    pub async fn ask(&mut self, ask: &Ask) -> Result<Answer, String> {
        let theirs = ask.send(&self.theirs).await.map_err(|error| {
            format!("etcd: {error}; before:\n{}\n{}", self.context(), self.their_server.log_text())
        })?;
        let ours = ask.send(&self.ours).await.map_err(|error| {
            format!("ours: {error}; before:\n{}\n{}", self.context(), self.our_server.log_text())
        })?;
        self.asked += 1;
        if let Some(difference) = ask.difference(&theirs, &ours) {
            self.note(difference);
        }
        if self.before.len() == CONTEXT_LEN {
            self.before.pop_front();
        }
        let shown: String = ask.shown.chars().take(600).collect();
        self.before.push_back(format!("  {shown} -> {} {}", theirs.code, theirs.text));
        Ok(theirs)
    }

    pub fn note(&mut self, difference: String) {
        if self.differences.is_empty() {
            println!("the requests before the first difference:\n{}", self.context());
        }
        if self.differences.len() < DIFFERENCES_MAX {
            println!("--- request {}: {difference}", self.asked);
        }
        self.differences.push(difference);
    }

    fn context(&self) -> String {
        self.before.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    pub fn verdict(&self, what: &str) -> Result<(), String> {
        println!("{what}: {} requests, {} differences", self.asked, self.differences.len());
        if self.differences.is_empty() { Ok(()) } else { Err(format!("{what}: the answers differ")) }
    }
}
