//! A client that speaks HTTP/2 frame by frame, as badly as a test wants, over a pipe.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::mpsc::UnboundedSender,
    time::Instant,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// One frame (RFC 9113 §4.1).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A block of headers, each as a literal that nobody remembers (RFC 7541 §6.2.2), with lengths as
/// integers of a 7-bit prefix.
pub(super) fn header_block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            let mut length = text.len();
            if length < 127 {
                block.push(u8::try_from(length).unwrap());
            } else {
                block.push(127);
                length -= 127;
                while length >= 128 {
                    block.push(u8::try_from(length % 128).unwrap() | 128);
                    length /= 128;
                }
                block.push(u8::try_from(length).unwrap());
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A server whose connections are pipes.
pub(super) struct Piped {
    connections: UnboundedSender<io::Result<DuplexStream>>,
    pub(super) keys: KeyPair,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) release: Arc<Notify>,
}

pub(super) fn start_piped(limits: ServerLimits) -> Piped {
    let keys = generate(&[1; 32]);
    let (dummy, events) = dummy();
    let server = server(limits, DrainTimes { wait: Duration::ZERO, timeout: LONG }, &keys);
    let (connections, incoming) = mpsc::unbounded_channel();
    let incoming = UnboundedReceiverStream::new(incoming);
    let never = CancellationToken::new();
    let serving = server.serve(dummy_routes(&limits, &dummy), incoming, never.clone(), never);
    TaskTracker::new().spawn(serving);
    Piped { connections, keys, events, release: dummy.release }
}

impl Piped {
    /// A connection that says nothing by itself.
    pub(super) fn pipe(&self) -> Raw {
        let (ours, theirs) = duplex(64 * 1024);
        self.connections.send(Ok(theirs)).unwrap();
        let (reader, writer) = split(ours);
        Raw { reader, writer, accepted_at: Instant::now() }
    }

    /// A connection whose accept fails.
    pub(super) fn fail_accept(&self) {
        self.connections.send(Err(io::Error::other("too many open files"))).unwrap();
    }

    /// A connection that has begun as it should.
    pub(super) async fn begin(&self) -> Raw {
        let mut raw = self.pipe();
        raw.begin(&[]).await;
        raw
    }

    /// A client that behaves.
    pub(super) async fn client(&self) -> ContactServiceClient<Channel> {
        let (ours, theirs) = duplex(64 * 1024);
        self.connections.send(Ok(theirs)).unwrap();
        let mut ours = Some(ours);
        let connect = tower::service_fn(move |_: http::Uri| {
            let io = ours.take().map(hyper_util::rt::TokioIo::new);
            async { io.ok_or_else(|| io::Error::other("one connection only")) }
        });
        let channel = Endpoint::from_static("http://pipe").connect_with_connector(connect).await.unwrap();
        ContactServiceClient::new(channel)
    }

    pub(super) fn get_contact(
        &self,
        contact_id: &str,
        subject: &str,
        account_id: &str,
    ) -> Request<pb::GetContactRequest> {
        let message = pb::GetContactRequest { account_id: account_id.to_owned(), contact_id: contact_id.to_owned() };
        let mut request = Request::new(message);
        let token = token_of(&self.keys, &[TokenScope::ContactsRead], subject, &TokenAccounts::All);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    }
}

/// The client's side of one connection.
pub(super) struct Raw {
    reader: ReadHalf<DuplexStream>,
    writer: WriteHalf<DuplexStream>,
    accepted_at: Instant,
}

/// What the server sent until it closed the connection.
#[derive(Debug)]
pub(super) struct Closed {
    /// The error code of its last GOAWAY.
    pub(super) goaway: Option<u32>,
    /// Since the connection was made.
    pub(super) after: Duration,
}

impl Raw {
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await
    }

    pub(super) async fn begin(&mut self, settings: &[u8]) {
        self.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
    }

    pub(super) fn headers_of(token: &str, path: &str) -> Vec<u8> {
        let bearer = format!("Bearer {token}");
        header_block(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "pipe"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("authorization", &bearer),
        ])
    }

    /// Headers of a call, without its message.
    pub(super) async fn open(&mut self, stream: u32, token: &str, path: &str) {
        self.send(&frame(HEADERS, END_HEADERS, stream, &Self::headers_of(token, path))).await.unwrap();
    }

    /// The next frame; `None`: the connection is closed. Pings are answered, or the server would
    /// close it for that.
    pub(super) async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            let mut header = [0; 9];
            self.reader.read_exact(&mut header).await.ok()?;
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = header;
            let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).unwrap()];
            self.reader.read_exact(&mut payload).await.ok()?;
            if kind == PING && flags == 0 {
                let _ = self.send(&frame(PING, ACK, 0, &payload)).await;
                continue;
            }
            return Some((kind, flags, u32::from_be_bytes([s0, s1, s2, s3]), payload));
        }
    }

    /// Reads until the connection is closed.
    pub(super) async fn closed(mut self) -> Closed {
        let mut goaway = None;
        while let Some((kind, _, _, payload)) = self.frame().await {
            if kind == GOAWAY {
                goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        Closed { goaway, after: self.accepted_at.elapsed() }
    }

    /// Sends these bytes again and again, and reads meanwhile, until the server closes the
    /// connection. How often they went out.
    pub(super) async fn flood(self, bytes: &[u8]) -> (u32, Closed) {
        let Self { mut reader, mut writer, accepted_at } = self;
        let mut sent = 0;
        let mut read = Vec::new();
        let flooding = async {
            while sent < 1_000_000 && writer.write_all(bytes).await.is_ok() {
                sent += 1;
            }
        };
        let reading = reader.read_to_end(&mut read);
        let _ = tokio::join!(flooding, reading);
        // GOAWAY is the last frame, if there is one.
        let goaway = read.last_chunk::<17>().filter(|last| last[..5] == [0, 0, 8, GOAWAY, 0]);
        let goaway = goaway.map(|last| u32::from_be_bytes(last[13..].try_into().unwrap()));
        (sent, Closed { goaway, after: accepted_at.elapsed() })
    }
}
