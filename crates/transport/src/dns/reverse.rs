//! The host names that belong to an address: from the hosts file, else from the name servers, all of them.
//!
//! The C library's `getnameinfo` tells one name of an address; a pod behind two services has more, and which comes
//! first is chance. So this asks the name servers itself. Source of the order: Go `net/lookup_unix.go`.

use std::fmt::Write;
use std::io;
use std::net::IpAddr;

use super::message::{Kind, Record};
use super::resolver::Resolver;

const HOSTS_FILE: &str = "/etc/hosts";

/// Who knows which names belong to an address.
#[derive(Clone, Debug, Default)]
pub struct ReverseLookup {
    /// As a hosts file has it.
    hosts: String,
    resolver: Resolver,
}

impl ReverseLookup {
    /// As this machine is set up now. A file that cannot be read says nothing.
    pub fn of_this_machine() -> ReverseLookup {
        let hosts = std::fs::read_to_string(HOSTS_FILE).unwrap_or_default();
        ReverseLookup { hosts, resolver: Resolver::of_this_machine() }
    }

    /// From the lines of a hosts file alone.
    pub fn of_hosts(hosts: &str) -> ReverseLookup {
        ReverseLookup { hosts: hosts.to_owned(), resolver: Resolver::default() }
    }

    /// Lowercase, without the dot at the end. Empty: there are none.
    ///
    /// # Errors
    /// No name server answered.
    pub async fn names(&self, address: IpAddr) -> io::Result<Vec<String>> {
        let known = in_hosts(&self.hosts, address);
        if !known.is_empty() {
            return Ok(known);
        }
        let records = self.resolver.records(&reverse_name(address), Kind::Name).await?;
        let names = records.unwrap_or_default().into_iter().filter_map(|record| match record {
            Record::Name(name) => Some(name),
            Record::Service(_) => None,
        });
        Ok(names.collect())
    }
}

fn in_hosts(hosts: &str, address: IpAddr) -> Vec<String> {
    let mut names = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if words.next().and_then(|word| word.parse().ok()).map(|it: IpAddr| it.to_canonical())
            == Some(address)
        {
            names.extend(words.map(str::to_ascii_lowercase));
        }
    }
    names
}

fn reverse_name(address: IpAddr) -> String {
    let mut name = String::new();
    match address {
        IpAddr::V4(address) => {
            for octet in address.octets().iter().rev() {
                write!(name, "{octet}.").expect("strings take everything");
            }
            name + "in-addr.arpa"
        }
        IpAddr::V6(address) => {
            for octet in address.octets().iter().rev() {
                write!(name, "{:x}.{:x}.", octet & 0xf, octet >> 4).expect("strings take everything");
            }
            name + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_addresses() {
        assert_eq!(reverse_name("10.1.2.3".parse().unwrap()), "3.2.1.10.in-addr.arpa");
        assert!(reverse_name("2001:db8::1".parse().unwrap()).starts_with("1.0.0.0."));
        assert!(reverse_name("2001:db8::1".parse().unwrap()).ends_with("8.b.d.0.1.0.0.2.ip6.arpa"));
    }

    #[tokio::test]
    async fn the_hosts_file_comes_first() {
        let hosts = "# a comment\n10.1.2.3 one.example One # two\n::ffff:10.1.2.3\tthree\n10.1.2.4 other\n";
        let lookup = ReverseLookup::of_hosts(hosts);
        assert_eq!(lookup.names("10.1.2.3".parse().unwrap()).await.unwrap(), ["one.example", "one", "three"]);
        assert!(lookup.names("10.1.2.5".parse().unwrap()).await.is_err());
    }
}
