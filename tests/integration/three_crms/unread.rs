//! What a CRM sends that cannot be read: it costs itself alone, and is told.

use contact_sync::{
    rpc::pb,
    simulator::faults::{Fault, Rule},
};

use super::{behaviours::copied, crm::Crm};
use crate::support::TestApp;

fn replacing(text: &str, other: &[u8]) -> Fault {
    Fault::Bytes { replace: vec![(text.to_owned(), other.to_vec())] }
}

fn notice<'r>(run: &'r pb::SyncRun, reason: &str) -> Option<&'r str> {
    run.notices.iter().map(String::as_str).find(|notice| notice.starts_with(&format!("{reason}: ")))
}

/// One bad byte ends no page, and no record is lost for it.
pub async fn bad_byte_and_half_a_surrogate_cost_a_character<C: Crm>() {
    let test = TestApp::start().await;
    C::create(&test, "Jose Broken", "+13108675301");
    C::create(&test, "Ann Sound", "+13108675302");
    C::faults(&test).add(Rule::once(C::PAGES, replacing("Jose", b"Jos\xe9\\ud83d"))).unwrap();

    let (account, integration) = copied::<C>(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", run.error);
    assert_eq!(run.counts.unwrap().rejected, 0);
    assert!(notice(&run, "CHARACTERS_REPLACED").is_some(), "{:?}", run.notices);
    let named = test.look_up(&account, "+13108675301").await.selected.unwrap();
    assert!(named.display_name.starts_with("Jos\u{fffd}\u{fffd}"), "{}", named.display_name);
    assert_eq!(test.look_up(&account, "+13108675302").await.outcome(), pb::MatchOutcome::Matched);
}

/// A number that comes as a JSON number is read; one that comes as something else is told, and its record is there.
pub async fn number_of_another_kind_is_read_or_told<C: Crm>() {
    let test = TestApp::start().await;
    C::create(&test, "Ann", "+13108675301");
    C::create(&test, "Bob", "+13108675302");
    let faults = [replacing("\"+13108675301\"", b"13108675301"), replacing("\"+13108675302\"", b"true")];
    for fault in faults {
        C::faults(&test).add(Rule::once(C::PAGES, fault)).unwrap();
    }

    let (account, integration) = copied::<C>(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", run.error);
    let counts = run.counts.as_ref().unwrap();
    assert_eq!((counts.created, counts.rejected), (2, 0));
    let told = notice(&run, "VALUES_UNREADABLE").unwrap();
    assert!(told.contains("VALUE_UNREADABLE") && !told.contains("Bob") && !told.contains("310867"), "{told}");
    assert_eq!(test.look_up(&account, "+13108675301").await.outcome(), pb::MatchOutcome::Matched);
}
