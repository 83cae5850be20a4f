//! How the Pub/Sub API is reached: which host, which addresses of it, whose certificates, and what
//! each call carries. The token goes to Salesforce's own host, or where the operator points both
//! interfaces, and never to one of the other's.

use std::{error, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret as _;
use tokio::{net::TcpStream, time::timeout};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri},
};

use super::pb::pub_sub_client::PubSubClient;
use crate::{
    crm::{
        ConnectFailure, CrmError, ProviderEndpoint, StreamSettings,
        addresses::{NameUnknown, NoPublicAddress, causes, usable},
        header::secret_for,
    },
    domain::{
        credentials::{AccessSecret, AccessToken},
        provider::Provider,
    },
};

/// Salesforce, "Pub/Sub API Endpoints".
const GLOBAL: &str = "api.pubsub.salesforce.com";
/// The same, inside of the European Union.
const EUROPE: &str = "api.deu.pubsub.salesforce.com";
/// Both are served alike; the second is for networks that let nothing else than HTTPS to 443.
const PORTS: [u16; 2] = [443, 7443];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one of the host's addresses.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// Addresses that are tried.
const ADDRESSES_MAX: usize = 8;
/// Of an answer with a hundred events of at most a megabyte, most of which are far smaller.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A call that is no stream is answered within this.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where an organisation's streams are, and what each call shows.
pub(in crate::crm::salesforce) struct StreamAccess {
    pub(in crate::crm::salesforce) endpoint: StreamEndpoint,
    pub(in crate::crm::salesforce) headers: Result<StreamHeaders, CrmError>,
}

/// What the calls are made with.
pub(super) type EventBus = PubSubClient<InterceptedService<Channel, StreamHeaders>>;

/// Where an organisation's streams are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::crm::salesforce) enum StreamEndpoint {
    /// At Salesforce.
    Vendor(&'static str),
    /// Where the operator points them.
    Operator {
        /// `https`, a host, a port.
        url: String,
        /// PEM: who may have signed the certificate there, beside those that are known.
        ca: Option<Arc<str>>,
    },
    /// Nobody says where: the operator has pointed the rest elsewhere.
    Missing,
}

/// Whether this URL is Salesforce's own.
pub(in crate::crm::salesforce) fn vendors_host(url: &str) -> Option<&'static str> {
    let host = url.parse::<Uri>().ok()?.host()?.to_ascii_lowercase();
    [GLOBAL, EUROPE].into_iter().find(|known| *known == host)
}

impl StreamEndpoint {
    /// By where the rest of the API is, and what the operator says of streams.
    pub(in crate::crm::salesforce) fn of(api: &ProviderEndpoint, settings: &StreamSettings) -> Self {
        match (api, settings.url.as_deref()) {
            (ProviderEndpoint::Vendor, None) => Self::Vendor(GLOBAL),
            (ProviderEndpoint::Operator(_), None) => Self::Missing,
            (api, Some(url)) => match (vendors_host(url), api) {
                (Some(host), ProviderEndpoint::Vendor) => Self::Vendor(host),
                // The tokens are of whatever stands at the operator's URL.
                (Some(_), ProviderEndpoint::Operator(_)) => Self::Missing,
                (None, _) => Self::Operator { url: url.to_owned(), ca: settings.ca.clone() },
            },
        }
    }

    pub(super) fn host(&self) -> String {
        match self {
            Self::Vendor(host) => (*host).to_owned(),
            Self::Operator { url, .. } => {
                url.parse::<Uri>().ok().and_then(|uri| Some(uri.host()?.to_owned())).unwrap_or_default()
            }
            Self::Missing => String::new(),
        }
    }

