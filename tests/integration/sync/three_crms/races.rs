//! What happens at once: two accounts at one organisation, clicks and deletions while a sweep is
//! under way.

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use crm_simulator::gate::GateAt;
use tonic::Code;

use super::{
    behaviours::{PERIOD, assert_is_the_truth, copied, link, next_run_with_deletions},
    crm::Crm,
};
use crate::{
    histories::integrity::assert_holds,
    support::sync::{Beside, arrived, ask_disable, ask_trigger, live_contacts},
    support::{Subject, TestApp, call, error_of},
};

const BRYCE: &str = "+13108675309";
const OTHER: &str = "+13105550142";

pub async fn two_accounts_with_one_organisation_share_nothing<C: Crm>() {
    let test = TestApp::start().await;
    let bryce = C::create(&test, "Bryce Love", BRYCE);
    let gone = C::create(&test, "Gone", OTHER);
    let (one, other) = (test.account().await, test.account().await);
    let of_one = link::<C>(&test, &one, C::token()).await;
    let of_other = link::<C>(&test, &other, C::token()).await;
    assert_ne!(of_one, of_other);
    assert_eq!(test.sync_due().await, 2);
    for integration in [&of_one, &of_other] {
        assert_is_the_truth::<C>(&test, integration).await;
    }
    let (in_one, in_other) = (test.look_up(&one, BRYCE).await, test.look_up(&other, BRYCE).await);
    let (in_one, in_other) = (in_one.selected.unwrap(), in_other.selected.unwrap());
    assert_ne!(in_one.id, in_other.id);
    let foreign = pb::GetContactRequest { account_id: one.clone(), contact_id: in_other.id.clone() };
    assert_eq!(test.contacts().get_contact(foreign).await.unwrap_err().code(), Code::NotFound);

    // A stranger's call, a run with changes and a deletion in one account alone.
    test.match_caller(call(&one, "+13105550177")).await;
    test.pass(TimeDelta::minutes(5));
    C::rename(&test, &bryce, "Renamed");
    C::delete(&test, &gone);
    let off = crate::support::sync::sync_mode(pb::SyncMode::Off);
    crate::support::sync::ask_update(&test, &other, &of_other, off, None).await.unwrap();
    next_run_with_deletions::<C>(&test, &one, &of_one).await;

    assert_is_the_truth::<C>(&test, &of_one).await;
    assert_eq!(test.look_up(&other, BRYCE).await.selected.unwrap(), in_other, "the other account is as it was");
    assert!(test.look_up(&other, OTHER).await.selected.is_some());
    assert!(test.look_up(&other, "+13105550177").await.selected.is_none());
    let request = pb::ResolveRequesterRequest {
        default_region: String::new(),
        account_id: other.clone(),
        integration_id: of_one.clone(),
        subject: Some(Subject::PhoneNumber(BRYCE.into())),
    };
    let refused = test.callers().resolve_requester(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "another account's integration is none");

    ask_disable(&test, &one, &of_one, pb::CopiedData::Purge).await.unwrap();
    test.sync_due().await;
    assert_eq!(live_contacts(&test, &other).await, 2);
    assert_holds(&test).await;
}

/// A sweep that stands still after its first list is made, and before it is taken in.
async fn sweeping<C: Crm>(
    test: &TestApp,
    account: &str,
    integration: &str,
) -> (crm_simulator::gate::RequestGate, Beside) {
    test.pass(PERIOD);
    let sweep = |request: &mut pb::TriggerSyncRequest| request.set_kind(pb::SyncKind::Sweep);
    ask_trigger(test, account, integration, sweep).await.unwrap();
    let gate = C::faults(test).gate(C::PAGES, 0, GateAt::Response).unwrap();
    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    (gate, run)
}

pub async fn record_clicked_during_a_sweep_stays<C: Crm>() {
    let test = TestApp::start().await;
    C::create(&test, "Other", OTHER);
    let (account, integration) = copied::<C>(&test).await;
    let (gate, run) = sweeping::<C>(&test, &account, &integration).await;

    // Not in the list that is on its way, and held here as live.
    let bryce = C::create(&test, "Bryce Love", BRYCE);
    let click = pb::PreRegisterContactRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        object_type: C::OBJECT_TYPE.into(),
        record_id: bryce.clone(),
        phone_number: BRYCE.into(),
        display_name: "As Clicked".into(),
        ..Default::default()
    };
    let clicked = test.callers().pre_register_contact(click).await.unwrap().into_inner().contact.unwrap();
    gate.open();
    assert_eq!(run.ended().await, 1);

    let run = test.last_run(&account, &integration).await;
    assert_eq!((run.state(), run.kind()), (pb::SyncRunState::Succeeded, pb::SyncKind::Sweep), "{}", error_of(&run));
    let caller = test.look_up(&account, BRYCE).await.selected.unwrap();
    assert_eq!(caller.id, clicked.id);
    let resolved = test.resolve(&account, &integration, Subject::PhoneNumber(BRYCE.into())).await;
    assert_eq!(resolved.record.unwrap().record_id, bryce);
    next_run_with_deletions::<C>(&test, &account, &integration).await;
    assert_eq!(test.look_up(&account, BRYCE).await.selected.unwrap().id, clicked.id);
    assert_is_the_truth::<C>(&test, &integration).await;
}

/// A record that goes while a sweep asks for it is gone.
pub async fn record_gone_while_sweep_asks_is_gone<C: Crm>() {
    let test = TestApp::start().await;
    let bryce = C::create(&test, "Bryce Love", BRYCE);
    let loser = C::create(&test, "Loser", OTHER);
    let (account, integration) = copied::<C>(&test).await;
    let (gate, run) = sweeping::<C>(&test, &account, &integration).await;

    // In the list that is on its way as alive.
    C::merge(&test, &loser, &bryce);
    C::delete(&test, &bryce);
    gate.open();
    assert_eq!(run.ended().await, 1);
    assert_holds(&test).await;
    next_run_with_deletions::<C>(&test, &account, &integration).await;

    assert!(test.look_up(&account, BRYCE).await.selected.is_none());
    assert!(test.look_up(&account, OTHER).await.selected.is_none());
    assert_is_the_truth::<C>(&test, &integration).await;
}
