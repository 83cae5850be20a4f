//! What only Zendesk does: roles, identities, users deleted for good.

use chrono::TimeDelta;
use contact_sync::{domain::clock::Clock, rpc::pb};
use crm_simulator::{faults::Fault, gate::GateAt};
use serde_json::json;

use super::{
    behaviours::{assert_is_the_truth, copied, link, next_run},
    crm::{Crm, ZendeskCrm},
    passing_faults,
};
use crate::{
    histories::integrity::assert_holds,
    support::sync::{Beside, arrived, ask_update, time},
    support::{TestApp, Worlds},
};

const BRYCE: &str = "+13108675309";
const OTHER: &str = "+13105550142";

fn users(which: pb::ZendeskUsers) -> pb::IntegrationOptions {
    pb::IntegrationOptions { zendesk_users: which.into(), ..Default::default() }
}

/// Agents leave when only end users are wished, and come back.
#[tokio::test]
async fn agents_leave_for_end_users_and_return() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Agent", "role": "agent", "phone": OTHER})).unwrap();
    ZendeskCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<ZendeskCrm>(&test).await;
    let agent = test.look_up(&account, OTHER).await.selected.unwrap();

    ask_update(&test, &account, &integration, users(pb::ZendeskUsers::EndUsers), None).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    assert!(test.look_up(&account, OTHER).await.selected.is_none());
    assert!(test.look_up(&account, BRYCE).await.selected.is_some());

    // An agent who was treated as deleted has not changed since, and is asked for.
    test.pass(TimeDelta::seconds(1));
    ask_update(&test, &account, &integration, users(pb::ZendeskUsers::All), None).await.unwrap();
    assert_eq!(test.sync_due().await, 1);
    assert_eq!(test.look_up(&account, OTHER).await.selected.unwrap().id, agent.id);
    assert_is_the_truth::<ZendeskCrm>(&test, &integration).await;
}

/// An identity that the export never showed comes with the sweep.
#[tokio::test]
async fn unexported_identity_comes_with_sweep() {
    let worlds =
        Worlds { zendesk: Some(|config| config.quirks.identity_change_touches_user = false), ..Worlds::default() };
    let test = TestApp::start_in(worlds).await;
    let id = ZendeskCrm::create(&test, "Bryce Love", BRYCE);
    // Resuming is inclusive: whoever changed last comes again, with all identities.
    test.pass(TimeDelta::seconds(1));
    ZendeskCrm::create(&test, "Last", "+13105550100");
    let (account, integration) = copied::<ZendeskCrm>(&test).await;
    test.pass(TimeDelta::minutes(5));
    let identity = json!({"type": "phone_number", "value": OTHER});
    test.zendesk.add_identity(id.parse().unwrap(), &identity).unwrap();
    next_run(&test).await;
    assert!(test.look_up(&account, OTHER).await.selected.is_none());

    let sweep_at = time(test.integration(&account, &integration).await.next_sweep_time);
    test.pass(sweep_at - test.clock.now());
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(test.last_run(&account, &integration).await.kind(), pb::SyncKind::Sweep);
    assert_eq!(test.look_up(&account, OTHER).await.selected.unwrap().display_name, "Bryce Love");
    assert_is_the_truth::<ZendeskCrm>(&test, &integration).await;
}

/// A user that is deleted for good without a row is found missing by the sweep.
#[tokio::test]
async fn user_purged_without_row_is_swept() {
    let worlds = Worlds { zendesk: Some(|config| config.quirks.exports_purged_users = false), ..Worlds::default() };
    let test = TestApp::start_in(worlds).await;
    let id = ZendeskCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<ZendeskCrm>(&test).await;
    ZendeskCrm::delete(&test, &id);
    test.zendesk.purge_user(id.parse().unwrap()).unwrap();

    next_run(&test).await;
    assert!(test.look_up(&account, BRYCE).await.selected.is_some(), "the export has no row of it");
    let sweep_at = time(test.integration(&account, &integration).await.next_sweep_time);
    test.pass(sweep_at - test.clock.now());
    assert_eq!(test.sync_due().await, 1);

    assert!(test.look_up(&account, BRYCE).await.selected.is_none());
}

/// A user whose phone is null is copied, and loses the number that it had.
#[tokio::test]
async fn null_phone_user_is_copied_losing_number() {
    let test = TestApp::start().await;
    let id = ZendeskCrm::create(&test, "Bryce Love", BRYCE);
    let never = test.zendesk.create_user(&json!({"name": "No Phone", "phone": null})).unwrap();
    let (account, integration) = copied::<ZendeskCrm>(&test).await;
    assert!(ZendeskCrm::truth(&test)[&never.to_string()].keys.is_empty());
    assert_is_the_truth::<ZendeskCrm>(&test, &integration).await;

    test.pass(TimeDelta::minutes(5));
    let id = id.parse().unwrap();
    test.zendesk.update_user(id, &json!({"phone": null})).unwrap();
    let user = test.zendesk.true_user(id).unwrap();
    for identity in user.identities.iter().filter(|identity| identity.kind == "phone_number") {
        test.zendesk.delete_identity(user.id, identity.id).unwrap();
    }
    next_run(&test).await;

    assert!(test.look_up(&account, BRYCE).await.selected.is_none());
    assert_is_the_truth::<ZendeskCrm>(&test, &integration).await;
}

/// Roles that are narrowed during a first copy hold for what was read before, too.
#[tokio::test]
async fn narrowed_roles_hold_for_pages_already_read() {
    let test = TestApp::start().await;
    test.zendesk.create_user(&json!({"name": "Agent", "role": "agent", "phone": OTHER})).unwrap();
    // With agents among them, on the first page too.
    ZendeskCrm::generate(&test, ZendeskCrm::PAGE_SIZE, 21);
    let account = test.account().await;
    let integration = link::<ZendeskCrm>(&test, &account, ZendeskCrm::token()).await;
    let gate = ZendeskCrm::faults(&test).gate(ZendeskCrm::PAGES, 1, GateAt::Response).unwrap();
    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;

    ask_update(&test, &account, &integration, users(pb::ZendeskUsers::EndUsers), None).await.unwrap();
    gate.open();
    run.ended().await;
    // What the change asks for comes without a wait for half an hour.
    assert_eq!(test.sync_due().await, 1);

    assert!(test.look_up(&account, OTHER).await.selected.is_none());
    assert!(agents(&test) > 1);
    let live = test.db.number("select count(*) from external_refs where is_live").await;
    assert_eq!(live, i64::try_from(ZendeskCrm::truth(&test).len()).unwrap() - agents(&test));
    assert_holds(&test).await;
}

fn agents(test: &TestApp) -> i64 {
    let agents = test.zendesk.oracle().into_iter().filter(|user| user.active && user.role != "end-user");
    i64::try_from(agents.count()).unwrap()
}

passing_faults! { ZendeskCrm:
    a_429_in_text_with_a_time_to_wait: Fault::RateLimited { retry_after_seconds: Some(1) },
    a_429_without_a_time: Fault::RateLimited { retry_after_seconds: None },
    a_server_error: Fault::ServerError,
    a_503_in_html: Fault::Unavailable { retry_after_seconds: None },
    an_empty_page_that_is_not_the_end: Fault::EmptyPage { advance: true },
    a_cursor_that_stays_where_it_is_once: Fault::StuckCursor,
    the_same_user_on_two_pages: Fault::RepeatPrevious,
    half_a_body: Fault::Truncate,
    a_page_in_html: Fault::Html,
    a_connection_that_breaks: Fault::Reset { after_bytes: Some(1_000) },
    a_silent_server: Fault::Hang,
}
