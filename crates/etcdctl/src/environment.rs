//! Global flags from the environment: `ETCDCTL_ENDPOINTS` stands for `--endpoints`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use cobra::{Exit, Flags, Outcome, exit};

use crate::log;

const PREFIX: &str = "ETCDCTL_";

/// The variable that stands for a flag.
pub fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"))
}

/// Sets inherited flags from variables. `known` are further variables that deserve no warning.
///
/// Compat: pkg/flags (3.7.3): an empty variable is none; one that cannot be read is skipped without a
/// word; one that a flag contradicts ends the program; one that means nothing is warned of.
pub fn apply(flags: &mut Flags, variables: &[(OsString, OsString)], known: &[&str]) -> Outcome {
    let inherited: Vec<_> = flags.inherited().map(|(flag, _, changed)| (flag.name, changed)).collect();
    for (name, value) in variables {
        let Some(text) = name.to_str().filter(|text| text.starts_with(PREFIX)) else { continue };
        match inherited.iter().find(|(flag, _)| variable(flag) == text) {
            Some((_, true)) => return Err(conflict(text)),
            Some((flag, false)) if !value.is_empty() => {
                // Compat: a bad value leaves the default in place.
                let _unreadable = flags.set(flag, value.as_bytes());
            }
            None if known.contains(&text) => {}
            Some(_) | None => warn_of(name, value),
        }
    }
    Ok(())
}

fn conflict(variable: &str) -> Exit {
    let message = "conflicting environment variable is shadowed by corresponding command-line flag \
                   (either unset environment variable or disable flag))";
    let fields = [("environment-variable", variable.to_owned())];
    log::line("fatal", None, "environment.rs", message, &fields);
    Exit::silent(exit::ERROR)
}

fn warn_of(name: &OsString, value: &OsString) {
    let both = [name.as_bytes(), b"=", value.as_bytes()].concat();
    let both = OsString::from_vec(both).to_string_lossy().into_owned();
    let fields = [("environment-variable", both)];
    log::line("warn", None, "environment.rs", "unrecognized environment variable", &fields);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::ROOT;
    use cobra::parse::{Parsed, parse};

    fn apply_to(words: &[&str], variables: &[(&str, &str)]) -> Result<Flags, Exit> {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let Ok(Parsed::Run(mut invocation)) = parse(&ROOT, &words) else { panic!("not understood") };
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        apply(&mut invocation.flags, &variables, &[])?;
        Ok(invocation.flags)
    }

    #[test]
    fn variables_set_global_flags_only() {
        let set = [("ETCDCTL_WRITE_OUT", "json"), ("ETCDCTL_LIMIT", "3"), ("ETCDCTL_HEX", "maybe")];
        let flags = apply_to(&["get", "a"], &set).unwrap();
        assert_eq!(
            (flags.text("write-out"), flags.int("limit"), flags.bool("hex")),
            ("json".into(), 0, false)
        );
    }

    #[test]
    fn a_flag_and_its_variable_exclude_each_other() {
        let both = apply_to(&["get", "a", "--hex"], &[("ETCDCTL_HEX", "true")]);
        assert_eq!(both.unwrap_err(), Exit::silent(1));
        // Compat: also an empty one.
        assert!(apply_to(&["get", "a", "--hex"], &[("ETCDCTL_HEX", "")]).is_err());
    }
}
