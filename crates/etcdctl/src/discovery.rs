//! Endpoints from the SRV records of a domain. Source: etcd `etcdctl/ctlv3/command/global.go`, and
//! `client/pkg/srv/srv.go`.

use cobra::Flags;
use transport::dns::Resolver;

const SCHEMES: [(&str, &str); 2] = [("https", "etcd-client-ssl"), ("http", "etcd-client")];

/// What `--discovery-srv` leads to, else `--endpoints`.
pub async fn endpoints(flags: &Flags) -> Vec<String> {
    let discovered = discover(flags).await;
    if !discovered.is_empty() {
        return discovered;
    }
    flags.list("endpoints").iter().map(|endpoint| endpoint.trim().to_owned()).collect()
}

/// The name that certificates must bear: the domain's, as anybody could have answered with hosts of their own.
pub fn server_name(flags: &Flags) -> Option<String> {
    let domain = flags.text("discovery-srv");
    (!domain.is_empty() && !flags.bool("insecure-discovery")).then_some(domain)
}

async fn discover(flags: &Flags) -> Vec<String> {
    let domain = flags.text("discovery-srv");
    if domain.is_empty() {
        return Vec::new();
    }
    let suffix = match flags.text("discovery-srv-name") {
        name if name.is_empty() => name,
        name => format!("-{name}"),
    };
    let resolver = Resolver::of_this_machine();
    let mut found = Vec::new();
    for (scheme, service) in SCHEMES {
        // Compat: a service without records leaves what the other has, or what `--endpoints` says.
        let services = resolver.services(&format!("{service}{suffix}"), &domain).await.unwrap_or_default();
        found.extend(services.iter().map(|at| format!("{scheme}://{}:{}", at.target, at.port)));
    }
    trusted(found, flags.bool("insecure-discovery"))
}

/// Records that lead to endpoints without TLS count only when asked for.
fn trusted(found: Vec<String>, insecure_discovery: bool) -> Vec<String> {
    let is_trusted = |endpoint: &String| {
        let is_trusted = insecure_discovery || !endpoint.starts_with("http://");
        if !is_trusted {
            eprintln!("ignoring discovered insecure endpoint {endpoint:?}");
        }
        is_trusted
    };
    found.into_iter().filter(is_trusted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_without_tls_count_when_asked_for() {
        let found = || vec!["https://a:2379".to_owned(), "http://b:2379".to_owned()];
        assert_eq!(trusted(found(), true), found());
        assert_eq!(trusted(found(), false), ["https://a:2379"]);
    }
}
