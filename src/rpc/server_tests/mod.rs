//! A real server with a service that does what each test asks for.

use std::{collections::HashSet, future::poll_fn, io, net::SocketAddr, pin::Pin};

use chrono::{DateTime, TimeDelta};
use http::{Request as HttpRequest, uri::PathAndQuery};
use http_body::Body as _;
use prost_types::{FileDescriptorSet, Timestamp};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tokio_stream::StreamExt;
use tokio_util::task::TaskTracker;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    client::Grpc,
    codegen::BoxStream,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::{
    super::{
        claims::{TokenAccounts, TokenRules},
        deadline::deadline,
        local_token::{KeyPair, LocalClaims, generate, issue},
        methods::{METHODS, MethodAccess, TokenScope},
        pb::{
            self,
            contact_service_client::ContactServiceClient,
            health::{
                HealthCheckRequest, HealthListRequest, health_check_response::ServingStatus as Wire,
                health_client::HealthClient,
            },
            sync_service_client::SyncServiceClient,
        },
        request_caller::caller,
    },
    *,
};
use crate::{
    audit::RefusalRecorder,
    domain::{call_ref::CallRefKey, clock::ManualClock},
};

mod attacks;
mod calls;
mod lifetime;
mod raw;

const LONG: Duration = Duration::from_hours(1);
const ACCOUNT: &str = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";
/// 2026-11-22T00:00:00Z
const NOW: i64 = 1_795_305_600;

/// Handlers that do what the request's contact id says.
#[derive(Clone)]
struct Dummy {
    events: mpsc::UnboundedSender<Event>,
    release: Arc<Notify>,
}

#[derive(Debug, PartialEq)]
enum Event {
    /// A handler has begun, with so much time left.
    Begun(Duration),
    /// A handler was dropped before its end.
    Dropped,
}

struct Guard(Option<mpsc::UnboundedSender<Event>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(events) = self.0.take() {
            let _ = events.send(Event::Dropped);
        }
    }
}

#[tonic::async_trait]
impl ContactService for Dummy {
    async fn get_contact(
        &self,
        request: Request<pb::GetContactRequest>,
    ) -> Result<Response<pb::GetContactResponse>, Status> {
        caller(&request)?.authorize(&request.get_ref().account_id)?;
        let mut guard = Guard(Some(self.events.clone()));
        self.events.send(Event::Begun(deadline(&request).remaining())).unwrap();
        match request.get_ref().contact_id.as_str() {
            "panic" => panic!("on purpose"),
            "hang" => std::future::pending().await,
            "hold" => self.release.notified().await,
            "fail" => return Err(super::super::status::internal(&io::Error::other("secret detail"))),
            _ => {}
        }
        guard.0 = None;
        let display_name = if request.get_ref().contact_id == "large" { "x".repeat(128 * 1024) } else { String::new() };
        let contact = Some(pb::Contact { display_name, ..pb::Contact::default() });
        Ok(Response::new(pb::GetContactResponse { contact }))
    }

