//! What is served where: TLS on the public listeners, with certificates that are read again; and
//! what operators ask, however the database is.

use std::{fs, path::PathBuf, sync::Arc};

use contact_sync::{
    app,
    config::Config,
    rpc::pb::{
        MatchCallerRequest,
        caller_service_client::CallerServiceClient,
        health::{HealthCheckRequest, health_client::HealthClient},
    },
    tls::{BoundListener, HTTP_1_1, HTTP_2, ServerTls, TlsFiles},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::StatusCode;
use tokio::net::{TcpListener, TcpStream};
use tonic::{
    Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    support::sync::eventually,
    support::{TestApp, call},
};

/// Files of one test, removed at its end.
struct TestFolder(PathBuf);

impl TestFolder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("contact-sync-tls-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certification authority.
struct TestCa(CertifiedIssuer<'static, KeyPair>);

impl TestCa {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this machine's name, and its key.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A certificate of a CA for the listener, as files.
fn files(folder: &TestFolder, server: &TestCa, clients: Option<&TestCa>) -> TlsFiles {
    let (certificate, key) = server.issue();
    TlsFiles {
        certificate: folder.write("cert.pem", &certificate),
        key: folder.write("key.pem", &key),
        client_ca: clients.map(|ca| folder.write("clients.pem", &ca.pem())),
    }
}

/// The service with TLS on its gRPC listener, beside its plain one.
async fn start_secure(test: &TestApp, files: TlsFiles) -> (u16, Arc<ServerTls>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let tls = Arc::new(ServerTls::load(files, HTTP_2).unwrap());
    let listener = BoundListener { socket, tls: Some(Arc::clone(&tls)) };
    test.app.start(&test.config, listener, test.verifier(), &test.lifecycle).await;
    (port, tls)
}

async fn connect(port: u16, tls: ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("https://localhost:{port}")).unwrap().tls_config(tls).unwrap().connect().await
}

fn trusting(ca: &TestCa) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.pem()))
}

async fn asks(channel: Channel) -> Result<(), Status> {
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(|_| ())
}

/// A call over TLS is answered, and a client that does not know the CA does not call.
#[tokio::test]
async fn calls_are_answered_over_tls() {
    let (test, folder) = (TestApp::start().await, TestFolder::new("calls"));
    let (ca, other) = (TestCa::new("ours"), TestCa::new("another"));
    let account = test.account().await;
    let (port, _) = start_secure(&test, files(&folder, &ca, None)).await;

    let channel = connect(port, trusting(&ca)).await.unwrap();
    let mut request: Request<MatchCallerRequest> = Request::new(call(&account, "+13105550100"));
    request.metadata_mut().insert("authorization", test.bearer().parse().unwrap());
    CallerServiceClient::new(channel).match_caller(request).await.unwrap();

    assert!(connect(port, trusting(&other)).await.is_err());
    let plain = Endpoint::from_shared(format!("http://localhost:{port}")).unwrap().connect().await;
    if let Ok(channel) = plain {
        assert!(asks(channel).await.is_err());
    }
}

/// With a client CA nobody is served without a certificate of it.
#[tokio::test]
async fn client_ca_admits_only_its_certificates() {
    let (test, folder) = (TestApp::start().await, TestFolder::new("mutual"));
    let (ca, clients, other) = (TestCa::new("ours"), TestCa::new("clients"), TestCa::new("another"));
    let (port, _) = start_secure(&test, files(&folder, &ca, Some(&clients))).await;
    let shows = |(certificate, key): (String, String)| trusting(&ca).identity(Identity::from_pem(certificate, key));

    assert_eq!(asks(connect(port, shows(clients.issue())).await.unwrap()).await.map_err(|s| s.code()), Ok(()));
    // TLS 1.3 tells the client after its part of the handshake.
    for refused in [trusting(&ca), shows(other.issue())] {
        if let Ok(channel) = connect(port, refused).await {
            assert!(asks(channel).await.is_err());
        }
    }
}

