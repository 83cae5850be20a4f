//! First copies of large Salesforce organisations: by jobs of the bulk interface.

use contact_sync::rpc::pb;
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::GateAt,
};

use super::{
    behaviours::{assert_is_the_truth, copied, link, next_run},
    crm::{Crm, SalesforceCrm},
};
use crate::{
    support::sync::{Beside, arrived, expire_leases},
    support::{TestApp, error_of},
};

const BRYCE: &str = "+13108675309";

/// A large organisation is copied by bulk jobs, which survive a crash.
#[tokio::test]
async fn bulk_copy_survives_crash() {
    let test = TestApp::start_with(|config| config.providers.salesforce_bulk_above = 1_000).await;
    test.salesforce.generate_people(12_000, 50, 11).unwrap();
    let account = test.account().await;
    let integration = link::<SalesforceCrm>(&test, &account, SalesforceCrm::token()).await;
    let gate = SalesforceCrm::faults(&test).gate("/results", 1, GateAt::Request).unwrap();

    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    run.dies().await;
    gate.open();
    expire_leases(&test).await;
    assert_eq!(test.sync_due().await, 1);

    let jobs = test.salesforce.requests().count_of("POST /services/data/v");
    assert_eq!(jobs, 1, "the job that was under way is gone on with");
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
    SalesforceCrm::create(&test, "After the Copy", BRYCE);
    next_run(&test).await;
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}

async fn a_bulk_job_is_made_anew_after(fault: Fault) {
    let test = TestApp::start_with(|config| config.providers.salesforce_bulk_above = 100).await;
    test.salesforce.generate_people(500, 0, 12).unwrap();
    SalesforceCrm::faults(&test).add(FaultRule::once("/jobs/query/", fault)).unwrap();

    let (account, integration) = copied::<SalesforceCrm>(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}

#[tokio::test]
async fn a_bulk_job_that_fails_is_made_anew() {
    a_bulk_job_is_made_anew_after(Fault::JobFailed { message: "internal".into() }).await;
}

/// A bulk job that is aborted is made anew.
#[tokio::test]
async fn aborted_bulk_job_is_made_anew() {
    a_bulk_job_is_made_anew_after(Fault::JobAborted).await;
}

/// A bulk job that is not known any more is made anew.
#[tokio::test]
async fn unknown_bulk_job_is_made_anew() {
    a_bulk_job_is_made_anew_after(Fault::NotFound).await;
}

/// A bad byte in the results of a bulk job costs a character.
/// One byte ends no copy of a large organisation, and no line is lost for it.
#[tokio::test]
async fn bad_byte_in_bulk_results_costs_character() {
    let test = TestApp::start_with(|config| config.providers.salesforce_bulk_above = 0).await;
    SalesforceCrm::create(&test, "Jose Broken", "+13108675301");
    SalesforceCrm::create(&test, "Ann Sound", BRYCE);
    let bad = Fault::Bytes { replace: vec![("Jose".to_owned(), b"Jos\xe9".to_vec())] };
    SalesforceCrm::faults(&test).add(FaultRule::once("/results", bad)).unwrap();

    let (account, integration) = copied::<SalesforceCrm>(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    assert_eq!((run.counts.unwrap().created, run.counts.unwrap().rejected), (2, 0));
    assert!(
        run.notices.iter().any(|notice| notice.to_string().starts_with("CHARACTERS_REPLACED: ")),
        "{:?}",
        run.notices
    );
    let named = test.look_up(&account, "+13108675301").await.selected.unwrap();
    assert!(named.display_name.starts_with("Jos\u{fffd}"), "{}", named.display_name);
    assert_eq!(test.look_up(&account, BRYCE).await.outcome(), pb::MatchOutcome::Matched);
}
