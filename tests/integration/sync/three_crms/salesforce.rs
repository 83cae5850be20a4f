//! What only Salesforce does: Leads beside Contacts, conversions, merges that name the winner,
//! field-level security, bulk jobs.

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use crm_simulator::faults::{Fault, FaultRule};
use serde_json::json;

use super::{
    behaviours::{assert_is_the_truth, copied, link, next_run},
    crm::{Crm, SalesforceCrm},
    passing_faults,
};
use crate::{
    support::calls::outbound,
    support::sync::ask_update,
    support::{Subject, TestApp, Worlds, call, error_of, reason},
};

const BRYCE: &str = "+13108675309";
const OTHER: &str = "+13105550142";

fn lead(test: &TestApp, name: &str, phone: &str) -> String {
    test.salesforce.create("Lead", &json!({"LastName": name, "Company": "Acme", "Phone": phone})).unwrap()
}

async fn look_up(test: &TestApp, account: &str, number: &str) -> Option<pb::Contact> {
    test.look_up(account, number).await.selected
}

async fn requester(test: &TestApp, account: &str, integration: &str, number: &str) -> (pb::RequesterOutcome, String) {
    let resolved = test.resolve(account, integration, Subject::PhoneNumber(number.into())).await;
    (resolved.outcome(), resolved.record.map(|record| record.record_id).unwrap_or_default())
}

fn leads(copy: pb::Switch, mirror_deletions: pb::Switch) -> pb::IntegrationOptions {
    let wishes = pb::ObjectOptions { copy: copy.into(), mirror_deletions: mirror_deletions.into() };
    pb::IntegrationOptions { salesforce_leads: Some(wishes), ..Default::default() }
}

fn click(account: &str, integration: &str, object_type: &str, record_id: &str) -> pb::PreRegisterContactRequest {
    pb::PreRegisterContactRequest {
        account_id: account.into(),
        integration_id: integration.into(),
        object_type: object_type.into(),
        record_id: record_id.into(),
        phone_number: BRYCE.into(),
        display_name: "As Clicked".into(),
        ..Default::default()
    }
}

/// Contacts and Leads are copied with every number but the assistant's.
#[tokio::test]
async fn every_number_but_assistants_is_copied() {
    let test = TestApp::start().await;
    let fields = json!({"LastName": "Love", "FirstName": "Bryce", "Phone": "(310)-867-5309", "MobilePhone": "310 555 0101",
        "HomePhone": "310 555 0102", "OtherPhone": "310 555 0103", "AssistantPhone": "310 555 0104", "Fax": "310 555 0105"});
    test.salesforce.create("Contact", &fields).unwrap();
    lead(&test, "Lead", OTHER);

    let (account, integration) = copied::<SalesforceCrm>(&test).await;

    let bryce = look_up(&test, &account, BRYCE).await.unwrap();
    assert_eq!(bryce.display_name, "Bryce Love");
    let labels: Vec<&str> = bryce.numbers.iter().map(|number| number.label.as_str()).collect();
    assert_eq!(labels, ["Phone", "MobilePhone", "HomePhone", "OtherPhone", "Fax"]);
    assert!(look_up(&test, &account, "+13105550104").await.is_none(), "the assistant's number names nobody");
    let lead = look_up(&test, &account, OTHER).await.unwrap();
    assert_eq!((lead.records[0].object_type.as_str(), lead.organization.as_str()), ("Lead", "Acme"));
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}

/// Leads that are switched on later are all copied by the next run.
#[tokio::test]
async fn leads_switched_on_later_are_all_copied() {
    let test = TestApp::start().await;
    lead(&test, "Old Lead", OTHER);
    let account = test.account().await;
    let request = pb::EnableSyncRequest {
        account_id: account.clone(),
        provider: pb::Provider::Salesforce.into(),
        connection: Some(SalesforceCrm::connection()),
        credentials: Some(SalesforceCrm::token()),
        options: Some(leads(pb::Switch::Off, pb::Switch::Unspecified)),
        ..Default::default()
    };
    let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id;
    assert_eq!(test.sync_due().await, 1);
    assert!(look_up(&test, &account, OTHER).await.is_none());
    test.pass(TimeDelta::hours(20));

    let on = leads(pb::Switch::On, pb::Switch::Unspecified);
    ask_update(&test, &account, &integration, on, None).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    assert!(look_up(&test, &account, OTHER).await.is_some());
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}

