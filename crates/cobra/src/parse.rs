//! From words to a command with its flags and arguments.
//!
//! Flags and arguments mix, `--` ends flags, and any unambiguous beginning of a command's name is the
//! command. Beyond what cobra takes, a word with one dash that is exactly the name of a long
//! flag is that flag.

use golang::quote::{quote, quote_char};

use crate::command::{Args, Command, Errors, Invocation};
use crate::exit;
use crate::flags::{Flag, Flags, quoted_name};
use crate::help;

/// Own flag of every command.
static HELP: Flag = Flag::bool("help", "").short('h');

pub enum Parsed {
    Run(Invocation),
    /// Help was asked for, or there is nothing to run.
    Help {
        path: Vec<&'static Command>,
    },
}

/// A command line that cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// No such command; the text ends with advice.
    Command { message: String, root: &'static str },
    /// Bad flags or arguments of a known command, whose usage is shown.
    Usage { message: String, usage: String },
    /// `help` for something unknown: usage, but no error.
    Topic { topics: String, usage: String },
}

impl Failure {
    pub fn text(&self, errors: Errors) -> String {
        let again = |message: &str| match errors {
            Errors::Once => String::new(),
            Errors::Twice => format!("Error: {message}\n"),
        };
        match self {
            Failure::Command { message, root } => {
                format!("Error: {message}\nRun '{root} --help' for usage.\n{}", again(message))
            }
            Failure::Usage { message, usage } => format!("Error: {message}\n{usage}\n{}", again(message)),
            Failure::Topic { topics, usage } => format!("Unknown help topic [{topics}]\n{usage}"),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Command { .. } | Failure::Usage { .. } => exit::ERROR,
            Failure::Topic { .. } => 0,
        }
    }
}

/// Parses the words behind the program's name.
pub fn parse(root: &'static Command, words: &[Vec<u8>]) -> Result<Parsed, Failure> {
    let (path, rest) = find(vec![root], words.to_vec());
    let command = path[path.len() - 1];
    if path.len() == 1
        && let Some(unknown) = positionals(&path, &rest).first()
    {
        return Err(unknown_command(root, unknown));
    }
    let usage_error = |message: String| Failure::Usage { message, usage: help::usage(&path) };
    let mut flags = flags_of(&path);
    let (args, args_before_dash) = parse_flags(&mut flags, &rest).map_err(usage_error)?;
    if flags.bool("help") {
        return Ok(Parsed::Help { path });
    }
    let Some(run) = command.run else { return Ok(Parsed::Help { path }) };
    check_args(&path, &args).map_err(usage_error)?;
    check_required(&flags).map_err(usage_error)?;
    if command.name == "help" {
        return help_on(root, &args);
    }
    Ok(Parsed::Run(Invocation { run, path, flags, args, args_before_dash }))
}

