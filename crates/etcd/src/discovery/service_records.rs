//! Members from DNS. Source of the names: etcd `client/pkg/srv/srv.go`.

use std::net::SocketAddr;

use golang::url::Url;
use transport::dns::{Resolver, Service};

use crate::log;
use crate::logging::Level;
use crate::settings::Settings;

/// What an advertised URL of this member leads to.
struct Own<'a> {
    address: SocketAddr,
    url: &'a Url,
}

/// As `--initial-cluster` has it. This member is known among the others by the address it advertises.
pub async fn initial_cluster(settings: &Settings, resolver: &Resolver) -> Result<String, String> {
    let suffix = match settings.discovery_srv_name.as_str() {
        "" => String::new(),
        name => format!("-{name}"),
    };
    let mut members = Vec::new();
    let mut errors = Vec::new();
    for (scheme, service) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
        let service = format!("{service}{suffix}");
        let found = offered(settings, resolver, scheme, &service).await;
        log!(
            Level::Info,
            "get cluster for SRV",
            "service-scheme" => scheme,
            "service-name" => service,
            "server-name" => settings.name,
            "discovery-srv" => settings.discovery_srv,
            "found-cluster" => found.clone().unwrap_or_default(),
            "error" => found.clone().err().unwrap_or_default()
        );
        match found {
            Ok(found) => members.extend(found),
            Err(why) => errors.push(why),
        }
    }
    if members.is_empty() {
        return Err(errors.join("\n"));
    }
    let own_prefix = format!("{}=", settings.name);
    if !members.iter().any(|member| member.starts_with(&own_prefix)) {
        return Err(format!("cannot find local etcd member {:?} in SRV records", settings.name));
    }
    Ok(members.join(","))
}

/// `name=URL` of each member that the service's records name.
async fn offered(
    settings: &Settings,
    resolver: &Resolver,
    scheme: &str,
    service: &str,
) -> Result<Vec<String>, String> {
    let mut own = Vec::new();
    for url in &settings.initial_advertise_peer_urls {
        own.push(Own { address: resolve(&url.address()).await?, url });
    }
    let failed = |why: String| format!("error querying DNS SRV records for _{service} {why}");
    let services = resolver.services(service, &settings.discovery_srv).await;
    let services = services.map_err(|error| failed(error.to_string()))?;
    let mut members = Vec::new();
    let mut last = None;
    let mut others = 0;
    for Service { target, port, .. } in services {
        let host_port = format!("{target}:{port}");
        let address = match resolve(&host_port).await {
            Ok(address) => address,
            Err(why) => {
                last = Some(why);
                continue;
            }
        };
        let url = format!("{scheme}://{host_port}");
        match own.iter().find(|own| own.address == address) {
            Some(own) if !own.url.as_str().starts_with(&format!("{scheme}://")) => {
                last = Some(format!(
                    "bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {}",
                    own.url
                ));
            }
            Some(_) => members.push(format!("{}={url}", settings.name)),
            // Compat: what the others call themselves is not in the records, so they are counted.
            None => {
                members.push(format!("{others}={url}"));
                others += 1;
            }
        }
    }
    match last {
        Some(why) if members.is_empty() => Err(failed(why)),
        _ => Ok(members),
    }
}

/// The address that Go would choose: IPv4 where there is one.
async fn resolve(host_port: &str) -> Result<SocketAddr, String> {
    let found =
        tokio::net::lookup_host(host_port).await.map_err(|error| format!("lookup {host_port}: {error}"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| format!("lookup {host_port}: no such host"))
}
