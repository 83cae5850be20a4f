//! One request for keys: a client of its own each time, so that the system's roots and the
//! operator's are those of today and no connection is kept for minutes.

use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Certificate, Client, Response, Url, header::ACCEPT, redirect::Policy};
use zeroize::Zeroizing;

use super::{KEYS_BYTES_MAX, KeySourceError};

/// How long a whole request may take, the look-up of its name included.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Longest address, in bytes.
const URL_BYTES_MAX: usize = 2_048;
/// Longest file of certificates, in bytes; a whole system's are about a quarter.
const CERTIFICATES_BYTES_MAX: u64 = 1024 * 1024;

/// An address of the operator's choice that keys are fetched from.
#[derive(Debug, Clone)]
pub struct KeyAddress {
    /// Checked by [`check_url`].
    url: Url,
    /// Certificates of authorities that are trusted beside the system's.
    ca_file: Option<PathBuf>,
    /// A request that takes longer is given up; half of it is for the connection.
    time_max: Duration,
}

impl KeyAddress {
    /// Fails as [`check_url`] does; connects to nothing.
    pub fn new(url: &str, ca_file: Option<PathBuf>) -> Result<Self, &'static str> {
        Ok(Self { url: parse(url)?, ca_file, time_max: TIME_MAX })
    }

    /// The same, given up after another time than ten seconds.
    #[must_use]
    pub const fn within(mut self, time_max: Duration) -> Self {
        self.time_max = time_max;
        self
    }

    pub(super) async fn fetch(&self) -> Result<Zeroizing<String>, KeySourceError> {
        // Reading the system's certificates takes milliseconds of disk and processor.
        let this = self.clone();
        let client = tokio::task::spawn_blocking(move || this.client()).await;
        let client = client.unwrap_or(Err(KeySourceError::Interrupted))?;
        let request = client.get(self.url.clone()).header(ACCEPT, "application/json");
        let response = request.send().await.map_err(unreachable)?;
        match response.status().as_u16() {
            200 => read_body(response).await,
            status @ 300..=399 => Err(KeySourceError::Redirect(status)),
            status => Err(KeySourceError::Status(status)),
        }
    }

    fn client(&self) -> Result<Client, KeySourceError> {
        #[expect(clippy::disallowed_methods, reason = "keys come from where the operator says, private hosts included")]
        let builder = Client::builder()
            .user_agent(concat!("contact-sync/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.time_max / 2)
            .timeout(self.time_max)
            .redirect(Policy::none())
            .https_only(self.url.scheme() == "https")
            .no_proxy();
        let own = self.ca_file.as_deref().map(read_certificates).transpose()?.unwrap_or_default();
        builder.tls_certs_merge(own).build().map_err(KeySourceError::Client)
    }
}

impl fmt::Display for KeyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// What is wrong with an address: it must be `https`, or `http` on this machine, without user name,
/// password and fragment, of at most 2,048 bytes.
pub fn check_url(text: &str) -> Result<(), &'static str> {
    parse(text).map(|_| ())
}

fn parse(text: &str) -> Result<Url, &'static str> {
    if text.len() > URL_BYTES_MAX {
        return Err("is longer than 2,048 bytes");
    }
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password");
    }
    if url.fragment().is_some() {
        return Err("has a fragment");
    }
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => Ok(url),
        ("http", Some(host)) if is_here(host) => Ok(url),
        ("http", _) => Err("is not encrypted, so that anybody on the way could put keys of their own there"),
        _ => Err("has another scheme than https"),
    }
}

fn is_here(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What is wrong with a file of certificates.
pub fn check_certificates(path: &Path) -> Result<(), KeySourceError> {
    read_certificates(path).map(|_| ())
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, KeySourceError> {
    let unread = |error| KeySourceError::File(path.to_owned(), error);
    if fs::metadata(path).map_err(unread)?.len() > CERTIFICATES_BYTES_MAX {
        return Err(KeySourceError::Certificates(path.to_owned(), None));
    }
    let pem = fs::read(path).map_err(unread)?;
    let read = Certificate::from_pem_bundle(&pem);
    let read = read.map_err(|error| KeySourceError::Certificates(path.to_owned(), Some(error)))?;
    if read.is_empty() { Err(KeySourceError::Certificates(path.to_owned(), None)) } else { Ok(read) }
}

/// Counted after decompression, whatever the headers say.
async fn read_body(mut response: Response) -> Result<Zeroizing<String>, KeySourceError> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > KEYS_BYTES_MAX {
            return Err(KeySourceError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    let text = std::str::from_utf8(&body).map_err(|_| KeySourceError::NoText)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Whoever logs it names the address.
fn unreachable(error: reqwest::Error) -> KeySourceError {
    KeySourceError::Unreachable(error.without_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encrypted_or_on_this_machine() {
        for right in [
            "https://login.example.com/keys?appid=1",
            "https://10.0.0.7:8443/realms/r/protocol/openid-connect/certs",
            "http://127.0.0.1:8080/keys",
            "http://[::1]/keys",
            "http://localhost:8080",
        ] {
            assert_eq!(check_url(right), Ok(()), "{right}");
        }
        let long = format!("https://h/{}", "k".repeat(URL_BYTES_MAX));
        for (wrong, problem) in [
            ("login.example.com/keys", "no URL"),
            ("", "no URL"),
            ("http://login.example.com/keys", "not encrypted"),
            ("http://127.0.0.1.example.com/keys", "not encrypted"),
            ("http://localhost.example.com/keys", "not encrypted"),
            ("file:///etc/passwd", "scheme"),
            ("ftp://h/keys", "scheme"),
            ("https://user@h/keys", "user name"),
            ("https://:hunter2@h/keys", "user name"),
            ("https://h/keys#k1", "fragment"),
            (&long, "longer"),
        ] {
            assert!(check_url(wrong).is_err_and(|told| told.contains(problem)), "{wrong}: {:?}", check_url(wrong));
        }
    }
}