/// A new certificate is met by new connections; one that is half written or has another's key
/// changes nothing.
#[tokio::test]
async fn certificate_is_read_again_when_it_changes() {
    let (test, folder) = (TestApp::start().await, TestFolder::new("again"));
    let (old, new) = (TestCa::new("old"), TestCa::new("new"));
    let (port, tls) = start_secure(&test, files(&folder, &old, None)).await;
    let open = connect(port, trusting(&old)).await.unwrap();
    assert!(!tls.read_again().unwrap(), "nothing is new");

    let (certificate, key) = new.issue();
    folder.write("cert.pem", &certificate);
    assert!(tls.read_again().is_err(), "the key is the old one's");
    folder.write("cert.pem", &certificate[..certificate.len() / 2]);
    assert!(tls.read_again().is_err());
    assert!(connect(port, trusting(&old)).await.is_ok());

    folder.write("cert.pem", &certificate);
    folder.write("key.pem", &key);
    assert!(tls.read_again().unwrap());
    assert!(connect(port, trusting(&old)).await.is_err());
    assert_eq!(asks(connect(port, trusting(&new)).await.unwrap()).await.map_err(|s| s.code()), Ok(()));
    assert_eq!(asks(open).await.map_err(|s| s.code()), Ok(()), "an open connection stays");
}

/// Handshakes that do not go on hold up nobody else, and neither do clients that speak no TLS.
#[tokio::test]
async fn silent_handshakes_hold_up_nobody() {
    let (test, folder, ca) = (TestApp::start().await, TestFolder::new("silent"), TestCa::new("ours"));
    let (port, _) = start_secure(&test, files(&folder, &ca, None)).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }

    assert_eq!(asks(connect(port, trusting(&ca)).await.unwrap()).await.map_err(|s| s.code()), Ok(()));
}

/// The listener of browsers speaks TLS, too.
#[tokio::test]
async fn callbacks_come_over_tls() {
    let (test, folder, ca) = (TestApp::start().await, TestFolder::new("http"), TestCa::new("ours"));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let tls = Arc::new(ServerTls::load(files(&folder, &ca, None), HTTP_1_1).unwrap());
    test.app.start_http(BoundListener { socket, tls: Some(tls) }, &test.lifecycle);
    let root = reqwest::Certificate::from_pem(ca.pem().as_bytes()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "an administrator's browser")]
    let browser = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();

    let answer = browser.get(format!("https://localhost:{port}/healthz")).send().await.unwrap();

    assert_eq!(answer.status(), StatusCode::OK);
}

async fn get(url: &str) -> StatusCode {
    #[expect(clippy::disallowed_methods, reason = "an operator's probe")]
    reqwest::Client::new().get(url).send().await.unwrap().status()
}

/// Live is the process; ready is whether calls are answered, until the drain begins.
#[tokio::test]
async fn live_and_ready_are_told_apart() {
    let test = TestApp::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    app::start_admin(listener, test.health.clone(), &test.lifecycle);
    let (live, ready) = (format!("{url}/livez"), format!("{url}/readyz"));
    assert_eq!((get(&live).await, get(&ready).await), (StatusCode::OK, StatusCode::OK));
    assert_eq!(get(&format!("{url}/oauth/callback")).await, StatusCode::NOT_FOUND, "it serves operators alone");

    test.db.vanish().await;
    eventually("the word that calls are not answered", async || get(&ready).await == StatusCode::SERVICE_UNAVAILABLE)
        .await;
    assert_eq!(get(&live).await, StatusCode::OK);
}

/// Files that are missing, empty or do not belong together stop the start, by name.
#[test]
fn unfit_files_are_told_by_name() {
    let (folder, ca) = (TestFolder::new("unfit"), TestCa::new("ours"));
    let load = |files: TlsFiles| {
        let error = ServerTls::load(files, HTTP_2).err().unwrap();
        error.to_string()
    };
    let good = files(&folder, &ca, None);
    let empty = folder.write("empty.pem", "");

    let missing = TlsFiles { certificate: folder.0.join("none.pem"), ..good.clone() };
    assert!(load(missing).contains("none.pem"));
    assert!(load(TlsFiles { key: empty.clone(), ..good.clone() }).contains("empty.pem holds no private key"));
    assert!(load(TlsFiles { client_ca: Some(empty), ..good.clone() }).contains("holds no certificate"));
    let (_, other_key) = ca.issue();
    let other_key = folder.write("other.pem", &other_key);
    assert!(load(TlsFiles { key: other_key, ..good }).contains("cannot be used together"));
}

/// A setting of TLS that lacks its other half is told.
#[test]
fn default_settings_listen_to_operators_on_this_machine_alone() {
    let config = Config::with_defaults("/nonexistent".into());

    assert_eq!(config.admin.listen, Some("127.0.0.1:9464".parse().unwrap()));
    assert!(config.tls.files().is_none() && config.http.tls.files().is_none());
}
