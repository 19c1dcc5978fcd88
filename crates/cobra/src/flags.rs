//! Flags: how they are declared, set and read.

use std::time::Duration;

use golang::{duration, number, quote};

/// A flag as a command declares it.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub short: Option<char>,
    pub default: Default,
    pub usage: &'static str,
    /// The command is not run without it.
    pub required: bool,
}

/// The kind of a flag, with its default.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(&'static str),
    Duration(Duration),
    /// A list; given several times, it adds up.
    List(&'static [&'static str]),
}

impl Flag {
    const fn new(name: &'static str, default: Default, usage: &'static str) -> Flag {
        Flag { name, short: None, default, usage, required: false }
    }

    pub const fn bool(name: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Default::Bool(false), usage)
    }

    pub const fn int(name: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Default::Int(0), usage)
    }

    pub const fn uint(name: &'static str, default: u64, usage: &'static str) -> Flag {
        Flag::new(name, Default::Uint(default), usage)
    }

    pub const fn text(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Default::Text(default), usage)
    }

    pub const fn duration(name: &'static str, secs: u64, usage: &'static str) -> Flag {
        Flag::new(name, Default::Duration(Duration::from_secs(secs)), usage)
    }

    pub const fn list(name: &'static str, default: &'static [&'static str], usage: &'static str) -> Flag {
        Flag::new(name, Default::List(default), usage)
    }

    pub const fn on(self) -> Flag {
        Flag { default: Default::Bool(true), ..self }
    }

    pub const fn short(self, short: char) -> Flag {
        Flag { short: Some(short), ..self }
    }

    pub const fn required(self) -> Flag {
        Flag { required: true, ..self }
    }

    pub fn is_bool(&self) -> bool {
        matches!(self.default, Default::Bool(_))
    }

    fn initial(&self) -> Value {
        match self.default {
            Default::Bool(value) => Value::Bool(value),
            Default::Int(value) => Value::Int(value),
            Default::Uint(value) => Value::Uint(value),
            Default::Text(value) => Value::Text(value.into()),
            Default::Duration(value) => Value::Duration(value),
            Default::List(values) => Value::List(values.iter().map(|&value| value.into()).collect()),
        }
    }
}

#[derive(Clone, Debug)]
enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(Vec<u8>),
    Duration(Duration),
    List(Vec<String>),
}

/// The flags of one command with their values.
#[derive(Debug)]
pub struct Flags {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    flag: &'static Flag,
    value: Value,
    changed: bool,
    /// Declared by a command above.
    inherited: bool,
}

impl Flags {
    /// The flags of a command, own ones and inherited ones.
    pub fn of(
        own: impl Iterator<Item = &'static Flag>,
        inherited: impl Iterator<Item = &'static Flag>,
    ) -> Flags {
        let own = own.map(|flag| (flag, false));
        let all = own.chain(inherited.map(|flag| (flag, true)));
        let entry = |(flag, inherited): (&'static Flag, bool)| Entry {
            flag,
            value: flag.initial(),
            changed: false,
            inherited,
        };
        let mut entries: Vec<_> = all.map(entry).collect();
        entries.sort_by_key(|entry| entry.flag.name);
        Flags { entries }
    }

