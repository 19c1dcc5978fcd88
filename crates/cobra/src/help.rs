//! Help and usage texts.

use crate::command::{Args, Command, HelpText, RootFlags};
use crate::flags::usages;
use crate::parse::flags_of;

/// Names of commands are padded to this at least.
const NAME_WIDTH_MIN: usize = 11;

/// The names from the root down: `etcdctl lease grant`.
pub fn name(path: &[&'static Command]) -> String {
    path.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

/// What `--help` shows.
pub fn help(path: &[&'static Command]) -> String {
    let HelpText::Full { footer } = path[0].manner.help else { return usage(path) };
    let command = path[path.len() - 1];
    let about = if command.long.is_empty() { command.short } else { command.long };
    let mut out = String::new();
    if !about.is_empty() {
        out += about.trim_end();
        out += "\n\n";
    }
    out + &usage(path) + footer
}

/// What follows an error in flags or arguments.
pub fn usage(path: &[&'static Command]) -> String {
    usage_with(path, HelpFlag::Shown)
}

/// As [`usage`], for an unknown topic. Compat: cobra has not given the root its flag `--help` by then.
pub fn topic_usage(path: &[&'static Command]) -> String {
    usage_with(path, HelpFlag::Absent)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum HelpFlag {
    Shown,
    Absent,
}

fn usage_with(path: &[&'static Command], help_flag: HelpFlag) -> String {
    let command = path[path.len() - 1];
    let mut out = String::from("Usage:");
    if command.run.is_some() {
        out += &format!("\n  {}", use_line(path));
    }
    if !command.subcommands.is_empty() {
        out += &format!("\n  {} [command]", name(path));
    }
    if !command.example.is_empty() {
        out += &format!("\n\nExamples:\n{}", command.example);
    }
    if !command.subcommands.is_empty() {
        push_subcommands(&mut out, command, path[0].manner.groups);
    }
    push_flags(&mut out, path, help_flag);
    if !command.subcommands.is_empty() {
        out += &format!("\n\nUse \"{} [command] --help\" for more information about a command.", name(path));
    }
    out + "\n"
}

fn use_line(path: &[&'static Command]) -> String {
    let (command, above) = path.split_last().expect("a path has at least the root");
    let line = format!("{} {}", name(above), command.usage);
    match command.args {
        Args::Any | Args::Exactly(_) => line + " [flags]",
        Args::OneOf(_) => line,
    }
}

fn push_subcommands(out: &mut String, command: &Command, groups: &[&'static str]) {
    let width = command.subcommands.iter().map(|sub| sub.name.len()).max().unwrap_or(0).max(NAME_WIDTH_MIN);
    let line = |sub: &&Command| format!("\n  {:width$} {}", sub.name, sub.short);
    let mut subcommands = command.subcommands.to_vec();
    subcommands.sort_by_key(|sub| sub.name);
    if subcommands.iter().all(|sub| sub.group.is_none()) {
        *out += "\n\nAvailable Commands:";
        out.extend(subcommands.iter().map(line));
        return;
    }
    for title in groups {
        let members = subcommands.iter().filter(|sub| sub.group == Some(title));
        *out += &format!("\n\n{title}");
        out.extend(members.map(line));
    }
}

fn push_flags(out: &mut String, path: &[&'static Command], help_flag: HelpFlag) {
    let (command, above) = path.split_last().expect("a path has at least the root");
    let above = match (path[0].manner.root_flags, above) {
        (RootFlags::Hidden, []) => return,
        (RootFlags::Hidden, [_, between @ ..]) => between,
        (RootFlags::Shown, above) => above,
    };
    let flags = flags_of(path);
    let own = flags.own().filter(|flag| flag.name != "help");
    let help_on = (help_flag == HelpFlag::Shown).then_some(command.name);
    *out += &format!("\n\nFlags:\n{}", usages(own, help_on).trim_end());
    let mut inherited = above.iter().flat_map(|command| command.persistent_flags).peekable();
    if inherited.peek().is_some() {
        *out += &format!("\n\nGlobal Flags:\n{}", usages(inherited, None).trim_end());
    }
}
