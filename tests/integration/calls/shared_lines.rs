//! A line that ten thousand contacts share: the answer of a call stays small and says how much it
//! leaves out, the rest can be listed without a gap, and whoever has a number of his own does not
//! notice.

use std::collections::BTreeSet;

use contact_sync::rpc::pb::{self, MatchOutcome};
use prost::Message;
use tonic::{Code, Status};

use crate::{
    operations::plans::{ACCOUNT, HOT, LEAN, QUIET, SHARING, explain, load, session},
    support::calls::{call_with_id, ids_of, refusal},
    support::sync::time,
    support::{Subject, TestApp, db::TestDb},
};

/// With a few who do not share the line.
const CONTACTS: i64 = 10_100;
/// Twenty contacts of one number and one record each, and the one of them that is named.
const PLAIN_BYTES_MAX: usize = 16 * 1024;
/// As many of the largest that there may be.
const LARGEST_BYTES_MAX: usize = 1024 * 1024;
const PAGE: i32 = 200;

fn hot() -> String {
    format!("+{HOT}")
}

/// An account whose contacts share a line, many of them made in one moment, as those of one page
/// are.
async fn shared() -> TestApp {
    let test = TestApp::start().await;
    test.db.execute(&load(ACCOUNT, CONTACTS, SHARING)).await;
    test.db
        .execute(
            "update contacts set created_at = date_trunc('hour', created_at);
            update phone_numbers set contact_created_at = date_trunc('hour', contact_created_at)",
        )
        .await;
    test
}

async fn page(test: &TestApp, page_size: i32, token: &str) -> Result<pb::ListContactsResponse, Status> {
    let request = pb::ListContactsRequest {
        default_region: String::new(),
        account_id: ACCOUNT.into(),
        phone_number: hot(),
        page_size,
        page_token: token.into(),
    };
    Ok(test.contacts().list_contacts(request).await?.into_inner())
}

/// Ten thousand on one line are answered with twenty, and a count that says that it is capped.
#[tokio::test]
async fn crowded_line_answers_twenty_and_capped_count() {
    let test = shared().await;

    for call_id in ["", "call-hot", "call-hot"] {
        let answer = test.match_caller(call_with_id(ACCOUNT, &hot(), call_id)).await;

        assert_eq!(answer.outcome(), MatchOutcome::Ambiguous);
        assert_eq!((answer.candidates.len(), answer.total, answer.total_is_capped), (20, 200, true));
        assert_eq!(answer.selected.as_ref(), answer.candidates.first());
        assert!(answer.encoded_len() < PLAIN_BYTES_MAX, "{} bytes", answer.encoded_len());
    }
    let integration = test.match_caller(call_with_id(ACCOUNT, &hot(), "")).await.sources[0].integration_id.clone();
    let resolved = test.resolve(ACCOUNT, &integration, Subject::PhoneNumber(hot())).await;
    assert_eq!((resolved.outcome(), resolved.candidates.len()), (pb::RequesterOutcome::Ambiguous, 20));
    let quiet = test.match_caller(call_with_id(ACCOUNT, "+13105550050", "call-quiet")).await;
    assert_eq!((quiet.outcome(), quiet.total), (MatchOutcome::Matched, 1));
}

/// Ten thousand on one line are listed in the order of the match, without gap or repeat.
#[tokio::test]
async fn crowded_line_lists_in_match_order() {
    let test = shared().await;
    let answer = test.match_caller(call_with_id(ACCOUNT, &hot(), "")).await;

    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let page = page(&test, PAGE, &token).await.unwrap();
        assert!(page.contacts.len() <= usize::try_from(PAGE).unwrap());
        listed.extend(page.contacts);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }

    assert_eq!(i64::try_from(listed.len()).unwrap(), SHARING);
    assert_eq!(ids_of(&listed).into_iter().collect::<BTreeSet<_>>().len(), listed.len());
    assert!(listed.is_sorted_by_key(|contact| (time(contact.create_time), contact.id.clone())));
    assert_eq!(ids_of(&listed)[..20], ids_of(&answer.candidates));
    assert!(listed.iter().all(|contact| contact.numbers.iter().any(|number| number.e164 == hot())));
}

/// An answer with the largest contacts that there may be is bounded.
#[tokio::test]
async fn answer_with_largest_contacts_is_bounded() {
    let test = shared().await;
    // 64 numbers and 32 addresses are kept of a record.
    test.db
        .execute(&format!(
            "update contacts set display_name = repeat('n', 255), organization = repeat('o', 255),
                emails = (select array_agg(repeat('e', 240) || n || '@example.com') from generate_series(1, 32) n);
            insert into phone_numbers (account_id, contact_id, integration_id, object_type, record_id, position, raw, region, e164,
                key_version, extension, label, is_placeholder, contact_created_at)
            select account_id, contact_id, integration_id, object_type, record_id, n, repeat('9', 250), region, null,
                key_version, '', repeat('l', 40), false, contact_created_at
            from (select * from phone_numbers where e164 = {HOT} order by contact_created_at, contact_id limit {PAGE}) largest
            cross join generate_series(1, 63) n"
        ))
        .await;

    let answer = test.match_caller(call_with_id(ACCOUNT, &hot(), "call-hot")).await;
    let too_large = page(&test, PAGE, "").await.unwrap_err();
    let smaller = page(&test, PAGE / 2, "").await.unwrap();

    assert_eq!((answer.candidates.len(), answer.candidates[19].numbers.len()), (20, 64));
    assert!(answer.encoded_len() < LARGEST_BYTES_MAX, "{} bytes", answer.encoded_len());
    // A list of them is refused by name, and a smaller one is not.
    assert_eq!(refusal(&too_large), (Code::ResourceExhausted, "ANSWER_TOO_LARGE".to_owned()));
    assert_eq!(i32::try_from(smaller.contacts.len()).unwrap(), PAGE / 2);
}

/// What a look-up of a number of one's own takes, in an account of which so many share another.
async fn cost_of_a_quiet_number(sharing: i64) -> (Vec<(String, String)>, i64) {
    let db = TestDb::create().await;
    db.execute(&load(ACCOUNT, 20_000, sharing)).await;
    db.execute("analyze").await;
    let mut session = session(&db).await;
    let values = format!("'{ACCOUNT}', {QUIET}, 'call-1'");
    let plan = explain(&mut session, LEAN.0, LEAN.1, &values).await;
    (plan.nodes, plan.buffers)
}

/// A number of one's own is found the same way beside a line of ten thousand.
#[tokio::test]
async fn own_number_costs_same_beside_crowded_line() {
    let (alone, beside) = (cost_of_a_quiet_number(0).await, cost_of_a_quiet_number(SHARING).await);

    assert_eq!(alone.0, beside.0, "another plan");
    // A page of an index more or less is where its rows happen to lie.
    assert!(beside.1 <= alone.1 + 3, "{} pages beside a shared line, {} without", beside.1, alone.1);
}
