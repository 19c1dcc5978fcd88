//! A network for the members: each in a namespace of its own, all at one bridge, and its cables to pull.

use std::net::Ipv4Addr;
use std::process::Stdio;

use tokio::process::Command;

use crate::failure::{During, Outcome, fail};

/// Where the clients are: the bridge itself.
pub const HUB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const CLIENT_PORT: u16 = 2379;
pub const PEER_PORT: u16 = 2380;
const BRIDGE: &str = "br0";
/// Nobody's: frames to it arrive nowhere.
const NOBODY: &str = "02:00:00:00:00:99";

/// How a connection between two members is cut in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Packets vanish.
    Silent,
    /// The sender is told that there is no way.
    Refused,
}

/// How a member is cut off from everybody, clients too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplug {
    /// The link goes down.
    Cable,
    /// The link stays up, but leads nowhere.
    Port,
}

/// Where the member in this slot listens.
pub fn address(slot: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 11 + host(slot))
}

/// Where others find it when a proxy stands between.
pub fn proxy_address(slot: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 111 + host(slot))
}

pub fn slot_of(address: Ipv4Addr) -> Option<usize> {
    let last = address.octets()[3];
    (11..111).contains(&last).then(|| usize::from(last - 11))
}

fn host(slot: usize) -> u8 {
    u8::try_from(slot).unwrap_or(u8::MAX).min(99)
}

fn namespace(slot: usize) -> String {
    format!("m{slot}")
}

fn port(slot: usize) -> String {
    format!("v{slot}")
}

/// A command that runs in the member's namespace.
pub fn command_in(slot: usize) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", namespace(slot))).arg("--");
    command
}

/// Makes bridge and namespaces. Only inside the sandbox: it names things as if nobody else were there.
pub async fn create(slots: usize) -> Outcome {
    std::fs::create_dir_all("/run/netns").during("create /run/netns")?;
    run("mount", "-t tmpfs none /run/netns").await?;
    ip("link set lo up").await?;
    ip(&format!("link add {BRIDGE} type bridge")).await?;
    ip(&format!("addr add {HUB}/24 dev {BRIDGE}")).await?;
    ip(&format!("link set {BRIDGE} up")).await?;
    for slot in 0..slots {
        let (namespace, port, address) = (namespace(slot), port(slot), address(slot));
        ip(&format!("addr add {}/24 dev {BRIDGE}", proxy_address(slot))).await?;
        ip(&format!("netns add {namespace}")).await?;
        ip(&format!("link add {port} type veth peer name eth0 netns {namespace}")).await?;
        ip(&format!("link set {port} master {BRIDGE} up")).await?;
        ip(&format!("-n {namespace} link set lo up")).await?;
        ip(&format!("-n {namespace} addr add {address}/24 dev eth0")).await?;
        ip(&format!("-n {namespace} link set eth0 up")).await?;
    }
    Ok(())
}

pub async fn unplug(slot: usize, how: Unplug) -> Outcome {
    match how {
        Unplug::Cable => ip(&format!("link set {} down", port(slot))).await,
        Unplug::Port => ip(&format!("link set {} nomaster", port(slot))).await,
    }
}

/// Undoes either way of [`unplug`].
pub async fn plug(slot: usize) -> Outcome {
    ip(&format!("link set {} master {BRIDGE} up", port(slot))).await
}

/// What `from` sends to `to` arrives no more.
pub async fn cut(from: usize, to: usize, how: Cut) -> Outcome {
    let (namespace, address) = (namespace(from), address(to));
    match how {
        Cut::Silent => {
            ip(&format!("-n {namespace} neigh replace {address} lladdr {NOBODY} dev eth0 nud permanent"))
                .await
        }
        Cut::Refused => ip(&format!("-n {namespace} route replace blackhole {address}/32")).await,
    }
}

pub async fn mend(from: usize, to: usize, how: Cut) -> Outcome {
    let (namespace, address) = (namespace(from), address(to));
    match how {
        Cut::Silent => ip(&format!("-n {namespace} neigh del {address} dev eth0")).await,
        Cut::Refused => ip(&format!("-n {namespace} route del blackhole {address}/32")).await,
    }
}

async fn ip(arguments: &str) -> Outcome {
    run("ip", arguments).await
}

async fn run(program: &str, arguments: &str) -> Outcome {
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).stdin(Stdio::null());
    let output = command.output().await.during(format!("start {program}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return fail(format!("{program} {arguments}: {why}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_tell_slots() {
        for slot in [0, 1, 6, 40] {
            assert_eq!(slot_of(address(slot)), Some(slot));
            assert_eq!(slot_of(proxy_address(slot)), None);
        }
        assert_eq!(slot_of(HUB), None);
    }
}
