//! What is optional costs a notice and a later try, never the run; and a record that is looked up
//! equals the one of a page.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use contact_sync::{
    crm::{ClientTarget, CrmClient, PageEffort},
    domain::{
        clock::Clock,
        credentials::{AccessSecret, AccessToken, CrmAccess},
        integration::Organization,
        options::Options,
        provider::Provider,
        record::{Record, RecordKey},
    },
    rpc::pb,
};
use crm_simulator::{
    faults::{Fault, FaultRule},
    pipedrive, salesforce, zendesk,
};
use serde_json::json;

use super::{
    behaviours::{PERIOD, copied, link, next_run, selected},
    crm::{Crm, PipedriveCrm, SalesforceCrm, ZendeskCrm},
};
use crate::{
    histories::integrity::assert_holds,
    support::sync::{column, time},
    support::{TestApp, Worlds, error_of},
};

const BRYCE: &str = "+13108675309";
const OTHER: &str = "+13105550142";

fn answer(status: u16, body: &str) -> Fault {
    let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
    Fault::answer(status, ("content-type", kind), body)
}

fn has_notice(run: &pb::SyncRun, reason: &str) -> bool {
    run.notices.iter().any(|notice| notice.to_string().starts_with(&format!("{reason}: ")))
}

async fn assert_succeeded(test: &TestApp, account: &str, integration: &str, what: &str) -> pb::SyncRun {
    let run = test.last_run(account, integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{what}: {}", error_of(&run));
    run
}

/// A search that Zendesk refuses costs a notice, and the page lands.
#[tokio::test]
async fn refused_zendesk_search_costs_only_notice() {
    for fault in [
        Fault::Unprocessable,
        Fault::ForbiddenRole,
        Fault::ForbiddenScope,
        Fault::Unavailable { retry_after_seconds: None },
        Fault::ServerError,
        Fault::NotFound,
        Fault::Html,
        Fault::Truncate,
        Fault::RateLimited { retry_after_seconds: Some(3_600) },
        answer(410, "{}"),
    ] {
        let what = format!("{fault:?}");
        let test = TestApp::start().await;
        let loser =
            test.zendesk.create_user(&json!({"name": "Ann", "email": "ann@example.com", "phone": BRYCE})).unwrap();
        let winner = test.zendesk.create_user(&json!({"name": "Ann D.", "email": "ann.d@example.com"})).unwrap();
        let (account, integration) = test.synced().await;
        let rule = test.zendesk.faults().add(FaultRule::always("/users/search", fault)).unwrap();

        test.zendesk.merge_users(loser, winner).unwrap();
        test.zendesk.create_user(&json!({"name": "New", "phone": OTHER})).unwrap();
        next_run(&test).await;

        let run = assert_succeeded(&test, &account, &integration, &what).await;
        assert!(has_notice(&run, "LOOK_UPS_LEFT"), "{what}: {:?}", run.notices);
        assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active, "{what}");
        assert!(selected(&test, &account, OTHER).await.is_some(), "{what}");
        assert!(
            selected(&test, &account, BRYCE)
                .await
                .is_none_or(|contact| contact.records[0].record_id != loser.to_string())
        );
        assert!(test.zendesk.faults().fired(rule) <= 6, "{what}: a few tries");
        let until_sweep = format!("extract(epoch from sweep_due_at)::bigint - {}", test.clock.now().timestamp());
        let seconds: i64 = column(&test, &integration, &until_sweep).await.parse().unwrap();
        assert!(seconds <= 86_400, "{what}: the next full read is {seconds} s away");
        assert_holds(&test).await;
    }
}

/// A token that ends during a search is renewed as anywhere.
#[tokio::test]
async fn token_ending_during_search_is_renewed() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "email": "ann@example.com", "phone": BRYCE})).unwrap();
    let account = test.account().await;
    let integration = link::<ZendeskCrm>(&test, &account, ZendeskCrm::refresh_token()).await;
    test.sync_due().await;
    test.zendesk.faults().add(FaultRule::once("/users/search", Fault::Unauthorized)).unwrap();

    test.zendesk.delete_user(ann).unwrap();
    next_run(&test).await;

    let run = assert_succeeded(&test, &account, &integration, "401").await;
    assert!(run.notices.is_empty(), "{:?}", run.notices);
}

