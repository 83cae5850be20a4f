//! Records that could not be read, at each CRM: listed with why and with what was sent, asked for
//! again, traced, and forgotten when they are over.

use chrono::TimeDelta;
use contact_sync::rpc::pb::{self, RecordFate};
use crm_simulator::faults::{Fault, FaultRule};

use super::{
    behaviours::{copied, next_run},
    crm::Crm,
};
use crate::{
    support::sync::{ask_disable, ask_trigger},
    support::{TestApp, error_of},
};

const NUMBER: &str = "+13108675307";
const NAME: &str = "Zebulon Broken";

/// A record whose every copy says of its time what nobody can read, wherever the rule applies; its
/// id.
fn break_one<C: Crm>(test: &TestApp, paths: &str) -> String {
    test.pass(TimeDelta::seconds(7));
    let id = C::create(test, NAME, NUMBER);
    // The last record of a run may come again with the next one, as those of the last minutes do.
    test.pass(TimeDelta::seconds(1));
    C::create(test, "Ann Sound", "+13108675301");
    test.pass(TimeDelta::minutes(30));
    C::faults(test).add(FaultRule::always(paths, unreadable())).unwrap();
    id
}

fn unreadable() -> Fault {
    Fault::Bytes { replace: vec![("T09:00:07".to_owned(), b" at seven ".to_vec())] }
}

/// A record whose number comes as something that is none.
fn lose_number_of_one<C: Crm>(test: &TestApp) -> String {
    let id = C::create(test, NAME, NUMBER);
    let replace = vec![(format!("\"{NUMBER}\""), b"true".to_vec())];
    C::faults(test).add(FaultRule::always("", Fault::Bytes { replace })).unwrap();
    id
}

async fn read_everything(test: &TestApp, account: &str, integration: &str, kind: pb::SyncKind) -> pb::SyncRun {
    test.pass(TimeDelta::minutes(1));
    let asked = ask_trigger(test, account, integration, |request| request.set_kind(kind)).await.unwrap();
    assert_eq!(test.sync_due().await, 1);
    let run = test.run(account, &asked.sync_run.unwrap().id).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    run
}

/// A record that cannot be read is listed with why and what was sent.
pub async fn unreadable_record_is_listed_with_why_and_content<C: Crm>() {
    let test = TestApp::start().await;
    let id = break_one::<C>(&test, C::PAGES);
    let (account, integration) = copied::<C>(&test).await;

    let listed = test.rejected(&account, &integration).await;
    let traced = test.trace(&account, &integration, C::OBJECT_TYPE, &id).await;

    let [rejected] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((rejected.object_type.as_str(), rejected.record_id.as_str()), (C::OBJECT_TYPE, id.as_str()));
    assert_eq!((rejected.reason.as_str(), rejected.is_copied), ("TIME_UNREADABLE", false));
    assert!(!rejected.fields.is_empty() && rejected.times_seen == 1 && !rejected.is_retried);
    assert!(rejected.raw.contains(NAME) && rejected.raw.contains("at seven"), "{}", rejected.raw);
    assert_eq!(rejected.sync_run_id, test.last_run(&account, &integration).await.id);
    assert_eq!((traced.fate(), traced.contact_id.as_str()), (RecordFate::Rejected, ""));
    assert_eq!(traced.rejected.as_ref(), Some(rejected));
    // Met again it is one more run's, and the same.
    read_everything(&test, &account, &integration, pb::SyncKind::Initial).await;
    let again = test.rejected(&account, &integration).await;
    assert_eq!((again.len(), again[0].times_seen), (1, 2));
    assert_eq!(again[0].first_seen_time, rejected.first_seen_time);
    assert_ne!(again[0].last_seen_time, rejected.last_seen_time);
}

pub async fn rejected_record_is_forgotten_when_it_comes_whole<C: Crm>() {
    let test = TestApp::start().await;
    let id = break_one::<C>(&test, C::PAGES);
    let (account, integration) = copied::<C>(&test).await;
    assert_eq!(test.rejected(&account, &integration).await.len(), 1);

    C::faults(&test).clear();
    C::rename(&test, &id, "Zebulon Whole");
    next_run(&test).await;

    assert!(test.rejected(&account, &integration).await.is_empty());
    let traced = test.trace(&account, &integration, C::OBJECT_TYPE, &id).await;
    let named = test.look_up(&account, NUMBER).await.selected.unwrap();
    assert_eq!((traced.fate(), traced.contact_id), (RecordFate::Applied, named.id));
    assert!(traced.rejected.is_none() && traced.update_time.is_some() && traced.known_through.is_some());
}

