//! gRPC by hand over HTTP/2, so that requests may be as wrong as we like and answers are compared as bytes.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;

/// No answer for this long means that it will not come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that a server said to one call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    pub http_status: u16,
    pub code: String,
    pub text: String,
    pub messages: Vec<Bytes>,
    /// Set when there was no proper end: the error of the stream.
    pub broken: Option<String>,
    /// Response headers that matter: content type and encodings.
    pub headers: Vec<(String, String)>,
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        self.code == "0"
    }

    /// The only message of a call that succeeded.
    pub fn message<M: Message + Default>(&self) -> Option<M> {
        M::decode(self.messages.first()?.clone()).ok()
    }

    fn take_status(&mut self, headers: &HeaderMap) {
        let text = |name: &str| {
            headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        if let Some(code) = text("grpc-status") {
            self.code = code;
            self.text = text("grpc-message").unwrap_or_default();
        }
    }
}

/// What a call may do differently from what every client does.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    pub headers: Vec<(&'static str, String)>,
    pub content_type: Option<&'static str>,
    pub method: Option<&'static str>,
}

/// One connection to one server.
#[derive(Clone)]
pub struct Wire {
    send: SendRequest<Bytes>,
    authority: String,
}

/// An open call in both directions.
pub struct Call {
    sender: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    receiver: Option<RecvStream>,
    buffer: BytesMut,
    answer: Answer,
}

/// A message with gRPC's prefix: compressed or not, and the length.
pub fn frame(compressed: u8, body: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + body.len());
    framed.put_u8(compressed);
    framed.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    framed.put_slice(body);
    framed.freeze()
}

impl Wire {
    pub async fn connect(port: u16) -> Result<Wire, String> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(8 << 20)
            .initial_connection_window_size(32 << 20)
            .max_frame_size(1 << 20)
            .handshake(socket)
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            let _how_it_ended = connection.await;
        });
        // Equal on both sides, so that nothing in an answer can come from it.
        Ok(Wire { send, authority: "127.0.0.1:2379".to_owned() })
    }

    pub async fn open(&self, path: &str, manners: &Manners) -> Result<Call, String> {
        let mut request = Request::builder()
            .method(manners.method.unwrap_or("POST"))
            .uri(format!("http://{}{path}", self.authority))
            .header("content-type", manners.content_type.unwrap_or("application/grpc"))
            .header("te", "trailers");
        for (name, value) in &manners.headers {
            request = request.header(*name, value);
        }
        let request = request.body(()).map_err(|error| error.to_string())?;
        let mut send = self.send.clone().ready().await.map_err(|error| error.to_string())?;
        let (response, sender) = send.send_request(request, false).map_err(|error| error.to_string())?;
        let answer = Answer::default();
        Ok(Call { sender, response: Some(response), receiver: None, buffer: BytesMut::new(), answer })
    }

    /// One message there, everything that comes back.
    pub async fn unary(&self, path: &str, message: &impl Message) -> Result<Answer, String> {
        self.raw(path, frame(0, &message.encode_to_vec()), &Manners::default()).await
    }

    pub async fn raw(&self, path: &str, body: Bytes, manners: &Manners) -> Result<Answer, String> {
        let mut call = self.open(path, manners).await?;
        call.send(body, true).await;
        call.finish().await
    }
}

impl Call {
    /// Sends as far as the server takes it. One that already answered may refuse the rest; its answer tells.
    pub async fn send(&mut self, mut body: Bytes, last: bool) {
        while !body.is_empty() {
            self.sender.reserve_capacity(body.len());
            let capacity = std::future::poll_fn(|context| self.sender.poll_capacity(context));
            let Ok(Some(Ok(capacity))) = tokio::time::timeout(PATIENCE, capacity).await else { return };
            let part = body.split_to(capacity.min(body.len()));
            let end = last && body.is_empty();
            if self.sender.send_data(part, end).is_err() || end {
                return;
            }
        }
        if last {
            let _ended = self.sender.send_data(Bytes::new(), true);
        }
    }

    pub async fn send_message(&mut self, message: &impl Message) {
        self.send(frame(0, &message.encode_to_vec()), false).await;
    }

    /// The next message; `None` once the call ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, String> {
        match tokio::time::timeout(PATIENCE, self.next_unlimited()).await {
            Ok(next) => Ok(next),
            Err(_) => Err(format!("no answer after {PATIENCE:?}; until then {:?}", self.answer)),
        }
    }

    /// Like [`Call::next`], but silence is an answer too: the outer `None`.
    pub async fn next_within(&mut self, limit: Duration) -> Option<Option<Bytes>> {
        tokio::time::timeout(limit, self.next_unlimited()).await.ok()
    }

    async fn next_unlimited(&mut self) -> Option<Bytes> {
        if let Some(response) = self.response.as_mut() {
            match response.await {
                Ok(response) => {
                    self.response = None;
                    self.take_head(&response);
                    self.receiver = Some(response.into_body());
                }
                Err(error) => {
                    self.response = None;
                    self.answer.broken = Some(error.to_string());
                }
            }
        }
        loop {
            if let Some(message) = self.take_message() {
                return Some(message);
            }
            let receiver = self.receiver.as_mut()?;
            match receiver.data().await {
                Some(Ok(data)) => {
                    let _window = receiver.flow_control().release_capacity(data.len());
                    self.buffer.extend_from_slice(&data);
                }
                Some(Err(error)) => {
                    self.answer.broken = Some(error.to_string());
                    self.receiver = None;
                }
                None => {
                    match receiver.trailers().await {
                        Ok(Some(trailers)) => self.answer.take_status(&trailers),
                        Ok(None) => {}
                        Err(error) => self.answer.broken = Some(error.to_string()),
                    }
                    self.receiver = None;
                }
            }
        }
    }

    fn take_head(&mut self, response: &http::Response<RecvStream>) {
        self.answer.http_status = response.status().as_u16();
        for name in ["content-type", "grpc-encoding", "grpc-accept-encoding", "allow"] {
            for value in response.headers().get_all(name) {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                self.answer.headers.push((name.to_owned(), value));
            }
        }
        self.answer.take_status(response.headers());
    }

    /// A message's prefix stays in front of it only when it is compressed.
    fn take_message(&mut self) -> Option<Bytes> {
        let compressed = *self.buffer.first()?;
        let length = self.buffer.get(1..5).map(|mut length| length.get_u32() as usize)?;
        if self.buffer.len() < 5 + length {
            return None;
        }
        let mut message = self.buffer.split_to(5 + length).freeze();
        if compressed == 0 {
            message.advance(5);
        }
        Some(message)
    }

    /// Reads to the end.
    pub async fn finish(mut self) -> Result<Answer, String> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await? {
            messages.push(message);
        }
        self.answer.messages = messages;
        Ok(self.answer)
    }
}