/// The winner of a merge has all its addresses, though the export does not show it.
#[tokio::test]
async fn merge_winner_has_addresses_hidden_by_export() {
    let test = TestApp::start_in(Worlds {
        zendesk: Some(|config| {
            config.quirks.merge_touches_winner = false;
            config.quirks.identity_change_touches_user = false;
        }),
        ..Worlds::default()
    })
    .await;
    let loser = test.zendesk.create_user(&json!({"name": "Ann", "email": "ann@example.com", "phone": OTHER})).unwrap();
    let winner =
        test.zendesk.create_user(&json!({"name": "Ann D.", "email": "ann.d@example.com", "phone": BRYCE})).unwrap();
    test.zendesk.add_identity(winner, &json!({"type": "email", "value": "ann@work.example"})).unwrap();
    let (account, _) = test.synced().await;

    test.zendesk.merge_users(loser, winner).unwrap();
    next_run(&test).await;

    let contact = selected(&test, &account, BRYCE).await.unwrap();
    let mut emails = contact.emails;
    emails.sort_unstable();
    assert_eq!(emails, ["ann.d@example.com", "ann@example.com", "ann@work.example"]);
    assert_holds(&test).await;
}

/// Everything by pages, then each by a look-up.
async fn pages_and_look_ups(
    test: &TestApp,
    provider: Provider,
    name: &str,
    token: AccessToken,
    api_url: Option<String>,
) {
    let organization = Organization { provider, name: name.to_owned() };
    let access = CrmAccess { api_url, ..CrmAccess::with(token) };
    let target = ClientTarget {
        is_trial: true,
        is_first_copy: true,
        is_beside: false,
        organization: &organization,
        options: Options::default(),
        access,
    };
    let client: Box<dyn CrmClient> = test.app.sync_context.crms.client(target).unwrap();
    let (mut paged, mut position) = (BTreeMap::<RecordKey, Record>::new(), None::<String>);
    loop {
        let page = client.fetch_page(position.as_deref(), PageEffort::Whole).await.unwrap();
        paged.extend(page.records.into_iter().map(|record| (record.key.clone(), record)));
        position = page.next;
        if page.is_last {
            break;
        }
    }
    let live: Vec<RecordKey> =
        paged.values().filter(|record| !record.is_gone).map(|record| record.key.clone()).collect();
    assert!(live.len() > 200, "{}", live.len());
    for keys in live.chunks(contact_sync::crm::LOOK_UP_MAX) {
        let sightings = client.look_up(keys).await.unwrap();
        assert_eq!(sightings.records.len(), keys.len(), "not all were found");
        for mut found in sightings.records {
            let mut expected = paged[&found.key].clone();
            assert!(found.answered_at.take().is_some() && expected.answered_at.is_none());
            for record in [&mut found, &mut expected] {
                record.emails.sort_unstable();
                record.numbers.sort_unstable_by(|a, b| a.raw.cmp(&b.raw));
            }
            assert_eq!(found, expected);
        }
    }
}

/// A record that is looked up equals the one of a page.
#[tokio::test]
async fn looked_up_record_equals_paged_one() {
    let test = TestApp::start().await;
    ZendeskCrm::generate(&test, 250, 7);
    SalesforceCrm::generate(&test, 250, 7);
    PipedriveCrm::generate(&test, 250, 7);
    let many = test.zendesk.create_user(&json!({"name": "Many", "email": "many@example.com", "phone": BRYCE})).unwrap();
    for n in 0..130 {
        test.zendesk.add_identity(many, &json!({"type": "email", "value": format!("many{n}@example.com")})).unwrap();
        test.zendesk
            .add_identity(many, &json!({"type": "phone_number", "value": format!("+4930901820{n:03}")}))
            .unwrap();
    }
    let acme = test.pipedrive.create_organization("Acme");
    test.pipedrive
        .create_person(&json!({"name": "Works at Acme", "org_id": acme, "phones": [{"value": OTHER}]}))
        .unwrap();

    let api_token = |provider, user: Option<&str>, token: &str| {
        AccessToken::new(provider, AccessSecret::ApiToken { user: user.map(Into::into), token: token.into() })
    };
    let basic = api_token(Provider::Zendesk, Some(zendesk::DEFAULT_EMAIL), zendesk::DEFAULT_API_TOKEN);
    pages_and_look_ups(&test, Provider::Zendesk, "acme", basic, None).await;
    let bearer = AccessToken::bearer(Provider::Salesforce, salesforce::DEFAULT_ACCESS_TOKEN.into());
    let url = test.config.providers.each[Provider::Salesforce].base_url.clone();
    pages_and_look_ups(&test, Provider::Salesforce, &salesforce::organization_id(), bearer, url).await;
    let token = api_token(Provider::Pipedrive, None, pipedrive::DEFAULT_API_TOKEN);
    pages_and_look_ups(&test, Provider::Pipedrive, pipedrive::COMPANY_DOMAIN, token, None).await;
}

fn lead(test: &TestApp, name: &str, phone: &str) -> String {
    test.salesforce.create("Lead", &json!({"LastName": name, "Company": "Acme", "Phone": phone})).unwrap()
}

