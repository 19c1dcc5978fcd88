//! Go's flag syntax: `-x v`, `--x v`, `--x=v`, booleans only as `--x` or `--x=true`; the first
//! argument that is no flag ends the flags. Texts and exit codes are those of Go's `flag` package.

use crate::flag::Flag;
use crate::flag_table;
use crate::go_value::quote;
use crate::retired::{self, Successor};
use crate::settings::Settings;

/// How reading the command line ended without settings to run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `-h`, `-help` or `--help` came first.
    Help,
    /// Text for stderr; the usage follows and the exit code is 2.
    BadFlag(String),
}

/// Anything that can be set by name.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    Flag(&'static Flag),
    Retired(Successor),
    Ignored,
}

impl Target {
    pub fn find(name: &str) -> Option<Target> {
        if let Some(flag) = flag_table::find(name) {
            return Some(Target::Flag(flag));
        }
        if let Some(successor) = retired::successor(name) {
            return Some(Target::Retired(successor));
        }
        retired::IGNORED.contains(&name).then_some(Target::Ignored)
    }

    fn is_bool(self) -> bool {
        match self {
            Target::Flag(flag) => (flag.slot)(&mut Settings::default()).is_bool(),
            Target::Retired(successor) => successor.is_bool(),
            Target::Ignored => true,
        }
    }

    /// Sets `name` to `value`; the error is Go's text without its prefix.
    pub fn set(self, name: &str, value: &str, settings: &mut Settings) -> Result<(), String> {
        match self {
            Target::Flag(flag) => (flag.slot)(settings).set(value)?,
            Target::Retired(Successor::Flag(flag)) => (flag.slot)(settings).set(value)?,
            Target::Retired(Successor::Gate(gate)) => {
                let value = crate::go_value::parse_bool(value).ok_or("parse error")?;
                settings.retired_gates.insert(gate, (name.to_owned(), value));
            }
            Target::Ignored => {}
        }
        settings.explicit.insert(name.to_owned());
        Ok(())
    }
}

/// Reads `arguments` (without the program's name) into `settings` and returns those that are no flags.
pub fn parse(arguments: &[String], settings: &mut Settings) -> Result<Vec<String>, Stop> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.as_slice().first() {
        if argument.len() < 2 || !argument.starts_with('-') {
            break;
        }
        rest.next();
        if argument == "--" {
            break;
        }
        let body = argument.strip_prefix("--").unwrap_or(&argument[1..]);
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(Stop::BadFlag(format!("bad flag syntax: {argument}")));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(target) = Target::find(name) else {
            if matches!(name, "help" | "h") {
                return Err(Stop::Help);
            }
            return Err(Stop::BadFlag(format!("flag provided but not defined: -{name}")));
        };
        let (value, kind) = if target.is_bool() {
            (value.unwrap_or("true"), "boolean value")
        } else {
            match value.or_else(|| rest.next().map(String::as_str)) {
                Some(value) => (value, "value"),
                None => return Err(Stop::BadFlag(format!("flag needs an argument: -{name}"))),
            }
        };
        target.set(name, value, settings).map_err(|why| {
            let place = if kind == "value" { "flag " } else { "" };
            Stop::BadFlag(format!("invalid {kind} {} for {place}-{name}: {why}", quote(value)))
        })?;
    }
    Ok(rest.as_slice().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> (Settings, Result<Vec<String>, Stop>) {
        let mut settings = Settings::default();
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let rest = parse(&arguments, &mut settings);
        (settings, rest)
    }

    fn bad(argument: &str) -> String {
        match read(&[argument]).1 {
            Err(Stop::BadFlag(text)) => text,
            other => panic!("{argument}: {other:?}"),
        }
    }

    #[test]
    fn all_spellings_of_a_flag_are_one() {
        for arguments in
            [&["-name", "a"][..], &["--name", "a"], &["-name=a"], &["--name=a"], &["--name=b", "--name=a"]]
        {
            assert_eq!(read(arguments).0.name, "a");
        }
        assert_eq!(read(&["--name="]).0.name, "");
        assert!(!read(&["--pre-vote=F"]).0.pre_vote);
    }

    #[test]
    fn the_first_word_that_is_no_flag_ends_the_flags() {
        assert_eq!(
            read(&["--pre-vote", "false", "--name=a"]).1,
            Ok(vec!["false".to_owned(), "--name=a".to_owned()])
        );
        assert_eq!(read(&["--", "--name"]).1, Ok(vec!["--name".to_owned()]));
        assert_eq!(read(&["-"]).1, Ok(vec!["-".to_owned()]));
    }

    /// Texts seen from etcd 3.7.3.
    #[test]
    fn refusals_are_worded_as_go_words_them() {
        assert_eq!(bad("--foo=1"), "flag provided but not defined: -foo");
        assert_eq!(bad("---x"), "bad flag syntax: ---x");
        assert_eq!(bad("--=3"), "bad flag syntax: --=3");
        assert_eq!(bad("--name"), "flag needs an argument: -name");
        assert_eq!(bad("--pre-vote=maybe"), "invalid boolean value \"maybe\" for -pre-vote: parse error");
        assert_eq!(
            bad("--heartbeat-interval=-1"),
            "invalid value \"-1\" for flag -heartbeat-interval: parse error"
        );
        assert_eq!(
            bad("--max-concurrent-streams=4294967296"),
            "invalid value \"4294967296\" for flag -max-concurrent-streams: strconv.ParseUint: parsing \"4294967296\": value out of range"
        );
        assert_eq!(
            bad("--initial-cluster-state=x"),
            "invalid value \"x\" for flag -initial-cluster-state: invalid value"
        );
        assert_eq!(
            bad("--v2-deprecation=x"),
            "invalid value \"x\" for flag -v2-deprecation: invalid value \"x\""
        );
    }

    #[test]
    fn help_wins_where_it_stands() {
        assert_eq!(read(&["--name=a", "-h", "--foo"]).1, Err(Stop::Help));
        assert!(matches!(read(&["--foo", "-h"]).1, Err(Stop::BadFlag(_))));
    }

    #[test]
    fn old_names_still_work() {
        let (settings, rest) = read(&[
            "--experimental-initial-corrupt-check",
            "--experimental-watch-progress-notify-interval=5s",
            "-vv",
            "--test.outputdir=x",
        ]);
        assert_eq!(rest, Ok(Vec::new()));
        assert_eq!(settings.watch_progress_notify_interval.to_string(), "5s");
        assert!(settings.is_explicit("experimental-initial-corrupt-check"));
    }
}
