//! Help and usage texts.

use super::command::{Args, Command, Group};
use super::flags::usages;
use super::parse::flags_of;

const FOOTER: &str =
    "Use \"etcdctl options\" for a list of global command-line options (applies to all commands).\n";
/// Names of commands are padded to this at least.
const NAME_WIDTH_MIN: usize = 11;

/// The names from the root down: `etcdctl lease grant`.
pub fn name(path: &[&'static Command]) -> String {
    path.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

/// What `--help` shows.
pub fn help(path: &[&'static Command]) -> String {
    let command = path[path.len() - 1];
    let about = if command.long.is_empty() { command.short } else { command.long };
    let mut out = String::new();
    if !about.is_empty() {
        out += about.trim_end();
        out += "\n\n";
    }
    out + &usage(path) + FOOTER
}

/// What follows an error in flags or arguments.
pub fn usage(path: &[&'static Command]) -> String {
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
        push_subcommands(&mut out, command);
    }
    push_flags(&mut out, path);
    if !command.subcommands.is_empty() {
        out += &format!("\n\nUse \"{} [command] --help\" for more information about a command.", name(path));
    }
    out + "\n"
}

fn use_line(path: &[&'static Command]) -> String {
    let (command, above) = path.split_last().expect("a path has at least the root");
    let mut line = format!("{} {}", name(above), command.usage);
    if matches!(command.args, Args::Any) {
        line += " [flags]";
    }
    line
}

fn push_subcommands(out: &mut String, command: &Command) {
    let width = command.subcommands.iter().map(|sub| sub.name.len()).max().unwrap_or(0).max(NAME_WIDTH_MIN);
    let line = |sub: &&Command| format!("\n  {:width$} {}", sub.name, sub.short);
    let mut subcommands = command.subcommands.to_vec();
    subcommands.sort_by_key(|sub| sub.name);
    if subcommands.iter().all(|sub| sub.group.is_none()) {
        *out += "\n\nAvailable Commands:";
        out.extend(subcommands.iter().map(line));
        return;
    }
    for (group, title) in Group::ALL {
        let members = subcommands.iter().filter(|sub| sub.group == Some(group));
        *out += &format!("\n\n{title}");
        out.extend(members.map(line));
    }
}

fn push_flags(out: &mut String, path: &[&'static Command]) {
    // The root hides its own flags: `etcdctl options` lists them.
    let [_, between @ .., command] = path else { return };
    let flags = flags_of(path);
    let own = flags.own().filter(|flag| flag.name != "help");
    *out += &format!("\n\nFlags:\n{}", usages(own, Some(command.name)).trim_end());
    let mut inherited = between.iter().flat_map(|command| command.persistent_flags).peekable();
    if inherited.peek().is_some() {
        *out += &format!("\n\nGlobal Flags:\n{}", usages(inherited, None).trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::ROOT;

    fn path(names: &[&str]) -> Vec<&'static Command> {
        let mut path = vec![&ROOT];
        for name in names {
            let found = path[path.len() - 1].subcommands.iter().find(|sub| sub.name == *name).unwrap();
            path.push(found);
        }
        path
    }

    #[test]
    fn commands_are_grouped_and_run_something() {
        fn check(command: &Command) {
            for sub in command.subcommands {
                assert_eq!(sub.group.is_some(), command.name == "etcdctl", "{}", sub.name);
                assert_eq!(sub.run.is_none(), !sub.subcommands.is_empty(), "{}", sub.name);
                check(sub);
            }
        }
        check(&ROOT);
    }

    #[test]
    fn help_of_a_command_with_flags_from_above() {
        assert_eq!(
            help(&path(&["endpoint", "health"])),
            "Checks the healthiness of endpoints specified in `--endpoints` flag\n\n\
             Usage:\n  etcdctl endpoint health [flags]\n\n\
             Flags:\n  -h, --help   help for health\n\n\
             Global Flags:\n      --cluster   use all endpoints from the cluster member list\n\
             Use \"etcdctl options\" for a list of global command-line options (applies to all commands).\n"
        );
    }

    #[test]
    fn help_of_a_command_with_commands_below() {
        let text = help(&path(&["lease"]));
        assert!(text.starts_with("Lease related commands\n\nUsage:\n  etcdctl lease [command]\n\nAvailable Commands:\n  grant       Creates leases\n"), "{text}");
        assert!(
            text.contains(
                "\n\nFlags:\n  -h, --help   help for lease\n\nUse \"etcdctl lease [command] --help\""
            ),
            "{text}"
        );
    }

    #[test]
    fn usage_line_and_defaults() {
        let text = usage(&path(&["put"]));
        assert!(text.contains(
            "  etcdctl put [options] <key> <value> (<value> can also be given from stdin) [flags]\n"
        ));
        assert!(
            text.contains(
                "      --lease string   lease ID (in hexadecimal) to attach to the key (default \"0\")\n"
            ),
            "{text}"
        );
    }
}