fn contact(test: &TestApp, name: &str, phone: &str) -> String {
    test.salesforce.create("Contact", &json!({"LastName": name, "Phone": phone})).unwrap()
}

/// The log of deleted Leads alone stops nothing, and is read later from where it was.
#[tokio::test]
async fn failing_lead_deletion_log_is_read_later() {
    for fault in [Fault::ServerError, Fault::ForbiddenRole, Fault::Html, answer(410, "<html>gone</html>")] {
        let what = format!("{fault:?}");
        let test = TestApp::start().await;
        let (old, purged) = (contact(&test, "Old", BRYCE), lead(&test, "Purged", OTHER));
        let (account, integration) = copied::<SalesforceCrm>(&test).await;
        test.salesforce.faults().add(FaultRule::always("/Lead/deleted", fault)).unwrap();

        test.pass(PERIOD);
        test.salesforce.hard_delete("Lead", &purged).unwrap();
        test.salesforce.hard_delete("Contact", &old).unwrap();
        test.pass(PERIOD);
        test.sync_due().await;

        let run = assert_succeeded(&test, &account, &integration, &what).await;
        assert!(has_notice(&run, "DELETIONS_LEFT"), "{what}: {:?}", run.notices);
        assert!(selected(&test, &account, BRYCE).await.is_none(), "{what}: the other object's log was read");
        assert!(selected(&test, &account, OTHER).await.is_some(), "{what}");

        test.salesforce.faults().clear();
        next_run(&test).await;

        assert!(selected(&test, &account, OTHER).await.is_none(), "{what}");
        assert_holds(&test).await;
    }
}

/// Trouble with Leads does not stop Contacts, and `complete` does not lie.
#[tokio::test]
async fn lead_trouble_spares_contacts_but_leaves_incomplete() {
    for path in ["/sobjects/Lead/describe", "FROM+Lead"] {
        let test = TestApp::start().await;
        contact(&test, "Contact", BRYCE);
        lead(&test, "Lead", OTHER);
        let account = test.account().await;
        let integration = link::<SalesforceCrm>(&test, &account, SalesforceCrm::token()).await;
        test.salesforce.faults().add(FaultRule::always(path, Fault::ServerError)).unwrap();

        assert_eq!(test.sync_due().await, 1);

        let run = assert_succeeded(&test, &account, &integration, path).await;
        assert!(has_notice(&run, "OBJECT_LEFT"), "{path}: {:?}", run.notices);
        let answer = test.look_up(&account, OTHER).await;
        assert_eq!((answer.outcome(), answer.complete), (pb::MatchOutcome::NotKnownYet, false), "{path}");
        assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::InitialSync);
        assert!(selected(&test, &account, BRYCE).await.is_some(), "{path}");

        // Contacts go on meanwhile.
        let second = contact(&test, "Second", "+13105550143");
        next_run(&test).await;
        let found = selected(&test, &account, "+13105550143").await.unwrap();
        assert_eq!(found.records[0].record_id, second, "{path}");
        assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::InitialSync);

        test.salesforce.faults().clear();
        next_run(&test).await;
        assert!(selected(&test, &account, OTHER).await.is_some(), "{path}");
        assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active, "{path}");
        assert!(test.look_up(&account, "+13105550199").await.complete, "{path}");
        assert_holds(&test).await;
    }
}

/// Trouble with an object that is known keeps its checkpoint and what is promised.
#[tokio::test]
async fn troubled_known_object_keeps_checkpoint_and_promise() {
    let test = TestApp::start().await;
    contact(&test, "Contact", BRYCE);
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    let before = test.integration(&account, &integration).await.known_through;
    test.salesforce.faults().add(FaultRule::always("FROM+Contact", Fault::ServerError)).unwrap();
    let new = contact(&test, "New", "+13105550143");
    lead(&test, "Lead", OTHER);

    next_run(&test).await;

    let run = assert_succeeded(&test, &account, &integration, "contacts").await;
    assert!(has_notice(&run, "OBJECT_LEFT"), "{:?}", run.notices);
    assert!(selected(&test, &account, OTHER).await.is_some());
    let shown = test.integration(&account, &integration).await;
    assert_eq!((shown.known_through, shown.state()), (before, pb::IntegrationState::Active));

    test.salesforce.faults().clear();
    next_run(&test).await;

    assert_eq!(selected(&test, &account, "+13105550143").await.unwrap().records[0].record_id, new);
    assert!(time(test.integration(&account, &integration).await.known_through) > time(before));
}

