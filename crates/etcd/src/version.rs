//! What `--version` prints: four lines, as scripts read them from etcd.

/// The release that this server stands in for.
pub const VERSION: &str = "3.7.3";

pub const GIT_SHA: &str = match option_env!("KELSON_GIT_SHA") {
    Some(sha) => sha,
    None => "Not provided",
};

/// In the place of Go's version.
pub const COMPILER: &str = env!("KELSON_RUSTC_VERSION");

/// Go's name of this architecture.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

pub fn go_os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

pub fn text() -> String {
    format!(
        "etcd Version: {VERSION}\nGit SHA: {GIT_SHA}\nGo Version: {COMPILER}\nGo OS/Arch: {}/{}\n",
        go_os(),
        go_arch()
    )
}
