//! `etcdctl`: see the library of the same name.

use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Compat: like Go's programs, end silently when nobody reads the output any more.
    let args = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    ExitCode::from(etcdctl::run(args))
}
