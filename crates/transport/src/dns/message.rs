//! Questions to name servers, and what their answers hold. Source: RFC 1035, and RFC 2782 for services.

use std::io;

pub const HEADER_BYTES: usize = 12;
const CLASS_INTERNET: u16 = 1;
const NO_SUCH_NAME: u8 = 3;

/// A name has no more bytes than this, and so no more pointers.
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `PTR`: the names behind an address.
    Name,
    /// `SRV`: who offers a service.
    Service,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Kind::Name => 12,
            Kind::Service => 33,
        }
    }
}

/// Where a service is offered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Lower ones come first.
    pub priority: u16,
    pub weight: u16,
    /// A host name, lowercase, without the dot at the end.
    pub target: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Name(String),
    Service(Service),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Those of the kind that was asked for.
    Records(Vec<Record>),
    NoSuchName,
    /// There is more than fits into a datagram.
    Truncated,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Unusable {
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

/// A question about `name`. `None`: no such name can exist.
pub fn query(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut query = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    // Recursion desired; one question, nothing else.
    for number in [id, 0x0100, 1, 0, 0, 0] {
        query.extend(number.to_be_bytes());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > NAME_BYTES_MAX - 2 {
        return None;
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return None;
        }
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(kind.number().to_be_bytes());
    query.extend(CLASS_INTERNET.to_be_bytes());
    Some(query)
}

pub fn parse(message: &[u8], id: u16, kind: Kind) -> Result<Answer, Unusable> {
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
        NO_SUCH_NAME => return Ok(Answer::NoSuchName),
        code => return Err(Unusable::Failed { code }),
    }
    let (questions, answers) = (number(4)?, number(6)?);
    records(message, questions, answers, kind).map(Answer::Records).ok_or(Unusable::Malformed)
}

/// What the answers hold. What owns them is passed over: aliases lead from one name to the next.
fn records(message: &[u8], questions: u16, answers: u16, wanted: Kind) -> Option<Vec<Record>> {
    let mut at = HEADER_BYTES;
    for _ in 0..questions {
        at = name_at(message, at)?.1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..answers {
        at = name_at(message, at)?.1;
        let (kind, class) = (number_at(message, at)?, number_at(message, at + 2)?);
        let len = usize::from(number_at(message, at + 8)?);
        let data = at + 10;
        message.get(data..data + len)?;
        if (kind, class) == (wanted.number(), CLASS_INTERNET) {
            records.extend(record_at(message, data, wanted)?);
        }
        at = data + len;
    }
    Some(records)
}

/// The outer `None` is damage, the inner a name that is no host's.
fn record_at(message: &[u8], at: usize, kind: Kind) -> Option<Option<Record>> {
    Some(match kind {
        Kind::Name => name_at(message, at)?.0.map(Record::Name),
        Kind::Service => {
            let number = |at| number_at(message, at);
            let (priority, weight, port) = (number(at)?, number(at + 2)?, number(at + 4)?);
            let target = name_at(message, at + 6)?.0;
            target.map(|target| Record::Service(Service { priority, weight, target, port }))
        }
    })
}

pub fn number_at(message: &[u8], at: usize) -> Option<u16> {
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
pub mod tests {
    use super::*;

    const NAME: &str = "3.2.1.10.in-addr.arpa";

    fn name_bytes(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes
    }

    /// An answer to `query` with these records, each behind an owner that is a pointer to the question.
    pub fn answer(query: &[u8], records: &[Record]) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2] |= 0x80;
        message[7] = records.len() as u8;
        for record in records {
            let (kind, data) = match record {
                Record::Name(name) => (Kind::Name, name_bytes(name)),
                Record::Service(Service { priority, weight, target, port }) => {
                    let numbers: Vec<u8> =
                        [priority, weight, port].iter().flat_map(|number| number.to_be_bytes()).collect();
                    (Kind::Service, [numbers, name_bytes(target)].concat())
                }
            };
            message.extend([0xc0, HEADER_BYTES as u8]);
            message.extend(kind.number().to_be_bytes());
            message.extend(CLASS_INTERNET.to_be_bytes());
            message.extend([0, 0, 0, 60]);
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(data);
        }
        message
    }

    pub fn names(names: &[&str]) -> Vec<Record> {
        names.iter().map(|&name| Record::Name(name.to_owned())).collect()
    }

    #[test]
    fn questions_have_the_bytes_of_rfc_1035() {
        assert_eq!(
            query(0x1234, NAME, Kind::Name).unwrap(),
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x013\x012\x011\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01"
        );
        for none in ["", "a..b", &"x".repeat(64), &"abc.".repeat(80)] {
            assert_eq!(query(1, none, Kind::Service), None, "{none}");
        }
    }

    #[test]
    fn answers_and_what_only_looks_like_one() {
        let asked = query(7, NAME, Kind::Name).unwrap();
        let good = answer(&asked, &names(&["a.Example", "b.example"]));
        let parse = |message: &[u8], id| parse(message, id, Kind::Name);
        assert_eq!(parse(&good, 7), Ok(Answer::Records(names(&["a.example", "b.example"]))));
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
        assert_eq!(with(3, NO_SUCH_NAME), Ok(Answer::NoSuchName));
        assert_eq!(with(3, 2), Err(Unusable::Failed { code: 2 }));
        assert_eq!(with(2, 0x82), Ok(Answer::Truncated));
        // An owner that points at itself.
        assert_eq!(with(asked.len() + 1, asked.len() as u8), Err(Unusable::Malformed));
        // A label that holds a dot is no two labels.
        let dotted = answer(&asked, &names(&["axexample"]));
        let dotted: Vec<u8> = dotted.iter().map(|&byte| if byte == b'x' { b'.' } else { byte }).collect();
        assert_eq!(parse(&dotted, 7), Ok(Answer::Records(Vec::new())));
    }

    #[test]
    fn services_and_nothing_else_when_services_are_asked_for() {
        let asked = query(7, "_etcd-server._tcp.example.com", Kind::Service).unwrap();
        let service = Service { priority: 1, weight: 2, target: "a.example.com".to_owned(), port: 2380 };
        let records = [Record::Service(service), Record::Name("alias".to_owned())];
        let good = answer(&asked, &records);
        assert_eq!(parse(&good, 7, Kind::Service), Ok(Answer::Records(records[..1].to_vec())));
        for len in HEADER_BYTES..good.len() {
            assert_eq!(parse(&good[..len], 7, Kind::Service), Err(Unusable::Malformed), "cut at {len}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let id = number_at(&bytes, 0).unwrap_or(0);
            let _ = parse(&bytes, id, Kind::Name);
            let _ = parse(&bytes, id, Kind::Service);
        }
    }
}
