//! What lies below HTTP on the public listeners: plain TCP, or TLS with a certificate that is read
//! again when its files change; with a client CA, nobody connects without a certificate of it. A
//! handshake is done where the connection is read, so that one that is slow holds up no other; who
//! owns the connection limits its time. Must not know what is spoken above.

use std::{
    fs,
    future::Future as _,
    io::{self, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::telemetry::chain;

/// How often the files are read.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Largest file, in bytes: a chain has some thousands, a bundle of CAs some hundred thousand.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// HTTP/2, as ALPN names it (RFC 7301).
pub const HTTP_2: &[u8] = b"h2";
/// HTTP/1.1.
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// The files that TLS needs, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate first, then those between it and its CA.
    pub certificate: PathBuf,
    /// The certificate's private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// CAs of which a client must show a certificate; `None`: clients show none.
    pub client_ca: Option<PathBuf>,
}

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It holds nothing of what it should.
    #[error("{} holds no {wanted} in PEM form", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// A certificate, or a private key.
        wanted: &'static str,
    },
    /// Certificate, key or CA are not right, or do not belong together.
    #[error("certificate {} and key {} cannot be used together", files.certificate.display(), files.key.display())]
    Unfit {
        /// Which.
        files: Box<TlsFiles>,
        /// What the library says.
        #[source]
        source: rustls::Error,
    },
    /// The CAs cannot be used.
    #[error("the client CAs of {} cannot be used: {why}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What the library says.
        why: String,
    },
}

/// TLS on one listener.
pub struct ServerTls {
    files: TlsFiles,
    protocol: &'static [u8],
    loaded: RwLock<LoadedFiles>,
}

#[derive(Clone)]
struct LoadedFiles {
    config: Arc<ServerConfig>,
    texts: FileTexts,
}

/// What was read: compared, to know whether it is new.
type FileTexts = [Vec<u8>; 3];

impl ServerTls {
    /// Reads the files. `protocol` is what is spoken above: [`HTTP_2`] or [`HTTP_1_1`].
    pub fn load(files: TlsFiles, protocol: &'static [u8]) -> Result<Self, TlsError> {
        let texts = read_all(&files)?;
        let config = server_config(&files, &texts, protocol)?;
        Ok(Self { files, protocol, loaded: RwLock::new(LoadedFiles { config, texts }) })
    }

    /// Reads the files again and again until the stop; new connections meet what they hold. What
    /// cannot be used, such as a new certificate with the old key, is said once, and what was good
    /// stays. Connections that are open stay so: their age is limited.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut wrong = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
            let this = Arc::clone(&self);
            let Ok(read) = tokio::task::spawn_blocking(move || this.read_again()).await else { continue };
            let file = self.files.certificate.display();
            match read {
                Ok(is_new) => {
                    if wrong.take().is_some() || is_new {
                        info!(%file, "the certificate was read again");
                    }
                }
                Err(error) => {
                    let error = chain(&error).to_string();
                    if wrong.as_ref() != Some(&error) {
                        warn!(%file, error, "the certificate cannot be used; the last one stays");
                    }
                    wrong = Some(error);
                }
            }
        }
    }

    /// Reads the files again now; whether there was anything new.
    pub fn read_again(&self) -> Result<bool, TlsError> {
        let texts = read_all(&self.files)?;
        if self.loaded().texts == texts {
            return Ok(false);
        }
        let config = server_config(&self.files, &texts, self.protocol)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = LoadedFiles { config, texts };
        Ok(true)
    }

    fn loaded(&self) -> LoadedFiles {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn accept(&self, stream: TcpStream) -> Accept<TcpStream> {
        let config = Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner).config);
        TlsAcceptor::from(config).accept(stream)
    }
}

/// A socket that is listened on, and what is spoken on its connections.
pub struct BoundListener {
    /// The socket.
    pub socket: TcpListener,
    /// `None`: plain TCP.
    pub tls: Option<Arc<ServerTls>>,
}

impl From<TcpListener> for BoundListener {
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None }
    }
}

/// A connection of a client, before or after its handshake.
pub struct ServerStream {
    peer_address: Option<SocketAddr>,
    state: StreamState,
}

enum StreamState {
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>),
    Secure(Box<TlsStream<TcpStream>>),
    /// The handshake came to nothing.
    Failed,
}

impl ServerStream {
    /// A connection that was accepted; the handshake begins when it is first read or written.
    pub fn new(stream: TcpStream, tls: Option<&ServerTls>) -> Self {
        let peer_address = stream.peer_addr().ok();
        let state = match tls {
            None => StreamState::Plain(stream),
            Some(tls) => StreamState::Handshake(Box::new(tls.accept(stream))),
        };
        Self { peer_address, state }
    }

    /// Who is on the other side.
    pub const fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_address
    }

    /// Whoever polls finds the handshake done; an error ends the connection.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let StreamState::Handshake(accept) = &mut self.state {
            match ready!(Pin::new(accept.as_mut()).poll(cx)) {
                Ok(stream) => self.state = StreamState::Secure(Box::new(stream)),
                Err(error) => {
                    self.state = StreamState::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Does the same on whichever stream there is, after the handshake.
macro_rules! on_stream {
    ($this:ident, $cx:ident, $poll:ident $(, $argument:expr)*) => {{
        let this = $this.get_mut();
        ready!(this.poll_ready($cx))?;
        match &mut this.state {
            StreamState::Plain(stream) => Pin::new(stream).$poll($cx $(, $argument)*),
            StreamState::Secure(stream) => Pin::new(stream.as_mut()).$poll($cx $(, $argument)*),
            StreamState::Handshake(_) | StreamState::Failed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }};
}

impl AsyncRead for ServerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, cx, poll_read, buf)
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_stream!(self, cx, poll_write, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, cx, poll_write_vectored, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.state {
            StreamState::Plain(stream) => stream.is_write_vectored(),
            StreamState::Secure(stream) => stream.is_write_vectored(),
            StreamState::Handshake(_) | StreamState::Failed => true,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, cx, poll_flush)
    }

    /// A connection without a handshake has nothing to say farewell to.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().state {
            StreamState::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            StreamState::Secure(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            StreamState::Handshake(_) | StreamState::Failed => Poll::Ready(Ok(())),
        }
    }
}

fn read_all(files: &TlsFiles) -> Result<FileTexts, TlsError> {
    let client_ca = files.client_ca.as_ref().map_or_else(|| Ok(Vec::new()), |path| read(path))?;
    Ok([read(&files.certificate)?, read(&files.key)?, client_ca])
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| TlsError::Read(path.to_owned(), error))
}

fn server_config(
    files: &TlsFiles,
    [certificate, key, client_ca]: &FileTexts,
    protocol: &[u8],
) -> Result<Arc<ServerConfig>, TlsError> {
    let unfit = |source| TlsError::Unfit { files: Box::new(files.clone()), source };
    let chain = certificates(&files.certificate, certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| TlsError::Empty { path: files.key.clone(), wanted: "private key" })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let refused = |why: &dyn std::fmt::Display| TlsError::ClientCa { path: path.clone(), why: why.to_string() };
            let mut roots = RootCertStore::empty();
            for ca in certificates(path, client_ca)? {
                roots.add(ca).map_err(|error| refused(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| refused(&error))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unfit)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let empty = || TlsError::Empty { path: path.to_owned(), wanted: "certificate" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|chain| !chain.is_empty()).ok_or_else(empty)
}
