//! The life of an integration: tried, enabled, changed, switched off and on, disabled with its data kept or purged; and its
//! credentials, which nobody ever sees again.

use std::sync::Arc;

use chrono::TimeDelta;
use contact_sync::{
    app::{App, World},
    domain::{
        clock::Clock,
        ids::{AccountId, IdSource, IntegrationId},
    },
    rpc::pb,
    simulator::{
        faults::{Fault, Rule},
        gate::GateAt,
    },
    vault::KeyRing,
};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Code;
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::{
    integrity::assert_holds,
    oracle::assert_is_a_true_copy,
    steps::{
        Beside, EXPORT, arrived, ask_disable, ask_trigger, ask_update, column, fail, live_contacts, pages, param,
        sync_mode,
    },
    support::{Subject, TestApp, api_token, bearer, call, enable_request, reason, zendesk_connection},
};

const PERIOD: TimeDelta = TimeDelta::minutes(30);

async fn try_connection(test: &TestApp, credentials: pb::Credentials) -> pb::TestConnectionResponse {
    let request = pb::TestConnectionRequest {
        account_id: test.account().await,
        provider: pb::Provider::Zendesk.into(),
        connection: Some(zendesk_connection("acme")),
        credentials: Some(credentials),
    };
    test.syncs().test_connection(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_connection_that_works_says_how_much_there_is() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(7, 1).unwrap();

    for credentials in [api_token("secret"), bearer("zendesk-token")] {
        let tried = try_connection(&test, credentials).await;
        assert!(tried.ok && tried.reason.is_empty());
        assert_eq!(tried.estimated_contacts, 7);
    }
    assert_eq!(test.db.number("select count(*) from integrations").await, 0);
}

#[tokio::test]
async fn a_connection_that_does_not_work_says_why() {
    let test = TestApp::start().await;
    for wrong in [api_token("wrong"), bearer("wrong")] {
        let tried = try_connection(&test, wrong).await;
        assert!(!tried.ok);
        assert_eq!(tried.reason, "CREDENTIALS_REFUSED");
    }
    let set = |pointer: &str, value| Fault::Patch { set: [(pointer.to_owned(), value)].into(), remove: Vec::new() };
    for (fault, expected) in [
        (Fault::Unauthorized, "CREDENTIALS_REFUSED"),
        // An anonymous session is answered with 200.
        (set("/user/id", json!(null)), "CREDENTIALS_REFUSED"),
        (set("/user/role", json!("agent")), "PERMISSION_MISSING"),
        (set("/user/role", json!(null)), "PERMISSION_MISSING"),
        (Fault::ForbiddenRole, "PERMISSION_MISSING"),
        (Fault::ForbiddenScope, "PERMISSION_MISSING"),
        (Fault::NotFound, "ORGANIZATION_NOT_FOUND"),
        (Fault::RateLimited { retry_after_seconds: Some(3_600) }, "RATE_LIMITED"),
        (Fault::ServerError, "CRM_UNREACHABLE"),
        (Fault::Unavailable { retry_after_seconds: None }, "CRM_UNREACHABLE"),
        (Fault::Reset { after_bytes: None }, "CRM_UNREACHABLE"),
        (Fault::Html, "CRM_ANSWER_UNREADABLE"),
        (Fault::Truncate, "CRM_ANSWER_UNREADABLE"),
        (Fault::Redirect { location: "http://127.0.0.1:9/".into(), status: 302 }, "CRM_ANSWER_UNREADABLE"),
    ] {
        test.zendesk.faults().add(Rule::always("/users/me", fault.clone())).unwrap();
        let tried = try_connection(&test, api_token("secret")).await;
        assert!(!tried.ok, "{fault:?}");
        assert_eq!(tried.reason, expected, "{fault:?}");
        assert!(!tried.message.is_empty() && !tried.message.contains("http://"), "{}", tried.message);

        let account = test.account().await;
        let refused = test.syncs().enable_sync(enable_request(&account, "acme")).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{fault:?}");
        assert!(matches!(refused.code(), Code::FailedPrecondition | Code::Unavailable), "{refused:?}");
        test.zendesk.faults().clear();
    }
    assert_eq!(test.db.number("select count(*) from integrations").await, 0);
}

#[tokio::test]
async fn enabling_is_idempotent_by_request_id_and_a_second_link_is_refused_with_the_firsts_id() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let mut request = enable_request(&account, "acme");
    request.request_id = Uuid::from_u128(1).to_string();

    let first = test.syncs().enable_sync(request.clone()).await.unwrap().into_inner().integration.unwrap();
    let again = test.syncs().enable_sync(request.clone()).await.unwrap().into_inner().integration.unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!(test.db.number("select count(*) from sync_runs").await, 1);

    request.connection = Some(zendesk_connection("other"));
    let reused = test.syncs().enable_sync(request).await.unwrap_err();
    assert_eq!((reused.code(), reason(&reused)), (Code::FailedPrecondition, "REQUEST_ID_REUSED".to_owned()));

    for subdomain in ["acme", "ACME"] {
        let exists = test.syncs().enable_sync(enable_request(&account, subdomain)).await.unwrap_err();
        assert_eq!((exists.code(), reason(&exists)), (Code::AlreadyExists, "INTEGRATION_EXISTS".to_owned()));
        assert_eq!(exists.get_details_error_info().unwrap().metadata["integration_id"], first.id);
    }
    // Another organisation, and the same one of another account, are other integrations.
    assert_ne!(test.enable(&account, "other").await, first.id);
    let stranger = test.account().await;
    assert_ne!(test.enable(&stranger, "acme").await, first.id);
}