#[tokio::test]
async fn nothing_to_copy_is_refused() {
    let test = TestApp::start().await;
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    let off = Some(pb::ObjectOptions { copy: pb::Switch::Off.into(), ..Default::default() });
    let options = pb::IntegrationOptions { salesforce_contacts: off, salesforce_leads: off, ..Default::default() };

    let refused = ask_update(&test, &account, &integration, options, None).await.unwrap_err();

    assert_eq!(crate::support::field(&refused), "options");
}

#[tokio::test]
async fn a_converted_lead_leads_to_its_contact() {
    let test = TestApp::start().await;
    let lead_id = lead(&test, "Love", BRYCE);
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    let mut request = call(&account, BRYCE);
    request.call_id = "call-1".into();
    let as_lead = test.match_caller(request).await.selected.unwrap();
    assert_eq!(
        requester(&test, &account, &integration, BRYCE).await,
        (pb::RequesterOutcome::Resolved, lead_id.clone())
    );

    test.pass(TimeDelta::minutes(5));
    let contact_id = test.salesforce.convert_lead(&lead_id, None).unwrap();
    next_run(&test).await;

    let as_contact = look_up(&test, &account, BRYCE).await.unwrap();
    assert_eq!(
        requester(&test, &account, &integration, BRYCE).await,
        (pb::RequesterOutcome::Resolved, contact_id.clone())
    );
    let buried = test.contact(&account, &as_lead.id).await;
    assert_eq!(buried.survivor_id, as_contact.id, "the Lead's contact is an alias of the Contact's");
    assert!(as_contact.records.iter().any(|record| record.record_id == lead_id && !record.is_live));
    assert_eq!(as_contact.create_time, as_lead.create_time, "first created is as old as the Lead");
    // The call that was the Lead's is the Contact's now.
    let resolved = test.resolve(&account, &integration, Subject::CallId("call-1".into())).await;
    assert_eq!(resolved.record.unwrap().record_id, contact_id);
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}

/// A Lead that is converted into a Contact that is known adds nobody.
#[tokio::test]
async fn lead_converted_into_known_contact_adds_nobody() {
    let test = TestApp::start().await;
    let lead_id = lead(&test, "Love", BRYCE);
    let contact_id = SalesforceCrm::create(&test, "Love", BRYCE);
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    assert_eq!(test.look_up(&account, BRYCE).await.candidates.len(), 2);

    test.pass(TimeDelta::minutes(5));
    test.salesforce.convert_lead(&lead_id, Some(&contact_id)).unwrap();
    next_run(&test).await;

    let found = test.look_up(&account, BRYCE).await;
    assert_eq!((found.outcome(), found.candidates.len()), (pb::MatchOutcome::Matched, 1));
    assert_eq!(requester(&test, &account, &integration, BRYCE).await, (pb::RequesterOutcome::Resolved, contact_id));
}

/// A chain of merges leads to its end in one step, and an undelete undoes its own.
#[tokio::test]
async fn merge_chain_reaches_end_undelete_undoes_own() {
    let test = TestApp::start().await;
    let [a, b, c] = ["+13105550101", "+13105550102", "+13105550103"]
        .map(|number| SalesforceCrm::create(&test, &format!("P {number}"), number));
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    let mut contacts = Vec::new();
    for number in ["+13105550101", "+13105550102", "+13105550103"] {
        contacts.push(look_up(&test, &account, number).await.unwrap().id);
    }

    test.pass(TimeDelta::minutes(5));
    SalesforceCrm::merge(&test, &a, &b);
    next_run(&test).await;
    assert_eq!(test.contact(&account, &contacts[0]).await.survivor_id, contacts[1]);
    test.pass(TimeDelta::minutes(5));
    SalesforceCrm::merge(&test, &b, &c);
    next_run(&test).await;
    assert_eq!(test.contact(&account, &contacts[0]).await.survivor_id, contacts[2]);
    assert_eq!(test.contact(&account, &contacts[1]).await.survivor_id, contacts[2]);

    test.pass(TimeDelta::minutes(5));
    SalesforceCrm::restore(&test, &b);
    next_run(&test).await;

    assert!(test.contact(&account, &contacts[1]).await.delete_time.is_none(), "b lives again");
    assert_eq!(test.contact(&account, &contacts[0]).await.survivor_id, contacts[1], "and has its alias back");
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}