/// All flags that a command takes.
pub fn flags_of(path: &[&'static Command]) -> Flags {
    let (command, above) = path.split_last().expect("a path has at least the root");
    let own = command.flags.iter().chain(command.persistent_flags).chain([&HELP]);
    Flags::of(own, above.iter().flat_map(|command| command.persistent_flags))
}

/// Follows the words down the tree of commands. Returns the path and the words that name no command.
fn find(mut path: Vec<&'static Command>, mut words: Vec<Vec<u8>>) -> (Vec<&'static Command>, Vec<Vec<u8>>) {
    loop {
        let Some(name) = positionals(&path, &words).into_iter().next() else { return (path, words) };
        let command = path[path.len() - 1];
        let Some(next) = subcommand(command, &name) else { return (path, words) };
        let at = first_positional(&path, &words, &name);
        words.remove(at);
        path.push(next);
    }
}

fn subcommand(command: &Command, name: &[u8]) -> Option<&'static Command> {
    let exact = command.subcommands.iter().find(|sub| sub.name.as_bytes() == name);
    if exact.is_some() {
        return exact.copied();
    }
    let mut beginning = command.subcommands.iter().filter(|sub| sub.name.as_bytes().starts_with(name));
    match (beginning.next(), beginning.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// The words that are neither flags nor values of flags, judged by the flags known so far.
fn positionals(path: &[&'static Command], words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    positional_indexes(path, words).into_iter().map(|at| words[at].clone()).collect()
}

fn first_positional(path: &[&'static Command], words: &[Vec<u8>], name: &[u8]) -> usize {
    let found = positional_indexes(path, words).into_iter().find(|&at| words[at] == name);
    found.expect("the name was found among the positional words")
}

fn positional_indexes(path: &[&'static Command], words: &[Vec<u8>]) -> Vec<usize> {
    let flags = flags_of(path);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let word = String::from_utf8_lossy(&words[at]);
        match Word::of(&flags, &word) {
            Word::End => break,
            Word::Positional if !word.is_empty() => found.push(at),
            Word::Positional => {}
            Word::Long(body) => {
                let takes_next = !body.contains('=') && !flags.long(body).is_some_and(Flag::is_bool);
                at += usize::from(takes_next);
            }
            Word::Shorts(body) => {
                let first = body.chars().next().and_then(|short| flags.short(short));
                let takes_next = body.chars().count() == 1 && !first.is_some_and(Flag::is_bool);
                at += usize::from(takes_next);
            }
        }
        at += 1;
    }
    found
}

enum Word<'a> {
    /// `--`
    End,
    Positional,
    /// Without its dashes, perhaps with `=value`.
    Long(&'a str),
    /// Without its dash.
    Shorts(&'a str),
}

impl Word<'_> {
    fn of<'a>(flags: &Flags, word: &'a str) -> Word<'a> {
        if let Some(body) = word.strip_prefix("--") {
            return if body.is_empty() { Word::End } else { Word::Long(body) };
        }
        match word.strip_prefix('-') {
            None | Some("") => Word::Positional,
            Some(body) => {
                let name = body.split('=').next().unwrap_or(body);
                let is_long = name.chars().count() > 1 && flags.long(name).is_some();
                if is_long { Word::Long(body) } else { Word::Shorts(body) }
            }
        }
    }
}

/// Sets flags and returns the arguments, with how many stood before `--`.
pub fn parse_flags(flags: &mut Flags, words: &[Vec<u8>]) -> Result<(Vec<Vec<u8>>, Option<usize>), String> {
    let mut args = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let text = String::from_utf8_lossy(word);
        match Word::of(flags, &text) {
            Word::Positional => args.push(word.clone()),
            Word::End => {
                let before = args.len();
                args.extend(rest.cloned());
                return Ok((args, Some(before)));
            }
            Word::Long(body) => {
                let dashes = text.len() - body.len();
                set_long(flags, body, &word[dashes.min(word.len())..], &mut rest)?;
            }
            Word::Shorts(body) => set_shorts(flags, body, &word[1..], &mut rest)?,
        }
    }
    Ok((args, None))
}

type Rest<'a> = std::slice::Iter<'a, Vec<u8>>;

fn set_long(flags: &mut Flags, body: &str, raw: &[u8], rest: &mut Rest<'_>) -> Result<(), String> {
    if body.starts_with(['-', '=']) {
        return Err(format!("bad flag syntax: --{body}"));
    }
    let name = body.split('=').next().unwrap_or(body);
    let Some(flag) = flags.long(name) else {
        return Err(format!("unknown flag: --{name}"));
    };
    let given = raw.iter().position(|&byte| byte == b'=').map(|at| &raw[at + 1..]);
    let value = match given {
        Some(value) => value,
        None if flag.is_bool() => b"true",
        None => rest.next().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
    };
    set(flags, flag, value)
}

fn set_shorts(flags: &mut Flags, body: &str, raw: &[u8], rest: &mut Rest<'_>) -> Result<(), String> {
    let mut at = 0;
    for c in body.chars() {
        let Some(flag) = flags.short(c) else {
            return Err(format!("unknown shorthand flag: {} in -{}", quote_char(c), &body[at..]));
        };
        let after = raw.get(at + c.len_utf8()..).unwrap_or_default();
        let value = match after {
            [b'=', value @ ..] if !value.is_empty() => value,
            _ if flag.is_bool() => {
                set(flags, flag, b"true")?;
                at += c.len_utf8();
                continue;
            }
            [] => rest
                .next()
                .ok_or_else(|| format!("flag needs an argument: {} in -{}", quote_char(c), &body[at..]))?,
            value => value,
        };
        return set(flags, flag, value);
    }
    Ok(())
}

fn set(flags: &mut Flags, flag: &Flag, value: &[u8]) -> Result<(), String> {
    flags.set(flag.name, value).map_err(|reason| {
        format!("invalid argument {} for {} flag: {reason}", quote(value), quoted_name(flag))
    })
}

fn check_args(path: &[&'static Command], args: &[Vec<u8>]) -> Result<(), String> {
    match path[path.len() - 1].args {
        Args::Any => Ok(()),
        Args::Exactly(count) if args.len() != count => Err(wrong_count(count, args)),
        Args::Exactly(_) => Ok(()),
        Args::OneOf(_) if args.len() != 1 => Err(wrong_count(1, args)),
        Args::OneOf(valid) if !valid.iter().any(|valid| valid.as_bytes() == args[0]) => {
            Err(format!("invalid argument {} for {}", quote(&args[0]), quote(help::name(path).as_bytes())))
        }
        Args::OneOf(_) => Ok(()),
    }
}

fn wrong_count(count: usize, args: &[Vec<u8>]) -> String {
    format!("accepts {count} arg(s), received {}", args.len())
}

fn check_required(flags: &Flags) -> Result<(), String> {
    let missing: Vec<_> = flags.missing().map(|flag| quote(flag.name.as_bytes())).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("required flag(s) {} not set", missing.join(", "))) }
}

fn help_on(root: &'static Command, topics: &[Vec<u8>]) -> Result<Parsed, Failure> {
    let (path, rest) = find(vec![root], topics.to_vec());
    if path.len() == 1 && !rest.is_empty() {
        let topics: Vec<_> = topics.iter().map(|topic| go_backquoted(topic)).collect();
        return Err(Failure::Topic { topics: topics.join(" "), usage: help::topic_usage(&path) });
    }
    Ok(Parsed::Help { path })
}

/// Go's `%#q`.
fn go_backquoted(topic: &[u8]) -> String {
    match std::str::from_utf8(topic) {
        Ok(text) if !text.contains('`') && !text.contains(char::is_control) => format!("`{text}`"),
        _ => quote(topic),
    }
}

fn unknown_command(root: &'static Command, name: &[u8]) -> Failure {
    let typed = String::from_utf8_lossy(name).to_lowercase();
    let similar = |command: &&&Command| {
        let known = command.name.to_lowercase();
        command.name != "help" && (distance(&typed, &known) <= 2 || known.starts_with(&typed))
    };
    let mut message = format!("unknown command {} for \"{}\"", quote(name), root.name);
    let similar: Vec<_> = root.subcommands.iter().filter(similar).collect();
    if !similar.is_empty() {
        message += "\n\nDid you mean this?\n";
        for command in similar {
            message += &format!("\t{}\n", command.name);
        }
    }
    Failure::Command { message, root: root.name }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &d) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(c != d);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