#[tokio::test]
async fn racing_enables_make_one_integration() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let replica = test.replica(|_| {}).await;

    let mut tries = JoinSet::new();
    for n in 0..8 {
        let mut client = if n % 2 == 0 { test.syncs() } else { replica.syncs() };
        let request = enable_request(&account, "acme");
        tries.spawn(async move { client.enable_sync(request).await });
    }
    let outcomes = tries.join_all().await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    }
    assert_eq!(test.db.number("select count(*) from integrations").await, 1);
    assert_eq!(test.db.number("select count(*) from sync_runs").await, 1);
    assert_holds(&test).await;
}

#[tokio::test]
async fn sync_off_from_the_start_needs_no_credentials_and_asks_the_crm_nothing() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let account = test.account().await;

    let integration = test.enable_off(&account, pb::Provider::Zendesk, "acme").await;

    let shown = test.integration(&account, &integration).await;
    assert_eq!((shown.state(), shown.enabled, shown.has_credentials), (pb::IntegrationState::Off, true, false));
    assert!(shown.state_detail.contains("not copied"), "{}", shown.state_detail);
    assert_eq!(shown.next_due_time, None);
    test.pass(TimeDelta::hours(20));
    assert_eq!(test.sync_due().await, 0);
    assert_eq!(test.zendesk.requests().total, 0);
    // Off counts as complete: nobody is promised from there.
    let answer = test.look_up(&account, "+13108675301").await;
    assert_eq!((answer.outcome(), answer.complete), (pb::MatchOutcome::NotFound, true));
    assert!(!answer.sources[0].note.is_empty());

    let missing =
        ask_update(&test, &account, &integration, sync_mode(pb::SyncMode::On), None).await.unwrap_err();
    assert_eq!(missing.code(), Code::InvalidArgument);
    let on =
        ask_update(&test, &account, &integration, sync_mode(pb::SyncMode::On), Some(api_token("secret"))).await.unwrap();
    assert_eq!(on.state(), pb::IntegrationState::Pending);
    assert_eq!(test.sync_due().await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

#[tokio::test]
async fn switching_off_stops_the_running_pass_and_nothing_of_its_page_is_written() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_500, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let run = test.integration(&account, &integration).await.current_sync_run_id;
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;

    let off = ask_update(&test, &account, &integration, sync_mode(pb::SyncMode::Off), None).await.unwrap();
    gate.open();
    assert_eq!(sync.ended().await, 1);

    assert_eq!(off.state(), pb::IntegrationState::Off);
    let run = test.run(&account, &run).await;
    assert_eq!((run.state(), run.counts.unwrap().read), (pb::SyncRunState::Cancelled, 0));
    assert!(run.error.contains("switched off"));
    assert_eq!(test.db.number("select count(*) from contacts").await, 0);
    assert_eq!(test.db.number("select count(*) from external_refs").await, 0);
    test.pass(TimeDelta::hours(20));
    assert_eq!(test.sync_due().await, 0);
    assert_holds(&test).await;

    // The kept credentials are tried before it goes on.
    let on = ask_update(&test, &account, &integration, sync_mode(pb::SyncMode::On), None).await.unwrap();
    assert!(on.has_credentials);
    assert_eq!(test.sync_due().await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

#[tokio::test]
async fn sync_that_was_switched_off_keeps_naming_callers_and_says_what_is_lost() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, integration) = test.synced().await;

    ask_update(&test, &account, &integration, sync_mode(pb::SyncMode::Off), None).await.unwrap();

    let answer = test.look_up(&account, "+13108675301").await;
    assert_eq!(answer.selected.unwrap().display_name, "Ann");
    assert_eq!(answer.sources[0].state(), pb::IntegrationState::Off);
    assert!(answer.sources[0].note.contains("off"));
    let held = test.resolve(&account, &integration, Subject::PhoneNumber("+13108675301".into())).await;
    assert_eq!(held.outcome(), pb::RequesterOutcome::Resolved);
    let lost = test.resolve(&account, &integration, Subject::PhoneNumber("+13108675399".into())).await;
    assert_eq!(lost.outcome(), pb::RequesterOutcome::SyncOff);
}

