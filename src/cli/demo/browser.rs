//! An administrator's browser, as far as the story needs one: asks an address over plain HTTP and
//! reads the answer. Follows nothing by itself. Must not be pointed anywhere but at this machine.

use std::{future::poll_fn, pin::pin};

use anyhow::Context as _;
use http::{Request, StatusCode, Uri, header};
use http_body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest page that is read, bytes.
const PAGE_BYTES_MAX: usize = 64 * 1024;

/// What came.
pub(super) struct BrowserAnswer {
    pub(super) status: StatusCode,
    /// Where it sends the browser; empty: nowhere.
    pub(super) location: String,
    page: String,
}

impl BrowserAnswer {
    /// The page's first paragraph.
    pub(super) fn paragraph(&self) -> &str {
        let inside = self.page.split_once("<p>").and_then(|(_, rest)| rest.split_once("</p>"));
        inside.map_or("", |(paragraph, _)| paragraph)
    }
}

/// Opens an address.
pub(super) async fn open(url: &str) -> anyhow::Result<BrowserAnswer> {
    let uri: Uri = url.parse().context("the browser got no address")?;
    let authority = uri.authority().context("the browser got an address without a host")?.as_str();
    let stream = TcpStream::connect(authority).await.with_context(|| format!("no answer at {authority}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(header::HOST, authority).body(String::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let (status, headers) = (answer.status(), answer.headers());
        let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let mut body = pin!(answer.into_body());
        let mut page = Vec::new();
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            page.extend(frame?.into_data().unwrap_or_default());
            anyhow::ensure!(page.len() <= PAGE_BYTES_MAX, "the page is too long");
        }
        Ok(BrowserAnswer { status, location, page: String::from_utf8_lossy(&page).into_owned() })
    };
    let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
    tokio::select! {
        answer = &mut exchange => return answer,
        ended = &mut connection => ended?,
    }
    // The server has closed its side after a whole answer.
    exchange.await
}

/// An address without its query, which holds secrets.
pub(super) fn shown(url: &str) -> String {
    url.split_once('?').map_or_else(|| url.to_owned(), |(place, _)| format!("{place}?.."))
}
