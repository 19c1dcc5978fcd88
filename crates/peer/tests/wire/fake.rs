//! Whoever speaks HTTP by hand: callers that are no members, and a peer that answers what a test wants.

use std::time::Duration;

use membership::{ClusterId, MemberId};
use raft::{Message, codec};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::member::{PATIENCE, TestMember};

/// The head of a request or answer, and its body as far as its length is told.
#[derive(Clone, Debug, Default)]
pub struct Spoken {
    /// The first line.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Spoken {
    /// The status of an answer.
    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection, seen from either end.
pub struct Line {
    stream: BufReader<TcpStream>,
}

impl Line {
    pub async fn to(address: &str) -> Line {
        Line { stream: BufReader::new(TcpStream::connect(address).await.expect("it accepts")) }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("written");
        self.stream.flush().await.expect("flushed");
    }

    /// For whoever may have had enough already.
    pub async fn write_maybe(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    async fn read_line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.stream.read_u8().await.ok()?);
        }
        line.truncate(line.len() - 2);
        Some(String::from_utf8(line).expect("text"))
    }

    /// The next head with its body; `None` at the end of the connection. A body without end is left to
    /// [`Line::read_chunk`].
    pub async fn hear(&mut self) -> Option<Spoken> {
        timeout(PATIENCE, self.hear_at_once()).await.expect("something is said in time")
    }

    async fn hear_at_once(&mut self) -> Option<Spoken> {
        let mut spoken = Spoken { line: self.read_line().await?, ..Spoken::default() };
        loop {
            let line = self.read_line().await?;
            let Some((name, value)) = line.split_once(": ") else { break };
            spoken.headers.push((name.to_owned(), value.to_owned()));
        }
        let len = spoken.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).await.ok()?;
        spoken.body = body;
        Some(spoken)
    }

    /// The next piece of a chunked body; `None` at its end, or that of the connection.
    pub async fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let reading = async {
            let len = usize::from_str_radix(&self.read_line().await?, 16).expect("a length");
            let mut chunk = vec![0; len + 2];
            self.stream.read_exact(&mut chunk).await.ok()?;
            chunk.truncate(len);
            (len > 0).then_some(chunk)
        };
        timeout(PATIENCE, reading).await.expect("a chunk in time")
    }

    pub async fn write_chunk(&mut self, bytes: &[u8]) -> bool {
        self.write_maybe(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()).await
    }

    /// Waits until the other side takes nothing more, without reading what it says.
    pub async fn refused(&mut self) {
        let writing = async {
            while self.write_maybe(b" ").await {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, writing).await.expect("the connection ends in time");
    }

    /// Waits until the other side has ended the connection.
    pub async fn ended(&mut self) {
        let mut rest = [0; 4096];
        let ending = async { while !matches!(self.stream.read(&mut rest).await, Ok(0) | Err(_)) {} };
        timeout(PATIENCE, ending).await.expect("the connection ends in time");
    }
}

/// Asks one thing on a connection of its own.
pub async fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Spoken {
    let mut line = Line::to(address).await;
    line.write_maybe(&request(method, path, headers, body)).await;
    line.hear().await.expect("an answer")
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: member\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// What a member of `cluster_id` says of itself in each request.
#[derive(Clone, Debug)]
pub struct Introduction {
    pub from: MemberId,
    pub to: MemberId,
    pub cluster_id: ClusterId,
    pub version: String,
    pub min_version: String,
    pub urls: String,
}

impl Introduction {
    pub fn of(from: u64, to: &TestMember) -> Introduction {
        Introduction {
            from: MemberId(from),
            to: to.id(),
            cluster_id: to.server().cluster_id(),
            version: "3.7.3".to_owned(),
            min_version: "3.0.0".to_owned(),
            urls: "http://127.0.0.1:1".to_owned(),
        }
    }

    pub async fn ask(&self, address: &str, method: &str, path: &str, body: &[u8]) -> Spoken {
        let (from, to, cluster) = (self.from.to_string(), self.to.to_string(), self.cluster_id.to_string());
        let headers = [
            ("X-Server-From", from.as_str()),
            ("X-Server-Version", &self.version),
            ("X-Min-Cluster-Version", &self.min_version),
            ("X-Etcd-Cluster-ID", &cluster),
            ("X-Raft-To", &to),
            ("X-PeerURLs", &self.urls),
        ];
        ask(address, method, path, &headers, body).await
    }

    /// Opens a stream of that kind (`message`, `msgapp`).
    pub async fn open(&self, address: &str, kind: &str) -> Line {
        let mut line = Line::to(address).await;
        self.ask_for_stream(&mut line, kind).await;
        line
    }

    /// As [`Introduction::open`], on a connection that is there.
    pub async fn ask_for_stream(&self, line: &mut Line, kind: &str) {
        let head = format!(
            "GET /raft/stream/{kind}/{} HTTP/1.1\r\nHost: member\r\nX-Server-From: {}\r\n\
             X-Server-Version: {}\r\nX-Min-Cluster-Version: {}\r\nX-Etcd-Cluster-ID: {}\r\nX-Raft-To: {}\r\n\r\n",
            self.from, self.from, self.version, self.min_version, self.cluster_id, self.to
        );
        line.write(head.as_bytes()).await;
    }

    pub fn message(&self, message: Message) -> Vec<u8> {
        codec::encode_message(&Message { from: self.from.0, to: self.to.0, ..message }).to_vec()
    }
}

/// A frame of the message stream.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u64).to_be_bytes(), message].concat()
}

/// A peer that a member believes in, played by a test.
pub struct FakePeer {
    listener: TcpListener,
    pub url: String,
}

impl FakePeer {
    pub async fn listen() -> FakePeer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("it binds");
        let url = format!("http://{}", listener.local_addr().expect("it has an address"));
        FakePeer { listener, url }
    }

    /// The next connection that begins with a request for this path; others are closed without an answer.
    pub async fn called(&self, path: &str) -> (Line, Spoken) {
        let waiting = async {
            loop {
                let (stream, _) = self.listener.accept().await.expect("it accepts");
                let mut line = Line { stream: BufReader::new(stream) };
                // Some connections die before they say anything.
                match timeout(Duration::from_secs(5), line.hear_at_once()).await {
                    Ok(Some(request)) if request.line.contains(path) => return (line, request),
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, waiting).await.expect("a call in time")
    }

    /// As [`FakePeer::called`], for a message that was sent by the pipeline.
    pub async fn posted(&self) -> Message {
        let (mut line, request) = self.called("POST /raft ").await;
        line.write_maybe(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        codec::decode_message(request.body.into()).expect("a message")
    }

    /// Gives a stream to the next caller that asks for one of this kind.
    pub async fn give_stream(&self, kind: &str) -> (Line, Spoken) {
        let (mut line, request) = self.called(&format!("GET /raft/stream/{kind}/")).await;
        line.write(b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.3\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        (line, request)
    }
}
