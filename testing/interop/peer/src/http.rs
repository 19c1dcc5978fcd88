//! HTTP by hand, so that what is compared is what was on the wire.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Headers that members look at, or that are part of an error's form.
const COMPARED: [&str; 5] =
    ["allow", "content-type", "x-content-type-options", "x-etcd-cluster-id", "x-server-version"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Those that are compared, names in lower case, sorted.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.status, self.headers, self.body.escape_ascii().to_string())
    }
}

/// The body of an answer that never ends is left unread.
pub fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Result<Answer, String> {
    exchange(port, method, path, headers, body).map_err(|error| format!("{method} {path}: {error}"))
}

fn exchange(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: m0\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let (mut kept, mut is_chunked, mut len) = (Vec::new(), false, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let name = name.to_ascii_lowercase();
        is_chunked |= name == "transfer-encoding";
        if name == "content-length" {
            len = value.parse().unwrap_or(0);
        }
        if COMPARED.contains(&name.as_str()) {
            kept.push((name, value.to_owned()));
        }
    }
    kept.sort();
    // Not to the end of the connection, which etcd ends when it likes.
    let body = match (path.starts_with("/raft/stream/") && status == 200, is_chunked) {
        (true, _) => Vec::new(),
        (false, true) => chunks(&mut reader),
        (false, false) => {
            let mut body = vec![0; len];
            reader.read_exact(&mut body)?;
            body
        }
    };
    Ok(Answer { status, headers: kept, body })
}

/// The chunks up to the last. etcd breaks some connections before that, on purpose.
fn chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() {
            return body;
        }
        let len = usize::from_str_radix(line.trim_end(), 16).unwrap_or(0);
        let mut chunk = vec![0; len + 2];
        if len == 0 || reader.read_exact(&mut chunk).is_err() {
            return body;
        }
        body.extend_from_slice(&chunk[..len]);
    }
}
