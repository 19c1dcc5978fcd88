//! `ETCD_*` variables: each flag has one, read where the flag was not given. Both at once is an error.

use std::collections::{BTreeMap, BTreeSet};

use crate::command_line::Target;
use crate::flag_table;
use crate::go_value::quote;
use crate::log;
use crate::logging::{self, Level};
use crate::retired;
use crate::settings::Settings;

pub fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// Reads the variables into `settings`, which the command line has filled already.
///
/// Ends the process when a variable is set beside its flag, whatever the values: one of the two is a
/// mistake, and guessing which would start a member with the wrong identity.
pub fn read(variables: &BTreeMap<String, String>, settings: &mut Settings) -> Result<(), String> {
    if let Some(value) = variables.get("ETCD_VERSION").filter(|value| !value.is_empty()) {
        log!(Level::Warn, "cannot set special environment variable", "key" => "ETCD_VERSION", "value" => value);
    }
    let given: BTreeSet<String> = settings.explicit.iter().map(|name| variable(name)).collect();
    let mut used = BTreeSet::new();
    let mut result = Ok(());
    for name in names() {
        let key = variable(name);
        let Some(value) = variables.get(&key).filter(|value| !value.is_empty()) else { continue };
        if given.contains(&key) || key == "ETCD_VERSION" {
            continue;
        }
        used.insert(key.clone());
        let target = Target::find(name).expect("the name comes from the tables");
        match target.set(name, value, settings) {
            Ok(()) => log!(
                Level::Info,
                "recognized and used environment variable",
                "variable-name" => key,
                "variable-value" => value
            ),
            Err(why) => result = Err(format!("invalid value {} for {key}: {why}", quote(value))),
        }
    }
    for (key, value) in variables.iter().filter(|(key, _)| key.starts_with("ETCD_") && !used.contains(*key)) {
        if given.contains(key) {
            logging::fatal(
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))",
                &[("environment-variable", key.as_str().into())],
            );
        }
        if key != "ETCD_VERSION" || value.is_empty() {
            let entry = format!("{key}={value}");
            log!(Level::Warn, "unrecognized environment variable", "environment-variable" => entry);
        }
    }
    result
}

/// Every name that has a variable, in the order of their text.
fn names() -> BTreeSet<&'static str> {
    flag_table::all().map(|flag| flag.name).chain(retired::names()).chain(retired::IGNORED).collect()
}

/// The variables of this process that are text.
pub fn of_process() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_pairs(pairs: &[(&str, &str)]) -> (Settings, Result<(), String>) {
        let variables = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut settings = Settings::default();
        let result = read(&variables, &mut settings);
        (settings, result)
    }

    #[test]
    fn variables_fill_what_flags_left_open() {
        let (settings, result) = read_pairs(&[
            ("ETCD_NAME", "a"),
            ("ETCD_DATA_DIR", ""),
            ("ETCD_EXPERIMENTAL_COMPACTION_BATCH_LIMIT", "7"),
            ("ETCD_WHAT", "ever"),
            ("ETCD_VERSION", "true"),
        ]);
        assert_eq!(result, Ok(()));
        assert_eq!((settings.name.as_str(), settings.compaction_batch_limit), ("a", 7));
        assert!(settings.is_explicit("name") && !settings.is_explicit("data-dir"));
        assert!(!settings.version);
    }

    #[test]
    fn a_bad_value_names_the_variable() {
        let (_, result) = read_pairs(&[("ETCD_PRE_VOTE", "zz")]);
        assert_eq!(result, Err("invalid value \"zz\" for ETCD_PRE_VOTE: parse error".to_owned()));
    }
}
