//! Advertised URLs of a member that was told only to listen everywhere: `localhost` would be of no use
//! to others, so the address of the default route takes its place.

use std::net::{IpAddr, UdpSocket};

use crate::log;
use crate::logging::Level;
use crate::settings::{DEFAULT_CLIENT_URL, DEFAULT_NAME, DEFAULT_PEER_URL, Settings};
use crate::url::Url;

/// An address that every default route leads to. Nothing is sent to it.
const ANYWHERE: &str = "192.0.2.1:9";

pub fn settle(settings: &mut Settings) {
    let untouched_cluster = settings.initial_cluster == Settings::default().initial_cluster;
    match address_of_default_route() {
        Ok(host) => {
            let peer = replace(
                &settings.listen_peer_urls,
                &mut settings.initial_advertise_peer_urls,
                DEFAULT_PEER_URL,
                &host,
            );
            let client = replace(
                &settings.listen_client_urls,
                &mut settings.advertise_client_urls,
                DEFAULT_CLIENT_URL,
                &host,
            );
            if peer || client {
                log!(Level::Info, "detected default host for advertise", "host" => host);
            }
        }
        Err(error) => {
            let error = crate::go_value::io_text(&error);
            log!(Level::Info, "failed to detect default host", "error" => error);
        }
    }
    if settings.name != DEFAULT_NAME && untouched_cluster {
        settings.initial_cluster = settings.initial_cluster_from_name();
    }
}

fn replace(listen: &[Url], advertise: &mut Vec<Url>, default: &str, host: &str) -> bool {
    let is_default = matches!(advertise.as_slice(), [only] if only.as_str() == default);
    let Some(("0.0.0.0", port)) = listen.first().and_then(Url::host_port) else { return false };
    if is_default {
        *advertise = advertise.iter().map(|url| url.at(host, port)).collect();
    }
    is_default
}

fn address_of_default_route() -> std::io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(ANYWHERE)?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) if !address.is_unspecified() => Ok(address.to_string()),
        _ => Err(std::io::Error::from(std::io::ErrorKind::AddrNotAvailable)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_default_that_listens_everywhere_is_replaced() {
        let everywhere = [Url::parse("http://0.0.0.0:9380").expect("valid")];
        let mut advertise = Settings::default().initial_advertise_peer_urls;
        assert!(replace(&everywhere, &mut advertise, DEFAULT_PEER_URL, "10.0.0.1"));
        assert_eq!(advertise[0].as_str(), "http://10.0.0.1:9380");
        assert!(!replace(&everywhere, &mut advertise, DEFAULT_PEER_URL, "10.0.0.2"));
        let local = [Url::parse("http://127.0.0.1:1").expect("valid")];
        let mut advertise = Settings::default().initial_advertise_peer_urls;
        assert!(!replace(&local, &mut advertise, DEFAULT_PEER_URL, "10.0.0.1"));
    }

    #[test]
    fn a_name_alone_names_the_cluster() {
        let mut settings = Settings { name: "a".to_owned(), ..Settings::default() };
        settle(&mut settings);
        assert_eq!(settings.initial_cluster, "a=http://localhost:2380");
    }
}
