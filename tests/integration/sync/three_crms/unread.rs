//! What a CRM sends that cannot be read: it costs itself alone, and is told.

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use crm_simulator::faults::{Fault, FaultRule};

use super::{behaviours::copied, crm::Crm};
use crate::support::{Subject, TestApp, error_of};

const BOB: &str = "+13108675302";
const STRANGER: &str = "+13108675304";

fn replacing(text: &str, other: &[u8]) -> Fault {
    Fault::Bytes { replace: vec![(text.to_owned(), other.to_vec())] }
}

fn notice<'r>(run: &'r pb::SyncRun, reason: &str) -> Option<&'r str> {
    run.notices.iter().find(|notice| notice.reason == reason).map(|notice| notice.message.as_str())
}

/// A bad byte and half a surrogate cost a character.
/// One bad byte ends no page, and no record is lost for it.
pub async fn bad_byte_or_half_surrogate_costs_character<C: Crm>() {
    let test = TestApp::start().await;
    C::create(&test, "Jose Broken", "+13108675301");
    C::create(&test, "Ann Sound", "+13108675302");
    C::faults(&test).add(FaultRule::once(C::PAGES, replacing("Jose", b"Jos\xe9\\ud83d"))).unwrap();

    let (account, integration) = copied::<C>(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    assert_eq!(run.counts.unwrap().rejected, 0);
    assert!(notice(&run, "CHARACTERS_REPLACED").is_some(), "{:?}", run.notices);
    let named = test.look_up(&account, "+13108675301").await.selected.unwrap();
    assert!(named.display_name.starts_with("Jos\u{fffd}\u{fffd}"), "{}", named.display_name);
    assert_eq!(test.look_up(&account, "+13108675302").await.outcome(), pb::MatchOutcome::Matched);
}

/// A number that comes as a JSON number is read; one that comes as something else is told, and its
/// record is there.
pub async fn number_of_another_kind_is_read_or_told<C: Crm>() {
    let test = TestApp::start().await;
    C::create(&test, "Ann", "+13108675301");
    C::create(&test, "Bob", "+13108675302");
    let faults = [replacing("\"+13108675301\"", b"13108675301"), replacing("\"+13108675302\"", b"true")];
    for fault in faults {
        C::faults(&test).add(FaultRule::once(C::PAGES, fault)).unwrap();
    }

    let (account, integration) = copied::<C>(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    let counts = run.counts.as_ref().unwrap();
    assert_eq!((counts.created, counts.rejected), (2, 0));
    let told = notice(&run, "VALUES_UNREADABLE").unwrap();
    assert!(told.contains("VALUE_UNREADABLE") && !told.contains("Bob") && !told.contains("310867"), "{told}");
    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::Matched);
}

/// Bob is in the CRM, and an increment that cannot read him, or his number, has ended.
async fn lost<C: Crm>(sent: &str, other: &[u8]) -> (TestApp, String, String, String) {
    let test = TestApp::start().await;
    C::create(&test, "Ann", "+13108675301");
    let (account, integration) = copied::<C>(&test).await;
    assert!(test.look_up(&account, BOB).await.complete);
    let bob = C::create(&test, "Bob", BOB);
    test.pass(TimeDelta::minutes(31));
    let rule = C::faults(&test).add(FaultRule::once(C::PAGES, replacing(sent, other))).unwrap();

    assert_eq!(test.sync_due().await, 1);

    assert!(C::faults(&test).fired(rule) > 0);
    for number in [BOB, STRANGER] {
        let answer = test.look_up(&account, number).await;
        let source = &answer.sources[0];
        assert_eq!((answer.outcome(), answer.complete), (pb::MatchOutcome::NotKnownYet, false));
        assert_eq!((source.state(), source.has_unread), (pb::IntegrationState::Active, true));
        assert!(source.note.contains("could not be read"), "{}", source.note);
        let resolved = test.resolve(&account, &integration, Subject::PhoneNumber(number.into())).await;
        assert_eq!(resolved.outcome(), pb::RequesterOutcome::NotKnownYet);
        assert!(resolved.note.contains("could not be read"), "{}", resolved.note);
    }
    (test, account, integration, bob)
}

async fn assert_is_whole(test: &TestApp, account: &str, bob: &str) {
    let named = test.look_up(account, BOB).await;
    assert!(named.complete && !named.sources[0].has_unread && named.sources[0].note.is_empty());
    assert_eq!(named.selected.unwrap().records[0].record_id, bob);
    assert_eq!(test.look_up(account, STRANGER).await.outcome(), pb::MatchOutcome::NotFound);
}

/// A lost number makes answers incomplete until its record is read again.
pub async fn lost_number_leaves_incomplete_until_record_reread<C: Crm>() {
    let (test, account, integration, bob) = lost::<C>(&format!("\"{BOB}\""), b"true").await;

    test.retry(&account, &integration, "", "").await;
    assert_eq!(test.sync_due().await, 1);

    assert_is_whole(&test, &account, &bob).await;
}

/// A lost record makes answers incomplete until everything is read, a day later.
pub async fn lost_record_leaves_incomplete_until_daily_reread<C: Crm>() {
    let time = format!("\"{}\":\"", C::CHANGED_AT);
    let (test, account, _, bob) = lost::<C>(&time, format!("{time}?").as_bytes()).await;

    test.pass(TimeDelta::hours(24));
    assert_eq!(test.sync_due().await, 1);

    assert_is_whole(&test, &account, &bob).await;
}
