//! Every method of the API by its path, called with bytes: so that a test over all of them is
//! complete by construction.

use std::collections::BTreeSet;

use contact_sync::rpc::pb::{self, FILE_DESCRIPTOR_SET};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{
    Request, Status,
    body::Body,
    client::{Grpc, GrpcService},
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{
    support::calls::{call_with_id, click_on, look_only},
    support::{Subject, TestApp, api_token, enable_request, zendesk_connection},
};

/// The paths of all methods that the descriptors tell of.
pub fn described() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut paths = BTreeSet::new();
    // gRPC's own health service is tried with the server.
    for file in set.file.iter().filter(|file| file.package() == "contactsync.v1") {
        for service in &file.service {
            for method in &service.method {
                paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    paths
}

/// What a request is about: an account, and things of (perhaps another) account.
#[derive(Clone, Default)]
pub struct Things {
    pub account: String,
    pub integration: String,
    pub run: String,
    pub contact: String,
    pub call_id: String,
    pub number: String,
    pub subdomain: String,
    pub record_id: String,
}

/// A method and the bytes of a request for it.
pub type Call = (&'static str, Vec<u8>);

/// One well-formed request of every method, about these things.
pub fn requests(things: &Things) -> Vec<Call> {
    [calling_requests(things), linking_requests(things), running_requests(things), reading_requests(things)].concat()
}

fn calling_requests(things: &Things) -> Vec<Call> {
    let Things { account, integration, contact, call_id, number, record_id, .. } = things.clone();
    let click = click_on(&account, &integration, "user", &record_id, &number);
    let bound_to_call = pb::PreRegisterContactRequest { call_id: call_id.clone(), ..click.clone() };
    let bound_to_contact = pb::PreRegisterContactRequest { contact_id: contact.clone(), ..click };
    let look = look_only(call_with_id(&account, &number, &call_id));
    let select = pb::SelectMatchRequest {
        account_id: account.clone(),
        call_id: call_id.clone(),
        contact_id: contact.clone(),
        agent_id: String::new(),
    };
    let resolve = |subject| pb::ResolveRequesterRequest {
        default_region: String::new(),
        account_id: account.clone(),
        integration_id: integration.clone(),
        subject: Some(subject),
    };
    let explain = pb::ExplainMatchRequest {
        account_id: account.clone(),
        phone_number: number.clone(),
        contact_id: contact.clone(),
        ..Default::default()
    };
    vec![
        ("/contactsync.v1.CallerService/ExplainMatch", explain.encode_to_vec()),
        ("/contactsync.v1.CallerService/MatchCaller", look.encode_to_vec()),
        ("/contactsync.v1.CallerService/SelectMatch", select.encode_to_vec()),
        ("/contactsync.v1.CallerService/PreRegisterContact", bound_to_call.encode_to_vec()),
        ("/contactsync.v1.CallerService/PreRegisterContact", bound_to_contact.encode_to_vec()),
        ("/contactsync.v1.CallerService/ResolveRequester", resolve(Subject::CallId(call_id)).encode_to_vec()),
        ("/contactsync.v1.CallerService/ResolveRequester", resolve(Subject::ContactId(contact)).encode_to_vec()),
        ("/contactsync.v1.CallerService/ResolveRequester", resolve(Subject::PhoneNumber(number)).encode_to_vec()),
    ]
}

fn linking_requests(things: &Things) -> Vec<Call> {
    let Things { account, integration, subdomain, .. } = things.clone();
    let test = pb::TestConnectionRequest {
        account_id: account.clone(),
        provider: pb::Provider::Zendesk.into(),
        connection: Some(zendesk_connection(&subdomain)),
        credentials: Some(api_token("secret")),
    };
    let enable = enable_request(&account, &subdomain);
    let update = pb::UpdateSyncRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        ..Default::default()
    };
    let authorize = pb::StartAuthorizationRequest {
        account_id: account.clone(),
        provider: pb::Provider::Zendesk.into(),
        connection: Some(zendesk_connection(&subdomain)),
        ..Default::default()
    };
    let disable = pb::DisableSyncRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        copied_data: pb::CopiedData::Purge.into(),
    };
    let get = pb::GetIntegrationRequest { account_id: account.clone(), integration_id: integration };
    let list = pb::ListIntegrationsRequest { account_id: account, ..Default::default() };
    vec![
        ("/contactsync.v1.SyncService/TestConnection", test.encode_to_vec()),
        ("/contactsync.v1.SyncService/EnableSync", enable.encode_to_vec()),
        ("/contactsync.v1.SyncService/UpdateSync", update.encode_to_vec()),
        ("/contactsync.v1.SyncService/StartAuthorization", authorize.encode_to_vec()),
        ("/contactsync.v1.SyncService/DisableSync", disable.encode_to_vec()),
        ("/contactsync.v1.SyncService/GetIntegration", get.encode_to_vec()),
        ("/contactsync.v1.SyncService/ListIntegrations", list.encode_to_vec()),
    ]
}

fn running_requests(things: &Things) -> Vec<Call> {
    let Things { account, integration, run, record_id, .. } = things.clone();
    let rejected = pb::ListRejectedRecordsRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        ..Default::default()
    };
    let retry = pb::RetryRejectedRecordsRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        object_type: "user".into(),
        record_id: record_id.clone(),
    };
    let trace = pb::TraceRecordRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        object_type: "user".into(),
        record_id,
    };
    let trigger = pb::TriggerSyncRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        ..Default::default()
    };
    let confirm = pb::ConfirmDeletionsRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        held_deletions: 1,
    };
    let list =
        pb::ListSyncRunsRequest { account_id: account.clone(), integration_id: integration, ..Default::default() };
    let get = pb::GetSyncRunRequest { account_id: account.clone(), sync_run_id: run.clone() };
    let cancel = pb::CancelSyncRunRequest { account_id: account.clone(), sync_run_id: run.clone() };
    let watch = pb::WatchSyncRunRequest { account_id: account, sync_run_id: run };
    vec![
        ("/contactsync.v1.SyncService/TriggerSync", trigger.encode_to_vec()),
        ("/contactsync.v1.SyncService/ConfirmDeletions", confirm.encode_to_vec()),
        ("/contactsync.v1.SyncService/GetSyncRun", get.encode_to_vec()),
        ("/contactsync.v1.SyncService/ListSyncRuns", list.encode_to_vec()),
        ("/contactsync.v1.SyncService/CancelSyncRun", cancel.encode_to_vec()),
        ("/contactsync.v1.SyncService/WatchSyncRun", watch.encode_to_vec()),
        ("/contactsync.v1.SyncService/ListRejectedRecords", rejected.encode_to_vec()),
        ("/contactsync.v1.SyncService/RetryRejectedRecords", retry.encode_to_vec()),
        ("/contactsync.v1.SyncService/TraceRecord", trace.encode_to_vec()),
    ]
}

