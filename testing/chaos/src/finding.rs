//! A property that does not hold, with what shows it.

use std::fmt;

use crate::operation::Revision;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the property, such as `real time`.
    pub property: &'static str,
    pub what: String,
    /// Ids of the operations that show it.
    pub operations: Vec<u64>,
    /// Where in the history of the store, if it is a matter of one place.
    pub revision: Option<Revision>,
}

impl Finding {
    pub fn new(property: &'static str, what: impl Into<String>) -> Finding {
        Finding { property, what: what.into(), operations: Vec::new(), revision: None }
    }

    pub fn by(mut self, operations: impl IntoIterator<Item = u64>) -> Finding {
        self.operations.extend(operations);
        self
    }

    pub fn at(mut self, revision: Revision) -> Finding {
        self.revision = Some(revision);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}
