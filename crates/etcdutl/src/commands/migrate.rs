//! `migrate`: the files of a stopped member for another release.

use cobra::{Command, Exit, Flag, Invocation, Outcome};
use golang::{number, quote::quote};
use membership::Version;

use super::{db_path, lock_wait, must_exist, path};
use crate::migrate::{self, Failure};

pub static MIGRATE: Command = Command {
    name: "migrate",
    usage: "migrate",
    short: "Migrates schema of etcd data dir files to make them compatible with different etcd version",
    flags: &[
        Flag::text("data-dir", "", "Path to the etcd data dir").required(),
        Flag::text(
            "target-version",
            "",
            "Target etcd version to migrate contents of data dir. Minimal value 3.5. Format \"X.Y\" for example 3.6.",
        )
        .required(),
        Flag::bool(
            "force",
            "Ignore migration failure and forcefully override storage version. Not recommended.",
        ),
    ],
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: Invocation) -> Outcome {
    let flags = &invocation.flags;
    let target = target(&flags.text("target-version")).map_err(Exit::bad_args)?;
    let data_dir = path(flags.bytes("data-dir"));
    must_exist(&db_path(&data_dir)).map_err(Exit::error)?;
    let on_failure = if flags.bool("force") { Failure::Override } else { Failure::Report };
    Ok(migrate::migrate(&data_dir, target, on_failure, lock_wait(flags))?)
}

/// The error is etcd's text.
fn target(text: &str) -> Result<Version, String> {
    let parts: Vec<&str> = text.split('.').collect();
    let [major, minor] = parts[..] else {
        let quoted = quote(text.as_bytes());
        return Err(format!("wrong target version format, expected \"X.Y\", got {quoted}"));
    };
    if text.contains(['-', '+']) {
        // A pre-release or build part would take the rest of the text.
        let dotted = text.split(['-', '+']).next().unwrap_or_default();
        return Err(format!("failed to parse target version: {dotted} is not in dotted-tri format"));
    }
    let number = |part: &str| {
        number::parse_int(part.as_bytes(), 10)
            .map(|number| number.unsigned_abs())
            .map_err(|reason| format!("failed to parse target version: {reason}"))
    };
    let version = Version::new(number(major)?, number(minor)?);
    if version < migrate::OLDEST {
        let shown = version.major_minor();
        return Err(format!("target version \"{shown}\" not supported. Minimal \"3.5\""));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_refused_in_etcds_words() {
        assert_eq!(target("3.6"), Ok(Version::new(3, 6)));
        for (text, error) in [
            ("3", "wrong target version format, expected \"X.Y\", got \"3\""),
            ("3.6.1", "wrong target version format, expected \"X.Y\", got \"3.6.1\""),
            ("", "wrong target version format, expected \"X.Y\", got \"\""),
            ("a.b", "failed to parse target version: strconv.ParseInt: parsing \"a\": invalid syntax"),
            ("3.", "failed to parse target version: strconv.ParseInt: parsing \"\": invalid syntax"),
            ("-3.5", "failed to parse target version:  is not in dotted-tri format"),
            ("3.4", "target version \"3.4\" not supported. Minimal \"3.5\""),
        ] {
            assert_eq!(target(text), Err(error.to_owned()), "{text}");
        }
    }
}
