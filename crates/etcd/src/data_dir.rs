//! What is in the data directory before the start: a member, nothing, or something else.

use std::io;
use std::path::{Path, PathBuf};

use crate::go_value::io_text;
use crate::log;
use crate::logging::{self, Level};
use crate::member_config::MemberData;
use crate::settings::Settings;

/// Gives the directory its default name and looks into it. Ends the process where etcd does.
pub fn settle(settings: &mut Settings) {
    if settings.data_dir.is_empty() {
        settings.data_dir = format!("{}.etcd", settings.name);
        log!(Level::Warn, "'data-dir' was empty; using default", "data-dir" => settings.data_dir);
    }
    let dir = &settings.data_dir;
    match holds_member(Path::new(dir)) {
        Ok(true) => log!(
            Level::Info,
            "server has already been initialized",
            "data-dir" => dir,
            "dir-type" => "member"
        ),
        Ok(false) => log!(
            Level::Info,
            "Initialize and start etcd server",
            "data-dir" => dir,
            "dir-type" => "empty"
        ),
        Err(error) => logging::fatal(
            "failed to list data directory",
            &[("dir", dir.as_str().into()), ("error", format!("open {dir}: {}", io_text(&error)).into())],
        ),
    }
}

fn holds_member(dir: &Path) -> io::Result<bool> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    for name in names.iter().filter(|name| !matches!(name.as_str(), "member" | "proxy")) {
        let data_dir = dir.display().to_string();
        log!(
            Level::Warn,
            "found invalid file under data directory",
            "filename" => name,
            "data-dir" => data_dir
        );
    }
    match (has("member"), has("proxy")) {
        (true, true) => logging::fatal("invalid datadir; both member and proxy directories exist", &[]),
        // Compat: etcd panics on what the proxy of version 2 left behind.
        (false, true) => panic!("v2 http proxy has already been deprecated in 3.6"),
        (member, false) => Ok(member),
    }
}

/// Whether there is a log to start from: what bootstraps a cluster is not read then.
pub fn member_data(settings: &Settings) -> MemberData {
    let wal_dir = if settings.wal_dir.is_empty() {
        PathBuf::from(&settings.data_dir).join("member").join("wal")
    } else {
        PathBuf::from(&settings.wal_dir)
    };
    let has_log = std::fs::read_dir(wal_dir).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "wal"))
    });
    if has_log { MemberData::Present } else { MemberData::Absent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_known_by_its_directory_and_its_log() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data_dir = dir.path().to_string_lossy().into_owned();
        let settings = Settings { data_dir, ..Settings::default() };
        assert!(!holds_member(dir.path()).expect("readable"));
        assert!(!holds_member(&dir.path().join("missing")).expect("absent is empty"));
        assert_eq!(member_data(&settings), MemberData::Absent);
        let wal = dir.path().join("member").join("wal");
        std::fs::create_dir_all(&wal).expect("created");
        assert!(holds_member(dir.path()).expect("readable"));
        assert_eq!(member_data(&settings), MemberData::Absent);
        std::fs::write(wal.join("0000000000000000-0000000000000000.wal"), b"").expect("written");
        assert_eq!(member_data(&settings), MemberData::Present);
    }
}
