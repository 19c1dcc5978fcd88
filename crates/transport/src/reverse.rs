//! The host names that belong to an address: from the hosts file, else from the name servers, all of them.
//!
//! The C library's `getnameinfo` tells one name of an address; a pod behind two services has more, and which comes
//! first is chance. So this asks the name servers itself. Source of the order: Go `net/lookup_unix.go`.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const HOSTS_FILE: &str = "/etc/hosts";
const RESOLVER_FILE: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// For one answer of one server. Source, as of the next two: resolv.conf(5), the defaults.
const TIMEOUT: Duration = Duration::from_secs(5);
const ROUNDS: usize = 2;
const SERVERS_MAX: usize = 3;

const HEADER_BYTES: usize = 12;
const UDP_ANSWER_BYTES_MAX: usize = 4096;
const TYPE_PTR: u16 = 12;
const CLASS_INTERNET: u16 = 1;
const NO_SUCH_NAME: u8 = 3;

/// A name has no more bytes than this, and so no more pointers. Source: RFC 1035.
const NAME_BYTES_MAX: usize = 255;

/// Who knows which names belong to an address.
#[derive(Clone, Debug, Default)]
pub struct ReverseLookup {
    /// As a hosts file has it.
    hosts: String,
    servers: Vec<SocketAddr>,
}

impl ReverseLookup {
    /// As this machine is set up now. A file that cannot be read says nothing.
    pub fn of_this_machine() -> ReverseLookup {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        ReverseLookup { hosts: read(HOSTS_FILE), servers: servers(&read(RESOLVER_FILE)) }
    }

    /// From the lines of a hosts file alone.
    pub fn of_hosts(hosts: &str) -> ReverseLookup {
        ReverseLookup { hosts: hosts.to_owned(), servers: Vec::new() }
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
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no name server is known");
        for _ in 0..ROUNDS {
            for server in self.servers.iter().take(SERVERS_MAX) {
                match timeout(TIMEOUT, ask(*server, address)).await {
                    Ok(Ok(names)) => return Ok(names),
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

async fn ask(server: SocketAddr, address: IpAddr) -> io::Result<Vec<String>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Answers of anybody else do not arrive at a connected socket.
    socket.connect(server).await?;
    // A hasher's keys are random; the port is so too.
    let id = RandomState::new().hash_one(()) as u16;
    let query = query(id, address);
    socket.send(&query).await?;
    let mut buffer = vec![0; UDP_ANSWER_BYTES_MAX];
    loop {
        let len = socket.recv(&mut buffer).await?;
        match parse(&buffer[..len], id) {
            Ok(Answer::Names(names)) => return Ok(names),
            Ok(Answer::Truncated) => return ask_by_tcp(server, &query, id).await,
            // Not the answer to this question: it may still come.
            Err(Unusable::Foreign) => {}
            Err(unusable) => return Err(unusable.into()),
        }
    }
}

async fn ask_by_tcp(server: SocketAddr, query: &[u8], id: u16) -> io::Result<Vec<String>> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), query].concat()).await?;
    let len = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(len)];
    stream.read_exact(&mut answer).await?;
    match parse(&answer, id)? {
        Answer::Names(names) => Ok(names),
        Answer::Truncated => Err(Unusable::Malformed.into()),
    }
}

fn query(id: u16, address: IpAddr) -> Vec<u8> {
    let mut query = Vec::with_capacity(HEADER_BYTES + 80);
    // Recursion desired; one question, nothing else.
    for number in [id, 0x0100, 1, 0, 0, 0] {
        query.extend(number.to_be_bytes());
    }
    for label in reverse_name(address).split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(TYPE_PTR.to_be_bytes());
    query.extend(CLASS_INTERNET.to_be_bytes());
    query
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

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Names(Vec<String>),
    /// There is more than fits into a datagram.
    Truncated,
}

#[derive(Debug, PartialEq, Eq)]
enum Unusable {
    /// To another question, or no answer at all.
    Foreign,
    Malformed,
    /// The server could not find out.
    Failed {
        code: u8,
    },
}

impl From<Unusable> for io::Error {
    fn from(unusable: Unusable) -> io::Error {
        match unusable {
            Unusable::Foreign | Unusable::Malformed => {
                io::Error::new(io::ErrorKind::InvalidData, "cannot unmarshal DNS message")
            }
            Unusable::Failed { code } => io::Error::other(format!("server misbehaving (code {code})")),
        }
    }
}

fn parse(message: &[u8], id: u16) -> Result<Answer, Unusable> {
    let number = |at: usize| number_at(message, at).ok_or(Unusable::Foreign);
    let flags = number(2)?;
    let is_answer = flags & 0x8000 != 0;
    if number(0)? != id || !is_answer {
        return Err(Unusable::Foreign);
    }
    if flags & 0x0200 != 0 {
        return Ok(Answer::Truncated);
    }
    match (flags & 0xf) as u8 {
        0 => {}
        NO_SUCH_NAME => return Ok(Answer::Names(Vec::new())),
        code => return Err(Unusable::Failed { code }),
    }
    let (questions, answers) = (number(4)?, number(6)?);
    names_in(message, questions, answers).map(Answer::Names).ok_or(Unusable::Malformed)
}

