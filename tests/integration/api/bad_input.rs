//! Whatever a client sends: a wrong value is `INVALID_ARGUMENT` that names its field, every error
//! carries its reason, and nothing is ever INTERNAL. The fields are those of the descriptors, so
//! that a new one is missed by no test here.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use contact_sync::rpc::{
    claims::TokenAccounts,
    methods::TokenScope,
    pb::{self, FILE_DESCRIPTOR_SET, Provider},
};
use prost::Message;
use prost_types::{
    DescriptorProto, Duration, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use rand::RngExt;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    api::methods::{Things, requests},
    support::calls::{dice, seeds},
    support::{Subject, TestApp, api_token, bearer, field, zendesk_connection},
};

const NUMBER: &str = "+13108675309";
const NOWHERE: &str = "01234567-89ab-7def-8123-456789abcdef";

/// An account with one of everything.
async fn things(test: &TestApp) -> Things {
    let user = test.user("Bryce Love", NUMBER);
    let (account, integration) = test.synced().await;
    let contact = test.ask(&account, NUMBER, "call-1").await.selected.unwrap().id;
    let run = test.last_run(&account, &integration).await.id;
    Things {
        account,
        integration,
        run,
        contact,
        call_id: "call-1".into(),
        number: NUMBER.into(),
        subdomain: "acme".into(),
        record_id: user,
    }
}

/// A method, the field that is wrong, and the request.
type Case = (&'static str, &'static str, Vec<u8>);

/// Adds a case to the list for each way in which a field of a request can be wrong.
macro_rules! wrong {
    ($cases:ident, $service:literal, $method:literal, $good:expr, { $($name:literal: $field:ident = [$($value:expr),+ $(,)?]),+ $(,)? }) => {
        $($(
            let mut request = $good.clone();
            request.$field = $value.into();
            let path = concat!("/contactsync.v1.", $service, "/", $method);
            $cases.push((path, $name, request.encode_to_vec()));
        )+)+
    };
}

fn calling_cases(things: &Things) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let long = || "x".repeat(129);
    let match_caller = pb::MatchCallerRequest {
        account_id: things.account.clone(),
        phone_number: NUMBER.into(),
        ..Default::default()
    };
    wrong!(cases, "CallerService", "MatchCaller", match_caller, {
        "account_id": account_id = ["", "x", "\0", NOWHERE.replace('-', "_")],
        "phone_number": phone_number = ["1".repeat(251), "+1310\0"],
        "default_region": default_region = ["USA", "XX", "U1", "\0\0", "001"],
        "call_id": call_id = [long(), "a\0b"],
        "direction": direction = [9, -1],
        "agent_id": agent_id = [long(), "\0"],
        "on_no_match": on_no_match = [9, -1],
    });
    let select = pb::SelectMatchRequest {
        account_id: things.account.clone(),
        call_id: "call-1".into(),
        contact_id: things.contact.clone(),
        agent_id: String::new(),
    };
    wrong!(cases, "CallerService", "SelectMatch", select, {
        "account_id": account_id = ["", "x"],
        "call_id": call_id = ["", long(), "\0"],
        "contact_id": contact_id = ["", "x", "\0"],
        "agent_id": agent_id = [long(), "\0"],
    });
    let click =
        crate::support::calls::click_on(&things.account, &things.integration, "user", &things.record_id, NUMBER);
    wrong!(cases, "CallerService", "PreRegisterContact", click, {
        "account_id": account_id = ["", "x"],
        "integration_id": integration_id = ["", "x"],
        "object_type": object_type = ["", "User", "\0", "x".repeat(5_000)],
        "record_id": record_id = ["", "x", "\0", "1".repeat(5_000)],
        "phone_number": phone_number = ["", "hello", "1".repeat(251), "\0"],
        "display_name": display_name = ["x".repeat(201)],
        "email": email = ["x".repeat(201)],
        "agent_id": agent_id = [long(), "\0"],
        "call_id": call_id = [long(), "\0"],
        "contact_id": contact_id = ["x", "\0"],
        "default_region": default_region = ["XX", "usa"],
    });
    let explain = pb::ExplainMatchRequest {
        account_id: things.account.clone(),
        phone_number: NUMBER.into(),
        ..Default::default()
    };
    wrong!(cases, "CallerService", "ExplainMatch", explain, {
        "account_id": account_id = ["", "x"],
        "phone_number": phone_number = ["1".repeat(251), "\0"],
        "default_region": default_region = ["XX"],
        "contact_id": contact_id = ["x", "\0"],
    });
    let resolve = pb::ResolveRequesterRequest {
        account_id: things.account.clone(),
        integration_id: things.integration.clone(),
        subject: Some(Subject::CallId("call-1".into())),
        default_region: String::new(),
    };
    wrong!(cases, "CallerService", "ResolveRequester", resolve, {
        "account_id": account_id = ["", "x"],
        "integration_id": integration_id = ["", "x"],
        "subject": subject = [None],
        "default_region": default_region = ["US"],
        "call_id": subject = [Some(Subject::CallId(String::new())), Some(Subject::CallId(long()))],
        "contact_id": subject = [Some(Subject::ContactId(String::new())), Some(Subject::ContactId("x".into()))],
        "phone_number": subject = [Some(Subject::PhoneNumber(String::new())), Some(Subject::PhoneNumber("hello".into())), Some(Subject::PhoneNumber("\0".into()))],
    });
    cases
}