    /// A client, which connects with its first call.
    pub(super) fn open(&self, port_turn: usize, headers: StreamHeaders) -> Result<EventBus, CrmError> {
        const NO_URL: CrmError = CrmError::Unavailable("its streams have no usable address");
        let (url, only_public, ca) = match self {
            Self::Vendor(host) => (format!("https://{host}:{}", PORTS[port_turn % PORTS.len()]), true, None),
            Self::Operator { url, ca } => (url.clone(), false, ca.clone()),
            Self::Missing => return Err(NO_URL),
        };
        let mut tls = ClientTlsConfig::new().with_enabled_roots().timeout(CONNECT_TIMEOUT);
        if let Some(ca) = ca {
            tls = tls.ca_certificate(Certificate::from_pem(ca.as_bytes()));
        }
        let endpoint = Endpoint::from_shared(url).and_then(|endpoint| {
            endpoint.user_agent(concat!("contact-sync/", env!("CARGO_PKG_VERSION")))?.tls_config(tls)
        });
        let endpoint = endpoint.map_err(|_| NO_URL)?.connect_timeout(CONNECT_TIMEOUT);
        let connector = tower::service_fn(move |uri: Uri| connect(uri, only_public));
        let channel = endpoint.connect_with_connector_lazy(connector);
        Ok(PubSubClient::with_interceptor(channel, headers).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}

type ConnectError = Box<dyn error::Error + Send + Sync>;

/// Nothing has answered at any of the host's addresses.
#[derive(Debug, thiserror::Error)]
#[error("no address of the host takes a connection")]
struct NoAnswer(#[source] io::Error);

/// TCP; what the caller does over it is TLS, by the name of the URI.
async fn connect(uri: Uri, only_public: bool) -> Result<TokioIo<TcpStream>, ConnectError> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(PORTS[0]);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in usable(host, port, only_public).await?.into_iter().take(ADDRESSES_MAX) {
        let connected = timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(TokioIo::new(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(NoAnswer(last).into())
}

/// What a call that never reached the host came to; `None`: it did reach it.
pub(super) fn connect_failure(status: &Status, host: &str) -> Option<CrmError> {
    let first = error::Error::source(status)?;
    let is_tls = |cause: &(dyn error::Error + 'static)| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause.is::<rustls::Error>() || inner.is_some_and(<dyn error::Error + Send + Sync>::is::<rustls::Error>)
    };
    if causes(first).any(<dyn error::Error>::is::<NoPublicAddress>) {
        return Some(CrmError::HostRefused);
    }
    let no_answer = causes(first).find_map(|cause| cause.downcast_ref::<NoAnswer>());
    let why = if causes(first).any(<dyn error::Error>::is::<NameUnknown>) {
        ConnectFailure::Name
    } else if let Some(NoAnswer(error)) = no_answer {
        if error.kind() == io::ErrorKind::TimedOut { ConnectFailure::Timeout } else { ConnectFailure::Port }
    } else if causes(first).any(is_tls) {
        ConnectFailure::Tls
    } else {
        return None;
    };
    Some(CrmError::NoConnection { host: host.to_owned(), why })
}

/// What each call shows. Source: Salesforce, "Authentication" of the Pub/Sub API.
#[derive(Clone)]
pub(in crate::crm::salesforce) struct StreamHeaders {
    token: MetadataValue<Ascii>,
    instance_url: MetadataValue<Ascii>,
    organization: MetadataValue<Ascii>,
}

impl StreamHeaders {
    /// Of a bearer token of Salesforce's; any other is refused before anything is sent.
    pub(in crate::crm::salesforce) fn new(
        token: &AccessToken,
        instance_url: &str,
        organization: &str,
    ) -> Result<Self, CrmError> {
        let AccessSecret::Bearer(token) = secret_for(Provider::Salesforce, token)? else {
            return Err(CrmError::CredentialsRefused);
        };
        let mut token: MetadataValue<Ascii> =
            token.expose_secret().parse().map_err(|_| CrmError::CredentialsRefused)?;
        token.set_sensitive(true);
        let unusable = |_| CrmError::Unavailable("its streams have no usable address");
        Ok(Self {
            token,
            instance_url: instance_url.parse().map_err(unusable)?,
            organization: organization.parse().map_err(unusable)?,
        })
    }
}

impl Interceptor for StreamHeaders {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("accesstoken", self.token.clone());
        metadata.insert("instanceurl", self.instance_url.clone());
        metadata.insert("tenantid", self.organization.clone());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_follows_the_settings() {
        let operators = || ProviderEndpoint::Operator("http://127.0.0.1:8080".to_owned());
        let own = |url: &str| StreamEndpoint::Operator { url: url.to_owned(), ca: None };
        for (api, url, expected) in [
            (ProviderEndpoint::Vendor, None, StreamEndpoint::Vendor(GLOBAL)),
            (
                ProviderEndpoint::Vendor,
                Some("https://api.deu.pubsub.salesforce.com:7443"),
                StreamEndpoint::Vendor(EUROPE),
            ),
            (ProviderEndpoint::Vendor, Some("https://API.pubsub.salesforce.com"), StreamEndpoint::Vendor(GLOBAL)),
            (ProviderEndpoint::Vendor, Some("https://proxy.example.com:7443"), own("https://proxy.example.com:7443")),
            (operators(), None, StreamEndpoint::Missing),
            (operators(), Some("https://127.0.0.1:7443"), own("https://127.0.0.1:7443")),
            (operators(), Some("https://api.pubsub.salesforce.com"), StreamEndpoint::Missing),
        ] {
            let settings = StreamSettings { url: url.map(str::to_owned), ca: None };
            assert_eq!(StreamEndpoint::of(&api, &settings), expected, "{api:?} {url:?}");
        }
    }

    #[test]
    fn only_a_bearer_token_of_salesforces_is_shown_and_never_printed() {
        let bearer = |provider, token: &str| AccessToken::bearer(provider, token.to_owned().into());
        let headers = |token: &AccessToken| StreamHeaders::new(token, "https://a.my.salesforce.com", "00D");

        let mut request = Request::new(());
        request = headers(&bearer(Provider::Salesforce, "tok")).unwrap().call(request).unwrap();
        assert_eq!(request.metadata().get("accesstoken").unwrap(), "tok");
        assert!(!format!("{request:?}").contains("tok\""));
        let api_token = AccessSecret::ApiToken { user: None, token: "tok".into() };
        for other in [
            bearer(Provider::Zendesk, "tok"),
            bearer(Provider::Salesforce, "to\nk"),
            AccessToken::new(Provider::Salesforce, api_token),
        ] {
            assert!(matches!(headers(&other), Err(CrmError::CredentialsRefused)));
        }
    }
}
