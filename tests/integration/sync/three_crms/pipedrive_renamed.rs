//! A company of Pipedrive's may change its name, and with it its host. By its number it is the same, and is followed; another is not.

use contact_sync::rpc::pb;
use crm_simulator::{
    faults::{Fault, Rule},
    pipedrive,
};
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::Code;

use super::{
    behaviours::{assert_is_the_truth, copied, link, next_pass},
    crm::{Crm, PipedriveCrm},
};
use crate::{
    support::sync::{ask_disable, ask_trigger, ask_update, column},
    support::{TestApp, error_of, reason, serve},
};

const BRYCE: &str = "+13108675309";
const ME: &str = "/users/me";

/// From now on the company is called so.
fn call_it(test: &TestApp, set: &[(&str, Value)]) {
    let set = set.iter().map(|(pointer, value)| ((*pointer).to_owned(), value.clone())).collect();
    PipedriveCrm::faults(test).add(Rule::always(ME, Fault::Patch { set, remove: Vec::new() })).unwrap();
}

fn renamed() -> [(&'static str, Value); 1] {
    [("/data/company_domain", json!("acme-2"))]
}

async fn sweep(test: &TestApp, account: &str, integration: &str) -> pb::SyncRun {
    let change = |request: &mut pb::TriggerSyncRequest| request.kind = pb::SyncKind::Sweep.into();
    ask_trigger(test, account, integration, change).await.unwrap();
    assert_eq!(test.sync_due().await, 1);
    test.last_run(account, integration).await
}

fn is_told(run: &pb::SyncRun) -> bool {
    run.notices.iter().any(|notice| notice.to_string().starts_with("ORGANIZATION_RENAMED"))
}

fn enable(account: &str, label: &str) -> pb::EnableSyncRequest {
    let organization = pb::connection::Organization::PipedriveCompany(label.to_owned());
    pb::EnableSyncRequest {
        account_id: account.to_owned(),
        provider: pb::Provider::Pipedrive.into(),
        connection: Some(pb::Connection { organization: Some(organization), ..Default::default() }),
        credentials: Some(PipedriveCrm::token()),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_renamed_company_is_followed_and_told_by_the_first_pass_that_hears_of_it() {
    let test = TestApp::start().await;
    PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    assert_ne!(column(&test, &integration, "company_id").await, "", "learned when it was linked");
    call_it(&test, &renamed());

    let run = sweep(&test, &account, &integration).await;

    assert_eq!((run.state(), error_of(&run).as_str()), (pb::SyncRunState::Succeeded, ""));
    assert!(is_told(&run), "{:?}", run.notices);
    assert_eq!(test.integration(&account, &integration).await.organization, "acme-2");
    assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
    assert!(!is_told(&sweep(&test, &account, &integration).await), "told once");
}

#[tokio::test]
async fn a_host_that_sends_elsewhere_is_asked_about_where_every_company_is_known() {
    for fault in [Fault::page(404), Fault::answer(301, ("location", "https://acme-2.pipedrive.com/"), "")] {
        let test = TestApp::start().await;
        let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
        let (account, integration) = copied::<PipedriveCrm>(&test).await;
        call_it(&test, &renamed());
        PipedriveCrm::rename(&test, &id, "Renamed");
        PipedriveCrm::faults(&test).add(Rule::once(PipedriveCrm::PAGES, fault)).unwrap();

        next_pass(&test).await;

        let run = test.last_run(&account, &integration).await;
        assert_eq!((run.state(), error_of(&run).as_str()), (pb::SyncRunState::Succeeded, ""));
        assert!(is_told(&run), "{:?}", run.notices);
        assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
    }
}

#[tokio::test]
async fn another_company_is_refused_under_whatever_name() {
    for set in [
        vec![("/data/company_domain", json!("acme-2")), ("/data/company_id", json!(4_711))],
        vec![("/data/company_id", json!("4711"))],
        vec![("/data/company_domain", json!("acme-2")), ("/data/company_id", json!(null))],
        vec![("/data/company_domain", json!("https://evil.example/"))],
    ] {
        let test = TestApp::start().await;
        PipedriveCrm::create(&test, "Bryce Love", BRYCE);
        let (account, integration) = copied::<PipedriveCrm>(&test).await;
        let before = test.integration(&account, &integration).await.organization;
        call_it(&test, &set);

        let run = sweep(&test, &account, &integration).await;

        assert!(error_of(&run).starts_with("OTHER_ORGANIZATION"), "{set:?}: {}", error_of(&run));
        assert_eq!(test.integration(&account, &integration).await.organization, before, "{set:?}");
        let refused = ask_update(&test, &account, &integration, None, Some(PipedriveCrm::token())).await.unwrap_err();
        assert_eq!(reason(&refused), "OTHER_ORGANIZATION", "{set:?}");
    }
}

#[tokio::test]
async fn an_administrator_mends_a_renamed_company_by_update_and_by_enabling_it() {
    let test = TestApp::start().await;
    PipedriveCrm::create(&test, "Bryce Love", BRYCE);
    let (account, integration) = copied::<PipedriveCrm>(&test).await;
    call_it(&test, &renamed());

    let exists = test.syncs().enable_sync(enable(&account, "acme-2")).await.unwrap_err();
    let named = tonic_types::StatusExt::get_details_error_info(&exists).unwrap().metadata;
    assert_eq!((exists.code(), &named["integration_id"]), (Code::AlreadyExists, &integration));
    let updated = ask_update(&test, &account, &integration, None, Some(PipedriveCrm::token())).await.unwrap();
    assert_eq!(updated.organization, "acme-2");

    call_it(&test, &[("/data/company_domain", json!("acme-3"))]);
    ask_disable(&test, &account, &integration, pb::CopiedData::Keep).await.unwrap();
    let enabled = test.syncs().enable_sync(enable(&account, "acme-3")).await.unwrap().into_inner().integration.unwrap();
    assert_eq!((enabled.id, enabled.organization.as_str()), (integration.clone(), "acme-3"));
    test.sync_due().await;
    assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
}

#[tokio::test]
async fn a_token_that_names_another_host_is_used_there_once_the_company_is_proven() {
    for (set, is_ours) in [(renamed().to_vec(), true), (vec![("/data/company_id", json!(4_711))], false)] {
        let test = TestApp::start().await;
        let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
        let account = test.account().await;
        let integration = link::<PipedriveCrm>(&test, &account, PipedriveCrm::refresh_token()).await;
        assert_eq!(test.sync_due().await, 1);
        let api_domain = serve(pipedrive::router(Arc::clone(&test.pipedrive))).await;
        PipedriveCrm::faults(&test).add(Rule::always("/oauth/token", Fault::OtherApiDomain { api_domain })).unwrap();
        call_it(&test, &set);
        PipedriveCrm::end_access_tokens(&test);
        PipedriveCrm::rename(&test, &id, "Renamed");

        next_pass(&test).await;

        let run = test.last_run(&account, &integration).await;
        if is_ours {
            assert_eq!((run.state(), error_of(&run).as_str()), (pb::SyncRunState::Succeeded, ""));
            assert!(is_told(&run), "{:?}", run.notices);
            assert_eq!(test.integration(&account, &integration).await.organization, "acme-2");
            assert_is_the_truth::<PipedriveCrm>(&test, &integration).await;
        } else {
            assert!(error_of(&run).starts_with("OTHER_ORGANIZATION"), "{}", error_of(&run));
            assert_eq!(column(&test, &integration, "access is null").await, "true", "what it gave is used by nobody");
        }
    }
}
