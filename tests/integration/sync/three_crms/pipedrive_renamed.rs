//! A company of Pipedrive's may change its name, and with it its host. By its number it is the
//! same, and is followed; another is not.

use contact_sync::rpc::pb;
use crm_simulator::{
    faults::{Fault, FaultRule},
    pipedrive,
};
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::Code;

use super::{
    behaviours::{assert_is_the_truth, copied, link, next_run},
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
    PipedriveCrm::faults(test).add(FaultRule::always(ME, Fault::Patch { set, remove: Vec::new() })).unwrap();
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

/// A renamed company is followed, and told by the first run that hears of it.
#[tokio::test]
async fn rename_is_followed_and_told_once() {
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

/// A host that sends elsewhere is asked about where every company is known.
#[tokio::test]
async fn renamed_company_is_found_by_central_host() {
    for fault in [Fault::page(404), Fault::answer(301, ("location", "https://acme-2.pipedrive.com/"), "")] {
        let test = TestApp::start().await;
        let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
        let (account, integration) = copied::<PipedriveCrm>(&test).await;
        call_it(&test, &renamed());
        PipedriveCrm::rename(&test, &id, "Renamed");
        PipedriveCrm::faults(&test).add(FaultRule::once(PipedriveCrm::PAGES, fault)).unwrap();

        next_run(&test).await;

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

/// An administrator mends a renamed company by update, and by enabling it.
#[tokio::test]
async fn administrator_mends_rename_by_update_or_enabling() {
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

/// A token that names another host is used there once the company is proven.
#[tokio::test]
async fn tokens_other_host_needs_proven_company() {
    for (set, is_ours) in [(renamed().to_vec(), true), (vec![("/data/company_id", json!(4_711))], false)] {
        let test = TestApp::start().await;
        let id = PipedriveCrm::create(&test, "Bryce Love", BRYCE);
        let account = test.account().await;
        let integration = link::<PipedriveCrm>(&test, &account, PipedriveCrm::refresh_token()).await;
        assert_eq!(test.sync_due().await, 1);
        let api_domain = serve(pipedrive::router(Arc::clone(&test.pipedrive))).await;
        PipedriveCrm::faults(&test)
            .add(FaultRule::always("/oauth/token", Fault::OtherApiDomain { api_domain }))
            .unwrap();
        call_it(&test, &set);
        PipedriveCrm::end_access_tokens(&test);
        PipedriveCrm::rename(&test, &id, "Renamed");

        next_run(&test).await;

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
