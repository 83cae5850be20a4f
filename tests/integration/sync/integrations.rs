//! The life of an integration: tried, enabled, changed, switched off and on, disabled and taken up
//! again.

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::GateAt,
};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{Beside, EXPORT, arrived, ask_disable, ask_trigger, ask_update, pages, param, sync_mode},
    support::{Subject, TestApp, api_token, bearer, enable_request, error_of, reason, zendesk_connection},
};

async fn try_connection(test: &TestApp, credentials: pb::Credentials) -> pb::TestConnectionResponse {
    let request = pb::TestConnectionRequest {
        account_id: test.account().await,
        provider: pb::Provider::Zendesk.into(),
        connection: Some(zendesk_connection("acme")),
        credentials: Some(credentials),
    };
    test.syncs().test_connection(request).await.unwrap().into_inner()
}

/// A connection that works says how much there is.
#[tokio::test]
async fn working_connection_says_how_much_there_is() {
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
        (Fault::Redirect { location: "http://127.0.0.1:9/".into(), status: 302 }, "CRM_HOST_MOVED"),
    ] {
        test.zendesk.faults().add(FaultRule::always("/users/me", fault.clone())).unwrap();
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

/// Enabling is idempotent by request id, and a second link is refused with the first one's id.
#[tokio::test]
async fn enabling_repeats_safely_second_link_names_first() {
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

/// Sync that is off from the start needs no credentials, and asks the CRM nothing.
#[tokio::test]
async fn sync_off_from_start_asks_crm_nothing() {
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

    let missing = ask_update(&test, &account, &integration, sync_mode(pb::SyncMode::On), None).await.unwrap_err();
    assert_eq!(missing.code(), Code::InvalidArgument);
    let on = ask_update(&test, &account, &integration, sync_mode(pb::SyncMode::On), Some(api_token("secret")))
        .await
        .unwrap();
    assert_eq!(on.state(), pb::IntegrationState::Pending);
    assert_eq!(test.sync_due().await, 1);
    assert_is_a_true_copy(&test, &integration).await;
    assert_holds(&test).await;
}

/// Switching off stops the current run, and nothing of its page is written.
#[tokio::test]
async fn switching_off_stops_run_and_writes_nothing() {
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
    assert!(error_of(&run).contains("switched off"));
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

/// Sync that was switched off keeps naming callers, and says what is lost.
#[tokio::test]
async fn switched_off_sync_names_callers_tells_losses() {
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

/// A disabled integration keeps its contacts, and is taken up again with its ids.
#[tokio::test]
async fn disabled_integration_returns_with_contacts_and_ids() {
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
    let refused =
        ask_update(&test, &account, &integration, sync_mode(pb::SyncMode::On), Some(api_token("secret"))).await;
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
