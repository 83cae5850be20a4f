//! Who comes first of several contacts with one number: the account's policy, the same on every
//! replica and page; a click and a selection win for their call.

use contact_sync::rpc::pb::{self, MatchPolicy, Provider};
use serde_json::json;

use crate::{
    support::TestApp,
    support::calls::{CONTACT_15, ORG, click_on, id_of, ids_of},
};

const LINE: &str = "+13108675309";

impl TestApp {
    pub async fn set_policy(&self, account_id: &str, policy: MatchPolicy, preferred: &str) {
        let request = pb::UpdateAccountRequest {
            account_id: account_id.into(),
            account: Some(pb::Account {
                match_policy: policy.into(),
                preferred_integration_id: preferred.into(),
                ..Default::default()
            }),
            update_mask: None,
        };
        let account = self.accounts().update_account(request).await.unwrap().into_inner().account.unwrap();
        assert_eq!((account.match_policy(), account.preferred_integration_id.as_str()), (policy, preferred));
    }
}

/// Three in Zendesk on one line, and one in Salesforce: (account, Zendesk, Salesforce, contacts by
/// age).
async fn shared_line(test: &TestApp) -> (String, String, String, Vec<String>) {
    for name in ["Ann", "Ben", "Cid"] {
        test.user(name, LINE);
    }
    let (account, zendesk) = test.synced().await;
    test.minutes(1);
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    let dora = test.clicked(click_on(&account, &salesforce, "Contact", CONTACT_15, LINE)).await;
    let mut contacts: Vec<String> = test.list_contacts(&account, LINE).await.into_iter().map(|c| c.id).collect();
    assert_eq!((contacts.len(), contacts.last()), (4, Some(&dora.id)));
    contacts.sort();
    (account, zendesk, salesforce, contacts)
}

