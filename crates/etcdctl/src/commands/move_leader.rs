//! `move-leader`: leadership to another member, asked of the leader itself.

use cobra::{Command, Exit, Invocation, Outcome};
use golang::number;
use proto::etcdserverpb::MoveLeaderRequest;

use super::group;
use crate::connection::Session;
use crate::output::Answer;
use crate::wait;

pub static MOVE_LEADER: Command = Command {
    name: "move-leader",
    usage: "move-leader <transferee-member-id>",
    short: "Transfers leadership to another etcd cluster member.",
    group: Some(group::MAINTENANCE),
    run: Some(|invocation| wait(run(invocation))),
    ..Command::EMPTY
};

async fn run(mut invocation: Invocation) -> Outcome {
    let [target] = &invocation.args[..] else {
        return Err(Exit::bad_args("move-leader command needs 1 argument"));
    };
    let to = number::parse_uint(target, 16).map_err(Exit::bad_args)?;
    let session = Session::new(&mut invocation, &[]).await?;
    let deadline = session.deadline();
    for endpoint in session.endpoints() {
        let client = session.client_to(std::slice::from_ref(endpoint)).await?.with_deadline(deadline);
        let status = client.status(endpoint).await?;
        let from = status.leader;
        if status.header.is_some_and(|header| header.member_id == from) {
            let response = &client.move_leader(MoveLeaderRequest { target_id: to }).await?;
            return session.format.print(&Answer::MoveLeader { from, to, response });
        }
    }
    Err(Exit::bad_args(format!("no leader endpoint given at [{}]", session.endpoints().join(" "))))
}