/// The names that the answers point to. What owns them is passed over: aliases lead from one name to the next.
fn names_in(message: &[u8], questions: u16, answers: u16) -> Option<Vec<String>> {
    let mut at = HEADER_BYTES;
    for _ in 0..questions {
        at = name_at(message, at)?.1 + 4;
    }
    let mut names = Vec::new();
    for _ in 0..answers {
        at = name_at(message, at)?.1;
        let (kind, class) = (number_at(message, at)?, number_at(message, at + 2)?);
        let len = usize::from(number_at(message, at + 8)?);
        let data = at + 10;
        message.get(data..data + len)?;
        if (kind, class) == (TYPE_PTR, CLASS_INTERNET)
            && let Some(name) = name_at(message, data)?.0
        {
            names.push(name);
        }
        at = data + len;
    }
    Some(names)
}

fn number_at(message: &[u8], at: usize) -> Option<u16> {
    let octets = message.get(at..at + 2)?;
    Some(u16::from_be_bytes(octets.try_into().ok()?))
}

/// A name, and where it ends. The name is `None` when it is no host's: a dot inside a label would otherwise look
/// like one between labels.
fn name_at(message: &[u8], at: usize) -> Option<(Option<String>, usize)> {
    let mut name = String::new();
    let mut is_host = true;
    let (mut next, mut end) = (at, None);
    // Each turn takes at least one byte of a name, or one of its pointers.
    for _ in 0..NAME_BYTES_MAX {
        let len = *message.get(next)?;
        match len >> 6 {
            0 if len == 0 => {
                let end = end.unwrap_or(next + 1);
                return Some(((is_host && !name.is_empty()).then_some(name), end));
            }
            0 => {
                let label = message.get(next + 1..next + 1 + usize::from(len))?;
                is_host &= label.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                if name.len() > NAME_BYTES_MAX {
                    return None;
                }
                next += 1 + usize::from(len);
            }
            3 => {
                end = end.or(Some(next + 2));
                next = usize::from(number_at(message, next)? & 0x3fff);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));

    /// An answer to `query` with these names, each behind an owner that is a pointer to the question.
    fn answer(query: &[u8], names: &[&str]) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2] |= 0x80;
        message[7] = names.len() as u8;
        for name in names {
            message.extend([0xc0, HEADER_BYTES as u8]);
            message.extend(TYPE_PTR.to_be_bytes());
            message.extend(CLASS_INTERNET.to_be_bytes());
            message.extend([0, 0, 0, 60]);
            let mut data = Vec::new();
            for label in name.split('.') {
                data.push(label.len() as u8);
                data.extend(label.as_bytes());
            }
            data.push(0);
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(data);
        }
        message
    }

    #[test]
    fn questions_have_the_bytes_of_rfc_1035() {
        assert_eq!(
            query(0x1234, ADDRESS),
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x013\x012\x011\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01"
        );
        assert!(reverse_name("2001:db8::1".parse().unwrap()).starts_with("1.0.0.0."));
        assert!(reverse_name("2001:db8::1".parse().unwrap()).ends_with("8.b.d.0.1.0.0.2.ip6.arpa"));
    }

    #[test]
    fn answers_and_what_only_looks_like_one() {
        let asked = query(7, ADDRESS);
        let good = answer(&asked, &["a.Example", "b.example"]);
        let names = vec!["a.example".to_owned(), "b.example".to_owned()];
        assert_eq!(parse(&good, 7), Ok(Answer::Names(names)));
        assert_eq!(parse(&good, 8), Err(Unusable::Foreign));
        assert_eq!(parse(&asked, 7), Err(Unusable::Foreign));
        for len in HEADER_BYTES..good.len() {
            assert_eq!(parse(&good[..len], 7), Err(Unusable::Malformed), "cut at {len}");
        }
        let with = |at: usize, byte: u8| {
            let mut changed = good.clone();
            changed[at] = byte;
            parse(&changed, 7)
        };
        assert_eq!(with(3, NO_SUCH_NAME), Ok(Answer::Names(Vec::new())));
        assert_eq!(with(3, 2), Err(Unusable::Failed { code: 2 }));
        assert_eq!(with(2, 0x82), Ok(Answer::Truncated));
        // An owner that points at itself.
        assert_eq!(with(asked.len() + 1, asked.len() as u8), Err(Unusable::Malformed));
        // A label that holds a dot is no two labels.
        let dotted = answer(&asked, &["axexample"]);
        let dotted: Vec<u8> = dotted.iter().map(|&byte| if byte == b'x' { b'.' } else { byte }).collect();
        assert_eq!(parse(&dotted, 7), Ok(Answer::Names(Vec::new())));
    }

    #[test]
    fn files_of_the_machine() {
        let hosts = "# a comment\n10.1.2.3 one.example One # two\n::ffff:10.1.2.3\tthree\n10.1.2.4 other\n";
        assert_eq!(in_hosts(hosts, ADDRESS), ["one.example", "one", "three"]);
        let found = servers("search a b\nnameserver 10.0.0.1\nnameserver fe80::1\nnameserver no\n");
        assert_eq!(found, ["10.0.0.1:53".parse().unwrap(), "[fe80::1]:53".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_name_server_is_asked_again_by_tcp_when_the_answer_is_too_long() {
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(server).await.unwrap();
        let lookup = ReverseLookup { hosts: String::new(), servers: vec![server] };
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
            let whole = answer(&asked, &["a.example"]);
            stream.write_all(&(whole.len() as u16).to_be_bytes()).await.unwrap();
            stream.write_all(&whole).await.unwrap();
        };
        let (names, ()) = tokio::join!(lookup.names(ADDRESS), serving);
        assert_eq!(names.unwrap(), ["a.example"]);
        assert!(ReverseLookup::default().names(ADDRESS).await.is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let id = number_at(&bytes, 0).unwrap_or(0);
            let _ = parse(&bytes, id);
        }
    }
}
