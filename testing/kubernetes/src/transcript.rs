//! What a run prints and keeps: a text that a person reads from top to bottom.
//!
//! Lines of two kinds. Most say what must be the same on every etcd; they carry no age, address, random
//! name or time and are compared between runs. Lines that begin with [`REMARK`] are for the reader only:
//! times, counts and listings that no two runs share.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::failure::{During, Outcome, fail};

/// Mark of a line that is not compared.
pub const REMARK: &str = "~ ";

pub struct Transcript {
    file: File,
    lines: Vec<String>,
    started: Instant,
    title: String,
    title_at: Instant,
    checks: usize,
    failed: Vec<String>,
}

impl Transcript {
    pub fn create(path: &Path) -> Outcome<Transcript> {
        let now = Instant::now();
        Ok(Transcript {
            file: File::create(path).during(path.display())?,
            lines: Vec::new(),
            started: now,
            title: String::new(),
            title_at: now,
            checks: 0,
            failed: Vec::new(),
        })
    }

    /// Begins a step.
    pub fn step(&mut self, title: &str) {
        self.end_step();
        title.clone_into(&mut self.title);
        self.title_at = Instant::now();
        self.line("");
        self.line(&format!("## {title}"));
    }

    /// Ends the last step with its time, on the screen too.
    pub fn end_step(&mut self) {
        if self.title.is_empty() {
            return;
        }
        let (secs, total) = (self.title_at.elapsed().as_secs_f64(), self.started.elapsed().as_secs_f64());
        self.remark(&format!("{secs:.1} s"));
        println!("  [{total:6.1} s] {} ({secs:.1} s)", self.title);
        self.title.clear();
    }

    /// A command as a person would type it.
    pub fn command(&mut self, text: &str) {
        self.line(&format!("$ {text}"));
    }

    /// Output that must be the same on every etcd.
    pub fn output(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("    {}", line.trim_end()));
        }
    }

    /// Something for the reader only.
    pub fn remark(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("{REMARK}  {}", line.trim_end()));
        }
    }

    /// A thing that must hold. The run goes on when it does not, and fails at its end.
    pub fn check(&mut self, what: &str, holds: bool) {
        self.checks += 1;
        self.line(&format!("{} {what}", if holds { "ok  " } else { "FAIL" }));
        if !holds {
            println!("  FAIL {what}");
            self.failed.push(format!("{}: {what}", self.title));
        }
    }

    /// A thing that must hold, with what was seen instead when it does not.
    pub fn check_equal(&mut self, what: &str, seen: &str, wanted: &str) {
        if seen != wanted {
            self.remark(&format!("seen:   {seen}\nwanted: {wanted}"));
        }
        self.check(what, seen == wanted);
    }

    /// The compared lines.
    pub fn compared(&self) -> Vec<String> {
        self.lines.iter().filter(|line| !line.starts_with(REMARK)).cloned().collect()
    }

    pub fn finish(&mut self) -> Outcome {
        self.end_step();
        let (checks, failed) = (self.checks, self.failed.len());
        self.line("");
        self.line(&format!("{} of {checks} checks hold", checks - failed));
        let total = self.started.elapsed().as_secs_f64();
        self.remark(&format!("{total:.1} s in all"));
        println!("  {} of {checks} checks hold, {total:.1} s", checks - failed);
        if self.failed.is_empty() { Ok(()) } else { fail(self.failed.join("\n")) }
    }

    fn line(&mut self, text: &str) {
        // Losing a line of the file is no reason to lose the run.
        let _ = writeln!(self.file, "{text}");
        self.lines.push(text.to_owned());
    }
}

/// Where two runs differ: line by line, with the lines of both.
pub fn differences(reference: &[String], ours: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for index in 0..reference.len().max(ours.len()) {
        let (left, right) = (reference.get(index), ours.get(index));
        if left != right {
            let show = |line: Option<&String>| line.map_or("(nothing)".to_owned(), |text| text.to_owned());
            found.push(format!(
                "line {}:\n  reference: {}\n  ours:      {}",
                index + 1,
                show(left),
                show(right)
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_run_differs() {
        let one = vec!["a".to_owned()];
        let two = vec!["a".to_owned(), "b".to_owned()];
        assert!(differences(&one, &one).is_empty());
        assert_eq!(differences(&one, &two).len(), 1);
    }
}
