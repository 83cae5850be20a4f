//! Credentials: renewed, sealed, readable nowhere, opened by the right key for the right row only.

use std::sync::Arc;

use chrono::TimeDelta;
use contact_sync::{
    app::{AppWorld, ServiceApp},
    domain::{
        clock::Clock,
        ids::{AccountId, IdSource, IntegrationId},
    },
    rpc::pb,
    vault::KeyRing,
};
use crm_simulator::{faults::Fault, gate::GateAt};
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Code;
use uuid::Uuid;

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::sync::{Beside, EXPORT, arrived, ask_trigger, ask_update, column, fail, pages, param},
    support::{TestApp, api_token, bearer, reason},
};

const PERIOD: TimeDelta = TimeDelta::minutes(30);

/// Renewed credentials go on where the refused ones stopped, and contacts are kept.
#[tokio::test]
async fn renewed_credentials_resume_and_contacts_stay() {
    let test = TestApp::start().await;
    let user = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, integration) = test.synced().await;
    let before = test.look_up(&account, "+13108675301").await.selected.unwrap();
    test.pass(PERIOD);
    fail(&test, 0, None, Fault::Unauthorized);
    assert_eq!(test.sync_due().await, 1);
    test.second_look().await;
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::AuthFailed);
    test.zendesk.faults().clear();
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

/// Credentials that are renewed while a run runs with the old ones are not held to be refused.
#[tokio::test]
async fn credentials_renewed_during_run_stay_unrefused() {
    // An administrator rotates the token in the middle of a long run: new one stored, old one
    // revoked.
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

/// A full run that new credentials interrupt is made all the same.
#[tokio::test]
async fn full_run_interrupted_by_credentials_is_made() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(10, 1).unwrap();
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::seconds(1));
    let initial = |request: &mut pb::TriggerSyncRequest| request.set_kind(pb::SyncKind::Initial);
    let interrupted = ask_trigger(&test, &account, &integration, initial).await.unwrap().sync_run.unwrap().id;
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;

    test.pass(TimeDelta::seconds(1));
    ask_update(&test, &account, &integration, None, Some(bearer("zendesk-token"))).await.unwrap();
    gate.open();
    sync.ended().await;
    test.sync_due().await;

    let run = test.run(&account, &interrupted).await;
    assert_eq!((run.state(), run.kind()), (pb::SyncRunState::Succeeded, pb::SyncKind::Initial));
    assert_eq!((run.attempt, run.counts.unwrap().read), (2, 10), "taken up again with the new credentials");
    assert_eq!(test.last_run(&account, &integration).await.id, interrupted);
    assert_holds(&test).await;
}

/// Stored credentials are readable in no column of any table.
#[tokio::test]
async fn stored_credentials_are_readable_in_no_table() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    ask_update(&test, &account, &integration, None, Some(bearer("zendesk-token"))).await.unwrap();
    let _ = ask_update(&test, &account, &integration, None, Some(bearer("a-wrong-token"))).await.unwrap_err();
    fail(&test, 0, None, Fault::Unauthorized);
    test.sync_due().await;

    let tables: Vec<String> =
        sqlx::query_scalar("select table_name::text from information_schema.tables where table_schema = 'public'")
            .fetch_all(&test.db.pool)
            .await
            .unwrap();
    assert!(tables.len() > 5);
    for table in tables {
        for secret in ["zendesk-token", "a-wrong-token", "admin@example.com", "c2VjcmV0"] {
            let sql = format!(
                "select count(*) from {table} t where t::text like '%{secret}%' or t::text ilike '%' || encode('{secret}', 'hex') || '%'"
            );
            assert_eq!(test.db.number(&sql).await, 0, "{secret} in {table}");
        }
    }
}

/// Credentials of another row or another key do not open, and the state says so.
#[tokio::test]
async fn credentials_of_other_row_or_key_stay_closed() {
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
    assert_eq!(shown.hold.unwrap().reason, "CREDENTIALS_SEALED_BY_ANOTHER_KEY");
    assert_eq!(pages(&test).len(), 1, "only the other integration asked the CRM");

    // A replica with another key ring; the first integration is looked at every hour.
    test.pass(PERIOD);
    let world = AppWorld {
        clock: Arc::clone(&test.clock) as Arc<dyn Clock>,
        ids: Arc::new(IdSource::seeded(9)),
        key_ring: Arc::new(KeyRing::parse(OTHER_KEY_RING).unwrap()),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        health: contact_sync::rpc::health::ServingHealth::new(false),
    };
    let stranger = ServiceApp::new(&test.config, test.db.url(), world).unwrap();
    assert_eq!(stranger.sync_worker.run_due().await.unwrap(), 1);
    let shown = test.integration(&other_account, &other).await;
    assert_eq!(shown.state(), pb::IntegrationState::AuthFailed);
    assert!(shown.state_detail.contains("CREDENTIALS_SEALED_BY_ANOTHER_KEY"), "{}", shown.state_detail);
    assert_eq!(shown.hold.unwrap().reason, "CREDENTIALS_SEALED_BY_ANOTHER_KEY");

    // Damaged.
    assert!(column(&test, &other, "length(credentials)").await.parse::<usize>().unwrap() > 40);
    let safe = &test.app.sync_context.access_tokens.vault;
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
