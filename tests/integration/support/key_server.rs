//! A place in the network that publishes an issuer's keys: a real HTTP server, with TLS under an
//! authority that nobody knows if the test wants it, which answers whatever the test says.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contact_sync::key_source::{KeyAddress, KeySource};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// What is answered.
#[derive(Clone)]
pub enum KeyAnswer {
    /// These bytes, head and all; then the connection ends.
    Bytes(Vec<u8>),
    /// Nothing, and the connection stays.
    Silence,
}

pub struct KeyServer {
    pub url: String,
    /// The authority of its certificate; `None`: it speaks plainly.
    ca_file: Option<PathBuf>,
    told: Arc<ToldAnswer>,
}

struct ToldAnswer {
    answer: Mutex<KeyAnswer>,
    requests: AtomicUsize,
}

impl KeyServer {
    pub async fn plain() -> Self {
        Self::start(None, None).await
    }

    pub async fn encrypted() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut of_authority = CertificateParams::new(Vec::new()).unwrap();
        of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(of_authority, key).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], private)
            .unwrap();
        Self::start(Some(TlsAcceptor::from(Arc::new(tls))), Some(authority.pem())).await
    }

    async fn start(tls: Option<TlsAcceptor>, ca_pem: Option<String>) -> Self {
        super::install_crypto();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let told = Arc::new(ToldAnswer { answer: Mutex::new(KeyAnswer::Silence), requests: AtomicUsize::new(0) });
        let telling = Arc::clone(&told);
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, told) = (tls.clone(), Arc::clone(&telling));
                #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
                tokio::spawn(async move {
                    match tls {
                        None => told.answer(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                told.answer(stream).await;
                            }
                        }
                    }
                });
            }
        });
        let ca_file = ca_pem.map(|pem| {
            let path = std::env::temp_dir().join(format!("cs-ca-{}-{}.pem", std::process::id(), address.port()));
            std::fs::write(&path, pem).unwrap();
            path
        });
        Self { url: format!("{scheme}://{address}/keys"), ca_file, told }
    }

    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// As the service reads it.
    pub fn source(&self) -> KeySource {
        KeySource::Address(KeyAddress::new(&self.url, self.ca_file.clone()).unwrap())
    }

    /// The same by somebody who waits shortly.
    pub fn impatient(&self) -> KeySource {
        KeySource::Address(KeyAddress::new(&self.url, self.ca_file.clone()).unwrap().within(Duration::from_millis(100)))
    }

    pub fn tell(&self, answer: KeyAnswer) {
        *self.told.answer.lock().unwrap() = answer;
    }

    /// Publishes these keys from now on.
    pub fn publish(&self, text: &str) {
        self.tell_head("200 OK", text.as_bytes());
    }

    /// Answers with this status line and, it may be, headers.
    pub fn tell_head(&self, head: &str, body: &[u8]) {
        let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        self.tell(KeyAnswer::Bytes([head.as_bytes(), body].concat()));
    }

    /// How many requests have come.
    pub fn requests(&self) -> usize {
        self.told.requests.load(Ordering::Relaxed)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        if let Some(path) = &self.ca_file {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl ToldAnswer {
    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let (mut head, mut part) = (Vec::new(), [0; 1024]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(count) => head.extend_from_slice(&part[..count]),
            }
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            KeyAnswer::Bytes(bytes) => {
                // Who has read enough goes away.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
            KeyAnswer::Silence => std::future::pending().await,
        }
    }
}
