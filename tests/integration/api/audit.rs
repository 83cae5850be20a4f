//! The audit: what is done and its event are one, a call leaves one event, and what is refused is
//! told without waiting, and without end to nobody.

use std::{collections::BTreeSet, time::Instant};

use chrono::TimeDelta;
use contact_sync::{
    domain::clock::Clock,
    rpc::{
        audit::AUDITED,
        claims::TokenAccounts,
        methods::TokenScope,
        pb::{self, AuditResult, account_service_client::AccountServiceClient},
    },
};
use crm_simulator::faults::{Fault, FaultRule};
use futures_util::future::join_all;
use prost::Message;
use sqlx::{Connection, Executor, PgConnection};
use tonic::{Code, Status};

use crate::{
    operations::plans::{explain, session},
    support::calls::{ORG, refusal},
    support::sync::{EXPORT, ask_disable, ask_trigger, ask_update, eventually, sync_mode, system_now},
    support::{TestApp, api_token, db::TestDb, enable_request, field, only, with_address, zendesk_connection},
};

const NUMBER: &str = "+13108675309";
const ACCOUNT: &str = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";
const NOWHERE: &str = "01234567-89ab-7def-8123-456789abcdef";

impl TestApp {
    /// The events of an account (empty: of none), newest first.
    pub async fn audit(&self, account_id: &str) -> Vec<pb::AuditEvent> {
        let request = pb::ListAuditEventsRequest { page_size: 200, ..events_of(account_id) };
        let page = self.accounts().list_audit_events(request).await.unwrap().into_inner();
        assert!(page.next_page_token.is_empty(), "there are more than a page");
        page.audit_events
    }

    /// What this call comes to, as the newest event says it.
    async fn newest(&self, account_id: &str) -> (String, AuditResult, String) {
        self.audit(account_id).await.first().map(told).unwrap_or_default()
    }
}

fn events_of(account_id: &str) -> pb::ListAuditEventsRequest {
    pb::ListAuditEventsRequest { account_id: account_id.into(), ..Default::default() }
}

/// Its method, its result and its reason.
pub fn told(event: &pb::AuditEvent) -> (String, AuditResult, String) {
    (event.method.clone(), event.result(), event.reason.clone())
}

fn result(method: &str, result: AuditResult, reason: &str) -> (String, AuditResult, String) {
    (method.into(), result, reason.into())
}

/// Every row but the audit's own, and the key of erased records, which is made before.
async fn rows(test: &TestApp) -> Vec<String> {
    let tables = "select tablename::text from pg_tables where schemaname = 'public'
        and tablename not in ('_sqlx_migrations', 'audit_events', 'suppression_keys')";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&test.db.pool).await.unwrap();
    let mut rows = Vec::new();
    for table in tables {
        let sql = format!("select t::text from {table} t order by 1");
        let found: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&test.db.pool).await.unwrap();
        rows.extend(found.into_iter().map(|row| format!("{table}: {row}")));
    }
    rows
}

/// Does it twice: while no event can be written, so that nothing may happen, and then in earnest;
/// its event.
async fn act(test: &TestApp, path: &'static str, request: Vec<u8>) -> pb::AuditEvent {
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);
    let before = rows(test).await;
    test.db.execute("alter table audit_events add constraint full_up check (result = 'REFUSED') not valid").await;
    let refused = test.invoke(&token, path, &request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal, "{path}: {refused:?}");
    assert_eq!(rows(test).await, before, "{path} was done without its event");
    test.db.execute("alter table audit_events drop constraint full_up").await;
    let count = test.rows(ACCOUNT, "audit_events").await;

    test.invoke(&token, path, &request).await.unwrap();

    assert_eq!(test.rows(ACCOUNT, "audit_events").await, count + 1, "{path}");
    let event = test.audit(ACCOUNT).await.remove(0);
    assert_eq!(told(&event), result(path.rsplit('/').next().unwrap(), AuditResult::Done, ""));
    assert_eq!((event.subject.as_str(), event.left_out), ("test", 0));
    assert!(event.request_id.parse::<uuid::Uuid>().is_ok_and(|id| !id.is_nil()) && event.call_time.is_some());
    event
}