fn period(seconds: i64, nanos: i32) -> pb::IntegrationOptions {
    pb::IntegrationOptions { sync: 0, period: Some(Duration { seconds, nanos }), ..Default::default() }
}

fn sync(mode: i32) -> pb::IntegrationOptions {
    pb::IntegrationOptions { sync: mode, period: None, ..Default::default() }
}

fn linking_cases(things: &Things) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let zendesk: i32 = Provider::Zendesk.into();
    let no_email =
        pb::credentials::Kind::ZendeskApiToken(pb::ZendeskApiToken { email: String::new(), token: "t".into() });
    let no_email = Some(pb::Credentials { kind: Some(no_email) });
    let pipedrive = pb::connection::Organization::PipedriveCompany("acme".into());
    let pipedrive = Some(pb::Connection { organization: Some(pipedrive), ..Default::default() });
    let test_connection = pb::TestConnectionRequest {
        account_id: things.account.clone(),
        provider: zendesk,
        connection: Some(zendesk_connection("other")),
        credentials: Some(api_token("secret")),
    };
    wrong!(cases, "SyncService", "TestConnection", test_connection, {
        "account_id": account_id = ["", "x"],
        "provider": provider = [0, 9, -1],
        "connection.zendesk_subdomain": connection = [None, Some(pb::Connection::default()), pipedrive.clone()],
        "connection.zendesk_subdomain": connection = [Some(zendesk_connection("")), Some(zendesk_connection("a.b")), Some(zendesk_connection("http://a"))],
        "credentials": credentials = [None, Some(pb::Credentials::default())],
        "credentials.bearer_token": credentials = [Some(bearer("")), Some(bearer("two words")), Some(bearer("\r\nHost: evil")), Some(bearer(&"x".repeat(4_097)))],
        "credentials.zendesk_api_token.email": credentials = [no_email.clone()],
        "credentials.zendesk_api_token.token": credentials = [Some(api_token("\0"))],
    });
    let enable = pb::EnableSyncRequest {
        account_id: things.account.clone(),
        provider: zendesk,
        connection: Some(zendesk_connection("other")),
        credentials: Some(api_token("secret")),
        ..Default::default()
    };
    wrong!(cases, "SyncService", "EnableSync", enable, {
        "account_id": account_id = ["", "x"],
        "provider": provider = [0, 9],
        "connection.zendesk_subdomain": connection = [None, pipedrive, Some(zendesk_connection("-a"))],
        "credentials": credentials = [None],
        "credentials.bearer_token": credentials = [Some(bearer("\u{e9}"))],
        "options.sync": options = [sync(9), sync(-1)],
        "options.period": options = [period(0, 0), period(59, 0), period(86_401, 0), period(60, 1), period(-60, 0), period(i64::MAX, 0)],
        "request_id": request_id = ["x", "\0"],
    });
    let fields = |keys: &[&str]| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Some(pb::IntegrationOptions {
            zendesk_phone_fields: Some(pb::ZendeskPhoneFields { keys }),
            ..Default::default()
        })
    };
    let update = pb::UpdateSyncRequest {
        account_id: things.account.clone(),
        integration_id: things.integration.clone(),
        ..Default::default()
    };
    wrong!(cases, "SyncService", "UpdateSync", update, {
        "account_id": account_id = ["", "x"],
        "integration_id": integration_id = ["", "x"],
        "options.sync": options = [sync(9)],
        "options.period": options = [period(59, 0), period(i64::MIN, 0), period(60, -1)],
        "options.push": options = [pb::IntegrationOptions { push: 9, ..Default::default() }],
        "options.zendesk_users": options = [pb::IntegrationOptions { zendesk_users: 9, ..Default::default() }],
        "options.zendesk_phone_fields.keys": options = [fields(&["a"; 11])],
        "options.zendesk_phone_fields.keys[1]": options = [fields(&["a", ""]), fields(&["a", "b c"]), fields(&["a", "\u{e9}"]), fields(&["a", &"k".repeat(101)])],
        "options.salesforce_leads.copy": options = [pb::IntegrationOptions { salesforce_leads: Some(pb::ObjectOptions { copy: 9, mirror_deletions: 0 }), ..Default::default() }],
        "options.pipedrive_persons.mirror_deletions": options = [pb::IntegrationOptions { pipedrive_persons: Some(pb::ObjectOptions { copy: 0, mirror_deletions: -1 }), ..Default::default() }],
        "credentials.bearer_token": credentials = [Some(bearer(""))],
        "credentials.zendesk_api_token.email": credentials = [no_email],
        "salesforce_host": salesforce_host = ["acme.my.salesforce.com"],
    });
    let authorize = pb::StartAuthorizationRequest {
        account_id: things.account.clone(),
        provider: zendesk,
        connection: Some(zendesk_connection("other")),
        ..Default::default()
    };
    let hosted = |salesforce_host: &str| {
        Some(pb::Connection { salesforce_host: salesforce_host.into(), ..zendesk_connection("other") })
    };
    wrong!(cases, "SyncService", "StartAuthorization", authorize, {
        "account_id": account_id = ["", "x"],
        "provider": provider = [0, 9],
        "connection.zendesk_subdomain": connection = [None, Some(zendesk_connection("a.b"))],
        "connection.salesforce_host": connection = [hosted("acme.my.salesforce.com")],
        "connection": integration_id = [things.integration.as_str()],
        "integration_id": integration_id = ["x"],
        "options.sync": options = [sync(9)],
        "options.period": options = [period(59, 0)],
    });
    cases
}

