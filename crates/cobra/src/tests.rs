//! A small tool in the manner of etcdutl; etcdctl's tests ask the same of a large one.

use super::parse::{Failure, Parsed, parse};
use super::*;

static ROOT: Command = Command {
    name: "tool",
    usage: "tool",
    persistent_flags: &[Flag::text("write-out", "simple", "set the output format").short('w')],
    subcommands: &[&COPY],
    manner: Manner {
        help: HelpText::UsageAlone,
        root_flags: RootFlags::Shown,
        errors: Errors::Twice,
        groups: &[],
    },
    ..Command::EMPTY
};

static COPY: Command = Command {
    name: "copy",
    usage: "copy <filename>",
    short: "Copies a file",
    long: "Not shown.",
    flags: &[
        Flag::text("data-dir", "", "where to").required(),
        Flag::uint("bump", 0, "how much"),
        Flag::uint("size", 10, "how large").required(),
    ],
    args: Args::Exactly(1),
    run: Some(|_| Ok(())),
    ..Command::EMPTY
};

fn parsed(line: &str) -> Result<Parsed, Failure> {
    let words: Vec<_> = line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
    parse(&ROOT, &words)
}

fn refusal(line: &str) -> String {
    match parsed(line) {
        Err(failure) => failure.text(ROOT.manner.errors),
        Ok(_) => panic!("{line}: understood"),
    }
}

#[test]
fn unsigned_flags_are_read_as_go_reads_them() {
    let Ok(Parsed::Run(invocation)) = parsed("copy a --data-dir d --size 0x10") else { panic!("refused") };
    assert_eq!((invocation.flags.uint("size"), invocation.flags.uint("bump")), (16, 0));
    let first_line = refusal("copy a --bump -1").lines().next().unwrap().to_owned();
    assert_eq!(
        first_line,
        "Error: invalid argument \"-1\" for \"--bump\" flag: strconv.ParseUint: parsing \"-1\": invalid syntax"
    );
}

#[test]
fn arguments_are_counted_before_required_flags_are_missed() {
    assert!(refusal("copy").starts_with("Error: accepts 1 arg(s), received 0\nUsage:\n"));
    assert!(
        refusal("copy a").starts_with("Error: required flag(s) \"data-dir\", \"size\" not set\nUsage:\n")
    );
    assert!(refusal("copy a --size 1").starts_with("Error: required flag(s) \"data-dir\" not set\n"));
}

#[test]
fn errors_are_said_twice_and_usage_lists_the_roots_flags() {
    assert_eq!(
        refusal("copy a --no"),
        "Error: unknown flag: --no\n\
         Usage:\n  tool copy <filename> [flags]\n\n\
         Flags:\n      --bump uint         how much\n      --data-dir string   where to\n  \
         -h, --help              help for copy\n      --size uint         how large (default 10)\n\n\
         Global Flags:\n  -w, --write-out string   set the output format (default \"simple\")\n\n\
         Error: unknown flag: --no\n"
    );
    assert_eq!(
        refusal("cpoy"),
        "Error: unknown command \"cpoy\" for \"tool\"\n\nDid you mean this?\n\tcopy\n\n\
         Run 'tool --help' for usage.\n\
         Error: unknown command \"cpoy\" for \"tool\"\n\nDid you mean this?\n\tcopy\n\n"
    );
}

#[test]
fn help_is_the_usage_alone() {
    let Ok(Parsed::Help { path }) = parsed("copy --help") else { panic!("no help") };
    assert_eq!(help::help(&path), help::usage(&path));
    assert!(!help::help(&path).contains("Not shown."));
}
