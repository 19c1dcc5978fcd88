//! `etcdutl`: see the library of the same name.

use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    ExitCode::from(etcdutl::run(args))
}