/// Every method that is audited leaves one event when it succeeds, and does nothing without it.
#[tokio::test]
async fn each_audited_method_leaves_one_event_or_does_nothing() {
    let test = TestApp::start_with(with_address).await;
    test.user("Bryce Love", NUMBER);
    let mut done = BTreeSet::new();
    let mut act = async |path, request| {
        done.insert(path);
        act(&test, path, request).await
    };
    let account_id = || ACCOUNT.to_owned();

    let create = pb::CreateAccountRequest {
        account_id: account_id(),
        display_name: "Acme".into(),
        default_region: "US".into(),
        ..Default::default()
    };
    act("/contactsync.v1.AccountService/CreateAccount", create.encode_to_vec()).await;
    let account = pb::Account { display_name: "Other".into(), ..Default::default() };
    let update = pb::UpdateAccountRequest { account_id: account_id(), account: Some(account), update_mask: None };
    let event = act("/contactsync.v1.AccountService/UpdateAccount", update.encode_to_vec()).await;
    assert_eq!(event.fields, ["display_name"]);

    let enable = enable_request(ACCOUNT, "acme").encode_to_vec();
    let enabled = act("/contactsync.v1.SyncService/EnableSync", enable).await;
    assert_eq!(enabled.fields, ["credentials"]);
    let integration_id = || enabled.integration_id.clone();
    let cancel = pb::CancelSyncRunRequest { account_id: account_id(), sync_run_id: enabled.sync_run_id.clone() };
    let event = act("/contactsync.v1.SyncService/CancelSyncRun", cancel.encode_to_vec()).await;
    assert_eq!((event.integration_id, event.sync_run_id), (integration_id(), enabled.sync_run_id.clone()));
    let authorize = pb::StartAuthorizationRequest {
        account_id: account_id(),
        provider: pb::Provider::Zendesk.into(),
        connection: Some(zendesk_connection("acme")),
        ..Default::default()
    };
    act("/contactsync.v1.SyncService/StartAuthorization", authorize.encode_to_vec()).await;
    let update = pb::UpdateSyncRequest {
        account_id: account_id(),
        integration_id: integration_id(),
        options: Some(sync_mode(pb::SyncMode::On)),
        credentials: Some(api_token("secret")),
        ..Default::default()
    };
    let event = act("/contactsync.v1.SyncService/UpdateSync", update.encode_to_vec()).await;
    assert_eq!(event.fields, ["sync", "credentials"]);

    // One who can be read, and one who cannot.
    test.sync_due().await;
    test.user("Somebody", "+13105550199");
    let replace = vec![("\"updated_at\":\"".to_owned(), b"\"updated_at\":\"x".to_vec())];
    let broken = test.zendesk.faults().add(FaultRule::always(EXPORT, Fault::Bytes { replace })).unwrap();
    let trigger =
        pb::TriggerSyncRequest { account_id: account_id(), integration_id: integration_id(), ..Default::default() };
    let event = act("/contactsync.v1.SyncService/TriggerSync", trigger.encode_to_vec()).await;
    test.sync_due().await;
    test.zendesk.faults().remove(broken);
    assert_eq!(test.last_run(ACCOUNT, &integration_id()).await.id, event.sync_run_id);
    let retry = pb::RetryRejectedRecordsRequest {
        account_id: account_id(),
        integration_id: integration_id(),
        ..Default::default()
    };
    act("/contactsync.v1.SyncService/RetryRejectedRecords", retry.encode_to_vec()).await;
    test.db.execute("update integrations set held_deletions = 412").await;
    let confirm =
        pb::ConfirmDeletionsRequest { account_id: account_id(), integration_id: integration_id(), held_deletions: 412 };
    act("/contactsync.v1.SyncService/ConfirmDeletions", confirm.encode_to_vec()).await;

    let contact_id = test.look_up(ACCOUNT, NUMBER).await.selected.unwrap().id;
    let erase = pb::EraseContactRequest { account_id: account_id(), contact_id: contact_id.clone() };
    let event = act("/contactsync.v1.ContactService/EraseContact", erase.encode_to_vec()).await;
    assert_eq!((event.contact_id, event.integration_id.as_str()), (contact_id, ""));
    let disable = pb::DisableSyncRequest {
        account_id: account_id(),
        integration_id: integration_id(),
        copied_data: pb::CopiedData::Purge.into(),
    };
    let event = act("/contactsync.v1.SyncService/DisableSync", disable.encode_to_vec()).await;
    assert_eq!((event.integration_id, event.fields), (integration_id(), vec!["copied_data".to_owned()]));

    assert_eq!(done, BTreeSet::from(AUDITED), "a method was added: do it here");
}