/// A loser whose winner was never copied waits for it.
#[tokio::test]
async fn loser_waits_for_winner_never_copied() {
    let test = TestApp::start().await;
    let loser = SalesforceCrm::create(&test, "Loser", OTHER);
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    let loser_contact = look_up(&test, &account, OTHER).await.unwrap().id;
    test.pass(TimeDelta::minutes(5));
    // Invisible to queries for now, as a long transaction is.
    let winner = SalesforceCrm::create(&test, "Winner", BRYCE);
    test.salesforce.hide(&winner).unwrap();
    SalesforceCrm::merge(&test, &loser, &winner);
    next_run(&test).await;
    assert!(test.contact(&account, &loser_contact).await.survivor_id.is_empty());

    test.salesforce.reveal(&winner).unwrap();
    SalesforceCrm::rename(&test, &winner, "Winner at Last");
    next_run(&test).await;

    let winner_contact = look_up(&test, &account, BRYCE).await.unwrap();
    assert_eq!(test.contact(&account, &loser_contact).await.survivor_id, winner_contact.id);
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}

/// A row that is deleted for good shows in the list of deletions.
#[tokio::test]
async fn row_deleted_for_good_is_listed_deleted() {
    let test = TestApp::start().await;
    let id = SalesforceCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    test.pass(TimeDelta::minutes(5));

    test.salesforce.hard_delete("Contact", &id).unwrap();
    next_run(&test).await;

    assert!(look_up(&test, &account, BRYCE).await.is_none());
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}