pub async fn retried_record_that_was_mended_is_copied<C: Crm>() {
    let test = TestApp::start().await;
    break_one::<C>(&test, C::PAGES);
    let (account, integration) = copied::<C>(&test).await;
    C::faults(&test).clear();
    test.pass(TimeDelta::minutes(1));

    let answer = test.retry(&account, &integration, "", "").await;

    assert_eq!((answer.retried, answer.already_running), (1, false));
    assert!(test.rejected(&account, &integration).await[0].is_retried);
    assert_eq!(test.sync_due().await, 1);
    let run = test.run(&account, &answer.sync_run.unwrap().id).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    let told = run.notices.iter().find(|notice| notice.to_string().starts_with("REJECTED_RETRIED: 1 ")).unwrap();
    assert!(told.message.contains("1 are copied now"), "{told}");
    assert!(test.rejected(&account, &integration).await.is_empty());
    assert_eq!(test.look_up(&account, NUMBER).await.outcome(), pb::MatchOutcome::Matched);
}

/// A retried record that still cannot be read stays, and is asked for once.
pub async fn still_unreadable_retry_stays_asked_once<C: Crm>() {
    let test = TestApp::start().await;
    let id = break_one::<C>(&test, "");
    let (account, integration) = copied::<C>(&test).await;
    let first = test.rejected(&account, &integration).await;
    test.pass(TimeDelta::minutes(1));

    let answer = test.retry(&account, &integration, C::OBJECT_TYPE, &id).await;
    assert_eq!((answer.retried, test.sync_due().await), (1, 1));

    let run = test.run(&account, &answer.sync_run.unwrap().id).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    assert!(
        run.notices.iter().any(|notice| notice.to_string().contains("1 still cannot be read")),
        "{:?}",
        run.notices
    );
    let after = test.rejected(&account, &integration).await;
    assert_eq!((after.len(), after[0].times_seen, after[0].is_retried), (1, 2, false));
    assert_eq!(after[0].first_seen_time, first[0].first_seen_time);
    assert_eq!(after[0].reason, "TIME_UNREADABLE");
    // Nobody wishes it again.
    next_run(&test).await;
    let run = test.last_run(&account, &integration).await;
    assert!(!run.notices.iter().any(|notice| notice.to_string().contains("REJECTED_RETRIED")), "{:?}", run.notices);
}

pub async fn retried_record_that_is_gone_is_forgotten<C: Crm>() {
    let test = TestApp::start().await;
    let id = break_one::<C>(&test, C::PAGES);
    let (account, integration) = copied::<C>(&test).await;
    test.pass(TimeDelta::minutes(1));
    C::delete(&test, &id);

    assert_eq!(test.retry(&account, &integration, "", "").await.retried, 1);
    assert_eq!(test.sync_due().await, 1);

    let run = test.last_run(&account, &integration).await;
    assert!(run.notices.iter().any(|notice| notice.to_string().contains(" 1 are gone")), "{:?}", run.notices);
    assert!(test.rejected(&account, &integration).await.is_empty());
    assert_eq!(test.look_up(&account, NUMBER).await.outcome(), pb::MatchOutcome::NotFound);
}

/// A record that a sweep's list shows, and nobody can read, is not taken for one that did not come.
pub async fn known_record_that_a_sweep_cannot_read_stays<C: Crm>() {
    let test = TestApp::start().await;
    let id = break_one::<C>(&test, "/none");
    let (account, integration) = copied::<C>(&test).await;
    C::faults(&test).add(FaultRule::always(C::PAGES, unreadable())).unwrap();

    let run = read_everything(&test, &account, &integration, pb::SyncKind::Sweep).await;

    assert_eq!(run.counts.unwrap().rejected, 1);
    assert!(
        run.notices.iter().any(|notice| notice.to_string().starts_with("RECORDS_REJECTED: 1 ")),
        "{:?}",
        run.notices
    );
    assert!(!run.notices.iter().any(|notice| notice.to_string().starts_with("RECORDS_HIDDEN")), "{:?}", run.notices);
    assert_eq!(test.look_up(&account, NUMBER).await.outcome(), pb::MatchOutcome::Matched);
    let traced = test.trace(&account, &integration, C::OBJECT_TYPE, &id).await;
    assert_eq!((traced.fate(), traced.contact_id.is_empty()), (RecordFate::Rejected, false));
    // The next one reads it.
    C::faults(&test).clear();
    read_everything(&test, &account, &integration, pb::SyncKind::Sweep).await;
    assert!(test.rejected(&account, &integration).await.is_empty());
}

