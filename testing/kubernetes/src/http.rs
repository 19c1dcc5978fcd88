//! As much of HTTP/1.1 over TLS as a client of the API server needs: one request at a time on a kept
//! connection, and watches, whose answer is one JSON object a line without end.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

use crate::failure::{During, Outcome, fail};

/// Longest silence of the API server within one answer, unless a caller has less patience.
const LIMIT: Duration = Duration::from_secs(60);

/// Longest silence of a watch before its reader looks whether it shall end.
const WATCH_TICK: Duration = Duration::from_millis(300);

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Who we are to the API server.
#[derive(Clone)]
pub struct Identity {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    /// For a connection to be made, and for each silence after that.
    limit: Duration,
}

impl Identity {
    pub fn load(address: SocketAddr, ca: &Path, certificate: &Path, key: &Path) -> Outcome<Identity> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).during(ca.display())?)?;
        let chain = vec![CertificateDer::from_pem_file(certificate).during(certificate.display())?];
        let key = PrivateKeyDer::from_pem_slice(&fs::read(key)?).during(key.display())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(Identity { address, config: Arc::new(config), limit: LIMIT })
    }

    /// The same one at another API server of the cluster.
    pub fn at(&self, address: SocketAddr) -> Identity {
        Identity { address, ..self.clone() }
    }

    pub fn with_limit(self, limit: Duration) -> Identity {
        Identity { limit, ..self }
    }

    pub fn client(&self) -> Client {
        Client { identity: self.clone(), connection: None }
    }

    fn connect(&self) -> Outcome<BufReader<Tls>> {
        let tcp = TcpStream::connect_timeout(&self.address, self.limit)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(self.limit))?;
        tcp.set_write_timeout(Some(self.limit))?;
        let name = ServerName::from(self.address.ip());
        let tls = ClientConnection::new(Arc::clone(&self.config), name)?;
        Ok(BufReader::new(StreamOwned::new(tls, tcp)))
    }

    /// Opens a watch: `path` with its query.
    pub fn watch(&self, path: &str) -> Outcome<Watch> {
        let mut connection = self.connect()?;
        send(&mut connection, "GET", path, "", &[])?;
        let head = Head::read(&mut connection)?;
        if head.status != 200 {
            return fail(format!("watch {path}: status {}", head.status));
        }
        connection.get_ref().sock.set_read_timeout(Some(WATCH_TICK))?;
        Ok(Watch { connection, raw: Vec::new(), pending: Vec::new() })
    }
}

/// Requests on one connection, made anew after a failure.
pub struct Client {
    identity: Identity,
    connection: Option<BufReader<Tls>>,
}

pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// An error that tells the server's own words when the status is not one of success.
    pub fn must(self, what: &str) -> Outcome<Value> {
        if !(200..300).contains(&self.status) {
            let text = String::from_utf8_lossy(&self.body).into_owned();
            return fail(format!("{what}: status {}: {}", self.status, text.trim()));
        }
        Ok(self.json())
    }
}

impl Client {
    pub fn get(&mut self, path: &str) -> Outcome<Response> {
        self.request("GET", path, "", &[])
    }

    pub fn post(&mut self, path: &str, object: &Value) -> Outcome<Response> {
        self.request("POST", path, "application/json", object.to_string().as_bytes())
    }

    pub fn put(&mut self, path: &str, object: &Value) -> Outcome<Response> {
        self.request("PUT", path, "application/json", object.to_string().as_bytes())
    }

    pub fn patch(&mut self, path: &str, change: &Value) -> Outcome<Response> {
        self.request("PATCH", path, "application/merge-patch+json", change.to_string().as_bytes())
    }

    pub fn delete(&mut self, path: &str, options: &Value) -> Outcome<Response> {
        self.request("DELETE", path, "application/json", options.to_string().as_bytes())
    }

    fn request(&mut self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Outcome<Response> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.identity.connect()?,
        };
        send(&mut connection, method, path, content_type, body)?;
        let head = Head::read(&mut connection)?;
        let body = head.read_body(&mut connection)?;
        if !head.close {
            self.connection = Some(connection);
        }
        Ok(Response { status: head.status, body })
    }
}