fn running_cases(things: &Things) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let (account_id, integration_id) = (things.account.clone(), things.integration.clone());
    let disable = pb::DisableSyncRequest {
        account_id: account_id.clone(),
        integration_id: integration_id.clone(),
        copied_data: 0,
    };
    wrong!(cases, "SyncService", "DisableSync", disable, {
        "account_id": account_id = [""],
        "integration_id": integration_id = ["x"],
        "copied_data": copied_data = [9, -1],
    });
    let trigger = pb::TriggerSyncRequest {
        account_id: account_id.clone(),
        integration_id: integration_id.clone(),
        ..Default::default()
    };
    wrong!(cases, "SyncService", "TriggerSync", trigger, {
        "account_id": account_id = [""],
        "integration_id": integration_id = ["x"],
        "kind": kind = [9, -1],
        "request_id": request_id = ["x"],
        "object_type": object_type = ["ticket"],
        "object_type": record_id = ["17"],
        "record_id": object_type = ["user"],
    });
    let confirm = pb::ConfirmDeletionsRequest {
        account_id: account_id.clone(),
        integration_id: integration_id.clone(),
        held_deletions: 1,
    };
    wrong!(cases, "SyncService", "ConfirmDeletions", confirm, {
        "account_id": account_id = [""],
        "integration_id": integration_id = ["x"],
        "held_deletions": held_deletions = [0, -1, i64::MIN],
    });
    let get = pb::GetIntegrationRequest { account_id: account_id.clone(), integration_id: integration_id.clone() };
    wrong!(cases, "SyncService", "GetIntegration", get, {
        "account_id": account_id = [""],
        "integration_id": integration_id = ["", "x"],
    });
    let list = pb::ListIntegrationsRequest { account_id: account_id.clone(), ..Default::default() };
    wrong!(cases, "SyncService", "ListIntegrations", list, {
        "account_id": account_id = [""],
        "page_size": page_size = [-1, i32::MIN],
        "page_token": page_token = ["x", "\0", "x".repeat(10_000)],
    });
    let runs = pb::ListSyncRunsRequest { account_id: account_id.clone(), integration_id, ..Default::default() };
    wrong!(cases, "SyncService", "ListSyncRuns", runs, {
        "account_id": account_id = [""],
        "integration_id": integration_id = ["", "x"],
        "page_size": page_size = [-1],
        "page_token": page_token = ["x", "\0"],
    });
    let integration_id = things.integration.clone();
    let rejected = pb::ListRejectedRecordsRequest {
        account_id: account_id.clone(),
        integration_id: integration_id.clone(),
        ..Default::default()
    };
    wrong!(cases, "SyncService", "ListRejectedRecords", rejected, {
        "account_id": account_id = [""],
        "integration_id": integration_id = ["", "x"],
        "page_size": page_size = [-1],
        "page_token": page_token = ["x", "\0"],
    });
    let (object_type, record_id) = ("user".to_owned(), things.record_id.clone());
    let retry = pb::RetryRejectedRecordsRequest {
        account_id: account_id.clone(),
        integration_id: integration_id.clone(),
        object_type: object_type.clone(),
        record_id: record_id.clone(),
    };
    wrong!(cases, "SyncService", "RetryRejectedRecords", retry, {
        "account_id": account_id = [""],
        "integration_id": integration_id = ["", "x"],
        "object_type": object_type = ["", "User", "Account", "\0", "x".repeat(5_000)],
        "record_id": record_id = ["", "x", "#", "\0", "1".repeat(5_000)],
    });
    let trace = pb::TraceRecordRequest { account_id: account_id.clone(), integration_id, object_type, record_id };
    wrong!(cases, "SyncService", "TraceRecord", trace, {
        "account_id": account_id = [""],
        "integration_id": integration_id = ["", "x"],
        "object_type": object_type = ["", "User", "person", "\0", "x".repeat(5_000)],
        "record_id": record_id = ["", "x", "#", "\0", "1".repeat(5_000)],
    });
    let run = pb::GetSyncRunRequest { account_id: account_id.clone(), sync_run_id: things.run.clone() };
    wrong!(cases, "SyncService", "GetSyncRun", run, { "account_id": account_id = [""], "sync_run_id": sync_run_id = ["", "x"] });
    let cancel = pb::CancelSyncRunRequest { account_id: account_id.clone(), sync_run_id: things.run.clone() };
    wrong!(cases, "SyncService", "CancelSyncRun", cancel, { "account_id": account_id = [""], "sync_run_id": sync_run_id = ["", "x"] });
    let watch = pb::WatchSyncRunRequest { account_id, sync_run_id: things.run.clone() };
    wrong!(cases, "SyncService", "WatchSyncRun", watch, { "account_id": account_id = [""], "sync_run_id": sync_run_id = ["", "x"] });
    cases
}