/// What was so before is said to be so: a repeat of a request, a run that is under way.
#[tokio::test]
async fn repeats_are_unchanged_and_races_done_once() {
    let test = TestApp::start().await;
    test.user("Bryce Love", NUMBER);
    let create = pb::CreateAccountRequest {
        account_id: ACCOUNT.into(),
        display_name: "Acme".into(),
        default_region: "US".into(),
        ..Default::default()
    };
    let enable =
        pb::EnableSyncRequest { request_id: uuid::Uuid::from_u128(7).to_string(), ..enable_request(ACCOUNT, "acme") };
    let results = async |method: &str| {
        let mut results: Vec<i32> =
            test.audit(ACCOUNT).await.iter().filter(|event| event.method == method).map(|event| event.result).collect();
        results.sort_unstable();
        results
    };
    let once =
        |repeats: usize| [vec![AuditResult::Done.into()], vec![i32::from(AuditResult::Unchanged); repeats]].concat();

    for created in join_all((0..4).map(|_| async { test.accounts().create_account(create.clone()).await })).await {
        created.unwrap();
    }
    for enabled in join_all((0..4).map(|_| async { test.syncs().enable_sync(enable.clone()).await })).await {
        enabled.unwrap();
    }
    let integration = test.audit(ACCOUNT).await[0].integration_id.clone();
    test.sync_due().await;
    for triggered in join_all((0..8).map(|_| ask_trigger(&test, ACCOUNT, &integration, |_| {}))).await {
        triggered.unwrap();
    }
    let contact_id = test.look_up(ACCOUNT, NUMBER).await.selected.unwrap().id;
    for _ in 0..2 {
        let erase = pb::EraseContactRequest { account_id: ACCOUNT.into(), contact_id: contact_id.clone() };
        test.contacts().erase_contact(erase).await.unwrap();
        ask_disable(&test, ACCOUNT, &integration, pb::CopiedData::Keep).await.unwrap();
    }
    for _ in 0..3 {
        // The first one purges; those that come before it has ended change nothing.
        ask_disable(&test, ACCOUNT, &integration, pb::CopiedData::Purge).await.unwrap();
    }

    assert_eq!(results("CreateAccount").await, once(3));
    assert_eq!(results("EnableSync").await, once(3));
    assert_eq!(results("TriggerSync").await, once(7));
    assert_eq!(results("EraseContact").await, once(1));
    let disabled = [vec![i32::from(AuditResult::Done); 2], vec![AuditResult::Unchanged.into(); 3]].concat();
    assert_eq!(results("DisableSync").await, disabled);
    let events = test.audit(ACCOUNT).await;
    let runs: BTreeSet<&str> =
        events.iter().filter(|event| event.method == "TriggerSync").map(|event| event.sync_run_id.as_str()).collect();
    assert_eq!(runs.len(), 1, "all of them name the one run");
    let ids: BTreeSet<&str> = events.iter().map(|event| event.request_id.as_str()).collect();
    assert_eq!(ids.len(), events.len(), "one event a call");
}

