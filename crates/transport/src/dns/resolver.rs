//! Asking the name servers of this machine.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{Answer, Kind, Record, Service, Unusable, parse, query};

const RESOLVER_FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// For one answer of one server. Source, as of the next two: resolv.conf(5), the defaults.
const TIMEOUT: Duration = Duration::from_secs(5);
const ROUNDS: usize = 2;
const SERVERS_MAX: usize = 3;

const UDP_ANSWER_BYTES_MAX: usize = 4096;

/// The name servers that this machine asks.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
}

impl Resolver {
    /// As this machine is set up now. A file that cannot be read says nothing.
    pub fn of_this_machine() -> Resolver {
        Resolver { servers: servers(&std::fs::read_to_string(RESOLVER_FILE).unwrap_or_default()) }
    }

    pub fn of(servers: Vec<SocketAddr>) -> Resolver {
        Resolver { servers }
    }

    /// Who offers a service: those to be asked first come first. Compat: as Go's `net.LookupSRV` but for the order
    /// of those with one priority, which is theirs by weight and chance, and here by name.
    ///
    /// # Errors
    /// Nobody does, or no name server answered; in words that name what was looked up.
    pub async fn services(&self, service: &str, domain: &str) -> io::Result<Vec<Service>> {
        let name = format!("_{service}._tcp.{domain}");
        let failed = |error: &dyn std::fmt::Display| io::Error::other(format!("lookup {name}: {error}"));
        let records = self.records(&name, Kind::Service).await.map_err(|error| failed(&error))?;
        let mut services: Vec<Service> = records
            .unwrap_or_default()
            .into_iter()
            .filter_map(|record| match record {
                Record::Service(service) => Some(service),
                Record::Name(_) => None,
            })
            .collect();
        if services.is_empty() {
            return Err(failed(&"no such host"));
        }
        services.sort();
        Ok(services)
    }

    /// `None`: there is no such name.
    pub(super) async fn records(&self, name: &str, kind: Kind) -> io::Result<Option<Vec<Record>>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no name server is known");
        for _ in 0..ROUNDS {
            for server in self.servers.iter().take(SERVERS_MAX) {
                match timeout(TIMEOUT, ask(*server, name, kind)).await {
                    Ok(Ok(records)) => return Ok(records),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"),
                }
            }
        }
        Err(last)
    }
}

fn servers(resolver_file: &str) -> Vec<SocketAddr> {
    let lines = resolver_file.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    lines.filter_map(|word| word.parse().ok()).map(|address| SocketAddr::new(address, PORT)).collect()
}

async fn ask(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Option<Vec<Record>>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Answers of anybody else do not arrive at a connected socket.
    socket.connect(server).await?;
    // A hasher's keys are random; the port is so too.
    let id = RandomState::new().hash_one(()) as u16;
    let Some(query) = query(id, name, kind) else { return Ok(None) };
    socket.send(&query).await?;
    let mut buffer = vec![0; UDP_ANSWER_BYTES_MAX];
    loop {
        let len = socket.recv(&mut buffer).await?;
        match parse(&buffer[..len], id, kind) {
            Ok(Answer::Records(records)) => return Ok(Some(records)),
            Ok(Answer::NoSuchName) => return Ok(None),
            Ok(Answer::Truncated) => return ask_by_tcp(server, &query, id, kind).await,
            // Not the answer to this question: it may still come.
            Err(Unusable::Foreign) => {}
            Err(unusable) => return Err(unusable.into()),
        }
    }
}

async fn ask_by_tcp(
    server: SocketAddr,
    query: &[u8],
    id: u16,
    kind: Kind,
) -> io::Result<Option<Vec<Record>>> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), query].concat()).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await?;
    match parse(&answer, id, kind)? {
        Answer::Records(records) => Ok(Some(records)),
        Answer::NoSuchName => Ok(None),
        Answer::Truncated => Err(Unusable::Malformed.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{answer, names};
    use super::*;

    #[test]
    fn the_machines_name_servers() {
        let found = servers("search a b\nnameserver 10.0.0.1\nnameserver fe80::1\nnameserver no\n");
        assert_eq!(found, ["10.0.0.1:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_name_server_is_asked_again_by_tcp_when_the_answer_is_too_long() {
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(server).await.unwrap();
        let resolver = Resolver::of(vec![server]);
        let serving = async {
            let mut buffer = [0; 512];
            let (len, from) = udp.recv_from(&mut buffer).await.unwrap();
            let mut short = buffer[..len].to_vec();
            udp.send_to(b"noise", from).await.unwrap();
            short[2] |= 0x82;
            udp.send_to(&short, from).await.unwrap();
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut asked = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut asked).await.unwrap();
            let whole = answer(&asked, &names(&["a.example"]));
            stream.write_all(&(whole.len() as u16).to_be_bytes()).await.unwrap();
            stream.write_all(&whole).await.unwrap();
        };
        let (records, ()) = tokio::join!(resolver.records("x.example", Kind::Name), serving);
        assert_eq!(records.unwrap(), Some(names(&["a.example"])));
    }

    #[tokio::test]
    async fn services_come_in_their_order() {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = Resolver::of(vec![udp.local_addr().unwrap()]);
        let service =
            |priority, target: &str| Service { priority, weight: 0, target: target.to_owned(), port: 2380 };
        let offered = [service(2, "c.example"), service(1, "b.example"), service(1, "a.example")];
        let serving = async {
            let mut buffer = [0; 512];
            for services in [&offered[..], &[]] {
                let (len, from) = udp.recv_from(&mut buffer).await.unwrap();
                let records: Vec<Record> = services.iter().cloned().map(Record::Service).collect();
                udp.send_to(&answer(&buffer[..len], &records), from).await.unwrap();
            }
        };
        let asking = async {
            let found = resolver.services("etcd-server", "example").await.unwrap();
            let none = resolver.services("etcd-server-ssl", "example").await.unwrap_err().to_string();
            (found, none)
        };
        let ((found, none), ()) = tokio::join!(asking, serving);
        assert_eq!(found, [offered[2].clone(), offered[1].clone(), offered[0].clone()]);
        assert_eq!(none, "lookup _etcd-server-ssl._tcp.example: no such host");
    }
}