/// Where Salesforce as a whole fails, no object is left out, and the run fails.
#[tokio::test]
async fn salesforce_failing_wholly_fails_run() {
    let test = TestApp::start().await;
    contact(&test, "Contact", BRYCE);
    let account = test.account().await;
    let integration = link::<SalesforceCrm>(&test, &account, SalesforceCrm::token()).await;
    test.salesforce.faults().add(FaultRule::always("/services/", Fault::Html)).unwrap();

    test.sync_due().await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Failed);
    assert!(run.notices.is_empty(), "{:?}", run.notices);
    test.salesforce.faults().clear();
    next_run(&test).await;
    assert!(selected(&test, &account, BRYCE).await.is_some());
}

/// A sweep that leaves Leads out deletes none of them.
#[tokio::test]
async fn sweep_leaving_leads_deletes_none() {
    let test = TestApp::start().await;
    contact(&test, "Contact", BRYCE);
    lead(&test, "Lead", OTHER);
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    test.salesforce.faults().add(FaultRule::always("FROM+Lead", Fault::ServerError)).unwrap();
    let request = pb::TriggerSyncRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        kind: pb::SyncKind::Sweep.into(),
        ..Default::default()
    };
    test.syncs().trigger_sync(request).await.unwrap();

    test.sync_due().await;

    let run = assert_succeeded(&test, &account, &integration, "sweep").await;
    assert!(has_notice(&run, "OBJECT_LEFT") && !has_notice(&run, "RECORDS_HIDDEN"), "{:?}", run.notices);
    assert!(selected(&test, &account, OTHER).await.is_some());
    test.salesforce.faults().clear();
    next_run(&test).await;
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
    assert!(selected(&test, &account, OTHER).await.is_some());
    assert_holds(&test).await;
}

/// Whatever Pipedrive answers for one person costs nobody else.
#[tokio::test]
async fn pipedrives_answers_for_one_cost_nobody_else() {
    for (fault, is_deleted) in [
        (answer(410, r#"{"success":false,"error":"Person is purged"}"#), true),
        (answer(410, "<html>gone</html>"), false),
        (answer(418, "{}"), false),
        (answer(200, "null"), false),
        (Fault::ServerError, false),
        (Fault::ForbiddenRole, false),
    ] {
        let what = format!("{fault:?}");
        let test = TestApp::start().await;
        let purged = PipedriveCrm::create(&test, "Purged", BRYCE);
        let (account, integration) = copied::<PipedriveCrm>(&test).await;
        test.pipedrive.delete_person(purged.parse().unwrap()).unwrap();
        PipedriveCrm::create(&test, "New", OTHER);
        test.pipedrive.faults().add(FaultRule::always(&format!("/api/v2/persons/{purged}"), fault)).unwrap();

        next_run(&test).await;

        assert_succeeded(&test, &account, &integration, &what).await;
        assert!(selected(&test, &account, OTHER).await.is_some(), "{what}");
        assert_eq!(selected(&test, &account, BRYCE).await.is_none(), is_deleted, "{what}");
        assert_holds(&test).await;
    }
}

/// Hints and names that Pipedrive does not give are told, and the run goes on.
#[tokio::test]
async fn missing_pipedrive_hints_and_names_are_told() {
    for (path, reason) in [("/v1/recents", "DELETIONS_LEFT"), ("/v2/organizations", "ORGANIZATIONS_LEFT")] {
        let test = TestApp::start().await;
        let (account, integration) = copied::<PipedriveCrm>(&test).await;
        let acme = test.pipedrive.create_organization("Acme");
        let person = json!({"name": "New", "org_id": acme, "phones": [{"value": OTHER}]});
        test.pipedrive.create_person(&person).unwrap();
        test.pipedrive.faults().add(FaultRule::always(path, Fault::ServerError)).unwrap();

        next_run(&test).await;

        let run = assert_succeeded(&test, &account, &integration, path).await;
        assert!(has_notice(&run, reason), "{path}: {:?}", run.notices);
        assert!(selected(&test, &account, OTHER).await.is_some(), "{path}");

        // The names come with the next full read, a day later at the latest.
        test.pipedrive.faults().clear();
        test.pass(TimeDelta::days(1));
        test.sync_due().await;
        test.pass(PERIOD);
        test.sync_due().await;
        assert_eq!(selected(&test, &account, OTHER).await.unwrap().organization, "Acme", "{path}");
    }
}

/// A count that is refused costs the estimate only.
#[tokio::test]
async fn refused_count_costs_only_estimate() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Ann", "phone": BRYCE})).unwrap();
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    test.zendesk.faults().add(FaultRule::always("/users/count", Fault::ServerError)).unwrap();

    test.sync_due().await;

    let run = assert_succeeded(&test, &account, &integration, "count").await;
    assert_eq!(run.estimated_total, 0);
}
