//! When things change and when they show: during a run, in one second, late, and in older copies.

use chrono::TimeDelta;
use crm_simulator::faults::{Fault, FaultRule, VendorCall};

use super::{
    behaviours::{PERIOD, assert_is_the_truth, copied, next_run, next_run_with_deletions, selected},
    crm::Crm,
};
use crate::support::TestApp;

const BRYCE: &str = "+13108675309";
const OTHER: &str = "+13105550142";

pub async fn change_during_a_pass_is_not_lost<C: Crm>() {
    let test = TestApp::start().await;
    C::generate(&test, C::PAGE_SIZE + 100, 2);
    let first = C::truth(&test).into_keys().next().unwrap();
    let bystander = C::create(&test, "Bystander", OTHER);
    // While the second page is asked for, somebody on the first one is renamed.
    let (method, path, body) = C::call_to_rename(&first, "Renamed Meanwhile");
    let calls = vec![VendorCall { method: method.into(), path, body: Some(body) }];
    C::faults(&test).add(FaultRule { skip: 1, ..FaultRule::once(C::PAGES, Fault::Apply { calls }) }).unwrap();

    let (_, integration) = copied::<C>(&test).await;
    C::rename(&test, &bystander, "Renamed Later");
    next_run(&test).await;
    next_run(&test).await;

    assert_eq!(C::truth(&test)[&first].name, "Renamed Meanwhile");
    assert_is_the_truth::<C>(&test, &integration).await;
}

pub async fn ties_at_a_page_boundary_lose_nobody<C: Crm>() {
    let test = TestApp::start().await;
    let (_, integration) = copied::<C>(&test).await;
    test.pass(TimeDelta::minutes(5));
    // The clock stands still: all of them changed in one second, and more than a page holds.
    for n in 0..C::PAGE_SIZE + 5 {
        C::create(&test, &format!("Twin {n}"), &format!("+1310555{:04}", n % 10_000));
    }

    next_run(&test).await;

    assert_eq!(C::truth(&test).len(), C::PAGE_SIZE + 5);
    assert_is_the_truth::<C>(&test, &integration).await;
}

/// The CRM as it most likely is.
async fn likely<C: Crm>() -> TestApp {
    TestApp::start_in(C::worlds().swap_remove(0)).await
}

pub async fn row_that_becomes_visible_late_is_not_lost<C: Crm>() {
    let test = likely::<C>().await;
    C::create(&test, "Early", OTHER);
    test.pass(TimeDelta::minutes(5));
    let (account, integration) = copied::<C>(&test).await;
    test.pass(PERIOD - TimeDelta::seconds(3));
    let late = C::create_unseen(&test, "Late", BRYCE);
    test.pass(TimeDelta::seconds(3));
    assert_eq!(test.sync_due().await, 1);
    assert!(selected(&test, &account, BRYCE).await.is_none(), "not visible yet");
    C::let_see(&test, &late);

    next_run(&test).await;

    assert_eq!(selected(&test, &account, BRYCE).await.unwrap().display_name, "Late");
    assert_is_the_truth::<C>(&test, &integration).await;
}

/// A change in the very second of a run is not lost.
pub async fn change_in_very_second_of_pass_is_kept<C: Crm>() {
    let test = likely::<C>().await;
    let first = C::create(&test, "First", BRYCE);
    C::create(&test, "Second", OTHER);
    test.pass(TimeDelta::minutes(5));
    let (_, integration) = copied::<C>(&test).await;
    for run in 0..3 {
        test.pass(PERIOD);
        C::rename(&test, &first, &format!("Before run {run}"));
        assert_eq!(test.sync_due().await, 1);
        // The clock has not moved: the same second, and the same watermark.
        C::rename(&test, &first, &format!("After run {run}"));
        C::create(&test, &format!("After {run}"), OTHER);
    }

    next_run(&test).await;

    assert_is_the_truth::<C>(&test, &integration).await;
}

/// An older copy of a record that is gone does not bring it back.
pub async fn older_copy_of_gone_record_revives_nobody<C: Crm>() {
    let test = TestApp::start_in(C::world_that_lists_the_gone()).await;
    let bryce = C::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<C>(&test).await;
    test.pass(TimeDelta::minutes(5));
    C::delete(&test, &bryce);
    // One page holds both: the record as it is now, gone, and behind it a copy from before, alive.
    let rule = C::faults(&test).add(FaultRule::once(C::PAGES, Fault::StaleRow { id: None })).unwrap();

    next_run(&test).await;

    assert_eq!(C::faults(&test).fired(rule), 1);
    assert!(test.last_run(&account, &integration).await.counts.unwrap().skipped >= 1, "the copy came");
    assert!(selected(&test, &account, BRYCE).await.is_none());
    assert_is_the_truth::<C>(&test, &integration).await;
}

/// A copy as old as the deletion, to the second, may be from before it: the CRM is asked.
pub async fn equally_old_copy_of_gone_record_revives_nobody<C: Crm>() {
    let test = TestApp::start().await;
    let bryce = C::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<C>(&test).await;
    test.pass(TimeDelta::minutes(5));
    C::rename(&test, &bryce, "Renamed");
    C::delete(&test, &bryce);
    next_run_with_deletions::<C>(&test, &account, &integration).await;
    assert!(selected(&test, &account, BRYCE).await.is_none());

    let rule = C::faults(&test).add(FaultRule::once(C::PAGES, Fault::StaleRow { id: None })).unwrap();
    next_run(&test).await;

    assert_eq!(C::faults(&test).fired(rule), 1);
    assert!(selected(&test, &account, BRYCE).await.is_none());
    assert_is_the_truth::<C>(&test, &integration).await;
}
