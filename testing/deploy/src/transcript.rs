//! What was checked and what came of it, printed as it happens.

pub struct Transcript {
    pub side: &'static str,
    outcomes: Vec<(String, String)>,
}

impl Transcript {
    pub fn new(side: &'static str) -> Transcript {
        println!("-- {side}");
        Transcript { side, outcomes: Vec::new() }
    }

    /// What came of a check, in words that are the same for all that behave the same.
    pub fn note(&mut self, check: &str, outcome: impl Into<String>) {
        let outcome = outcome.into();
        println!("   {check}: {outcome}");
        self.outcomes.push((check.to_owned(), outcome));
    }

    /// As [`Transcript::note`], for what must come of it in any case: two that fail alike are not equal enough.
    pub fn expect(&mut self, check: &str, outcome: impl Into<String>, wanted: &str) -> Result<(), String> {
        let outcome = outcome.into();
        self.note(check, outcome.clone());
        match outcome == wanted {
            true => Ok(()),
            false => Err(format!("{check}: {outcome:?} instead of {wanted:?}")),
        }
    }

    /// Something for the reader, which need not be equal.
    pub fn tell(&self, text: &str) {
        for line in text.lines() {
            println!("   ~ {line}");
        }
    }

    pub fn outcomes(&self) -> &[(String, String)] {
        &self.outcomes
    }
}