fn reading_cases(things: &Things) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let account_id = things.account.clone();
    let get = pb::GetContactRequest { account_id: account_id.clone(), contact_id: things.contact.clone() };
    wrong!(cases, "ContactService", "GetContact", get, { "account_id": account_id = [""], "contact_id": contact_id = ["", "x"] });
    let list = pb::ListContactsRequest { account_id: account_id.clone(), ..Default::default() };
    wrong!(cases, "ContactService", "ListContacts", list, {
        "account_id": account_id = ["", "x"],
        "phone_number": phone_number = ["hello", "\0", "1".repeat(251)],
        "default_region": default_region = ["US", "XX"],
        "page_size": page_size = [-1],
        "page_token": page_token = ["x", "e30", "bnVsbA"],
    });
    let changes = pb::ListChangesRequest { account_id: account_id.clone(), ..Default::default() };
    wrong!(cases, "ContactService", "ListChanges", changes, {
        "account_id": account_id = [""],
        "after": after = [-1, i64::MAX],
        "page_size": page_size = [-1],
        "epoch": epoch = ["x".repeat(65)],
    });
    let erase = pb::EraseContactRequest { account_id: account_id.clone(), contact_id: things.contact.clone() };
    wrong!(cases, "ContactService", "EraseContact", erase, { "account_id": account_id = [""], "contact_id": contact_id = ["", "x"] });
    let create = pb::CreateAccountRequest {
        account_id: String::new(),
        display_name: "Acme".into(),
        default_region: "US".into(),
        further_regions: Vec::new(),
        match_policy: 0,
        look_aside_ms: 0,
    };
    wrong!(cases, "AccountService", "CreateAccount", create, {
        "account_id": account_id = ["x"],
        "display_name": display_name = ["", " ", "\0", "x".repeat(201)],
        "default_region": default_region = ["", "XX", "U"],
        "further_regions": further_regions = [vec!["DE".to_owned(); 21]],
        "further_regions[0]": further_regions = [vec!["XX".to_owned()], vec![String::new()]],
        "match_policy": match_policy = [9, -1],
        "look_aside_ms": look_aside_ms = [-1, 199, 1_501],
        "preferred_integration_id": match_policy = [i32::from(pb::MatchPolicy::PreferredIntegration)],
    });
    let get = pb::GetAccountRequest { account_id: account_id.clone() };
    wrong!(cases, "AccountService", "GetAccount", get, { "account_id": account_id = ["", "x"] });
    let whole = pb::Account { display_name: "Acme".into(), default_region: "US".into(), ..Default::default() };
    let named = |name: &str| Some(pb::Account { display_name: name.into(), ..whole.clone() });
    let region = |region: &str| Some(pb::Account { default_region: region.into(), ..whole.clone() });
    let further = |texts: &[&str]| {
        let further_regions = texts.iter().map(|text| (*text).to_owned()).collect();
        Some(pb::Account { further_regions, ..whole.clone() })
    };
    let policy = |match_policy: i32, preferred: &str| {
        Some(pb::Account { match_policy, preferred_integration_id: preferred.into(), ..whole.clone() })
    };
    let preferred = i32::from(pb::MatchPolicy::PreferredIntegration);
    let looking = |look_aside_ms: i32| Some(pb::Account { look_aside_ms, ..whole.clone() });
    let mask =
        |paths: &[&str]| Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
    let update = pb::UpdateAccountRequest { account_id, account: Some(whole.clone()), update_mask: mask(&["*"]) };
    wrong!(cases, "AccountService", "UpdateAccount", update, {
        "account_id": account_id = ["", "x"],
        "account.id": account = [Some(pb::Account { id: NOWHERE.into(), ..whole.clone() })],
        "account.display_name": account = [named(""), named(&"x".repeat(201))],
        "account.default_region": account = [region(""), region("XX")],
        "account.further_regions": account = [further(&["DE"; 21])],
        "account.further_regions[1]": account = [further(&["DE", "XX"])],
        "account.match_policy": account = [policy(9, ""), policy(-1, "")],
        "account.look_aside_ms": account = [looking(-1), looking(199), looking(1_501)],
        "account.preferred_integration_id": account = [policy(preferred, ""), policy(preferred, "x"), policy(preferred, NOWHERE), policy(0, NOWHERE)],
        "update_mask.paths[0]": update_mask = [mask(&["create_time"]), mask(&["*", "display_name"]), mask(&[""])],
    });
    let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    let events = pb::ListAuditEventsRequest { account_id: things.account.clone(), ..Default::default() };
    wrong!(cases, "AccountService", "ListAuditEvents", events, {
        "account_id": account_id = ["x"],
        "page_size": page_size = [-1],
        "page_token": page_token = ["x"],
        "start_time": start_time = [time(-1, 0), time(i64::MAX, 0), time(0, -1), time(0, i32::MAX)],
        "end_time": end_time = [time(i64::MIN, 0), time(253_402_300_800, 0)],
    });
    let list = pb::ListAccountsRequest::default();
    wrong!(cases, "AccountService", "ListAccounts", list, { "page_size": page_size = [-1], "page_token": page_token = ["x"] });
    cases
}

