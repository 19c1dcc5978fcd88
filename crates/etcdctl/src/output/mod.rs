//! Answers as text, in five formats.
//!
//! Every answer is an [`Answer`]; [`Format::render`] turns it into bytes or says that the format does
//! not go with it. By then the request has been carried out: etcd's tool has it so, and scripts that
//! ask for a wrong format must not be told otherwise.

pub mod answer;
mod fields;
mod json;
mod protobuf;
mod simple;
mod table;
pub mod terminal;

use std::io::Write;

pub use answer::Answer;

use cobra::exit::{self, Exit, Outcome};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Simple { hex: bool, value_only: bool },
    Fields { hex: bool },
    Json { hex: bool },
    Protobuf,
    Table,
}

impl Format {
    pub fn parse(name: &str, hex: bool) -> Option<Format> {
        Some(match name {
            "simple" => Format::Simple { hex, value_only: false },
            "fields" => Format::Fields { hex },
            "json" => Format::Json { hex },
            "protobuf" => Format::Protobuf,
            "table" => Format::Table,
            _ => return None,
        })
    }

    pub fn is_simple(self) -> bool {
        matches!(self, Format::Simple { .. })
    }

    /// Prints an answer.
    pub fn print(self, answer: &Answer<'_>) -> Outcome {
        let bytes = self.render(answer)?;
        print(&bytes);
        Ok(())
    }

    fn render(self, answer: &Answer<'_>) -> Result<Vec<u8>, Exit> {
        match self {
            Format::Simple { hex, value_only } => Ok(simple::render(answer, hex, value_only)),
            Format::Fields { hex } => fields::render(answer, hex).ok_or_else(|| unsupported("fields")),
            Format::Json { hex } => Ok(format!("{}\n", json::render(answer, hex)).into_bytes()),
            Format::Protobuf => protobuf::render(answer),
            Format::Table => {
                table::render(answer).map(String::into_bytes).ok_or_else(|| unsupported("table"))
            }
        }
    }
}

fn unsupported(format: &str) -> Exit {
    Exit::new(exit::BAD_FEATURE, format!("{format} not supported as output format"))
}

/// Writes to stdout at once. Nobody reading it is no reason to fail loudly.
pub fn print(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _closed = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests;