fn reading_requests(things: &Things) -> Vec<Call> {
    let Things { account, contact, number, .. } = things.clone();
    let get_contact = pb::GetContactRequest { account_id: account.clone(), contact_id: contact.clone() };
    let erase = pb::EraseContactRequest { account_id: account.clone(), contact_id: contact };
    let changes = pb::ListChangesRequest { account_id: account.clone(), ..Default::default() };
    let list = pb::ListContactsRequest { account_id: account.clone(), ..Default::default() };
    let list_number = pb::ListContactsRequest { phone_number: number, ..list.clone() };
    let create = pb::CreateAccountRequest {
        account_id: account.clone(),
        display_name: "Other".into(),
        default_region: "DE".into(),
        further_regions: Vec::new(),
        match_policy: 0,
        look_aside_ms: 0,
    };
    let get = pb::GetAccountRequest { account_id: account.clone() };
    let events = pb::ListAuditEventsRequest { account_id: account.clone(), ..Default::default() };
    let other = pb::Account { display_name: "Other".into(), ..Default::default() };
    let update = pb::UpdateAccountRequest { account_id: account, account: Some(other), update_mask: None };
    vec![
        ("/contactsync.v1.ContactService/GetContact", get_contact.encode_to_vec()),
        ("/contactsync.v1.ContactService/ListContacts", list.encode_to_vec()),
        ("/contactsync.v1.ContactService/ListContacts", list_number.encode_to_vec()),
        ("/contactsync.v1.ContactService/ListChanges", changes.encode_to_vec()),
        ("/contactsync.v1.ContactService/EraseContact", erase.encode_to_vec()),
        ("/contactsync.v1.AccountService/CreateAccount", create.encode_to_vec()),
        ("/contactsync.v1.AccountService/GetAccount", get.encode_to_vec()),
        ("/contactsync.v1.AccountService/UpdateAccount", update.encode_to_vec()),
        ("/contactsync.v1.AccountService/ListAuditEvents", events.encode_to_vec()),
        ("/contactsync.v1.AccountService/ListAccounts", pb::ListAccountsRequest::default().encode_to_vec()),
    ]
}

/// Calls a method with bytes; the bytes of all its answers, or its error.
pub async fn invoke<S>(service: S, path: &'static str, request: Request<Vec<u8>>) -> Result<Vec<u8>, Status>
where
    S: GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = prost::bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut grpc = Grpc::new(service);
    grpc.ready().await.map_err(|error| Status::unknown(format!("not ready: {}", error.into())))?;
    // A unary answer is a stream of one.
    let path = http::uri::PathAndQuery::from_static(path);
    let mut stream = grpc.server_streaming(request, path, Bytes).await?.into_inner();
    let mut answer = Vec::new();
    while let Some(message) = stream.message().await? {
        answer.extend(message);
    }
    Ok(answer)
}

impl TestApp {
    /// As [`invoke`], with this token.
    pub async fn invoke(&self, token: &str, path: &'static str, request: &[u8]) -> Result<Vec<u8>, Status> {
        invoke(self.client_with(token), path, Request::new(request.to_vec())).await
    }
}

/// Every method of the descriptors is called by the tests over all methods.
#[test]
fn requests_cover_every_described_method() {
    let called: BTreeSet<String> = requests(&Things::default()).into_iter().map(|(path, _)| path.to_owned()).collect();

    assert_eq!(called, described(), "a method was added: give it a request here");
}

/// Messages as bytes.
#[derive(Clone, Copy)]
pub struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut;
        buffer.put_slice(&item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use prost::bytes::Buf;
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