#[tokio::test]
async fn renewed_credentials_go_on_where_the_refused_ones_stopped_and_contacts_are_kept() {
    let test = TestApp::start().await;
    let user = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, integration) = test.synced().await;
    let before = test.look_up(&account, "+13108675301").await.selected.unwrap();
    test.pass(PERIOD);
    fail(&test, 0, Some(1), Fault::Unauthorized);
    assert_eq!(test.sync_due().await, 1);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::AuthFailed);
    test.zendesk.update_user(user, &json!({"name": "Ann D."})).unwrap();
    test.pass(TimeDelta::seconds(1));

    let refused = ask_update(&test, &account, &integration, None, Some(bearer("wrong"))).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "CREDENTIALS_REFUSED".to_owned()));
    assert_eq!(test.sync_due().await, 0, "what was refused is not stored");
    test.zendesk.clear_requests();
    let renewed = ask_update(&test, &account, &integration, None, Some(bearer("zendesk-token"))).await.unwrap();

    assert_eq!(renewed.state(), pb::IntegrationState::Active);
    assert_eq!(test.sync_due().await, 1);
    assert!(pages(&test).iter().all(|query| param(query, "cursor").is_some()));
    let after = test.look_up(&account, "+13108675301").await.selected.unwrap();
    assert_eq!((&after.id, after.display_name.as_str()), (&before.id, "Ann D."));
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

#[tokio::test]
async fn credentials_renewed_while_a_pass_runs_with_the_old_ones_are_not_held_to_be_refused() {
    // An administrator rotates the token in the middle of a long pass: new one stored, old one revoked.
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_500, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    fail(&test, 1, Some(1), Fault::Unauthorized);
    let gate = test.zendesk.faults().gate(EXPORT, 1, GateAt::Request).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;

    test.pass(TimeDelta::seconds(1));
    ask_update(&test, &account, &integration, None, Some(bearer("zendesk-token"))).await.unwrap();
    gate.open();
    sync.ended().await;

    assert_ne!(test.integration(&account, &integration).await.state(), pb::IntegrationState::AuthFailed);
    test.pass(PERIOD);
    test.sync_due().await;
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

#[tokio::test]
async fn a_disabled_integration_keeps_its_contacts_and_is_taken_up_again_with_its_ids() {
    let test = TestApp::start().await;
    let user = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, integration) = test.synced().await;
    let before = test.look_up(&account, "+13108675301").await.selected.unwrap();

    let disabled = ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();

    assert_eq!((disabled.enabled, disabled.has_credentials), (false, false));
    assert_eq!(disabled.state(), pb::IntegrationState::Off);
    test.pass(TimeDelta::hours(20));
    assert_eq!(test.sync_due().await, 0);
    assert_eq!(test.look_up(&account, "+13108675301").await.selected.unwrap().id, before.id);
    let refused = ask_trigger(&test, &account, &integration, |_| {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let refused = ask_update(&test, &account, &integration, sync_mode(pb::SyncMode::On), Some(api_token("secret"))).await;
    assert_eq!(reason(&refused.unwrap_err()), "INTEGRATION_DISABLED");
    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();
    assert_holds(&test).await;

    test.zendesk.update_user(user, &json!({"name": "Ann D."})).unwrap();
    test.zendesk.clear_requests();
    assert_eq!(test.enable(&account, "acme").await, integration);
    assert_eq!(test.sync_due().await, 1);

    assert!(pages(&test).iter().all(|query| param(query, "cursor").is_some()), "it goes on from the checkpoint");
    let after = test.look_up(&account, "+13108675301").await.selected.unwrap();
    assert_eq!((after.id, after.display_name.as_str()), (before.id, "Ann D."));
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

#[tokio::test]
async fn a_purge_removes_what_was_copied_and_a_new_link_copies_anew() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_100, 1).unwrap();
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let gone = test.zendesk.create_user(&json!({"name": "Gone"})).unwrap();
    test.zendesk.delete_user(gone).unwrap();
    let (account, integration) = test.synced().await;
    let other = test.enable(&account, "other").await;
    test.sync_due().await;
    let stranger = test.match_caller(call(&account, "+13108675377")).await.selected.unwrap();
    let mine = test.look_up(&account, "+13108675301").await;
    assert_eq!(mine.outcome(), pb::MatchOutcome::Ambiguous);

    let purging = ask_disable(&test, &account, &integration, pb::CopiedData::Purge).await.unwrap();
    assert!(purging.state_detail.contains("removed"), "{}", purging.state_detail);
    let refused = test.syncs().enable_sync(enable_request(&account, "acme")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "PURGE_RUNNING".to_owned()));
    // Asked again without a purge, it is not taken back.
    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    for table in ["external_refs", "phone_numbers"] {
        let left = format!("select count(*) from {table} where integration_id = '{integration}'");
        assert_eq!(test.db.number(&left).await, 0, "{table}");
    }
    let shown = test.integration(&account, &integration).await;
    assert!(!shown.state_detail.contains("removed") && shown.known_through.is_none() && !shown.enabled);
    assert_eq!(live_contacts(&test, &account).await, 1_102, "the other copy, and the stranger");
    let kept = test.look_up(&account, "+13108675301").await;
    assert_eq!(kept.outcome(), pb::MatchOutcome::Matched);
    assert_eq!(kept.selected.unwrap().records[0].integration_id, other);
    for contact in mine.candidates {
        let is_purged = contact.records[0].integration_id == integration;
        assert_eq!(test.contact(&account, &contact.id).await.deleted_at.is_some(), is_purged);
    }
    assert!(test.contact(&account, &stranger.id).await.deleted_at.is_none());
    assert_eq!(test.sync_due().await, 0);
    assert_is_a_true_copy(&test, &other).await;
    assert_holds(&test).await;

    test.pass(TimeDelta::seconds(1));
    test.zendesk.clear_requests();
    assert_eq!(test.enable(&account, "acme").await, integration);
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Pending);
    assert_eq!(test.sync_due().await, 1);
    assert_eq!(param(&pages(&test)[0], "start_time"), Some("0"));
    assert_eq!(test.last_run(&account, &integration).await.kind(), pb::SyncKind::Initial);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

