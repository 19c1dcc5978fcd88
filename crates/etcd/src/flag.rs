//! What a flag is: a name, a typed place in [`Settings`], a key in the config file, and a promise.

use crate::feature_gates::FeatureGates;
use crate::go_duration::GoDuration;
use crate::go_value::{parse_bool, parse_int, parse_uint, quote};
use crate::settings::Settings;
use crate::url::{self, Url};

/// One row of the flag table.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub section: Section,
    /// The field that the flag sets. Type, parsing and the shown default follow from it.
    pub slot: fn(&mut Settings) -> Slot<'_>,
    pub file_key: FileKey,
    pub support: Support,
    pub help: &'static str,
}

impl Flag {
    /// A flag that works, and whose key in the config file is its name.
    pub const fn new(
        name: &'static str,
        section: Section,
        slot: fn(&mut Settings) -> Slot<'_>,
        help: &'static str,
    ) -> Flag {
        Flag { name, section, slot, file_key: FileKey::Same, support: Support::Wired, help }
    }

    pub const fn in_file(self, path: &'static [&'static str]) -> Flag {
        Flag { file_key: FileKey::At(path), ..self }
    }

    pub const fn not_in_file(self) -> Flag {
        Flag { file_key: FileKey::None, ..self }
    }

    pub const fn inert(self, why: &'static str) -> Flag {
        Flag { support: Support::Inert(why), ..self }
    }

    pub const fn refused_unless(self, harmless: fn(&Settings) -> bool, why: &'static str) -> Flag {
        Flag { support: Support::Refused { harmless, why }, ..self }
    }
}

/// Headings of `--help`, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Member,
    Clustering,
    Security,
    Auth,
    Monitoring,
    Logging,
    Tracing,
    Features,
    Unsafe,
    /// Described in the usage text instead.
    Usage,
}

impl Section {
    pub const LISTED: [Section; 9] = [
        Section::Member,
        Section::Clustering,
        Section::Security,
        Section::Auth,
        Section::Monitoring,
        Section::Logging,
        Section::Tracing,
        Section::Features,
        Section::Unsafe,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Section::Member => "Member",
            Section::Clustering => "Clustering",
            Section::Security => "Security",
            Section::Auth => "Auth",
            Section::Monitoring => "Profiling and Monitoring",
            Section::Logging => "Logging",
            Section::Tracing => "Distributed tracing",
            Section::Features => "Features",
            Section::Unsafe => "Unsafe feature",
            Section::Usage => "Usage",
        }
    }
}

/// Where the config file has the same setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKey {
    /// At the top, under the flag's name.
    Same,
    /// Under another path of keys.
    At(&'static [&'static str]),
    /// The file cannot say it.
    None,
}

/// What the program does with a value. No row is silent: a value either takes effect, has none in
/// etcd's own terms, or stops the start.
#[derive(Clone, Copy, Debug)]
pub enum Support {
    /// The value does what it says.
    Wired,
    /// Accepted, as the value changes nothing a user could see here; the text says why.
    Inert(&'static str),
    /// Stops the start unless `harmless` says that the value asks for nothing; the text says what is missing.
    Refused { harmless: fn(&Settings) -> bool, why: &'static str },
}

/// A typed view of the field behind a flag.
pub enum Slot<'a> {
    Bool(&'a mut bool),
    Text(&'a mut String),
    Uint(&'a mut u64),
    Uint32(&'a mut u32),
    Int(&'a mut i64),
    Duration(&'a mut GoDuration),
    Urls(&'a mut Vec<Url>),
    /// URLs of web origins, or `*`.
    Origins(&'a mut Vec<String>),
    /// A list whose order and repetitions stay.
    List(&'a mut Vec<String>),
    /// A list without repetitions, sorted.
    Set(&'a mut Vec<String>),
    Choice(&'a mut String, &'static [&'static str]),
    /// Any number of the given words.
    Choices(&'a mut String, &'static [&'static str]),
    Gates(&'a mut FeatureGates),
}

impl Slot<'_> {
    pub fn is_bool(&self) -> bool {
        matches!(self, Slot::Bool(_))
    }

    /// Takes a value from a command line or a variable. The error is Go's text without its prefix.
    pub fn set(self, text: &str) -> Result<(), String> {
        match self {
            Slot::Bool(place) => *place = parse_bool(text).ok_or("parse error")?,
            Slot::Text(place) => *place = text.to_owned(),
            Slot::Uint(place) => *place = parse_uint(text, u64::MAX).map_err(|e| e.text())?,
            Slot::Uint32(place) => {
                let value = parse_uint(text, u64::from(u32::MAX));
                let value = value.map_err(|e| e.strconv_text("ParseUint", text))?;
                *place = u32::try_from(value).expect("the parser was given this limit");
            }
            Slot::Int(place) => *place = parse_int(text).map_err(|e| e.text())?,
            Slot::Duration(place) => *place = GoDuration::parse(text).ok_or("parse error")?,
            // Compat: an empty list of URLs leaves the default standing.
            Slot::Urls(_) if text.is_empty() => {}
            Slot::Urls(place) => {
                let mut urls = Url::parse_list(text)?;
                urls.dedup();
                *place = urls;
            }
            Slot::Origins(place) if text == "*" => *place = vec!["*".to_owned()],
            Slot::Origins(place) => {
                let mut origins = url::texts(&Url::parse_list(text)?);
                origins.dedup();
                *place = origins;
            }
            Slot::List(place) => *place = split(text),
            Slot::Set(place) => {
                let mut words = split(text);
                words.sort();
                words.dedup();
                *place = words;
            }
            Slot::Choice(place, words) => {
                if !words.contains(&text) {
                    return Err("invalid value".to_owned());
                }
                *place = text.to_owned();
            }
            Slot::Choices(place, words) => {
                if let Some(unknown) = text.split(',').find(|word| !words.contains(word)) {
                    return Err(format!("invalid value {}", quote(unknown)));
                }
                *place = text.to_owned();
            }
            Slot::Gates(place) => place.set(text)?,
        }
        Ok(())
    }

    /// The value as `--help` shows a default.
    pub fn show(&self) -> String {
        match self {
            Slot::Bool(value) => value.to_string(),
            Slot::Text(value) | Slot::Choice(value, _) | Slot::Choices(value, _) => (*value).clone(),
            Slot::Uint(value) => value.to_string(),
            Slot::Uint32(value) => value.to_string(),
            Slot::Int(value) => value.to_string(),
            Slot::Duration(value) => value.to_string(),
            Slot::Urls(value) => url::texts(value).join(","),
            Slot::Origins(value) | Slot::List(value) | Slot::Set(value) => value.join(","),
            Slot::Gates(value) => value.text(),
        }
    }
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}
