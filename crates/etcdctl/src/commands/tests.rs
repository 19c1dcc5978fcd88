//! The tree of commands, its help, and what is refused, in Go's words.

use cobra::help::{self, help, usage};
use cobra::parse::{Parsed, parse};
use cobra::{Command, Errors, Invocation};

use super::ROOT;

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
        text.contains("\n\nFlags:\n  -h, --help   help for lease\n\nUse \"etcdctl lease [command] --help\""),
        "{text}"
    );
}

#[test]
fn usage_line_and_defaults() {
    let text = usage(&path(&["put"]));
    assert!(
        text.contains(
            "  etcdctl put [options] <key> <value> (<value> can also be given from stdin) [flags]\n"
        )
    );
    assert!(
        text.contains(
            "      --lease string   lease ID (in hexadecimal) to attach to the key (default \"0\")\n"
        ),
        "{text}"
    );
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
}

fn run(line: &str) -> Invocation {
    match parse(&ROOT, &words(line)) {
        Ok(Parsed::Run(invocation)) => invocation,
        Ok(Parsed::Help { path }) => panic!("{line}: help on {}", help::name(&path)),
        Err(failure) => panic!("{line}: {}", failure.text(Errors::Once)),
    }
}

fn error(line: &str) -> String {
    match parse(&ROOT, &words(line)) {
        Err(failure) => failure.text(Errors::Once).lines().next().unwrap().to_owned(),
        Ok(_) => panic!("{line}: understood"),
    }
}

#[test]
fn flags_and_arguments_mix() {
    let invocation = run("-w json get a --prefix -keys-only --limit=3 --endpoints a:1,b:2 --endpoints c:3");
    assert_eq!(help::name(&invocation.path), "etcdctl get");
    assert_eq!(invocation.args, words("a"));
    let flags = &invocation.flags;
    assert!(flags.bool("prefix") && flags.bool("keys-only"));
    assert_eq!((flags.int("limit"), flags.text("write-out")), (3, "json".into()));
    assert_eq!(flags.list("endpoints"), ["a:1", "b:2", "c:3"]);
}

#[test]
fn shorthands() {
    assert_eq!(run("get a -wjson").flags.text("write-out"), "json");
    assert_eq!(run("get a -w=json").flags.text("write-out"), "json");
    assert_eq!(run("get a -write-out json").flags.text("write-out"), "json");
    assert!(run("watch -i").flags.bool("interactive"));
    assert_eq!(error("put -x a"), "Error: unknown shorthand flag: 'x' in -x");
    assert_eq!(error("get a -w"), "Error: flag needs an argument: 'w' in -w");
}

#[test]
fn the_last_of_repeated_flags_wins() {
    assert_eq!(run("get a --limit 1 --limit 2").flags.int("limit"), 2);
}

#[test]
fn two_dashes_end_flags() {
    let invocation = run("put -- -a --b");
    assert_eq!((invocation.args, invocation.args_before_dash), (words("-a --b"), Some(0)));
}

#[test]
fn beginnings_of_names() {
    assert_eq!(help::name(&run("mem li").path), "etcdctl member list");
    assert_eq!(help::name(&run("le keep 1").path), "etcdctl lease keep-alive");
    assert_eq!(error("de"), "Error: unknown command \"de\" for \"etcdctl\"");
}

#[test]
fn errors_as_worded_by_go() {
    for (line, text) in [
        ("put --foo", "unknown flag: --foo"),
        ("get --limit", "flag needs an argument: --limit"),
        ("get ---x", "bad flag syntax: ---x"),
        (
            "get a --limit=x",
            "invalid argument \"x\" for \"--limit\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "get a --prefix=maybe",
            "invalid argument \"maybe\" for \"--prefix\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (
            "get a --dial-timeout 3",
            "invalid argument \"3\" for \"--dial-timeout\" flag: time: missing unit in duration \"3\"",
        ),
        ("gett", "unknown command \"gett\" for \"etcdctl\""),
        ("completion", "accepts 1 arg(s), received 0"),
        ("completion foo", "invalid argument \"foo\" for \"etcdctl completion\""),
    ] {
        assert_eq!(error(line), format!("Error: {text}"), "{line}");
    }
}

#[test]
fn suggestions() {
    let Err(failure) = parse(&ROOT, &words("gett")) else { panic!("understood") };
    assert_eq!(
        failure.text(Errors::Once),
        "Error: unknown command \"gett\" for \"etcdctl\"\n\nDid you mean this?\n\tget\n\nRun 'etcdctl --help' for usage.\n"
    );
}