    async fn list_contacts(
        &self,
        _: Request<pb::ListContactsRequest>,
    ) -> Result<Response<pb::ListContactsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_changes(
        &self,
        _: Request<pb::ListChangesRequest>,
    ) -> Result<Response<pb::ListChangesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn erase_contact(
        &self,
        _: Request<pb::EraseContactRequest>,
    ) -> Result<Response<pb::EraseContactResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

macro_rules! unimplemented_methods {
    ($service:ident { $($name:ident($request:ident) -> $response:ident;)+ } $($more:item)*) => {
        #[tonic::async_trait]
        impl $service for Dummy {
            $($more)*
            $(async fn $name(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                Err(Status::unimplemented(""))
            })+
        }
    };
}

unimplemented_methods!(AccountService {
    create_account(CreateAccountRequest) -> CreateAccountResponse;
    get_account(GetAccountRequest) -> GetAccountResponse;
    update_account(UpdateAccountRequest) -> UpdateAccountResponse;
    list_audit_events(ListAuditEventsRequest) -> ListAuditEventsResponse;
    list_accounts(ListAccountsRequest) -> ListAccountsResponse;
});

unimplemented_methods!(CallerService {
    match_caller(MatchCallerRequest) -> MatchCallerResponse;
    select_match(SelectMatchRequest) -> SelectMatchResponse;
    pre_register_contact(PreRegisterContactRequest) -> PreRegisterContactResponse;
    resolve_requester(ResolveRequesterRequest) -> ResolveRequesterResponse;
    explain_match(ExplainMatchRequest) -> ExplainMatchResponse;
});

unimplemented_methods!(SyncService {
    test_connection(TestConnectionRequest) -> TestConnectionResponse;
    enable_sync(EnableSyncRequest) -> EnableSyncResponse;
    update_sync(UpdateSyncRequest) -> UpdateSyncResponse;
    start_authorization(StartAuthorizationRequest) -> StartAuthorizationResponse;
    disable_sync(DisableSyncRequest) -> DisableSyncResponse;
    trigger_sync(TriggerSyncRequest) -> TriggerSyncResponse;
    confirm_deletions(ConfirmDeletionsRequest) -> ConfirmDeletionsResponse;
    get_integration(GetIntegrationRequest) -> GetIntegrationResponse;
    list_integrations(ListIntegrationsRequest) -> ListIntegrationsResponse;
    get_sync_run(GetSyncRunRequest) -> GetSyncRunResponse;
    list_sync_runs(ListSyncRunsRequest) -> ListSyncRunsResponse;
    cancel_sync_run(CancelSyncRunRequest) -> CancelSyncRunResponse;
    list_rejected_records(ListRejectedRecordsRequest) -> ListRejectedRecordsResponse;
    retry_rejected_records(RetryRejectedRecordsRequest) -> RetryRejectedRecordsResponse;
    trace_record(TraceRecordRequest) -> TraceRecordResponse;
}
    type WatchSyncRunStream = BoxStream<pb::WatchSyncRunResponse>;

    /// One message, and then nothing for ever.
    async fn watch_sync_run(
        &self,
        _: Request<pb::WatchSyncRunRequest>,
    ) -> Result<Response<Self::WatchSyncRunStream>, Status> {
        let once = tokio_stream::once(Ok(pb::WatchSyncRunResponse::default()));
        Ok(Response::new(Box::pin(once.chain(tokio_stream::pending()))))
    }
);

/// A server on a port of its own, and what its test needs.
struct Running {
    address: SocketAddr,
    events: mpsc::UnboundedReceiver<Event>,
    release: Arc<Notify>,
    soft: CancellationToken,
    hard: CancellationToken,
    keys: KeyPair,
    ended: tokio::task::JoinHandle<Result<DrainOutcome, ServerError>>,
}

fn dummy() -> (Dummy, mpsc::UnboundedReceiver<Event>) {
    let (events, seen) = mpsc::unbounded_channel();
    (Dummy { events, release: Arc::default() }, seen)
}

fn dummy_routes(limits: &ServerLimits, dummy: &Dummy) -> Routes {
    routes(limits, dummy.clone(), dummy.clone(), dummy.clone(), dummy.clone())
}

fn server(limits: ServerLimits, drain: DrainTimes, keys: &KeyPair) -> GrpcServer {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(DateTime::from_timestamp(NOW, 0).unwrap()));
    let verifier =
        TokenVerifier::new(&keys.jwks_json, TokenRules::new("issuer", "audience"), Arc::clone(&clock)).unwrap();
    GrpcServer {
        refusals: RefusalRecorder::default(),
        limits,
        drain,
        verifier: Arc::new(verifier),
        ids: Arc::new(IdSource::seeded(1)),
        clock,
        call_namer: CallNamer::new(CallRefKey::derive(&[1; 32])),
        reflection: false,
        health: ServingHealth::new(true),
    }
}

async fn start(limits: ServerLimits, drain: DrainTimes, change: impl FnOnce(&mut GrpcServer)) -> Running {
    let keys = generate(&[1; 32]);
    let (dummy, events) = dummy();
    let mut server = server(limits, drain, &keys);
    change(&mut server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
    let serving = server.serve(dummy_routes(&limits, &dummy), incoming(listener.into()), soft.clone(), hard.clone());
    let ended = TaskTracker::new().spawn(serving);
    Running { address, events, release: dummy.release, soft, hard, keys, ended }
}

async fn start_default() -> Running {
    start(ServerLimits::default(), DrainTimes { wait: Duration::ZERO, timeout: LONG }, |_| {}).await
}

impl Running {
    async fn connect(&self) -> Channel {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> Result<Channel, tonic::transport::Error> {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await
    }

    /// A request with a token of these scopes.
    fn with_scopes<T>(&self, scopes: &[TokenScope], message: T) -> Request<T> {
        let token = token(&self.keys, scopes);
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request
    }

    fn get_contact(&self, contact_id: &str) -> Request<pb::GetContactRequest> {
        let message = pb::GetContactRequest { account_id: ACCOUNT.to_owned(), contact_id: contact_id.to_owned() };
        self.with_scopes(&[TokenScope::ContactsRead], message)
    }

    async fn ended(self) -> DrainOutcome {
        self.ended.await.unwrap().unwrap()
    }
}

/// A token of these scopes for the test's account.
fn token(keys: &KeyPair, scopes: &[TokenScope]) -> String {
    token_of(keys, scopes, "test-subject", &TokenAccounts::Listed(HashSet::from([ACCOUNT.parse().unwrap()])))
}

fn token_of(keys: &KeyPair, scopes: &[TokenScope], subject: &str, accounts: &TokenAccounts) -> String {
    let claims = LocalClaims {
        issuer: "issuer",
        audience: "audience",
        subject,
        accounts,
        scopes,
        now: DateTime::from_timestamp(NOW, 0).unwrap(),
        valid_for: TimeDelta::hours(1),
    };
    issue(&keys.signing_key_pem, &claims).unwrap()
}

/// Calls a path with any message and reads no answer but the first headers, which is where an error
/// stands.
async fn call_path<T: prost::Message + Default + Send + Sync + 'static>(
    channel: &Channel,
    path: &'static str,
    request: Request<T>,
) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    client.server_streaming(request, PathAndQuery::from_static(path), ProstCodec::<T, ()>::default()).await?;
    Ok(())
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "contactsync");
    info.reason.clone()
}

fn code_and_reason(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}