/// A refusal is told under its account, with what it was about and why.
#[tokio::test]
async fn refusals_are_told_with_target_and_reason() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let off = test.enable_off(&account, pb::Provider::Salesforce, ORG).await;
    let enabled = test.enable(&account, "acme").await;
    let before = test.audit(&account).await.len();

    let wrong_period =
        pb::IntegrationOptions { period: Some(prost_types::Duration { seconds: 1, nanos: 0 }), ..Default::default() };
    let erase = pb::EraseContactRequest { account_id: account.clone(), contact_id: NOWHERE.into() };
    let create = pb::CreateAccountRequest {
        account_id: account.clone(),
        display_name: "Another".into(),
        default_region: "DE".into(),
        ..Default::default()
    };
    let refused: Vec<Status> = vec![
        ask_disable(&test, &account, NOWHERE, pb::CopiedData::Purge).await.unwrap_err(),
        ask_trigger(&test, &account, &off, |_| {}).await.unwrap_err(),
        ask_update(&test, &account, &enabled, wrong_period, None).await.unwrap_err(),
        test.contacts().erase_contact(erase).await.unwrap_err(),
        test.accounts().create_account(create).await.unwrap_err(),
        test.syncs().enable_sync(enable_request(&account, "acme")).await.unwrap_err(),
    ];

    let told = |events: &[pb::AuditEvent]| -> BTreeSet<(String, String, String)> {
        let refused = events.iter().filter(|event| event.result() == AuditResult::Refused);
        let target = |event: &pb::AuditEvent| format!("{}{}", event.integration_id, event.contact_id);
        refused.map(|event| (event.method.clone(), event.reason.clone(), target(event))).collect()
    };
    eventually("the refusals", async || test.audit(&account).await.len() == before + refused.len()).await;
    let expected = [
        ("DisableSync", "INTEGRATION_NOT_FOUND", NOWHERE),
        ("TriggerSync", "SYNC_OFF", &*off),
        ("UpdateSync", "INVALID_ARGUMENT", &*enabled),
        ("EraseContact", "CONTACT_NOT_FOUND", NOWHERE),
        ("CreateAccount", "ACCOUNT_EXISTS", ""),
        ("EnableSync", "INTEGRATION_EXISTS", ""),
    ];
    let expected = expected.map(|(method, reason, target)| (method.to_owned(), reason.to_owned(), target.to_owned()));
    assert_eq!(told(&test.audit(&account).await), BTreeSet::from(expected));
    assert!(test.audit(&account).await.iter().all(|event| event.subject == "test" && event.left_out == 0));
}

/// What a field of the message asked for in vain is told under the account that it named, however
/// many strangers are refused meanwhile.
#[tokio::test]
async fn refused_fields_are_told_under_their_account() {
    let test = TestApp::start().await;
    let (account, other) = (test.account().await, test.account().await);
    let integration = test.enable(&account, "acme").await;
    let writer = test.token_of("writer", &only(&account), &[TokenScope::SyncWrite]);
    let path = "/contactsync.v1.SyncService/DisableSync";
    let purge = |account_id: &str| {
        let request = pb::DisableSyncRequest {
            account_id: account_id.into(),
            integration_id: integration.clone(),
            copied_data: pb::CopiedData::Purge.into(),
        };
        request.encode_to_vec()
    };
    for _ in 0..50 {
        test.invoke("no.token.atall", path, &[]).await.unwrap_err();
    }

    let refused = test.invoke(&writer, path, &purge(&account)).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::PermissionDenied, "SCOPE_MISSING".to_owned()));
    let foreign = test.invoke(&writer, path, &purge(&other)).await.unwrap_err();
    assert_eq!(refusal(&foreign), refusal(&refused), "whose account it is, is not said");

    let expected = result("DisableSync", AuditResult::Refused, "SCOPE_MISSING");
    eventually("the refusal", async || test.newest(&account).await == expected).await;
    assert_eq!(test.audit(&account).await[0].subject, "writer");
    // What the call path does is not written; a scope that it lacked for a field is.
    let agent = test.token_of("anna", &only(&account), &[TokenScope::Clicks]);
    let choice = |agent_id: &str| {
        let request = pb::SelectMatchRequest {
            account_id: account.clone(),
            call_id: "call-1".into(),
            contact_id: NOWHERE.into(),
            agent_id: agent_id.into(),
        };
        request.encode_to_vec()
    };
    let path = "/contactsync.v1.CallerService/SelectMatch";
    let unknown = test.invoke(&agent, path, &choice("anna")).await.unwrap_err();
    assert_eq!(refusal(&unknown).1, "CONTACT_NOT_FOUND");
    let other = test.invoke(&agent, path, &choice("bob")).await.unwrap_err();
    assert_eq!(refusal(&other).1, "SCOPE_MISSING");
    let of_agent = async || {
        let events = test.audit(&account).await;
        events.iter().filter(|event| event.subject == "anna").map(told).collect::<Vec<_>>()
    };
    eventually("the agent's", async || !of_agent().await.is_empty()).await;
    assert_eq!(of_agent().await, [result("SelectMatch", AuditResult::Refused, "SCOPE_MISSING")]);

    let of_writer = |event: &pb::AuditEvent| event.subject == "writer" && told(event) == expected;
    eventually("the other", async || test.audit("").await.iter().any(of_writer)).await;
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Pending);
}