/// A rejected record that a full read does not meet is forgotten.
/// One that is not in the CRM any more is known by a full read, and by nothing less.
pub async fn rejected_record_missing_from_full_read_is_forgotten<C: Crm>() {
    for kind in [pb::SyncKind::Initial, pb::SyncKind::Sweep] {
        let test = TestApp::start().await;
        let id = break_one::<C>(&test, C::PAGES);
        let (account, integration) = copied::<C>(&test).await;
        test.db.execute("update rejected_records set record_key = '4711'").await;
        next_run(&test).await;
        assert_eq!(test.rejected(&account, &integration).await.len(), 1);

        read_everything(&test, &account, &integration, kind).await;

        let listed = test.rejected(&account, &integration).await;
        let ids: Vec<&str> = listed.iter().map(|rejected| rejected.record_id.as_str()).collect();
        assert_eq!(ids, [id.as_str()], "{kind:?}");
    }
}

/// A record that has lost a value is listed as copied, until it comes whole.
pub async fn record_missing_value_is_listed_as_copied<C: Crm>() {
    let test = TestApp::start().await;
    let id = lose_number_of_one::<C>(&test);
    let (account, integration) = copied::<C>(&test).await;

    let listed = test.rejected(&account, &integration).await;
    let traced = test.trace(&account, &integration, C::OBJECT_TYPE, &id).await;

    let [rejected] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((rejected.record_id.as_str(), rejected.reason.as_str()), (id.as_str(), "VALUE_UNREADABLE"));
    assert!(rejected.is_copied && rejected.raw.contains(NAME), "{rejected:?}");
    assert_eq!((traced.fate(), traced.contact_id.is_empty()), (RecordFate::Applied, false));
    assert_eq!(traced.rejected.as_ref(), Some(rejected));
    // Mended without a change in the CRM, it comes with the next try.
    C::faults(&test).clear();
    test.pass(TimeDelta::minutes(1));
    assert_eq!(test.retry(&account, &integration, "", "").await.retried, 1);
    assert_eq!(test.sync_due().await, 1);
    assert!(test.rejected(&account, &integration).await.is_empty());
    assert_eq!(test.look_up(&account, NUMBER).await.outcome(), pb::MatchOutcome::Matched);
}

/// A rejected record goes with its erased person, and does not come back.
pub async fn rejected_record_goes_with_erased_person<C: Crm>() {
    let test = TestApp::start().await;
    let id = lose_number_of_one::<C>(&test);
    let (account, integration) = copied::<C>(&test).await;
    let traced = test.trace(&account, &integration, C::OBJECT_TYPE, &id).await;
    assert_eq!(test.rejected(&account, &integration).await.len(), 1);

    test.erase(&account, &traced.contact_id).await;

    assert!(test.rejected(&account, &integration).await.is_empty());
    read_everything(&test, &account, &integration, pb::SyncKind::Initial).await;
    read_everything(&test, &account, &integration, pb::SyncKind::Sweep).await;
    assert!(test.rejected(&account, &integration).await.is_empty());
    let traced = test.trace(&account, &integration, C::OBJECT_TYPE, &id).await;
    assert_eq!((traced.fate(), traced.contact_id.as_str()), (RecordFate::Erased, ""));
}

pub async fn rejected_records_go_with_a_purge<C: Crm>() {
    let test = TestApp::start().await;
    break_one::<C>(&test, C::PAGES);
    let (account, integration) = copied::<C>(&test).await;
    assert_eq!(test.rejected(&account, &integration).await.len(), 1);

    ask_disable(&test, &account, &integration, pb::CopiedData::Purge).await.unwrap();
    assert_eq!(test.sync_due().await, 1);

    assert!(test.rejected(&account, &integration).await.is_empty());
    assert_eq!(test.rows(&account, "rejected_records").await, 0);
}