fn all_cases(things: &Things) -> Vec<Case> {
    [calling_cases(things), linking_cases(things), running_cases(things), reading_cases(things)].concat()
}

/// Each method with its request message.
fn described() -> Vec<(String, DescriptorProto)> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let message = |name: &str| {
        let files = set.file.iter().flat_map(|file| &file.message_type);
        files.into_iter().find(|message| name.ends_with(&format!(".{}", message.name()))).unwrap().clone()
    };
    let mut methods = Vec::new();
    // gRPC's own health service has none of our requests.
    for file in set.file.iter().filter(|file| file.package() == "contactsync.v1") {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.push((path, message(method.input_type())));
            }
        }
    }
    methods
}

/// An error is one that a client can act on: a code that blames the right side, and a reason.
fn assert_is_told(path: &str, status: &Status) {
    let fair =
        [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition, Code::AlreadyExists, Code::ResourceExhausted];
    assert!(fair.contains(&status.code()), "{path}: {status:?}");
    let info =
        status.get_details_error_info().unwrap_or_else(|| panic!("{path}: an error without ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "contactsync");
    assert!(
        !info.reason.is_empty() && info.reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
        "{}",
        info.reason
    );
    assert!(status.message().len() <= 512 && status.details().len() <= 4_096);
}

/// A wrong value is refused by the name of its field.
#[tokio::test]
async fn wrong_value_is_refused_by_field_name() {
    let test = TestApp::start().await;
    let things = things(&test).await;
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);
    let contacts = test.rows(&things.account, "contacts").await;

    for (path, name, request) in all_cases(&things) {
        let Err(status) = test.invoke(&token, path, &request).await else { panic!("{path} takes a wrong {name}") };
        assert_is_told(path, &status);
        assert_eq!(status.code(), Code::InvalidArgument, "{path} {name}");
        assert!(wrong_fields(&status).iter().any(|wrong| wrong == name), "{path} {name}: {status:?}");
    }

    assert_eq!(test.rows(&things.account, "contacts").await, contacts);
    assert_eq!(test.rows(&things.account, "integrations").await, 1);
}

fn wrong_fields(status: &Status) -> Vec<String> {
    status.get_details_bad_request().unwrap().field_violations.into_iter().map(|wrong| wrong.field).collect()
}

/// Everything that is wrong with a request is told at once.
#[tokio::test]
async fn everything_wrong_is_told_at_once() {
    let test = TestApp::start().await;
    let things = things(&test).await;
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);
    let call = pb::MatchCallerRequest {
        account_id: "x".into(),
        phone_number: "1".repeat(251),
        default_region: "XX".into(),
        call_id: "x".repeat(129),
        direction: 9,
        agent_id: "\0".into(),
        on_no_match: 9,
        ..Default::default()
    };
    let calling = ["account_id", "phone_number", "default_region", "call_id", "direction", "agent_id", "on_no_match"];
    let enable = pb::EnableSyncRequest {
        account_id: things.account.clone(),
        provider: Provider::Salesforce.into(),
        connection: Some(zendesk_connection("acme")),
        credentials: Some(bearer("two words")),
        options: Some(pb::IntegrationOptions { sync: 9, ..period(59, 0) }),
        request_id: "x".into(),
    };
    let enabling = [
        "connection.salesforce_org_id",
        "credentials.bearer_token",
        "connection.salesforce_host",
        "options.sync",
        "options.period",
        "request_id",
    ];
    let list = pb::ListSyncRunsRequest {
        account_id: things.account.clone(),
        integration_id: things.integration.clone(),
        page_size: -1,
        page_token: "x".into(),
    };
    let create = pb::CreateAccountRequest {
        default_region: "EU".into(),
        further_regions: vec!["DE".into(), "XX".into(), "U".into()],
        ..Default::default()
    };
    let creating = ["display_name", "default_region", "further_regions[1]", "further_regions[2]"];

    for (path, request, expected) in [
        ("/contactsync.v1.CallerService/MatchCaller", call.encode_to_vec(), &calling[..]),
        ("/contactsync.v1.SyncService/EnableSync", enable.encode_to_vec(), &enabling[..]),
        ("/contactsync.v1.SyncService/ListSyncRuns", list.encode_to_vec(), &["page_size", "page_token"][..]),
        ("/contactsync.v1.AccountService/CreateAccount", create.encode_to_vec(), &creating[..]),
    ] {
        let status = test.invoke(&token, path, &request).await.unwrap_err();
        assert_is_told(path, &status);
        assert_eq!(wrong_fields(&status), expected, "{path}");
    }

    // What needs the integration to be judged comes together, too.
    let click = crate::support::calls::click_on(&things.account, &things.integration, "Contact", "#", "hello");
    let refused = test.click_refused(click).await;
    assert_eq!(wrong_fields(&refused), ["object_type", "phone_number"]);

    // Whose account it is counts before what is wrong.
    let foreign = pb::MatchCallerRequest { account_id: NOWHERE.into(), ..call };
    let one = test.token(&TokenAccounts::Listed([things.account.parse().unwrap()].into()), &TokenScope::ALL);
    let path = "/contactsync.v1.CallerService/MatchCaller";
    let status = test.invoke(&one, path, &foreign.encode_to_vec()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

/// Every field of every request has a wrong value in these tests.
#[test]
fn every_field_has_wrong_value_here() {
    let cases = all_cases(&Things::default());
    // Nothing that a bool can say is wrong.
    let without =
        BTreeSet::from(["caller_id_withheld", "with_suffix", "with_organization", "only_position"].map(str::to_owned));

    for (path, message) in described() {
        for field in &message.field {
            let name = field.name();
            let is_covered = cases.iter().any(|(case, wrong, _)| {
                *case == path
                    && (*wrong == name
                        || wrong.starts_with(&format!("{name}."))
                        || wrong.starts_with(&format!("{name}[")))
            });
            assert!(is_covered || without.contains(name), "{path} {name}: add a wrong value");
        }
    }
}

/// A field in the wire format: of two the last counts, so that appending one overwrites it.
fn wire(number: i32, text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(u32::try_from(number).unwrap(), prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(text.len() as u64, &mut bytes);
    [bytes, text.to_vec()].concat()
}

/// No text in any field is an internal error.
#[tokio::test]
async fn no_text_in_fields_is_internal_error() {
    let test = TestApp::start().await;
    let things = things(&test).await;
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);
    let texts: Vec<Vec<u8>> = vec![
        b"\0".to_vec(),
        b"a\0b".to_vec(),
        "\u{202e}\u{feff}\u{10ffff}\u{7f}\r\n\t".into(),
        "'; drop table contacts; --".into(),
        "%s%n{}$1\\".into(),
        "\u{1f4de}".repeat(100).into(),
        "x".repeat(60_000).into(),
        vec![0xff, 0xfe],
    ];
    let valid = requests(&things);
    let mut fields = 0;

    for (path, message) in described() {
        // What changes the ground under the others comes in other tests.
        if path.ends_with("/DisableSync") || path.ends_with("/EnableSync") || path.ends_with("/TestConnection") {
            continue;
        }
        let (path, base) = valid.iter().find(|(known, _)| *known == path).unwrap();
        for field in message.field.iter().filter(|field| field.r#type() == Type::String) {
            fields += 1;
            for text in &texts {
                let request = [base.clone(), wire(field.number(), text)].concat();
                if let Err(status) = test.invoke(&token, path, &request).await {
                    assert_is_told(&format!("{path} {}", field.name()), &status);
                }
            }
        }
    }
    assert!(fields > 50, "{fields} fields were tried");
}

/// A message that is too large or cannot be read is refused with a reason.
#[tokio::test]
async fn oversized_or_unreadable_message_is_refused() {
    let test = TestApp::start().await;
    let things = things(&test).await;
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);

    for (path, message) in described() {
        let (path, _) = requests(&things).into_iter().find(|(known, _)| *known == path).unwrap();
        let number = message.field[0].number();
        let large = test.invoke(&token, path, &wire(number, &vec![b'x'; 70_000])).await.unwrap_err();
        let unreadable = test.invoke(&token, path, &[0xff; 16]).await.unwrap_err();
        for (status, code, reason) in [
            (large, Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
            (unreadable, Code::InvalidArgument, "MESSAGE_UNREADABLE"),
        ] {
            assert_is_told(path, &status);
            assert_eq!(
                (status.code(), status.get_details_error_info().unwrap().reason.as_str()),
                (code, reason),
                "{path}"
            );
        }
    }
}

/// A list that is as long as a message can hold is refused.
#[tokio::test]
async fn list_as_long_as_message_is_refused() {
    let test = TestApp::start().await;
    let things = things(&test).await;
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);
    let mut lists = 0;

    for (path, message) in described() {
        let (path, base) = requests(&things).into_iter().find(|(known, _)| *known == path).unwrap();
        for field in message.field.iter().filter(|field| field.label() == Label::Repeated) {
            let request = [base.clone(), wire(field.number(), b"DE").repeat(15_000)].concat();
            let status = test.invoke(&token, path, &request).await.unwrap_err();
            assert_eq!((status.code(), crate::support::field(&status).as_str()), (Code::InvalidArgument, field.name()));
            lists += 1;
        }
    }
    assert!(lists > 0, "no request has a list");
}

/// Flipped bits are never an internal error, and the server lives.
#[tokio::test]
async fn flipped_bits_are_never_internal_error() {
    let test = TestApp::start().await;
    let things = things(&test).await;
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);
    let valid: Vec<_> = requests(&things)
        .into_iter()
        .filter(|(path, _)| !["/EnableSync", "/TestConnection", "/UpdateSync"].iter().any(|slow| path.ends_with(slow)))
        .collect();

    for seed in seeds(1) {
        let mut dice = dice(seed);
        for _ in 0..3_000 {
            let (path, mut request) = valid[dice.random_range(0..valid.len())].clone();
            for _ in 0..dice.random_range(1..=4) {
                if request.is_empty() || dice.random_bool(0.1) {
                    request.push(dice.random());
                } else {
                    let at = dice.random_range(0..request.len());
                    request[at] ^= 1 << dice.random_range(0..8);
                }
            }
            if let Err(status) = test.invoke(&token, path, &request).await {
                assert_is_told(path, &status);
            }
        }
    }
    assert_eq!(test.look_up(&things.account, NUMBER).await.e164, NUMBER);
}

