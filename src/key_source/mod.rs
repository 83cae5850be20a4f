//! Where keys are read from: a file, or an address of the operator's choice, at the start and again
//! for as long as the service runs. Owns the HTTP client for such addresses: `https` but on this
//! machine, no redirects, bounded in size and time; private hosts are allowed, since the operator
//! names them and no customer does. What is held stays while a source errs. Must not know what keys
//! are: whoever takes a text decides whether it is good.

mod address;
mod early_look;
mod watch;

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use thiserror::Error;
use zeroize::Zeroizing;

pub use self::{
    address::{KeyAddress, check_certificates, check_url},
    early_look::EarlyLook,
    watch::{KeyWatch, StartError, read_at_start},
};

/// The longest text that is read, in bytes: a key set has some thousands, a key ring less.
pub const KEYS_BYTES_MAX: usize = 64 * 1024;

/// Where keys are read from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A file on this machine.
    File(PathBuf),
    /// A place in the network.
    Address(KeyAddress),
}

impl KeySource {
    /// Reads it once, at most [`KEYS_BYTES_MAX`] bytes.
    pub async fn read(&self) -> Result<Zeroizing<String>, KeySourceError> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
                read.unwrap_or(Err(KeySourceError::Interrupted))
            }
            Self::Address(address) => address.fetch().await,
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Why nothing was read. No text of a source is in it.
#[derive(Debug, Error)]
pub enum KeySourceError {
    /// A file that is missing, may not be read, or holds no text.
    #[error("cannot read {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// More than is read.
    #[error("it has more than {KEYS_BYTES_MAX} bytes")]
    TooLarge,
    /// What came over the network is no UTF-8.
    #[error("it is no text")]
    NoText,
    /// A file of certificates.
    #[error("the certificates in {} cannot be used; PEM is expected", .0.display())]
    Certificates(PathBuf, #[source] Option<reqwest::Error>),
    /// No client.
    #[error("there is no HTTP client; are the system's root certificates installed (Debian: ca-certificates)?")]
    Client(#[source] reqwest::Error),
    /// No answer, or not all of it: name, port, certificate or time.
    #[error("it cannot be reached, or does not answer in time")]
    Unreachable(#[source] reqwest::Error),
    /// It sends on to another place.
    #[error("it answers with a redirect ({0}), which is not followed; name the place itself")]
    Redirect(u16),
    /// It answers, with something else.
    #[error("it answers with the status {0}")]
    Status(u16),
    /// The process is ending.
    #[error("reading was interrupted")]
    Interrupted,
}

/// Reads a file once, at most [`KEYS_BYTES_MAX`] bytes.
pub fn read_file(path: &Path) -> Result<Zeroizing<String>, KeySourceError> {
    // As large as it may become: growing would leave copies of it in memory.
    let mut text = Zeroizing::new(String::with_capacity(KEYS_BYTES_MAX + 1));
    let read = fs::File::open(path).and_then(|file| file.take(KEYS_BYTES_MAX as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| KeySourceError::File(path.to_owned(), error))?;
    if text.len() > KEYS_BYTES_MAX { Err(KeySourceError::TooLarge) } else { Ok(text) }
}
