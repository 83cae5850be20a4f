//! Pages that are too much for a CRM are halved, at each of the three; written once, see `suite!`.

use contact_sync::rpc::pb;
use crm_simulator::faults::{Fault, FaultRule};

use super::{
    behaviours::{assert_is_the_truth, copied, link, next_run},
    crm::{Crm, SalesforceCrm},
};
use crate::support::{TestApp, error_of};

/// Rows that the CRM manages at once.
const MANAGED: usize = 300;

fn gateway_timeout() -> Fault {
    Fault::page(504)
}

async fn copies_in_smaller_pages<C: Crm>(fault: Fault, count: usize) {
    let test = TestApp::start().await;
    C::generate(&test, count, 5);
    let rule = FaultRule { rows_above: Some(MANAGED), ..FaultRule::always(C::PAGES, fault) };
    let rule = C::faults(&test).add(rule).unwrap();

    let (account, integration) = copied::<C>(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    let failed = C::faults(&test).fired(rule);
    assert!((1..=8).contains(&failed), "{failed} requests failed");
    assert_is_the_truth::<C>(&test, &integration).await;

    // The next run begins with what works.
    C::faults(&test).clear();
    next_run(&test).await;
    assert_is_the_truth::<C>(&test, &integration).await;
}

/// Pages that a gateway does not wait for are halved until they come.
pub async fn pages_too_slow_for_gateway_are_halved<C: Crm>() {
    copies_in_smaller_pages::<C>(gateway_timeout(), C::PAGE_SIZE + 100).await;
}

/// Answers that are too large are halved until they are not.
pub async fn too_large_answers_are_halved_until_fitting<C: Crm>() {
    copies_in_smaller_pages::<C>(Fault::Oversized { mib: 33 }, 700).await;
}

/// A page that never comes is told, and tried later.
pub async fn page_never_coming_is_told_tried_later<C: Crm>() {
    let test = TestApp::start().await;
    C::create(&test, "Bryce Love", "(310)-867-5309");
    let account = test.account().await;
    let integration = link::<C>(&test, &account, C::token()).await;
    let rule = C::faults(&test).add(FaultRule::always(C::PAGES, gateway_timeout())).unwrap();

    test.sync_due().await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Failed);
    assert!(error_of(&run).contains("does not manage so much at once"), "{}", error_of(&run));
    assert!(C::faults(&test).fired(rule) <= 20, "{}", C::faults(&test).fired(rule));
    C::faults(&test).clear();
    next_run(&test).await;
    assert_is_the_truth::<C>(&test, &integration).await;
}

#[tokio::test]
async fn parts_of_a_bulk_job_are_halved_too() {
    let test = TestApp::start_with(|config| config.providers.salesforce_bulk_above = 0).await;
    SalesforceCrm::generate(&test, 700, 5);
    let rule = FaultRule { rows_above: Some(MANAGED), ..FaultRule::always("/results", gateway_timeout()) };
    let rule = test.salesforce.faults().add(rule).unwrap();

    let (account, integration) = copied::<SalesforceCrm>(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    assert!(test.salesforce.faults().fired(rule) >= 1);
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}