/// The token's content, changed.
fn forged(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut content: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    change(&mut content);
    BASE64_URL_SAFE_NO_PAD.encode(content.to_string())
}

/// A page token that was tampered with is refused, or harmless.
#[tokio::test]
async fn tampered_page_token_is_refused_or_harmless() {
    let test = TestApp::start().await;
    for n in 0..3 {
        test.user(&format!("Person {n}"), NUMBER);
    }
    let (account, _) = test.synced().await;
    let list = async |number: &str, token: &str| {
        let request = pb::ListContactsRequest {
            default_region: String::new(),
            account_id: account.clone(),
            phone_number: number.into(),
            page_size: 1,
            page_token: token.into(),
        };
        test.contacts().list_contacts(request).await.map(tonic::Response::into_inner)
    };
    let by_number = list(NUMBER, "").await.unwrap().next_page_token;
    let all = list("", "").await.unwrap().next_page_token;

    // Of another filter, or not whole.
    for (number, token) in [
        ("", by_number.as_str()),
        (NUMBER, all.as_str()),
        ("+13105550100", by_number.as_str()),
        (NUMBER, &by_number[1..]),
        (NUMBER, &by_number[..by_number.len() - 1]),
        (NUMBER, &by_number.to_lowercase()),
    ] {
        let status = list(number, token).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, "page_token"));
    }
    // With the right filter and another place.
    for place in [
        json!([]),
        json!(["x"]),
        json!([NOWHERE]),
        json!([NOWHERE, "maybe", "0"]),
        json!([NOWHERE, "true", "soon"]),
        json!([NOWHERE, "true", "0", "0"]),
        json!(["\u{0}", "true", "0"]),
        json!([NOWHERE, "true", i64::MAX.to_string()]),
        json!([NOWHERE, "true", i64::MIN.to_string()]),
        // The first and last moments of our clock, which Postgres cannot hold.
        json!([NOWHERE, "false", "-8334601228800000000"]),
        json!([NOWHERE, "true", "8210266876799999999"]),
        json!([NOWHERE, "true", "-300000000000000000"]),
    ] {
        for (number, token) in [(NUMBER, &by_number), ("", &all)] {
            let token = forged(token, |content| content["k"] = place.clone());
            if let Err(status) = list(number, &token).await {
                assert_eq!(status.code(), Code::InvalidArgument, "{place}: {status:?}");
                assert_eq!(field(&status), "page_token", "{place}");
            }
        }
    }
}
