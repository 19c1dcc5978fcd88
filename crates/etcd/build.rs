//! Hands the compiler's version to `--version`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=RUSTC");
    println!("cargo::rerun-if-env-changed=KELSON_GIT_SHA");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok());
    // "rustc 1.95.0 (hash date)": the first two words.
    let version = version.map(|text| text.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    println!(
        "cargo::rustc-env=KELSON_RUSTC_VERSION={}",
        version.unwrap_or_else(|| "rustc unknown".to_owned())
    );
}