#[tokio::test]
async fn a_purge_in_the_middle_of_a_first_copy_leaves_no_place_to_go_on_from() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(2_500, 1).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let gate = test.zendesk.faults().gate(EXPORT, 1, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;
    assert_eq!(live_contacts(&test, &account).await, 1_000);

    ask_disable(&test, &account, &integration, pb::CopiedData::Purge).await.unwrap();
    gate.open();
    sync.ended().await;
    test.sync_due().await;
    assert_eq!(live_contacts(&test, &account).await, 0);
    test.zendesk.faults().clear();
    test.zendesk.clear_requests();
    test.pass(TimeDelta::seconds(1));
    test.enable(&account, "acme").await;
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(param(&pages(&test)[0], "start_time"), Some("0"), "the first page was purged, too");
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

#[tokio::test]
async fn a_contact_with_another_record_outlives_a_purge() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, integration) = test.synced().await;
    let salesforce = test.enable_off(&account, pb::Provider::Salesforce, "00Dx0000000BV7z").await;
    let stranger = test.match_caller(call(&account, "+13108675302")).await.selected.unwrap();
    // One person, two records: both bound to the placeholder of a call.
    let register = |integration: &str, object_type: &str, record_id: &str, contact_id: &str| {
        pb::PreRegisterContactRequest {
            account_id: account.clone(),
            integration_id: integration.into(),
            object_type: object_type.into(),
            record_id: record_id.into(),
            phone_number: "+13108675302".into(),
            display_name: "Bob".into(),
            contact_id: contact_id.into(),
            ..Default::default()
        }
    };
    let first = register(&salesforce, "Contact", "003x0000001a2bC", &stranger.id);
    let bound = test.callers().pre_register_contact(first).await.unwrap().into_inner().contact.unwrap();
    assert_eq!(bound.id, stranger.id);
    let user = test.zendesk.create_user(&json!({"name": "Bob Z.", "phone": "+13108675302"})).unwrap();
    test.pass(PERIOD);
    test.sync_due().await;
    // What a conversion or a merge of records will do one day: a second ref on the contact.
    let zendesk_contact = format!("(select contact_id from external_refs where record_id = '{user}')");
    test.db
        .execute(&format!(
            "update phone_numbers set contact_id = '{0}', contact_created_at = (select created_at from contacts where contact_id = '{0}') where contact_id = {1};
            update contacts set deleted_at = now(), display_name = '', emails = '{{}}' where contact_id = {1};
            update external_refs set contact_id = '{0}' where record_id = '{user}'",
            bound.id, zendesk_contact
        ))
        .await;
    assert_holds(&test).await;

    ask_disable(&test, &account, &integration, pb::CopiedData::Purge).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    let kept = test.look_up(&account, "+13108675302").await;
    assert_eq!(kept.outcome(), pb::MatchOutcome::Matched);
    let kept = kept.selected.unwrap();
    assert_eq!(kept.id, bound.id);
    assert_eq!(kept.records.len(), 1);
    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::NotFound);
    assert_holds(&test).await;
}

