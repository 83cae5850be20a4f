//! Pages that are too much for a CRM are halved, at each of the three; written once, see `suite!`.

use contact_sync::rpc::pb;
use crm_simulator::faults::{Fault, Rule};

use super::{
    behaviours::{assert_is_the_truth, copied, link, next_pass},
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
    let rule = Rule { rows_above: Some(MANAGED), ..Rule::always(C::PAGES, fault) };
    let rule = C::faults(&test).add(rule).unwrap();

    let (account, integration) = copied::<C>(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    let failed = C::faults(&test).fired(rule);
    assert!((1..=8).contains(&failed), "{failed} requests failed");
    assert_is_the_truth::<C>(&test, &integration).await;

    // The next pass begins with what works.
    C::faults(&test).clear();
    next_pass(&test).await;
    assert_is_the_truth::<C>(&test, &integration).await;
}

pub async fn pages_that_a_gateway_does_not_wait_for_are_halved_until_they_come<C: Crm>() {
    copies_in_smaller_pages::<C>(gateway_timeout(), C::PAGE_SIZE + 100).await;
}

pub async fn answers_that_are_too_large_are_halved_until_they_are_not<C: Crm>() {
    copies_in_smaller_pages::<C>(Fault::Oversized { mib: 33 }, 700).await;
}

pub async fn a_page_that_never_comes_is_told_and_tried_later<C: Crm>() {
    let test = TestApp::start().await;
    C::create(&test, "Bryce Love", "(310)-867-5309");
    let account = test.account().await;
    let integration = link::<C>(&test, &account, C::token()).await;
    let rule = C::faults(&test).add(Rule::always(C::PAGES, gateway_timeout())).unwrap();

    test.sync_due().await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Failed);
    assert!(error_of(&run).contains("does not manage so much at once"), "{}", error_of(&run));
    assert!(C::faults(&test).fired(rule) <= 20, "{}", C::faults(&test).fired(rule));
    C::faults(&test).clear();
    next_pass(&test).await;
    assert_is_the_truth::<C>(&test, &integration).await;
}

#[tokio::test]
async fn parts_of_a_bulk_job_are_halved_too() {
    let test = TestApp::start_with(|config| config.providers.salesforce_bulk_above = 0).await;
    SalesforceCrm::generate(&test, 700, 5);
    let rule = Rule { rows_above: Some(MANAGED), ..Rule::always("/results", gateway_timeout()) };
    let rule = test.salesforce.faults().add(rule).unwrap();

    let (account, integration) = copied::<SalesforceCrm>(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    assert!(test.salesforce.faults().fired(rule) >= 1);
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}
