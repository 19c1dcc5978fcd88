//! Answers as text, in four formats; protobuf has no messages for them.

use cobra::{Exit, Outcome, exit, print};
use golang::json::Json;
use golang::table;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

/// One answer: the same values in the order in which all formats have them.
pub struct Answer {
    pub values: Vec<Shown>,
}

pub struct Shown {
    /// As a column of a table.
    pub heading: &'static str,
    /// As a line of fields.
    pub field: &'static str,
    /// As a member of the JSON object.
    pub member: &'static str,
    pub json: Json,
    /// As people read it, in rows; `None`: as in fields.
    pub cell: Option<String>,
}

impl Shown {
    pub fn text(&self) -> String {
        match &self.json {
            Json::Text(text) => text.clone(),
            other => other.to_string(),
        }
    }

    fn cell(&self) -> String {
        self.cell.clone().unwrap_or_else(|| self.text())
    }
}

impl Format {
    /// The flag `--write-out`.
    pub fn parse(name: &str) -> Result<Format, Exit> {
        Ok(match name {
            "simple" => Format::Simple,
            "fields" => Format::Fields,
            "json" => Format::Json,
            "protobuf" => Format::Protobuf,
            "table" => Format::Table,
            _ => return Err(Exit::new(exit::BAD_FEATURE, "unsupported output format")),
        })
    }

    pub fn print(self, answer: &Answer) -> Outcome {
        print(self.render(answer)?.as_bytes());
        Ok(())
    }

    fn render(self, answer: &Answer) -> Result<String, Exit> {
        let values = &answer.values;
        let cells = || values.iter().map(Shown::cell).collect::<Vec<_>>();
        Ok(match self {
            Format::Simple => cells().join(", ") + "\n",
            Format::Fields => {
                values.iter().map(|shown| format!("\"{}\" : {}\n", shown.field, shown.text())).collect()
            }
            Format::Json => {
                let members = values.iter().map(|shown| (shown.member, shown.json.clone()));
                format!("{}\n", Json::Object(members.collect()))
            }
            Format::Table => {
                let headings: Vec<_> = values.iter().map(|shown| shown.heading).collect();
                table::draw(&headings, &[cells()])
            }
            Format::Protobuf => {
                return Err(Exit::new(exit::BAD_FEATURE, "protobuf not supported as output format"));
            }
        })
    }
}
