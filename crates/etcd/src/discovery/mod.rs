//! Who is in a new cluster, when no flag lists its members: SRV records of a domain, or keys in another etcd
//! that is there already.

mod registry;
mod service_records;

use transport::dns::Resolver;

use crate::log;
use crate::logging::Level;
use crate::member_config::MemberData;
use crate::settings::Settings;

/// Whether anything but flags is to be asked: a member that has data knows its cluster.
fn is_wanted(way: &str, data: MemberData) -> bool {
    !way.is_empty() && data == MemberData::Absent
}

/// `--discovery-srv`: makes `--initial-cluster` of what a domain's records say.
pub async fn by_service_records(settings: &mut Settings, data: MemberData) -> Result<(), String> {
    if !is_wanted(&settings.discovery_srv, data) {
        return Ok(());
    }
    let cluster = service_records::initial_cluster(settings, &Resolver::of_this_machine()).await;
    settings.initial_cluster = cluster.map_err(|why| format!("error setting up initial cluster: {why}"))?;
    // Compat: a certificate of the whole domain serves for every member, unless an authority is given.
    let has_tls = settings.initial_cluster.contains("https://");
    if has_tls && settings.peer_tls.trusted_ca_file.is_empty() {
        settings.peer_server_name.clone_from(&settings.discovery_srv);
    }
    Ok(())
}

/// `--discovery-token`: registers this member, and makes `--initial-cluster` of all that register. Returns when
/// there are as many as the cluster is to have.
pub async fn by_token(settings: &mut Settings, data: MemberData) -> Result<(), String> {
    if settings.discovery_token.is_empty() {
        return Ok(());
    }
    if data == MemberData::Present {
        log!(
            Level::Warn,
            "discovery token ignored since a cluster has already been initialized; valid logs are found",
            "data-dir" => settings.data_dir
        );
        return Ok(());
    }
    // Compat: the token keeps clusters apart, as `--initial-cluster-token` does otherwise.
    settings.initial_cluster_token.clone_from(&settings.discovery_token);
    let joined = registry::join(settings).await;
    settings.initial_cluster = joined.map_err(|why| format!("failed to join discovery cluster ({why})"))?;
    Ok(())
}