fn send(to: &mut BufReader<Tls>, method: &str, path: &str, content_type: &str, body: &[u8]) -> Outcome {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: kubernetes\r\nAccept: application/json\r\n");
    if !content_type.is_empty() {
        head.push_str(&format!("Content-Type: {content_type}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    to.get_mut().write_all(&bytes)?;
    to.get_mut().flush()?;
    Ok(())
}

struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
    close: bool,
}

impl Head {
    fn read(from: &mut impl BufRead) -> Outcome<Head> {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let Some(status) = status else { return fail(format!("no HTTP answer: {line:?}")) };
        let mut head = Head { status, length: None, chunked: false, close: false };
        loop {
            line.clear();
            if from.read_line(&mut line)? == 0 {
                return fail("the answer ended in its head");
            }
            let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(head) };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.trim().parse().ok(),
                "transfer-encoding" => head.chunked = value.trim() == "chunked",
                "connection" => head.close = value.trim() == "close",
                _ => {}
            }
        }
    }

    fn read_body(&self, from: &mut impl BufRead) -> Outcome<Vec<u8>> {
        if !self.chunked {
            let mut body = vec![0; self.length.unwrap_or(0)];
            from.read_exact(&mut body)?;
            return Ok(body);
        }
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).during("size of a chunk")?;
            let start = body.len();
            body.resize(start + size, 0);
            from.read_exact(&mut body[start..])?;
            let mut end = [0; 2];
            from.read_exact(&mut end)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

/// A running watch.
pub struct Watch {
    connection: BufReader<Tls>,
    /// Bytes as they came, chunk frames included; a frame may be incomplete.
    raw: Vec<u8>,
    /// Payload that is not yet a whole line.
    pending: Vec<u8>,
}

pub enum Next {
    Event(Value),
    /// Nothing came for a moment.
    Quiet,
    Ended,
}

impl Watch {
    pub fn next(&mut self) -> Outcome<Next> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Ok(Next::Event(serde_json::from_slice(&line)?));
            }
            if let Some(chunk) = take_chunk(&mut self.raw)? {
                if chunk.is_empty() {
                    return Ok(Next::Ended);
                }
                self.pending.extend_from_slice(&chunk);
                continue;
            }
            let mut buffer = [0; 16 * 1024];
            match self.connection.read(&mut buffer) {
                Ok(0) => return Ok(Next::Ended),
                Ok(count) => self.raw.extend_from_slice(&buffer[..count]),
                Err(error) if is_timeout(&error) => return Ok(Next::Quiet),
                Err(_) => return Ok(Next::Ended),
            }
        }
    }
}

/// The first whole chunk of what has come; the empty one is the end of the answer.
fn take_chunk(raw: &mut Vec<u8>) -> Outcome<Option<Vec<u8>>> {
    let Some(line_end) = raw.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = String::from_utf8_lossy(&raw[..line_end]).into_owned();
    let size = usize::from_str_radix(line.trim(), 16).during("size of a chunk")?;
    let start = line_end + 2;
    if raw.len() < start + size + 2 {
        return Ok(None);
    }
    let chunk = raw[start..start + size].to_vec();
    raw.drain(..start + size + 2);
    Ok(Some(chunk))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_taken_only_when_it_is_whole() {
        let mut raw = b"5\r\nhel".to_vec();
        assert!(take_chunk(&mut raw).unwrap().is_none());
        raw.extend_from_slice(b"lo\r\n0\r\n\r\n");
        assert_eq!(take_chunk(&mut raw).unwrap().unwrap(), b"hello");
        assert_eq!(take_chunk(&mut raw).unwrap().unwrap(), b"");
    }

    #[test]
    fn a_body_of_chunks_is_joined() {
        let mut answer: &[u8] =
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        let head = Head::read(&mut answer).unwrap();
        assert_eq!((head.status, head.read_body(&mut answer).unwrap().as_slice()), (201, b"abc".as_slice()));
    }
}
