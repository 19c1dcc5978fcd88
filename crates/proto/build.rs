//! Compiles the .proto files with protox, so that no protoc is needed.

use std::error::Error;

const FILES: [&str; 12] = [
    "kv.proto",
    "auth.proto",
    "rpc.proto",
    "raft_internal.proto",
    "membership.proto",
    "version.proto",
    "lease.proto",
    "lock.proto",
    "election.proto",
    "raft.proto",
    "wal.proto",
    "snap.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = FILES.iter().chain(&["health.proto"]);
    let descriptors = protox::compile(files, ["proto"])?;

    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    // A response is a handful of messages, never a large array of this union: boxing buys nothing.
    config.type_attribute(".", "#[allow(clippy::large_enum_variant)]");
    tonic_prost_build::configure()
        .build_server(false)
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_transport(false)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