#[tokio::test]
async fn stored_credentials_are_readable_in_no_column_of_any_table() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    ask_update(&test, &account, &integration, None, Some(bearer("zendesk-token"))).await.unwrap();
    let _ = ask_update(&test, &account, &integration, None, Some(bearer("a-wrong-token"))).await.unwrap_err();
    fail(&test, 0, None, Fault::Unauthorized);
    test.sync_due().await;

    let tables: Vec<String> = sqlx::query_scalar("select table_name::text from information_schema.tables where table_schema = 'public'")
        .fetch_all(&test.db.pool)
        .await
        .unwrap();
    assert!(tables.len() > 5);
    for table in tables {
        for secret in ["zendesk-token", "a-wrong-token", "admin@example.com", "c2VjcmV0"] {
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            let sql = format!(
                "select count(*) from {table} t where t::text like '%{secret}%' or t::text ilike '%{hex}%'"
            );
            assert_eq!(test.db.number(&sql).await, 0, "{secret} in {table}");
        }
    }
}

#[tokio::test]
async fn credentials_of_another_row_or_another_key_do_not_open_and_the_state_says_so() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let other_account = test.account().await;
    let other = test.enable(&other_account, "acme").await;
    test.sync_due().await;

    // Moved from another tenant's row.
    test.db
        .execute(&format!(
            "update integrations set credentials = (select credentials from integrations where integration_id = '{other}') where integration_id = '{integration}'"
        ))
        .await;
    test.pass(PERIOD);
    test.zendesk.clear_requests();
    test.sync_due().await;
    let shown = test.integration(&account, &integration).await;
    assert_eq!(shown.state(), pb::IntegrationState::AuthFailed);
    assert!(shown.state_detail.contains("CREDENTIALS_SEALED_BY_ANOTHER_KEY"), "{}", shown.state_detail);
    assert_eq!(pages(&test).len(), 1, "only the other integration asked the CRM");

    // A replica with another key ring.
    test.pass(PERIOD);
    let world = World {
        clock: Arc::clone(&test.clock) as Arc<dyn Clock>,
        ids: Arc::new(IdSource::seeded(9)),
        key_ring: Arc::new(KeyRing::parse(OTHER_KEY_RING).unwrap()),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    let stranger = App::new(&test.config, test.db.url(), world).unwrap();
    assert_eq!(stranger.syncing.run_due().await.unwrap(), 1);
    let shown = test.integration(&other_account, &other).await;
    assert_eq!(shown.state(), pb::IntegrationState::AuthFailed);
    assert!(shown.state_detail.contains("CREDENTIALS_SEALED_BY_ANOTHER_KEY"), "{}", shown.state_detail);

    // Damaged.
    assert!(column(&test, &other, "length(credentials)").await.parse::<usize>().unwrap() > 40);
    let safe = &test.app.syncing.safe;
    let sealed: Vec<u8> = sqlx::query_scalar("select credentials from integrations where integration_id = $1")
        .bind(other.parse::<Uuid>().unwrap())
        .fetch_one(&test.db.pool)
        .await
        .unwrap();
    let (account_id, integration_id) =
        (other_account.parse::<AccountId>().unwrap(), other.parse::<IntegrationId>().unwrap());
    assert!(safe.open(account_id, integration_id, &sealed).is_ok());
    for n in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[n] ^= 1;
        assert!(safe.open(account_id, integration_id, &damaged).is_err(), "byte {n}");
        assert!(safe.open(account_id, integration_id, &sealed[..n]).is_err(), "cut after {n} bytes");
    }

    // Brought again, it goes on.
    ask_update(&test, &other_account, &other, None, Some(api_token("secret"))).await.unwrap();
    test.sync_due().await;
    assert_eq!(test.integration(&other_account, &other).await.state(), pb::IntegrationState::Active);
    assert_holds(&test).await;
}

const OTHER_KEY_RING: &str =
    r#"{"primary":"k1","keys":[{"id":"k1","key":"ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="}]}"#;
