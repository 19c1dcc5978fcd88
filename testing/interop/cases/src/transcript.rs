//! What an invocation came to, and how two of them differ.

use crate::case::Case;

#[derive(Debug, PartialEq, Eq)]
pub struct Transcript {
    pub stdout: String,
    pub stderr: String,
    /// `None`: ended by a signal.
    pub code: Option<i32>,
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

/// One pass through all cases of a suite.
pub struct Run {
    /// What it ran, to people.
    pub title: String,
    pub transcripts: Vec<Transcript>,
}

/// How many were compared, and how many of them differ.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub compared: usize,
    pub differing: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.compared += other.compared;
        self.differing += other.differing;
    }
}

/// Prints what differs between a run and the one that it is to equal. `cases` are in the order of the transcripts.
pub fn compare(
    program: &str,
    cases: &[&Case],
    is_chosen: impl Fn(&Case) -> bool,
    expected: &Run,
    actual: &Run,
) -> Tally {
    assert_eq!(expected.transcripts.len(), cases.len(), "a transcript of each case");
    assert_eq!(actual.transcripts.len(), cases.len(), "a transcript of each case");
    let mut tally = Tally::default();
    let pairs = expected.transcripts.iter().zip(&actual.transcripts);
    for (case, (expected, transcript)) in cases.iter().zip(pairs) {
        if !case.compared || !is_chosen(case) {
            continue;
        }
        tally.compared += 1;
        if expected != transcript {
            tally.differing += 1;
            println!("--- {}, {}: {program} {}", actual.title, case.place, case.words.join(" "));
            println!("{}", expected.difference(transcript));
        }
    }
    tally
}