    pub fn long(&self, name: &str) -> Option<&'static Flag> {
        self.entries.iter().find(|entry| entry.flag.name == name).map(|entry| entry.flag)
    }

    pub fn short(&self, short: char) -> Option<&'static Flag> {
        self.entries.iter().find(|entry| entry.flag.short == Some(short)).map(|entry| entry.flag)
    }

    pub fn own(&self) -> impl Iterator<Item = &'static Flag> {
        self.entries.iter().filter(|entry| !entry.inherited).map(|entry| entry.flag)
    }

    /// Inherited flags with their values as Go prints them, and whether they were set.
    pub fn inherited(&self) -> impl Iterator<Item = (&'static Flag, String, bool)> {
        let inherited = self.entries.iter().filter(|entry| entry.inherited);
        inherited.map(|entry| (entry.flag, entry.value.show(), entry.changed))
    }

    /// Required flags that were not set.
    pub fn missing(&self) -> impl Iterator<Item = &'static Flag> {
        self.entries.iter().filter(|entry| entry.flag.required && !entry.changed).map(|entry| entry.flag)
    }

    /// Sets a flag from text. The error is the reason alone.
    pub fn set(&mut self, name: &str, text: &[u8]) -> Result<(), String> {
        let entry = self.entries.iter_mut().find(|entry| entry.flag.name == name);
        let entry = entry.expect("only flags that were looked up are set");
        let as_text = String::from_utf8_lossy(text);
        entry.value = match &entry.value {
            Value::Bool(_) => Value::Bool(number::parse_bool(&as_text)?),
            Value::Int(_) => Value::Int(number::parse_int(text, 0)?),
            Value::Uint(_) => Value::Uint(number::parse_uint(text, 0)?),
            Value::Text(_) => Value::Text(text.to_vec()),
            Value::Duration(_) => Value::Duration(duration::parse(&as_text)?),
            Value::List(before) => {
                let mut list = if entry.changed { before.clone() } else { Vec::new() };
                list.extend(as_text.split(',').filter(|_| !as_text.is_empty()).map(String::from));
                Value::List(list)
            }
        };
        entry.changed = true;
        Ok(())
    }

    fn entry(&self, name: &str) -> &Entry {
        let entry = self.entries.iter().find(|entry| entry.flag.name == name);
        entry.unwrap_or_else(|| panic!("flag {name} is read but not declared"))
    }

    pub fn changed(&self, name: &str) -> bool {
        self.entry(name).changed
    }

    pub fn bool(&self, name: &str) -> bool {
        match &self.entry(name).value {
            Value::Bool(value) => *value,
            other => panic!("flag {name} is no bool: {other:?}"),
        }
    }

    pub fn int(&self, name: &str) -> i64 {
        match &self.entry(name).value {
            Value::Int(value) => *value,
            other => panic!("flag {name} is no int: {other:?}"),
        }
    }

    pub fn uint(&self, name: &str) -> u64 {
        match &self.entry(name).value {
            Value::Uint(value) => *value,
            other => panic!("flag {name} is no uint: {other:?}"),
        }
    }

    pub fn bytes(&self, name: &str) -> &[u8] {
        match &self.entry(name).value {
            Value::Text(value) => value,
            other => panic!("flag {name} is no text: {other:?}"),
        }
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.bytes(name)).into_owned()
    }

    pub fn duration(&self, name: &str) -> Duration {
        match &self.entry(name).value {
            Value::Duration(value) => *value,
            other => panic!("flag {name} is no duration: {other:?}"),
        }
    }

    pub fn list(&self, name: &str) -> &[String] {
        match &self.entry(name).value {
            Value::List(value) => value,
            other => panic!("flag {name} is no list: {other:?}"),
        }
    }
}

impl Value {
    fn show(&self) -> String {
        match self {
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Uint(value) => value.to_string(),
            Value::Text(value) => String::from_utf8_lossy(value).into_owned(),
            Value::Duration(value) => duration::format(*value),
            Value::List(values) => format!("[{}]", values.join(",")),
        }
    }
}

/// `--name` or `-n, --name`, as errors name a flag; quoted.
pub fn quoted_name(flag: &Flag) -> String {
    let long = format!("--{}", flag.name);
    let name = flag.short.map_or(long.clone(), |short| format!("-{short}, {long}"));
    quote::quote(name.as_bytes())
}

/// The table of flags in help: names and kinds, then texts in one column. With `help_on`, the flag
/// `--help` of that command is among them.
pub fn usages<'a>(flags: impl Iterator<Item = &'a Flag>, help_on: Option<&str>) -> String {
    let row = |flag: &Flag| (flag.name, head(flag), format!("{}{}", flag.usage, default_note(flag)));
    let mut rows: Vec<_> = flags.map(row).collect();
    rows.extend(help_on.map(|command| ("help", "  -h, --help".into(), format!("help for {command}"))));
    rows.sort();
    let width = rows.iter().map(|(_, head, _)| head.len()).max().unwrap_or(0) + 3;
    rows.iter().map(|(_, head, text)| format!("{head:width$}{text}\n")).collect()
}

fn head(flag: &Flag) -> String {
    let name = match flag.short {
        Some(short) => format!("  -{short}, --{}", flag.name),
        None => format!("      --{}", flag.name),
    };
    match flag.default {
        Default::Bool(_) => name,
        Default::Int(_) => name + " int",
        Default::Uint(_) => name + " uint",
        Default::Text(_) => name + " string",
        Default::Duration(_) => name + " duration",
        Default::List(_) => name + " strings",
    }
}

fn default_note(flag: &Flag) -> String {
    let zero = match flag.default {
        Default::Bool(value) => !value,
        Default::Int(value) => value == 0,
        Default::Uint(value) => value == 0,
        Default::Text(value) => value.is_empty(),
        Default::Duration(value) => value.is_zero(),
        Default::List(values) => values.is_empty(),
    };
    match flag.default {
        _ if zero => String::new(),
        Default::Text(value) => format!(" (default {})", quote::quote(value.as_bytes())),
        _ => format!(" (default {})", flag.initial().show()),
    }
}