/// What every replica says, and every size of page.
async fn order(test: &TestApp, account: &str) -> (Vec<String>, String) {
    // A fresh replica has no cached rules.
    let replica = test.replica(|_| {}).await;
    let here = replica.look_up(account, LINE).await;
    for size in [1, 2, 3, 200] {
        let (mut listed, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListContactsRequest {
                default_region: String::new(),
                account_id: account.into(),
                phone_number: LINE.into(),
                page_size: size,
                page_token,
            };
            let page = replica.contacts().list_contacts(request).await.unwrap().into_inner();
            listed.extend(page.contacts.into_iter().map(|contact| contact.id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, ids_of(&here.candidates), "pages of {size}");
    }
    assert_eq!(id_of(here.selected.as_ref()), here.candidates[0].id);
    (here.candidates.into_iter().map(|contact| contact.id).collect(), here.rule)
}

#[tokio::test]
async fn by_default_the_first_created_comes_first() {
    let test = TestApp::start().await;
    let (account, _, _, contacts) = shared_line(&test).await;

    assert_eq!(order(&test, &account).await, (contacts, "first_created".to_owned()));
}

/// The contact that was last selected for the number comes first; another number's selection does
/// not count.
#[tokio::test]
async fn last_selected_for_number_comes_first() {
    let test = TestApp::start().await;
    let (account, _, _, contacts) = shared_line(&test).await;
    test.set_policy(&account, MatchPolicy::LastSelected, "").await;
    assert_eq!(order(&test, &account).await, (contacts.clone(), "last_selected".to_owned()));

    for chosen in [2, 1] {
        test.ask(&account, LINE, &format!("call-{chosen}")).await;
        test.select(&account, &format!("call-{chosen}"), &contacts[chosen]).await;
        test.minutes(1);
        let (ids, _) = order(&test, &account).await;
        assert_eq!(ids[0], contacts[chosen]);
    }
    // A selection for another number says nothing of this one.
    test.ask(&account, "+13105550100", "call-9").await;
    test.select(&account, "call-9", &contacts[2]).await;
    assert_eq!(order(&test, &account).await.0[0], contacts[1]);
}

#[tokio::test]
async fn the_last_updated_in_its_crm_comes_first() {
    let test = TestApp::start().await;
    let (account, zendesk, _, contacts) = shared_line(&test).await;
    test.set_policy(&account, MatchPolicy::LastUpdated, "").await;
    for n in [1, 2, 0] {
        test.minutes(1);
        let record = test.contact(&account, &contacts[n]).await.records[0].record_id.parse().unwrap();
        test.zendesk.update_user(record, &json!({"notes": "x", "name": format!("Person {n}")})).unwrap();
        test.trigger(&account, &zendesk).await;

        let (ids, rule) = order(&test, &account).await;
        assert_eq!((&ids[0], rule.as_str()), (&contacts[n], "last_updated"));
        // A record that only a click has told of has no update time, and comes last.
        assert_eq!(ids[3], contacts[3]);
    }
}

#[tokio::test]
async fn contacts_of_the_preferred_integration_come_first() {
    let test = TestApp::start().await;
    let (account, _, salesforce, contacts) = shared_line(&test).await;
    test.set_policy(&account, MatchPolicy::PreferredIntegration, &salesforce).await;

    let expected = [&contacts[3], &contacts[0], &contacts[1], &contacts[2]].map(Clone::clone).to_vec();
    assert_eq!(order(&test, &account).await, (expected, "preferred_integration".to_owned()));
}

/// A page goes on though the last of the one before is gone, and no page of another policy does.
#[tokio::test]
async fn page_survives_lost_contact_not_policy_change() {
    let test = TestApp::start().await;
    let (account, zendesk, _, contacts) = shared_line(&test).await;
    test.set_policy(&account, MatchPolicy::LastUpdated, "").await;
    let page = async |page_token: String| {
        let request = pb::ListContactsRequest {
            default_region: String::new(),
            account_id: account.clone(),
            phone_number: LINE.into(),
            page_size: 2,
            page_token,
        };
        // A fresh replica has no cached rules.
        test.replica(|_| {}).await.contacts().list_contacts(request).await
    };
    let first = page(String::new()).await.unwrap().into_inner();
    assert_eq!(ids_of(&first.contacts), contacts[..2]);
    let record = first.contacts[1].records[0].record_id.parse().unwrap();
    test.minutes(1);
    test.zendesk.delete_user(record).unwrap();
    test.trigger(&account, &zendesk).await;

    let second = page(first.next_page_token.clone()).await.unwrap().into_inner();

    assert_eq!(ids_of(&second.contacts), contacts[2..]);
    assert_eq!(second.next_page_token, "");
    test.set_policy(&account, MatchPolicy::LastSelected, "").await;
    let refused = page(first.next_page_token).await.unwrap_err();
    assert!(refused.message().contains("page_token"), "{}", refused.message());
}

/// A click and a selection win for their call, under every policy.
#[tokio::test]
async fn click_and_selection_win_under_every_policy() {
    let test = TestApp::start().await;
    let (account, _, salesforce, contacts) = shared_line(&test).await;
    for (n, (policy, preferred)) in [
        (MatchPolicy::FirstCreated, ""),
        (MatchPolicy::LastSelected, ""),
        (MatchPolicy::LastUpdated, ""),
        (MatchPolicy::PreferredIntegration, salesforce.as_str()),
    ]
    .into_iter()
    .enumerate()
    {
        test.set_policy(&account, policy, preferred).await;
        // Each replica makes the same ids in the same millisecond.
        test.minutes(6);
        let replica = test.replica(|_| {}).await;
        let call = format!("call-{n}");
        replica.ask(&account, LINE, &call).await;
        replica.select(&account, &call, &contacts[2]).await;
        let repeated = replica.ask(&account, LINE, &call).await;
        assert_eq!(id_of(repeated.selection.as_ref()), contacts[2], "{policy:?}");

        let record = test.contact(&account, &contacts[1]).await.records[0].clone();
        replica.click(click_on(&account, &record.integration_id, "user", &record.record_id, LINE)).await;
        let dialled = replica.dial(&account, LINE, &format!("out-{n}"), "").await;
        assert_eq!((id_of(dialled.selected.as_ref()), dialled.rule.as_str()), (contacts[1].clone(), "clicked"));
    }
}

/// A policy ranks the first two hundred, and pages go on behind them.
#[tokio::test]
async fn policy_ranks_two_hundred_pages_go_behind() {
    let test = TestApp::start().await;
    for n in 0..230 {
        test.user(&format!("Person {n}"), LINE);
    }
    let (account, _) = test.synced().await;
    let oldest = test.list_contacts(&account, LINE).await;
    test.ask(&account, LINE, "call-1").await;
    test.select(&account, "call-1", &oldest[150].id).await;
    test.set_policy(&account, MatchPolicy::LastSelected, "").await;
    let replica = test.replica(|_| {}).await;

    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListContactsRequest {
            default_region: String::new(),
            account_id: account.clone(),
            phone_number: LINE.into(),
            page_size: 37,
            page_token,
        };
        let page = replica.contacts().list_contacts(request).await.unwrap().into_inner();
        listed.extend(page.contacts.into_iter().map(|contact| contact.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(listed[0], oldest[150].id);
    let mut once = listed.clone();
    once.sort();
    once.dedup();
    assert_eq!((listed.len(), once.len()), (230, 230));
}
