//! Reading contacts: one by id, dead or alive, and the pages of an account or of a number.

use std::collections::BTreeSet;

use contact_sync::rpc::pb::{self, ListContactsRequest};
use rand::RngExt;
use tonic::Code;

use crate::{
    support::calls::{dice, id_of, ids_of, refusal, seeds},
    support::{TestApp, field},
};

const BRYCE: &str = "+13108675309";

/// Every page, by its token.
async fn all_pages(
    test: &TestApp,
    account: &str,
    number: &str,
    mut page_size: impl FnMut() -> i32,
) -> Vec<pb::Contact> {
    let mut contacts: Vec<pb::Contact> = Vec::new();
    let mut page_token = String::new();
    loop {
        let size = page_size();
        let request = ListContactsRequest {
            default_region: String::new(),
            account_id: account.into(),
            phone_number: number.into(),
            page_size: size,
            page_token: page_token.clone(),
        };
        let page = test.contacts().list_contacts(request).await.unwrap().into_inner();
        assert!(page.contacts.len() <= usize::try_from(size).unwrap());
        assert!(!page.contacts.is_empty() || contacts.is_empty(), "a page that was promised is empty");
        contacts.extend(page.contacts);
        if page.next_page_token.is_empty() {
            return contacts;
        }
        page_token = page.next_page_token;
    }
}

/// Paging shows every contact once, whatever the pages' sizes.
#[tokio::test]
async fn paging_shows_each_once_at_any_size() {
    let test = TestApp::start().await;
    for n in 0..60 {
        let number = if n % 2 == 0 { BRYCE.into() } else { format!("+1310555{n:04}") };
        test.user(&format!("Person {n}"), &number);
    }
    let (account, integration) = test.synced().await;
    test.minutes(1);
    for n in 60..75 {
        test.user(&format!("Person {n}"), BRYCE);
    }
    test.trigger(&account, &integration).await;

    for seed in seeds(5) {
        let mut dice = dice(seed);
        for (number, expected) in [("", 75), (BRYCE, 45)] {
            let contacts = all_pages(&test, &account, number, || dice.random_range(1..=20)).await;
            let ids: BTreeSet<&str> = ids_of(&contacts).into_iter().collect();
            assert_eq!((contacts.len(), ids.len()), (expected, expected), "{number}");
        }
    }
    let by_number = all_pages(&test, &account, BRYCE, || 7).await;
    let ranks: Vec<_> = by_number.iter().map(|c| (c.create_time.unwrap().seconds, c.id.as_str())).collect();
    assert!(ranks.is_sorted(), "the order of a match");
}

/// Contacts that come and go between pages neither repeat nor hide others.
#[tokio::test]
async fn changing_pages_neither_repeat_nor_hide_contacts() {
    let test = TestApp::start().await;
    for n in 0..30 {
        test.user(&format!("Person {n}"), BRYCE);
    }
    let (account, integration) = test.synced().await;
    let before = test.list_contacts(&account, BRYCE).await;
    let request = |page_token: String| ListContactsRequest {
        default_region: String::new(),
        account_id: account.clone(),
        phone_number: BRYCE.into(),
        page_size: 10,
        page_token,
    };
    let first = test.contacts().list_contacts(request(String::new())).await.unwrap().into_inner();
    // The very contact that the token points at, and one that was shown.
    for gone in [9, 3] {
        test.zendesk.delete_user(before[gone].records[0].record_id.parse().unwrap()).unwrap();
    }
    test.minutes(1);
    test.user("Newcomer", BRYCE);
    test.trigger(&account, &integration).await;

    let second = test.contacts().list_contacts(request(first.next_page_token)).await.unwrap().into_inner();

    assert_eq!(ids_of(&first.contacts), ids_of(&before[..10]));
    assert_eq!(ids_of(&second.contacts), ids_of(&before[10..20]));
}

#[tokio::test]
async fn page_sizes_have_a_default_and_a_limit() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(250, 1).unwrap();
    let (account, _) = test.synced().await;

    for (page_size, expected) in [(0, 50), (1, 1), (200, 200), (201, 200), (i32::MAX, 200)] {
        let request = ListContactsRequest { account_id: account.clone(), page_size, ..Default::default() };
        let page = test.contacts().list_contacts(request).await.unwrap().into_inner();
        assert_eq!((page.contacts.len(), page.next_page_token.is_empty()), (expected, false), "{page_size}");
    }
}

/// A tombstone is told by its id, and leaves every list.
#[tokio::test]
async fn tombstone_is_told_by_id_and_unlisted() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let (account, integration) = test.synced().await;
    let alive = test.look_up(&account, BRYCE).await.selected.unwrap();
    test.minutes(1);
    test.zendesk.delete_user(user.parse().unwrap()).unwrap();
    test.trigger(&account, &integration).await;

    let dead = test.contact(&account, &alive.id).await;

    assert_eq!((dead.id.as_str(), dead.create_time), (alive.id.as_str(), alive.create_time));
    assert!(dead.delete_time.is_some() && dead.survivor_id.is_empty());
    assert!(dead.display_name.is_empty() && dead.numbers.is_empty() && dead.emails.is_empty());
    assert!(dead.records.iter().all(|record| !record.is_live));
    assert!(test.list_contacts(&account, "").await.is_empty());
    assert!(test.list_contacts(&account, BRYCE).await.is_empty());
}

#[tokio::test]
async fn placeholders_are_listed_and_found_by_number() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let stranger = id_of(test.ask(&account, "+13105550100", "").await.selected.as_ref());

    assert_eq!(ids_of(&test.list_contacts(&account, "").await), [stranger.as_str()]);
    assert_eq!(ids_of(&test.list_contacts(&account, "310 555 0100").await), [stranger.as_str()]);
}

/// A number that cannot be read and an unknown contact are refused.
#[tokio::test]
async fn unreadable_number_and_unknown_contact_are_refused() {
    let test = TestApp::start().await;
    let account = test.account().await;
    for number in ["hello", "anonymous", "911"] {
        let request =
            ListContactsRequest { account_id: account.clone(), phone_number: number.into(), ..Default::default() };
        let refused = test.contacts().list_contacts(request).await.unwrap_err();
        assert_eq!((refused.code(), field(&refused).as_str()), (Code::InvalidArgument, "phone_number"), "{number}");
    }
    let request =
        pb::GetContactRequest { account_id: account, contact_id: "01234567-89ab-7def-8123-456789abcdef".into() };
    let refused = test.contacts().get_contact(request).await.unwrap_err();

    assert_eq!(refusal(&refused), (Code::NotFound, "CONTACT_NOT_FOUND".to_owned()));
}
