//! Settings as people write them, for `testing/fuzz`. Not in shipped builds: feature `fuzzing`.

use std::collections::BTreeMap;
use std::sync::Once;

use crate::member_config::{self, MemberData};
use crate::settings::Settings;
use crate::{command_line, config_file, edge_config, environment, logging, retired, validation};

/// A config file, up to what a start would make of it.
pub fn config_file(text: &str) {
    be_quiet();
    if let Ok(settings) = config_file::parse(text) {
        settle(settings);
    }
}

/// Arguments and variables, up to what a start would make of them.
pub fn invocation(arguments: &[String], variables: &BTreeMap<String, String>) {
    be_quiet();
    let mut settings = Settings::default();
    let Ok(rest) = command_line::parse(arguments, &mut settings) else { return };
    assert!(rest.len() <= arguments.len(), "words were made up");
    // A setting given both ways ends the process.
    let given: Vec<String> = settings.explicit.iter().map(|name| environment::variable(name)).collect();
    let variables = variables.iter().filter(|(name, _)| !given.contains(name));
    let variables = variables.map(|(name, value)| (name.clone(), value.clone())).collect();
    if environment::read(&variables, &mut settings).is_ok() {
        settle(settings);
    }
}

fn settle(mut settings: Settings) {
    if retired::settle(&mut settings).is_err() || validation::check(&settings).is_err() {
        return;
    }
    settings.data_dir = "default.etcd".to_owned();
    let _ = edge_config::client(&settings);
    let _ = edge_config::peer(&settings);
    for data in [MemberData::Absent, MemberData::Present] {
        let _ = member_config::build(&settings, data);
    }
}

/// What a start says of its settings is of no interest here.
fn be_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let settings = Settings { log_level: "fatal".to_owned(), ..Settings::default() };
        assert!(logging::configure(&settings).is_ok(), "the log is set up once");
    });
}
