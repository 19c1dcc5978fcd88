//! `member`: who belongs to the cluster.

use cobra::{Command, Exit, Flag, Invocation, Outcome, print};
use golang::number;
use golang::quote::quote;
use golang::url::Url;
use proto::etcdserverpb::*;

use super::group;
use crate::connection::Session;
use crate::output::Answer;
use crate::wait;

pub static MEMBER: Command = Command {
    name: "member",
    usage: "member <subcommand>",
    short: "Membership related commands. Use `etcdctl member --help` to see subcommands",
    long: "Membership related commands",
    group: Some(group::MAINTENANCE),
    subcommands: &[&ADD, &LIST, &PROMOTE, &REMOVE, &UPDATE],
    ..Command::EMPTY
};

static ADD: Command = Command {
    name: "add",
    usage: "add <memberName> [options]",
    short: "Adds a member into the cluster",
    flags: &[
        Flag::text("peer-urls", "", "comma separated peer URLs for the new member."),
        Flag::bool("learner", "indicates if the new member is raft learner"),
    ],
    run: Some(|invocation| wait(add(invocation))),
    ..Command::EMPTY
};

static LIST: Command = Command {
    name: "list",
    usage: "list",
    short: "Lists all members in the cluster",
    long: "When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.
The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.
",
    flags: &[Flag::text("consistency", "l", "Linearizable(l) or Serializable(s)")],
    run: Some(|invocation| wait(list(invocation))),
    ..Command::EMPTY
};

static PROMOTE: Command = Command {
    name: "promote",
    usage: "promote <memberID>",
    short: "Promotes a non-voting member in the cluster",
    long: "Promotes a non-voting learner member to a voting one in the cluster.\n",
    run: Some(|invocation| wait(promote(invocation))),
    ..Command::EMPTY
};

static REMOVE: Command = Command {
    name: "remove",
    usage: "remove <memberID>",
    short: "Removes a member from the cluster",
    run: Some(|invocation| wait(remove(invocation))),
    ..Command::EMPTY
};

static UPDATE: Command = Command {
    name: "update",
    usage: "update <memberID> [options]",
    short: "Updates a member in the cluster",
    flags: &[Flag::text("peer-urls", "", "comma separated peer URLs for the updated member.")],
    run: Some(|invocation| wait(update(invocation))),
    ..Command::EMPTY
};

async fn list(mut invocation: Invocation) -> Outcome {
    // Compat: etcdctl 3.7.3 names the default of `get --consistency` instead of what was given.
    let serializable = super::is_serializable(&invocation.flags.text("consistency"), "l")?;
    let session = Session::new(&mut invocation, &[]).await?;
    let request = MemberListRequest { linearizable: !serializable };
    let response = session.timed_client().await?.member_list(request).await?;
    session.format.print(&Answer::MemberList(&response))
}

async fn add(mut invocation: Invocation) -> Outcome {
    let name = match &invocation.args[..] {
        [] => return Err(Exit::bad_args("member name not provided")),
        [name] => String::from_utf8_lossy(name).into_owned(),
        args => return Err(Exit::bad_args(too_many(args))),
    };
    let urls = peer_urls(&invocation)?;
    let is_learner = invocation.flags.bool("learner");
    let session = Session::new(&mut invocation, &[]).await?;
    let client = session.timed_client().await?;
    urls.iter().try_for_each(|url| check_url(url))?;
    let request = MemberAddRequest { peer_ur_ls: urls.clone(), is_learner };
    let response = client.member_add(request).await?;
    session.format.print(&Answer::MemberAdd(&response))?;
    if session.format.is_simple() {
        print(start_variables(&name, &urls, &response).as_bytes());
    }
    Ok(())
}

/// What the new member is to be started with.
fn start_variables(name: &str, urls: &[String], response: &MemberAddResponse) -> String {
    let added = response.member.as_ref().map(|member| member.id);
    let mut cluster = Vec::new();
    for member in &response.members {
        let name = if Some(member.id) == added { name } else { &member.name };
        cluster.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        quote(name.as_bytes()),
        quote(cluster.join(",").as_bytes()),
        quote(urls.join(",").as_bytes())
    )
}

fn too_many(args: &[Vec<u8>]) -> String {
    let mut message = String::from("too many arguments");
    for arg in args.iter().map(|arg| String::from_utf8_lossy(arg)) {
        if arg.to_lowercase().starts_with("http") {
            message += &format!(", did you mean --peer-urls={arg}");
        }
    }
    message
}

fn peer_urls(invocation: &Invocation) -> Result<Vec<String>, Exit> {
    let urls = invocation.flags.text("peer-urls");
    match urls.is_empty() {
        true => Err(Exit::bad_args("member peer urls not provided")),
        false => Ok(urls.split(',').map(String::from).collect()),
    }
}

/// Refuses what no member could listen on, before it is asked.
fn check_url(url: &str) -> Result<(), Exit> {
    Url::parse(url).map(drop).map_err(Exit::error)
}

fn member_id(invocation: &Invocation) -> Result<u64, Exit> {
    let [id] = &invocation.args[..] else {
        return Err(Exit::bad_args("member ID is not provided"));
    };
    number::parse_uint(id, 16)
        .map_err(|reason| Exit::bad_args(format!("bad member ID arg ({reason}), expecting ID in Hex")))
}

async fn remove(mut invocation: Invocation) -> Outcome {
    let id = member_id(&invocation)?;
    let session = Session::new(&mut invocation, &[]).await?;
    let response = &session.timed_client().await?.member_remove(MemberRemoveRequest { id }).await?;
    session.format.print(&Answer::MemberRemove { id, response })
}

async fn update(mut invocation: Invocation) -> Outcome {
    let id = member_id(&invocation)?;
    let peer_ur_ls = peer_urls(&invocation)?;
    let session = Session::new(&mut invocation, &[]).await?;
    let client = session.timed_client().await?;
    peer_ur_ls.iter().try_for_each(|url| check_url(url))?;
    let response = &client.member_update(MemberUpdateRequest { id, peer_ur_ls }).await?;
    session.format.print(&Answer::MemberUpdate { id, response })
}

async fn promote(mut invocation: Invocation) -> Outcome {
    let id = member_id(&invocation)?;
    let session = Session::new(&mut invocation, &[]).await?;
    let response = &session.timed_client().await?.member_promote(MemberPromoteRequest { id }).await?;
    session.format.print(&Answer::MemberPromote { id, response })
}
