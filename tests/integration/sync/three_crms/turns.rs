//! Who only waits, or has had its turn, holds no worker's place that somebody else needs. The
//! workers run here.

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use contact_sync::{config::Config, domain::provider, rpc::pb};
use crm_simulator::faults::{Fault, FaultRule};
use serde_json::json;

use super::{
    behaviours::{link, selected},
    crm::{Crm, PipedriveCrm, SalesforceCrm, ZendeskCrm},
};
use crate::{
    support::sync::{EXPORT, eventually},
    support::{TestApp, Worlds, enable_request, error_of},
};

const BRYCE: &str = "+13108675309";

/// Workers with so many places.
async fn working(worlds: Worlds, places: u32, change: impl FnOnce(&mut Config)) -> TestApp {
    TestApp::start_in_with(worlds, |config| {
        config.worker.concurrency = places;
        config.worker.poll_ms = 50;
        config.worker.turn_seconds = 0;
        change(config);
    })
    .await
}

/// A Zendesk that grants 20 pages a minute, and tells so.
fn limited() -> Worlds {
    Worlds { zendesk: Some(|config| config.limits.export_per_minute = Some(20)), ..Worlds::default() }
}

/// Follows the integration's first run to its end.
async fn watch(test: &TestApp, account: &str, integration: &str) -> pb::SyncRun {
    let mut last = None;
    eventually("the end of a run", async || {
        let run = test.last_run(account, integration).await;
        let is_over = !matches!(run.state(), pb::SyncRunState::Queued | pb::SyncRunState::Running);
        last = Some(run);
        is_over
    })
    .await;
    last.unwrap()
}

async fn phase_of(test: &TestApp, account: &str, integration: &str) -> String {
    test.last_run(account, integration).await.phase
}

async fn throttled(test: &TestApp, count: usize) -> Vec<(String, String)> {
    test.zendesk.faults().add(FaultRule::always(EXPORT, Fault::RateLimited { retry_after_seconds: Some(20) })).unwrap();
    let mut tenants = Vec::new();
    for n in 0..count {
        let account = test.account().await;
        let integration = test.enable(&account, &format!("acme{n}")).await;
        tenants.push((account, integration));
    }
    for (account, integration) in &tenants {
        eventually("a run that waits", async || {
            phase_of(test, account, integration).await == "waiting for the CRM's rate limit"
        })
        .await;
    }
    tenants
}

