//! Whether URLs name the same places, as etcd's `pkg/netutil` has it: as written, or once their hosts are
//! resolved.

use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use crate::quote::quote;

/// How long names may take to be resolved, and how often they are tried.
/// Source: etcd `server/config/config.go`, `advertiseMatchesCluster`, and `pkg/netutil/netutil.go`.
const RESOLVE_LIMIT: Duration = Duration::from_secs(30);
const RESOLVE_PAUSE: Duration = Duration::from_secs(1);

/// Whether both lists name the same places; the error says why not. Names that cannot be resolved yet are
/// tried again for a while: a machine's network may come up after its services.
pub fn compare_urls(one: &[String], other: &[String]) -> Result<(), String> {
    if one.len() != other.len() {
        return Err(format!("len({}) != len({})", quoted(one), quoted(other)));
    }
    if as_written(one) == as_written(other) {
        return Ok(());
    }
    let started = Instant::now();
    loop {
        match (resolved(one), resolved(other)) {
            (Ok(one), Ok(other)) => {
                let apart = one.iter().zip(&other).find(|(one, other)| one != other);
                let told = |(one, other): (&String, &String)| {
                    let (one, other) = (quote(one.as_bytes()), quote(other.as_bytes()));
                    Err(format!("resolved urls: {one} != {other}"))
                };
                return apart.map_or(Ok(()), told);
            }
            (Err(why), _) | (_, Err(why)) if started.elapsed() >= RESOLVE_LIMIT => return Err(why),
            _ => std::thread::sleep(RESOLVE_PAUSE),
        }
    }
}

/// As [`compare_urls`], judged by what can be resolved now.
pub fn are_same_urls(one: &[String], other: &[String]) -> bool {
    as_written(one) == as_written(other) || resolved(one).is_ok_and(|one| Ok(one) == resolved(other))
}

fn quoted(urls: &[String]) -> String {
    let quoted: Vec<String> = urls.iter().map(|url| quote(url.as_bytes())).collect();
    format!("[{}]", quoted.join(" "))
}

fn as_written(urls: &[String]) -> Vec<&String> {
    let mut urls: Vec<&String> = urls.iter().collect();
    urls.sort();
    urls
}

/// The URLs with addresses in place of names, sorted; the error tells a name that cannot be resolved.
fn resolved(urls: &[String]) -> Result<Vec<String>, String> {
    let mut urls: Vec<String> = urls.iter().map(resolve).collect::<Result<_, _>>()?;
    urls.sort();
    Ok(urls)
}

fn resolve(url: &String) -> Result<String, String> {
    let failed = |why: &str| format!("failed to resolve {} ({why})", quote(url.as_bytes()));
    let (scheme, address) = url.split_once("://").ok_or_else(|| failed("no host"))?;
    let address = address.trim_end_matches('/');
    // Compat: `localhost` stands for itself, so it is not the same place as 127.0.0.1.
    let is_localhost = address.rsplit_once(':').is_some_and(|(host, _)| host == "localhost");
    if scheme.starts_with("unix") || is_localhost {
        return Ok(url.clone());
    }
    let addresses = address.to_socket_addrs().map_err(|error| failed(&error.to_string()))?;
    // Compat: Go takes one address, IPv4 before IPv6.
    let address = addresses.min_by_key(|address| (address.is_ipv6(), *address));
    address.map(|address| format!("{scheme}://{address}")).ok_or_else(|| failed("no such host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn urls_name_the_same_place_however_it_is_written() {
        let short = urls(&["http://[::1]:2380"]);
        assert_eq!(compare_urls(&short, &urls(&["http://[0:0:0:0:0:0:0:1]:2380"])), Ok(()));
        assert!(!are_same_urls(&short, &urls(&["http://[::1]:2381"])));
        let two = urls(&["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        assert!(are_same_urls(&two, &urls(&["http://127.0.0.1:2", "http://127.0.0.1:1"])));
    }

    #[test]
    fn what_is_told_apart_is_told_in_etcds_words() {
        let difference = |one: &[&str], other: &[&str]| compare_urls(&urls(one), &urls(other)).unwrap_err();
        assert_eq!(
            difference(&["https://127.0.0.1:1"], &["http://127.0.0.1:1"]),
            "resolved urls: \"https://127.0.0.1:1\" != \"http://127.0.0.1:1\""
        );
        assert_eq!(
            difference(&["http://a:1", "http://b:1"], &["http://a:1"]),
            "len([\"http://a:1\" \"http://b:1\"]) != len([\"http://a:1\"])"
        );
        assert_eq!(
            difference(&["http://localhost:1"], &["http://127.0.0.1:1"]),
            "resolved urls: \"http://localhost:1\" != \"http://127.0.0.1:1\""
        );
    }
}