/// With deletions off, a contact names the caller and is no requester, until they are switched on.
#[tokio::test]
async fn unmirrored_deletion_names_caller_is_no_requester() {
    let test = TestApp::start().await;
    let id = lead(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    let off = leads(pb::Switch::Unspecified, pb::Switch::Off);
    ask_update(&test, &account, &integration, off, None).await.unwrap();
    test.sync_due().await;
    test.pass(TimeDelta::minutes(5));
    test.salesforce.delete("Lead", &id).unwrap();
    next_run(&test).await;
    next_run(&test).await;

    assert!(look_up(&test, &account, BRYCE).await.is_some());
    assert_eq!(requester(&test, &account, &integration, BRYCE).await.0, pb::RequesterOutcome::NotFound);

    test.pass(TimeDelta::hours(3));
    let on = leads(pb::Switch::Unspecified, pb::Switch::On);
    ask_update(&test, &account, &integration, on, None).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(test.last_run(&account, &integration).await.kind(), pb::SyncKind::Incremental, "no sweep is needed");
    assert!(look_up(&test, &account, BRYCE).await.is_none());
}

/// Deletions are confirmed, though answers by ids are shorter than asked for.
#[tokio::test]
async fn deletions_are_confirmed_by_short_answers_too() {
    let worlds = Worlds { salesforce: Some(|config| config.page_rows_max = 2), ..Worlds::default() };
    let test = TestApp::start_in(worlds).await;
    let ids: Vec<String> = (0..7).map(|n| SalesforceCrm::create(&test, &format!("P {n}"), OTHER)).collect();
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    test.pass(TimeDelta::minutes(5));
    for id in &ids[..5] {
        SalesforceCrm::delete(&test, id);
    }
    test.salesforce.hard_delete("Contact", &ids[5]).unwrap();

    next_run(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}

/// Deletions from before the log are found by a sweep.
#[tokio::test]
async fn deletions_before_log_are_found_by_sweep() {
    let test = TestApp::start().await;
    let id = SalesforceCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    test.salesforce.hard_delete("Contact", &id).unwrap();
    SalesforceCrm::faults(&test).add(FaultRule::once("/deleted/", Fault::ReplicationTooOld)).unwrap();

    next_run(&test).await;
    assert!(look_up(&test, &account, BRYCE).await.is_some());
    // A sweep became due, and does not wait for half an hour.
    assert_eq!(test.sync_due().await, 1);

    assert_eq!(test.last_run(&account, &integration).await.kind(), pb::SyncKind::Sweep);
    assert!(look_up(&test, &account, BRYCE).await.is_none());
}

/// Hidden fields and objects are not asked for, and the run says so.
#[tokio::test]
async fn hidden_fields_and_objects_are_told() {
    let worlds = Worlds {
        salesforce: Some(|config| {
            config.hidden_fields = vec![("Contact".to_owned(), "MobilePhone".to_owned())];
            config.has_leads = false;
        }),
        ..Worlds::default()
    };
    let test = TestApp::start_in(worlds).await;
    SalesforceCrm::create(&test, "Bryce Love", BRYCE);

    let (account, integration) = copied::<SalesforceCrm>(&test).await;

    assert!(look_up(&test, &account, BRYCE).await.is_some());
    let run = test.last_run(&account, &integration).await;
    assert!(
        run.notices.iter().any(|notice| notice.to_string().starts_with("FIELD_HIDDEN: Contact.MobilePhone")),
        "{:?}",
        run.notices
    );
    assert!(
        run.notices.iter().any(|notice| notice.to_string().starts_with("OBJECT_HIDDEN: Lead")),
        "{:?}",
        run.notices
    );
}

passing_faults! { SalesforceCrm:
    too_many_requests_at_once: Fault::RateLimited { retry_after_seconds: None },
    a_locator_that_has_expired: Fault::LocatorGone,
    a_query_that_takes_too_long: Fault::QueryTimeout,
    fewer_rows_than_asked_for_that_are_not_done: Fault::ShortPage { rows: 3 },
    the_same_row_on_two_pages: Fault::RepeatPrevious,
    a_503_in_html: Fault::Unavailable { retry_after_seconds: None },
    a_server_error: Fault::ServerError,
    half_a_body: Fault::Truncate,
    a_page_in_html: Fault::Html,
    a_connection_that_breaks: Fault::Reset { after_bytes: Some(2_000) },
}

#[tokio::test]
async fn refusals_that_last_are_told_in_words() {
    for (fault, expected, state) in [
        (Fault::ApiDisabled, "CRM_ACCOUNT_CLOSED", pb::IntegrationState::Active),
        (Fault::Unauthorized, "CREDENTIALS_REFUSED", pb::IntegrationState::Active),
        (Fault::DailyLimit, "DAILY_LIMIT", pb::IntegrationState::QuotaPaused),
    ] {
        let test = TestApp::start().await;
        let (account, integration) = copied::<SalesforceCrm>(&test).await;
        let shown = format!("{fault:?}");
        SalesforceCrm::faults(&test).add(FaultRule::always(SalesforceCrm::PAGES, fault)).unwrap();

        next_run(&test).await;

        let run = test.last_run(&account, &integration).await;
        assert!(error_of(&run).starts_with(expected), "{shown}: {}", error_of(&run));
        assert_eq!(test.integration(&account, &integration).await.state(), state, "{shown}");
    }
}

#[tokio::test]
async fn credentials_of_another_organisation_are_refused() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let mut connection = SalesforceCrm::connection();
    connection.organization = Some(pb::connection::Organization::SalesforceOrgId("00Dx0000000BV7z".into()));
    let request = pb::EnableSyncRequest {
        account_id: account,
        provider: pb::Provider::Salesforce.into(),
        connection: Some(connection),
        credentials: Some(SalesforceCrm::token()),
        ..Default::default()
    };

    let refused = test.syncs().enable_sync(request).await.unwrap_err();

    assert_eq!(reason(&refused), "OTHER_ORGANIZATION");
}

/// Click and sync of one record are one contact, in every order.
#[tokio::test]
async fn clicked_and_synced_record_is_one_contact() {
    for order in ["click first", "sync first", "click during the run"] {
        let test = TestApp::start().await;
        SalesforceCrm::generate(&test, SalesforceCrm::PAGE_SIZE, 13);
        let id = SalesforceCrm::create(&test, "Bryce Love", BRYCE);
        let account = test.account().await;
        let integration = link::<SalesforceCrm>(&test, &account, SalesforceCrm::token()).await;
        // The adapter may know the short form of the id.
        let request = click(&account, &integration, "Contact", &id[..15]);
        let register = async || test.callers().pre_register_contact(request.clone()).await.unwrap().into_inner();

        let clicked = match order {
            "click first" => {
                let clicked = register().await;
                assert_eq!(test.sync_due().await, 1);
                clicked
            }
            "sync first" => {
                assert_eq!(test.sync_due().await, 1);
                register().await
            }
            _ => {
                let gate = SalesforceCrm::faults(&test)
                    .gate(SalesforceCrm::PAGES, 1, crm_simulator::gate::GateAt::Response)
                    .unwrap();
                let run = crate::support::sync::Beside::start(&test.app);
                crate::support::sync::arrived(&gate, 1).await;
                let clicked = register().await;
                gate.open();
                assert_eq!(run.ended().await, 1);
                clicked
            }
        };

        let found = test.look_up(&account, BRYCE).await;
        assert_eq!(found.candidates.len(), 1, "{order}");
        let caller = found.selected.unwrap();
        assert_eq!(caller.id, clicked.contact.unwrap().id, "{order}");
        assert_eq!(caller.display_name, "Bryce Love", "{order}: the sync's name wins");
        assert_eq!(
            requester(&test, &account, &integration, BRYCE).await,
            (pb::RequesterOutcome::Resolved, id),
            "{order}"
        );
        assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
    }
}

#[tokio::test]
async fn a_person_account_is_its_contact() {
    let worlds = Worlds { salesforce: Some(|config| config.has_person_accounts = true), ..Worlds::default() };
    let test = TestApp::start_in(worlds).await;
    let fields = json!({"LastName": "Love", "FirstName": "Bryce", "Phone": BRYCE});
    let account_record = test.salesforce.create("Account", &fields).unwrap();

    let (account, integration) = copied::<SalesforceCrm>(&test).await;

    let caller = look_up(&test, &account, BRYCE).await.unwrap();
    assert!(caller.records[0].record_id.starts_with("003"));
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
    let request = click(&account, &integration, "Account", &account_record);
    let refused = test.callers().pre_register_contact(request).await.unwrap_err();
    assert!(refused.message().contains("003"), "{}", refused.message());
}

/// Numbers are read in the country of the record's address, also after a move and for a click.
#[tokio::test]
async fn numbers_are_read_in_address_country() {
    const BERLIN: &str = "+4930123456";
    let test = TestApp::start().await;
    let create = |object, fields| test.salesforce.create(object, &fields).unwrap();
    let ada = create("Contact", json!({"LastName": "Ada", "Phone": "030 123456", "MailingCountry": "Germany"}));
    create("Lead", json!({"LastName": "Bryce", "Company": "Acme", "Phone": "020 7946 0018", "Country": "UK"}));
    create("Contact", json!({"LastName": "Home", "Phone": "(310) 867-5309", "MailingCountry": "France"}));
    let (account, integration) = copied::<SalesforceCrm>(&test).await;
    let name_of = async |number: &str| look_up(&test, &account, number).await.map(|contact| contact.display_name);
    let names = async || [name_of(BERLIN).await, name_of("+442079460018").await, name_of(BRYCE).await];
    let expected = ["Ada", "Bryce", "Home"].map(|name| Some(name.to_owned()));

    assert_eq!(names().await, expected);
    assert_eq!(name_of("+10301234560").await, None, "no number of the account's region is made of it");

    let clicked = pb::PreRegisterContactRequest {
        phone_number: "030 654321".into(),
        ..click(&account, &integration, "Contact", &ada)
    };
    test.callers().pre_register_contact(clicked).await.unwrap();
    let dialled = test.match_caller(outbound(&account, "+4930654321", "call-1", "")).await;
    assert_eq!(dialled.tier(), pb::MatchTier::Clicked, "a click is read there, too");
    assert_eq!(dialled.selected.unwrap().display_name, "Ada");

    // The account moves: only what was read at home is read again, and no longer as an American
    // number.
    let request = pb::UpdateAccountRequest {
        account_id: account.clone(),
        account: Some(pb::Account { default_region: "AT".into(), ..Default::default() }),
        update_mask: None,
    };
    test.accounts().update_account(request).await.unwrap();
    test.app.number_reparser.reparse_due().await.unwrap();
    assert_eq!([name_of(BERLIN).await, name_of("+442079460018").await], expected[..2]);
    assert_eq!(name_of(BRYCE).await, None);
}