/// What belongs to no account is told to whoever may see all of them, and to nobody else.
#[tokio::test]
async fn refused_tokens_are_told_to_all_accounts_tokens_alone() {
    let test = TestApp::start().await;
    let (account, other) = (test.account().await, test.account().await);
    let own = test.token_of("own", &only(&account), &TokenScope::ALL);
    let wanted = events_of(&other).encode_to_vec();
    let trigger = |account_id: &str| {
        pb::TriggerSyncRequest { account_id: account_id.into(), integration_id: NOWHERE.into(), ..Default::default() }
            .encode_to_vec()
    };
    let all = test.token_of("all", &TokenAccounts::All, &TokenScope::ALL);
    let nils = test.token_of("nils", &only(&uuid::Uuid::nil().to_string()), &TokenScope::ALL);
    let clerk = test.token_of("clerk", &TokenAccounts::All, &[TokenScope::ContactsRead]);
    let path = "/contactsync.v1.SyncService/TriggerSync";
    for (token, account_id, method, reason, subject) in [
        ("no.token.atall", &*account, path, "TOKEN_INVALID", ""),
        (&*clerk, &*account, path, "SCOPE_MISSING", "clerk"),
        (&*own, &*other, path, "ACCOUNT_NOT_FOUND", "own"),
        (&*nils, &uuid::Uuid::nil().to_string(), path, "ACCOUNT_NOT_FOUND", "nils"),
        (&*all, NOWHERE, path, "INTEGRATION_NOT_FOUND", "all"),
    ] {
        let before = test.audit("").await.len();
        test.invoke(token, method, &trigger(account_id)).await.unwrap_err();
        eventually("the refusal", async || test.audit("").await.len() > before).await;
        let event = test.audit("").await.remove(0);
        assert_eq!(told(&event), result("TriggerSync", AuditResult::Refused, reason));
        assert_eq!((event.subject.as_str(), event.left_out), (subject, 0));
    }

    // Neither is under anybody's account.
    for (account_id, count) in [(&account, 1), (&other, 1)] {
        assert_eq!(test.audit(account_id).await.len(), count, "only how it was made");
    }
    let mut own_client = AccountServiceClient::new(test.client_with(&own));
    let empty = own_client.list_audit_events(events_of("")).await.unwrap_err();
    assert_eq!((empty.code(), field(&empty).as_str()), (Code::InvalidArgument, "account_id"));
    for foreign in [uuid::Uuid::nil().to_string(), other.clone()] {
        let refused = own_client.list_audit_events(events_of(&foreign)).await.unwrap_err();
        assert_eq!(refusal(&refused), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()));
    }
    assert_eq!(own_client.list_audit_events(events_of(&account)).await.unwrap().into_inner().audit_events.len(), 1);
    // Nobody makes an account of the nil UUID, under which these lie.
    let nil = pb::CreateAccountRequest {
        account_id: uuid::Uuid::nil().to_string(),
        display_name: "Nobody".into(),
        default_region: "US".into(),
        ..Default::default()
    };
    let refused = test.accounts().create_account(nil).await.unwrap_err();
    assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, "account_id"));
    let read = test.invoke(&all, "/contactsync.v1.AccountService/ListAuditEvents", &wanted).await.unwrap();
    assert!(!read.is_empty());
}

/// Refused tokens wait for no database, and a flood of them leaves one event a second and a count.
#[tokio::test]
async fn flood_of_refused_tokens_is_counted_and_waits_for_nothing() {
    const FLOOD: i64 = 400;
    let test = TestApp::start().await;
    let started = Instant::now();
    let mut blocker = PgConnection::connect(test.db.url()).await.unwrap();
    let mut lock = blocker.begin().await.unwrap();
    sqlx::query("lock table audit_events in access exclusive mode").execute(&mut *lock).await.unwrap();

    let path = "/contactsync.v1.CallerService/MatchCaller";
    let refused = test.invoke("no.token.atall", path, &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "though no event can be written");
    lock.rollback().await.unwrap();

    let flood = join_all((0..FLOOD).map(|_| test.invoke("no.token.atall", path, &[]))).await;
    assert!(flood.iter().all(|answer| answer.as_ref().is_err_and(|status| status.code() == Code::Unauthenticated)));
    let sum = "select coalesce(sum(1 + left_out), 0)::bigint from audit_events";
    // The first one may have waited too long for the table.
    eventually("all of them", async || (FLOOD..=FLOOD + 1).contains(&test.db.number(sum).await)).await;
    let events = test.db.number("select count(*) from audit_events").await;
    let seconds = i64::try_from(started.elapsed().as_secs()).unwrap();
    assert!((1..=seconds + 2).contains(&events), "{events} events in {seconds} s");
    assert_eq!(test.newest("").await, result("MatchCaller", AuditResult::Refused, "TOKEN_INVALID"));
}

