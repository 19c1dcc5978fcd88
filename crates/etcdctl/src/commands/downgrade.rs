//! `downgrade`: the cluster back to the version before.

use cobra::{Command, Exit, Invocation, Outcome};
use proto::etcdserverpb::DowngradeRequest;
use proto::etcdserverpb::downgrade_request::DowngradeAction;

use super::group;
use crate::connection::Session;
use crate::output::Answer;
use crate::wait;

pub static DOWNGRADE: Command = Command {
    name: "downgrade",
    usage: "downgrade <TARGET_VERSION>",
    short: "Downgrade related commands. Use `etcdctl downgrade --help` to see subcommands",
    long: "Downgrade related commands",
    group: Some(group::MAINTENANCE),
    subcommands: &[&CANCEL, &ENABLE, &VALIDATE],
    ..Command::EMPTY
};

static CANCEL: Command = Command {
    name: "cancel",
    usage: "cancel",
    short: "Cancel the ongoing downgrade action to cluster",
    run: Some(|invocation| wait(ask(invocation, DowngradeAction::Cancel, "cancel", String::new()))),
    ..Command::EMPTY
};

static ENABLE: Command = Command {
    name: "enable",
    usage: "enable <TARGET_VERSION>",
    short: "Start a downgrade action to cluster",
    run: Some(|invocation| {
        let target = target(&invocation)?;
        wait(ask(invocation, DowngradeAction::Enable, "enable", target))
    }),
    ..Command::EMPTY
};

static VALIDATE: Command = Command {
    name: "validate",
    usage: "validate <TARGET_VERSION>",
    short: "Validate downgrade capability before starting downgrade",
    run: Some(|invocation| {
        let target = target(&invocation)?;
        wait(ask(invocation, DowngradeAction::Validate, "validate", target))
    }),
    ..Command::EMPTY
};

fn target(invocation: &Invocation) -> Result<String, Exit> {
    match &invocation.args[..] {
        [] => Err(Exit::bad_args("TARGET_VERSION not provided")),
        [target] if target.is_empty() => Err(Exit::bad_args("target version not provided")),
        [target] => Ok(String::from_utf8_lossy(target).into_owned()),
        _ => Err(Exit::bad_args("too many arguments")),
    }
}

async fn ask(
    mut invocation: Invocation,
    kind: DowngradeAction,
    action: &'static str,
    version: String,
) -> Outcome {
    let session = Session::new(&mut invocation, &[]).await?;
    let request = DowngradeRequest { action: kind.into(), version };
    let response = &session.timed_client().await?.downgrade(request).await?;
    session.format.print(&Answer::Downgrade { action, response })
}