/// Tenants that wait for their rate limit hold no place that a fifth one needs.
#[tokio::test]
async fn rate_limited_tenants_hold_no_place() {
    let test = working(Worlds::default(), 4, |_| {}).await;
    PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    let waiting = throttled(&test, 4).await;

    let account = test.account().await;
    let integration = link::<PipedriveCrm>(&test, &account, PipedriveCrm::token()).await;

    let run = watch(&test, &account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    assert!(selected(&test, &account, BRYCE).await.is_some());
    for (account, integration) in &waiting {
        let run = test.last_run(account, integration).await;
        assert_eq!((run.state(), run.phase.as_str()), (pb::SyncRunState::Running, "waiting for the CRM's rate limit"));
        assert!(error_of(&run).contains("rate limit"), "{}", error_of(&run));
        assert_eq!(test.integration(account, integration).await.state(), pb::IntegrationState::InitialSync);
    }

    // One that waits can be stopped, and the others go on when the wait is over.
    let (account, integration) = &waiting[0];
    let run = test.last_run(account, integration).await;
    let request = pb::CancelSyncRunRequest { account_id: account.clone(), sync_run_id: run.id };
    test.syncs().cancel_sync_run(request).await.unwrap();
    assert_eq!(watch(&test, account, integration).await.state(), pb::SyncRunState::Cancelled);
    test.zendesk.faults().clear();
    test.pass(TimeDelta::seconds(21));
    for (account, integration) in &waiting[1..] {
        assert_eq!(watch(&test, account, integration).await.state(), pb::SyncRunState::Succeeded);
    }
}

/// An export that never ends takes turns with others on one place.
#[tokio::test]
async fn endless_export_takes_turns_on_one_place() {
    let test = working(Worlds::default(), 1, |_| {}).await;
    test.zendesk.faults().add(FaultRule::always(EXPORT, Fault::EmptyPage { advance: true })).unwrap();
    let account = test.account().await;
    let endless = test.enable(&account, "endless").await;
    eventually("pages", async || test.zendesk.requests().count_of("incremental") > 3).await;

    for n in 0..3 {
        let account = test.account().await;
        let integration = link::<PipedriveCrm>(&test, &account, PipedriveCrm::token()).await;
        let run = watch(&test, &account, &integration).await;
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{n}: {}", error_of(&run));
        test.pass(TimeDelta::seconds(1));
    }

    let asked = test.zendesk.requests().count_of("incremental");
    eventually("more pages", async || test.zendesk.requests().count_of("incremental") > asked).await;
    let run = test.last_run(&account, &endless).await;
    assert_eq!((run.state(), run.counts.unwrap().read), (pb::SyncRunState::Running, 0), "{}", error_of(&run));
}

/// A first copy that keeps to its share lets another one by, and is never refused.
#[tokio::test]
async fn paced_first_copy_lets_others_by_unrefused() {
    let test = working(limited(), 1, |config| {
        config.providers.each[provider::Provider::Zendesk].first_copy_share_percent = 95;
    })
    .await;
    test.zendesk.faults().add(FaultRule::always(EXPORT, Fault::EmptyPage { advance: true })).unwrap();
    let account = test.account().await;
    let paced = test.enable(&account, "paced").await;
    let phase = "keeping to its share of the CRM's rate limit";
    eventually("a run that keeps to its share", async || phase_of(&test, &account, &paced).await == phase).await;

    let other = test.account().await;
    let integration = link::<PipedriveCrm>(&test, &other, PipedriveCrm::token()).await;

    assert_eq!(watch(&test, &other, &integration).await.state(), pb::SyncRunState::Succeeded);
    assert_eq!(test.zendesk.requests().count_of("incremental"), 19, "95 % of 20 in a minute");
    let run = test.last_run(&account, &paced).await;
    assert_eq!((run.state(), run.phase.as_str(), error_of(&run).as_str()), (pb::SyncRunState::Running, phase, ""));
}

#[tokio::test]
async fn two_integrations_of_one_zendesk_share_one_window() {
    let test = working(limited(), 2, |config| {
        config.providers.each[provider::Provider::Zendesk].first_copy_share_percent = 80;
    })
    .await;
    test.zendesk.faults().add(FaultRule::always(EXPORT, Fault::EmptyPage { advance: true })).unwrap();
    let mut both = Vec::new();
    for _ in 0..2 {
        let account = test.account().await;
        let integration = test.syncs().enable_sync(enable_request(&account, "acme")).await.unwrap().into_inner();
        both.push((account, integration.integration.unwrap().id));
    }
    for (account, integration) in &both {
        let phase = "keeping to its share of the CRM's rate limit";
        eventually("runs that keep to their share", async || phase_of(&test, account, integration).await == phase)
            .await;
    }

    let asked = test.zendesk.requests().count_of("incremental");
    assert!((16..=17).contains(&asked), "{asked}: one request may be under way before the limit is known");
}

/// A bulk job that takes its time holds no place.
#[tokio::test]
async fn slow_bulk_job_holds_no_place() {
    let worlds = Worlds { salesforce: Some(|config| config.bulk_polls = 1_000), ..Worlds::default() };
    let test = working(worlds, 1, |config| config.providers.salesforce_bulk_above = 0).await;
    test.salesforce.create("Contact", &json!({"LastName": "Love", "Phone": BRYCE})).unwrap();
    let account = test.account().await;
    let slow = link::<SalesforceCrm>(&test, &account, SalesforceCrm::token()).await;
    let phase = "waiting for the CRM to prepare the next page";
    eventually("a job", async || phase_of(&test, &account, &slow).await == phase).await;

    let other = test.account().await;
    let integration = link::<ZendeskCrm>(&test, &other, ZendeskCrm::token()).await;

    assert_eq!(watch(&test, &other, &integration).await.state(), pb::SyncRunState::Succeeded);
    assert_eq!(test.last_run(&account, &slow).await.state(), pb::SyncRunState::Running);
}

/// An integration whose run cannot begin is tried ever more rarely, and stops nobody.
#[tokio::test]
async fn unbeginnable_run_retries_rarely_stops_nobody() {
    let test = working(Worlds::default(), 1, |_| {}).await;
    let broken = test.account().await;
    for statement in [
        // Whatever is rolled back, a sequence is not.
        "create sequence tries".to_owned(),
        "create function refuse() returns trigger language plpgsql as $$ begin perform nextval('tries'); raise exception 'refused'; end $$".to_owned(),
        format!("create trigger refuse before update on sync_runs for each row when (new.account_id = '{broken}' and new.state = 'RUNNING') execute function refuse()"),
    ] {
        test.db.execute(&statement).await;
    }
    let began = Instant::now();
    test.enable(&broken, "broken").await;

    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    assert_eq!(watch(&test, &account, &integration).await.state(), pb::SyncRunState::Succeeded);
    eventually("three tries", async || test.db.number("select last_value from tries").await >= 3).await;

    // A second before the second, two before the third.
    assert!(began.elapsed() >= Duration::from_millis(2_900), "{:?}", began.elapsed());
}
