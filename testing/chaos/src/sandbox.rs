//! A world of its own for a run: network, mounts and processes that nobody else sees.
//!
//! The program starts itself again inside fresh namespaces. Addresses and names in there meet nobody's,
//! however many runs there are, and the kernel takes everything away with the last process: when the inner
//! program ends, whatever ends it, all members end with it. The outer program holds a pipe to the inner
//! one. Its closing is the order to stop, so that a killed outer program stops the inner one too.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::failure::{During, Outcome, fail};

/// The first argument of the inner program.
pub const INSIDE: &str = "--inside";
/// Programs of util-linux and iproute2 that a run needs.
const TOOLS: [&str; 5] = ["unshare", "nsenter", "mount", "umount", "ip"];
/// The inner program may take so long to end in order.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at the inner program.
const POLL: Duration = Duration::from_millis(50);

/// Runs this program again inside, and gives its exit code.
pub fn enter(arguments: &[String]) -> Outcome<ExitCode> {
    check_means()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).during("listen for signals")?;
    }
    let program = std::env::current_exe().during("find this program")?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(program).arg(INSIDE).args(arguments).stdin(Stdio::piped());
    // Its own group: ctrl-C reaches us alone, and the inner program stops in order.
    command.process_group(0);
    let mut child = command.spawn().during("start unshare")?;
    let mut pipe = child.stdin.take();
    loop {
        if let Some(status) = child.try_wait().during("wait for the inner program")? {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Ok(ExitCode::from(code));
        }
        if interrupted.load(Ordering::Relaxed) && pipe.take().is_some() {
            eprintln!("chaos: interrupted, stopping");
        }
        std::thread::sleep(POLL);
    }
}

/// Says what is missing before anything half works.
fn check_means() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        return fail("needs root: members live in network namespaces of their own");
    }
    for tool in TOOLS {
        if !is_in_path(tool) {
            return fail(format!("needs the program {tool} (util-linux, iproute2)"));
        }
    }
    let probe = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--", "ip", "link", "set", "lo", "up"])
        .stdin(Stdio::null())
        .output()
        .during("start unshare")?;
    if !probe.status.success() {
        let why = String::from_utf8_lossy(&probe.stderr).trim().to_owned();
        return fail(format!(
            "needs network, mount and process namespaces, which this machine refuses: {why}"
        ));
    }
    Ok(())
}

fn is_in_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(tool).is_file())
}

/// Turns true when the run is to stop: the outer program closed the pipe, or is gone.
pub fn stop_order() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        // Nothing is ever written: the end, or an error, is the order.
        let _ended = std::io::stdin().read_to_end(&mut rest);
        sender.send_replace(true);
        std::thread::sleep(STOP_LIMIT);
        // Ends everything in the sandbox with it.
        std::process::exit(1);
    });
    receiver
}