/// Nothing of a person, and nothing secret, is in an event.
#[tokio::test]
async fn events_hold_nothing_personal_or_secret() {
    let test = TestApp::start().await;
    let record = test.user("Quixotecanary", "+13105550123");
    let address = "quixote@canary.example";
    let token = test.token_of(address, &TokenAccounts::All, &TokenScope::ALL);
    let call = async |path, request: Vec<u8>| test.invoke(&token, path, &request).await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    test.sync_due().await;

    let create = pb::CreateAccountRequest {
        account_id: ACCOUNT.into(),
        display_name: "Quixotecanary".into(),
        default_region: "US".into(),
        ..Default::default()
    };
    call("/contactsync.v1.AccountService/CreateAccount", create.encode_to_vec()).await.unwrap();
    let update = pb::UpdateSyncRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        credentials: Some(api_token("secretcanary")),
        ..Default::default()
    };
    call("/contactsync.v1.SyncService/UpdateSync", update.encode_to_vec()).await.unwrap_err();
    let retry = pb::RetryRejectedRecordsRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        object_type: "user".into(),
        record_id: record,
    };
    call("/contactsync.v1.SyncService/RetryRejectedRecords", retry.encode_to_vec()).await.unwrap();
    let contact_id = test.look_up(&account, "+13105550123").await.selected.unwrap().id;
    let erase = pb::EraseContactRequest { account_id: account.clone(), contact_id };
    call("/contactsync.v1.ContactService/EraseContact", erase.encode_to_vec()).await.unwrap();
    let mistaken = pb::EraseContactRequest { account_id: account.clone(), contact_id: "Quixotecanary".into() };
    call("/contactsync.v1.ContactService/EraseContact", mistaken.encode_to_vec()).await.unwrap_err();
    test.invoke(address, "/contactsync.v1.CallerService/MatchCaller", &[]).await.unwrap_err();

    let refused = "select count(*) from audit_events where result = 'REFUSED'";
    eventually("the refusals", async || test.db.number(refused).await == 3).await;
    let rows: Vec<String> =
        sqlx::query_scalar("select t::text from audit_events t").fetch_all(&test.db.pool).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.contains("sha256:")).count(), 5, "{rows:?}");
    for canary in ["canary", "5550123", "example", "secret", "admin"] {
        assert!(!rows.iter().any(|row| row.to_lowercase().contains(canary)), "{canary} in {rows:?}");
    }
}

/// Pages go from the newest to the oldest, meet each event once, and keep to their time.
#[tokio::test]
async fn pages_go_from_newest_to_oldest_within_times() {
    let test = TestApp::start().await;
    let account_id = test.account().await;
    let begin = test.clock.now();
    for n in 0..11 {
        // Some come at the same moment.
        test.pass(TimeDelta::minutes(n % 2));
        let account = Some(pb::Account { display_name: format!("Name {n}"), ..Default::default() });
        let update = pb::UpdateAccountRequest { account_id: account_id.clone(), account, update_mask: None };
        test.accounts().update_account(update).await.unwrap();
    }
    let time = |minutes| {
        let time = begin + TimeDelta::minutes(minutes);
        Some(prost_types::Timestamp { seconds: time.timestamp(), nanos: 0 })
    };
    let page = async |start_time, end_time, page_token: &str| {
        let page_token = page_token.to_owned();
        let request =
            pb::ListAuditEventsRequest { page_size: 5, page_token, start_time, end_time, ..events_of(&account_id) };
        test.accounts().list_audit_events(request).await.map(tonic::Response::into_inner)
    };
    let all = test.audit(&account_id).await;
    assert_eq!(all.len(), 12);
    assert!(all.is_sorted_by_key(|event| std::cmp::Reverse(event.call_time.map(|time| time.seconds))));

    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let next = page(None, None, &token).await.unwrap();
        assert!(next.audit_events.len() <= 5);
        paged.extend(next.audit_events);
        token = next.next_page_token;
        if token.is_empty() {
            break;
        }
        let other = page(time(0), None, &token).await.unwrap_err();
        assert_eq!((other.code(), field(&other).as_str()), (Code::InvalidArgument, "page_token"));
    }
    assert_eq!(paged, all);
    let within = page(time(2), time(4), "").await.unwrap().audit_events;
    let times: Vec<i64> = within.iter().map(|event| event.call_time.unwrap().seconds).collect();
    let [third, second] = [3, 2].map(|minutes| time(minutes).unwrap().seconds);
    assert_eq!(times, [third, third, second, second]);
    assert!(page(time(4), time(2), "").await.unwrap().audit_events.is_empty());
    let unknown = test.accounts().list_audit_events(events_of(NOWHERE)).await.unwrap_err();
    assert_eq!(refusal(&unknown), (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned()));
}

