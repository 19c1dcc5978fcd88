//! `alarm`: what members complain of.

use client::Client;
use cobra::{Command, Exit, Invocation, Outcome};
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmResponse};

use super::group;
use crate::connection::Session;
use crate::output::Answer;
use crate::wait;

pub static ALARM: Command = Command {
    name: "alarm",
    usage: "alarm <subcommand>",
    short: "Alarm related commands. Use `etcdctl alarm --help` to see subcommands",
    long: "Alarm related commands",
    group: Some(group::MAINTENANCE),
    subcommands: &[&DISARM, &LIST],
    ..Command::EMPTY
};

static DISARM: Command = Command {
    name: "disarm",
    usage: "disarm",
    short: "Disarms all alarms",
    run: Some(|invocation| wait(disarm(invocation))),
    ..Command::EMPTY
};

static LIST: Command = Command {
    name: "list",
    usage: "list",
    short: "Lists all alarms",
    run: Some(|invocation| wait(list(invocation))),
    ..Command::EMPTY
};

async fn list(mut invocation: Invocation) -> Outcome {
    if !invocation.args.is_empty() {
        return Err(Exit::bad_args("alarm list command accepts no arguments"));
    }
    let session = Session::new(&mut invocation, &[]).await?;
    let response = all(&session.timed_client().await?).await?;
    session.format.print(&Answer::Alarm(&response))
}

/// Each alarm by itself; the answer holds those that were disarmed, without a header.
async fn disarm(mut invocation: Invocation) -> Outcome {
    if !invocation.args.is_empty() {
        return Err(Exit::bad_args("alarm disarm command accepts no arguments"));
    }
    let session = Session::new(&mut invocation, &[]).await?;
    let client = session.timed_client().await?;
    let mut disarmed = AlarmResponse::default();
    for alarm in all(&client).await?.alarms {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        disarmed.alarms.extend(client.alarm(request).await?.alarms);
    }
    session.format.print(&Answer::Alarm(&disarmed))
}

/// All alarms of all members.
pub async fn all(client: &Client) -> Result<AlarmResponse, client::Error> {
    client.alarm(AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() }).await
}
