//! `cargo xtask tidy`: rules of the house that the compiler does not know.
//!
//! - arrows between crates point one way, and cores know no runtime, socket, disk or randomness;
//! - the text of a core names none of these either (its `clippy.toml` says the same to clippy);
//! - no ignored tests; every crate takes the workspace's lints;
//! - files past a comfortable length are listed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::shell::{cargo, output, root};
use crate::{Command, Failure};

pub const COMMAND: Command =
    Command { name: "tidy", about: "check dependency arrows, sans-IO cores, file lengths", run: |_| check() };

const CORES: [&str; 9] = ["raft", "wal", "bolt", "mvcc", "lease", "auth", "membership", "apply", "storage"];

/// A crate may depend on crates of a lower rank; cores also on each other, which cargo keeps free of circles.
/// A shipped crate that is missing here fails the check, so that its place is decided once. What is not
/// shipped may depend on all of them.
const RANKS: [(&str, u32); 21] = [
    ("golang", 0),
    ("proto", 0),
    ("disk", 0),
    ("raft", 1),
    ("wal", 1),
    ("bolt", 1),
    ("mvcc", 1),
    ("lease", 1),
    ("auth", 1),
    ("membership", 1),
    ("apply", 1),
    ("storage", 1),
    ("cobra", 1),
    ("transport", 2),
    ("client", 3),
    ("server", 3),
    ("peer", 4),
    ("api", 4),
    ("etcd", 5),
    ("etcdctl", 5),
    ("etcdutl", 5),
];

/// Outside crates that bring IO, time, threads or randomness. Tests may use them.
const FORBIDDEN_IN_CORES: [&str; 18] = [
    "tokio",
    "tokio-util",
    "tokio-rustls",
    "hyper",
    "hyper-util",
    "tonic",
    "tower",
    "mio",
    "rustix",
    "libc",
    "socket2",
    "rand",
    "getrandom",
    "fastrand",
    "crossbeam-channel",
    "tempfile",
    "jiff",
    "rustls",
];

/// Names that a core's text may not hold outside its tests.
const FORBIDDEN_TEXT: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "SystemTime",
    "Instant::now",
    "tokio::",
    "rand::",
];

const LENGTH_COMFORTABLE: usize = 600;

pub fn check() -> Result<(), Failure> {
    let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let packages = packages(&serde_json::from_str(&metadata)?);
    let mut faults = arrows(&packages);
    let mut lengths = Vec::new();
    for package in &packages {
        faults.extend(package_faults(package)?);
        for file in rust_files(&package.folder)? {
            let text = fs::read_to_string(&file)?;
            let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
            let is_source = file.starts_with(package.folder.join("src")) && !name.ends_with("tests.rs");
            if CORES.contains(&package.name.as_str()) && is_source {
                faults.extend(forbidden_text(&name, &text));
            }
            // Not to be found in this very line.
            if text.contains(concat!("#[", "ignore")) {
                faults.push(format!("{name}: an ignored test"));
            }
            let lines = text.lines().count();
            if lines > LENGTH_COMFORTABLE {
                lengths.push((lines, name));
            }
        }
    }
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    for (lines, name) in lengths {
        println!("{lines:>6} lines: {name} (past {LENGTH_COMFORTABLE}: is there a second noun in it?)");
    }
    if faults.is_empty() {
        println!("{} crates are tidy", packages.len());
        return Ok(());
    }
    Err(Failure(format!("{} faults\n{}", faults.len(), faults.join("\n"))))
}

struct Package {
    name: String,
    folder: PathBuf,
    /// Names of what the shipped code needs; those of tests are free.
    dependencies: Vec<String>,
}

fn packages(metadata: &Value) -> Vec<Package> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let package = |package: &Value| {
        let needed = list(&package["dependencies"]);
        let needed = needed.iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        Package {
            name: text(&package["name"]),
            folder: manifest.parent().map(Path::to_path_buf).unwrap_or(manifest),
            dependencies: needed.map(|dependency| text(&dependency["name"])).collect(),
        }
    };
    list(&metadata["packages"]).iter().map(package).collect()
}

fn arrows(packages: &[Package]) -> Vec<String> {
    let ranks: BTreeMap<&str, u32> = RANKS.into_iter().collect();
    let mut faults = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        if !package.folder.components().any(|part| part.as_os_str() == "crates") {
            continue;
        }
        let Some(&rank) = ranks.get(name) else {
            faults.push(format!("{name}: has no rank in xtask/src/tidy.rs"));
            continue;
        };
        let is_core = CORES.contains(&name);
        for dependency in package.dependencies.iter().map(String::as_str) {
            let both_cores = is_core && CORES.contains(&dependency);
            match ranks.get(dependency) {
                Some(&below) if below >= rank && !both_cores => {
                    faults.push(format!(
                        "{name} -> {dependency}: arrows point from binaries to edges to cores"
                    ));
                }
                Some(_) => {}
                None if is_core && FORBIDDEN_IN_CORES.contains(&dependency) => {
                    faults.push(format!("{name} -> {dependency}: a core is sans-IO"));
                }
                None => {}
            }
        }
    }
    faults
}

fn package_faults(package: &Package) -> Result<Vec<String>, Failure> {
    let mut faults = Vec::new();
    let manifest = fs::read_to_string(package.folder.join("Cargo.toml"))?;
    // Those that need unsafe code list their lints themselves; proto is generated code.
    let has_lints = manifest.contains("[lints]\nworkspace = true") || manifest.contains("[lints.clippy]");
    if !has_lints && package.name != "proto" {
        faults.push(format!("{}: has no lints", package.name));
    }
    if CORES.contains(&package.name.as_str()) && !package.folder.join("clippy.toml").is_file() {
        faults.push(format!("{}: a core without its own clippy.toml", package.name));
    }
    Ok(faults)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_build_output = path.file_name().is_some_and(|name| name == "target");
        if path.is_dir() && !is_build_output {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Lines of code, tests at the end of the file left out, that name something a core must not know.
fn forbidden_text(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let opens_tests = line.trim() == "#[cfg(test)]"
            && lines.peek().is_some_and(|(_, next)| next.starts_with("mod ") || next.starts_with("pub mod "));
        if opens_tests && lines.peek().is_some_and(|(_, next)| next.ends_with('{')) {
            break;
        }
        let code = line.split("//").next().unwrap_or(line);
        if let Some(word) = FORBIDDEN_TEXT.iter().find(|word| code.contains(**word)) {
            faults.push(format!("{name}:{}: a core names {word}", index + 1));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        Package {
            name: name.to_owned(),
            folder: PathBuf::from("crates").join(name),
            dependencies: dependencies.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn arrows_that_point_back_are_found() {
        assert!(
            arrows(&[package("apply", &["mvcc", "proto", "bytes"]), package("server", &["apply", "tokio"])])
                .is_empty()
        );
        for (name, dependency) in
            [("apply", "server"), ("server", "api"), ("mvcc", "tokio"), ("disk", "wal"), ("client", "server")]
        {
            assert_eq!(arrows(&[package(name, &[dependency])]).len(), 1, "{name} -> {dependency}");
        }
    }

    #[test]
    fn only_code_counts_as_naming_io() {
        let text = "// std::fs\nuse std::fs;\n#[cfg(test)]\nmod tests {\n    use std::thread;\n}\n";
        assert_eq!(forbidden_text("a.rs", text), ["a.rs:2: a core names std::fs"]);
    }
}