/// Events are forgotten after their time, in all accounts and in none, whatever our clock says.
#[tokio::test]
async fn events_are_kept_for_their_days_by_both_clocks() {
    let test = TestApp::start_with(|config| config.audit.keep_days = 30).await;
    test.pass(system_now() - test.clock.now());
    let account = pb::CreateAccountRequest {
        account_id: ACCOUNT.into(),
        display_name: "Acme".into(),
        default_region: "US".into(),
        ..Default::default()
    };
    let token = test.token(&TokenAccounts::All, &TokenScope::ALL);
    AccountServiceClient::new(test.client_with(&token)).create_account(account).await.unwrap();
    for account_id in [ACCOUNT.to_owned(), uuid::Uuid::nil().to_string()] {
        for (days, count) in [(31, 2_500), (29, 3)] {
            test.db
                .execute(&format!(
                    "insert into audit_events (account_id, called_at, audit_event_id, method, fields, result, request_id, left_out)
                    select '{account_id}', now() - interval '{days} days', lpad(to_hex(n), 32, '0')::uuid, 'EnableSync', '{{}}', 'DONE',
                        '{NOWHERE}', 0
                    from generate_series(1, {count}) n"
                ))
                .await;
        }
    }

    // The service's own first look may be under way, and forget some of them.
    let kept = "select count(*) from audit_events";
    test.forget().await.unwrap();
    assert_eq!(test.db.number(kept).await, 7);
    test.pass(TimeDelta::days(300));
    assert_eq!(test.forget().await.unwrap(), 0, "a clock that is ahead forgets nothing");
    assert_eq!(test.db.number(kept).await, 7);
}

/// A page and a batch to forget cost the same in a large account as in a small one.
#[tokio::test]
async fn pages_and_batches_use_the_key_alone() {
    let db = TestDb::create().await;
    db.execute("alter table audit_events set (autovacuum_enabled = false)").await;
    db.execute(&format!(
        "insert into audit_events (account_id, called_at, audit_event_id, method, fields, result, request_id, left_out)
        select '{ACCOUNT}', now() - n * interval '1 hour', lpad(to_hex(n), 32, '0')::uuid, 'EnableSync', '{{}}', 'DONE', '{NOWHERE}', 0
        from generate_series(1, 20000) n"
    ))
    .await;
    let mut session = session(&db).await;
    session.execute("set enable_seqscan = off").await.unwrap();

    let types = "uuid, timestamptz, timestamptz, uuid, bigint";
    let values = format!("'{ACCOUNT}', now() - interval '9000 hours', now() - interval '8000 hours', '{NOWHERE}', 51");
    let page = explain(&mut session, "store::audit::list", types, &values).await;
    let types = "uuid, timestamptz, double precision, bigint";
    let values = format!("'{ACCOUNT}', now() - interval '19900 hours', 60, 1000");
    let batch = explain(&mut session, "store::audit::forget_batch", types, &values).await;

    for plan in [&page, &batch] {
        assert!(plan.nodes.iter().all(|(node, _)| node != "Seq Scan"), "{:?}", plan.nodes);
        assert!(plan.nodes.iter().any(|(_, place)| place == "audit_events_pkey"), "{:?}", plan.nodes);
    }
    assert!(page.buffers < 20 && batch.buffers < 1_000, "{} and {} pages", page.buffers, batch.buffers);
}
