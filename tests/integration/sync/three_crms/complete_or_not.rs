//! "Not known yet" is never taken for "nobody": whoever is in a CRM and not copied yet is not
//! called unknown, at any moment of a first copy and whatever stops it, before every integration
//! that is on has been copied and is fresh.

use chrono::TimeDelta;
use contact_sync::rpc::pb::{self, IntegrationState, MatchOutcome, RequesterOutcome};
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::GateAt,
};
use serde_json::json;

use super::{
    behaviours::{assert_is_the_truth, link},
    crm::{Crm, SalesforceCrm, ZendeskCrm},
};
use crate::{
    support::calls::{call_with_id, look_only},
    support::sync::{Beside, arrived, ask_disable, ask_trigger, ask_update, eventually, expire_leases, sync_mode},
    support::{Subject, TestApp},
};

/// In no CRM.
const STRANGER: &str = "+13105559999";
const CHUNKS: usize = 4;

/// Whom a copy knows of those whom the CRM knows, asked at many moments.
struct Watch {
    test: TestApp,
    account: String,
    integration: String,
    /// Number and record of people in the CRM, from its first page to its last.
    callers: Vec<(String, String)>,
    calls: u32,
    named: u32,
    not_known_yet: u32,
}

impl Watch {
    /// A CRM of several pages that is linked, and of which nothing is copied.
    async fn begin<C: Crm>() -> Self {
        let test = TestApp::start_in(C::worlds().swap_remove(0)).await;
        // Salesforce shows two records a page here, the others as many as they do.
        let is_small = C::PROVIDER == pb::Provider::Salesforce;
        let chunk = if is_small { 2 } else { C::PAGE_SIZE * 2 / CHUNKS };
        let mut callers = Vec::new();
        for n in 0..CHUNKS {
            callers.push(enter::<C>(&test, n));
            test.pass(TimeDelta::seconds(1));
            for other in n * chunk..(n + 1) * chunk {
                C::create(&test, &format!("Other {other}"), &format!("+1310556{other:04}"));
            }
            test.pass(TimeDelta::seconds(1));
        }
        callers.push(enter::<C>(&test, CHUNKS));
        test.pass(TimeDelta::minutes(3));
        let account = test.account().await;
        let integration = link::<C>(&test, &account, C::token()).await;
        Self { test, account, integration, callers, calls: 0, named: 0, not_known_yet: 0 }
    }

    /// Somebody new in the CRM.
    fn enter<C: Crm>(&mut self) {
        self.callers.push(enter::<C>(&self.test, self.callers.len()));
    }

    /// Everyone in the CRM is named or not known yet, and a stranger is not known yet, at a moment
    /// in this state.
    async fn look(&mut self, state: IntegrationState) {
        for (number, record_id) in self.callers.clone() {
            self.look_at(&number, &record_id, state).await;
        }
        self.look_at(STRANGER, "", state).await;
    }

    async fn look_at(&mut self, number: &str, record_id: &str, state: IntegrationState) {
        self.calls += 1;
        let (test, account, integration) = (&self.test, &self.account, &self.integration);
        let call_id = format!("call-{}", self.calls);
        let answer = test.match_caller(look_only(call_with_id(account, number, &call_id))).await;
        let requesters = [Subject::PhoneNumber(number.into()), Subject::CallId(call_id)];
        let states: Vec<IntegrationState> = answer.sources.iter().map(pb::Source::state).collect();
        assert!(states.contains(&state), "{states:?} instead of {state:?}");
        assert!(!answer.complete, "complete in {states:?}");
        assert!(answer.sources.iter().any(|source| source.state() == state && !source.note.is_empty()));
        match answer.outcome() {
            MatchOutcome::NotKnownYet => {
                assert!(answer.selected.is_none() && answer.total == 0);
                for subject in requesters {
                    let resolved = test.resolve(account, integration, subject).await;
                    assert_eq!(resolved.outcome(), RequesterOutcome::NotKnownYet, "{states:?}");
                }
                self.not_known_yet += 1;
            }
            MatchOutcome::Matched => {
                for subject in requesters {
                    let resolved = test.resolve(account, integration, subject).await;
                    assert_eq!(resolved.record.unwrap().record_id, record_id);
                }
                self.named += 1;
            }
            other => panic!("{record_id} is in the CRM, and the answer in {states:?} is {other:?}"),
        }
    }

    /// The copy has been completed: everyone is named, and the stranger is nobody.
    async fn assert_is_complete(&self) {
        for (number, record_id) in &self.callers {
            let answer = self.test.look_up(&self.account, number).await;
            assert!(answer.complete);
            assert_eq!(answer.selected.unwrap().records[0].record_id, *record_id);
        }
        self.assert_is_nobody(STRANGER, RequesterOutcome::NotFound).await;
    }

    async fn assert_is_nobody(&self, number: &str, requester: RequesterOutcome) {
        let answer = self.test.look_up(&self.account, number).await;
        assert_eq!((answer.outcome(), answer.complete), (MatchOutcome::NotFound, true));
        let subject = Subject::PhoneNumber(number.into());
        assert_eq!(self.test.resolve(&self.account, &self.integration, subject).await.outcome(), requester);
    }

    /// A run that this fault ends, after so many pages.
    async fn fail<C: Crm>(&mut self, skip: u32, fault: Fault, state: IntegrationState) {
        let rule = C::faults(&self.test).add(FaultRule { skip, ..FaultRule::always(C::PAGES, fault) }).unwrap();
        assert_eq!(self.test.sync_due().await, 1);
        if state == IntegrationState::AuthFailed {
            self.test.second_look().await;
        }
        assert!(C::faults(&self.test).fired(rule) > 0);
        C::faults(&self.test).remove(rule);
        self.look(state).await;
    }

    async fn switch(&self, mode: pb::SyncMode) {
        ask_update(&self.test, &self.account, &self.integration, sync_mode(mode), None).await.unwrap();
    }

    /// An administrator gives new credentials.
    async fn renew<C: Crm>(&self) {
        let request = pb::UpdateSyncRequest {
            account_id: self.account.clone(),
            integration_id: self.integration.clone(),
            credentials: Some(C::token()),
            salesforce_host: C::connection().salesforce_host,
            ..Default::default()
        };
        self.test.syncs().update_sync(request).await.unwrap();
    }

    /// Another process goes on: a quota that the CRM said was spent is held against it for as long
    /// as this one lives.
    async fn restart(&mut self) {
        self.test = self.test.replica(|_| {}).await;
    }

    async fn trigger(&self) {
        ask_trigger(&self.test, &self.account, &self.integration, |_| {}).await.unwrap();
    }
}

fn enter<C: Crm>(test: &TestApp, n: usize) -> (String, String) {
    let number = format!("+1310555{:04}", 1_000 + n);
    let record_id = C::create(test, &format!("Caller {n}"), &number);
    (number, record_id)
}

/// A caller is never called unknown at any moment of a first copy.
pub async fn caller_is_never_unknown_during_first_copy<C: Crm>() {
    let mut watch = Watch::begin::<C>().await;
    watch.look(IntegrationState::Pending).await;
    assert_eq!(watch.named, 0);
    // Each answer is held back: the moment before it, and after the one before.
    let gate = C::faults(&watch.test).gate(C::PAGES, 0, GateAt::Response).unwrap();
    let mut run = Beside::start(&watch.test.app);
    let mut moments = 0;
    loop {
        eventually("a page or the end", async || gate.count().arrived > moments || run.has_ended()).await;
        if run.has_ended() {
            break;
        }
        moments = gate.count().arrived;
        watch.look(IntegrationState::InitialSync).await;
        if moments == 2 {
            run.dies().await;
            watch.look(IntegrationState::InitialSync).await;
            expire_leases(&watch.test).await;
            run = Beside::start(&watch.test.app);
        } else {
            gate.release_one();
        }
    }

    assert_eq!(run.ended().await, 1);
    println!("{moments} moments, {} named, {} not known yet", watch.named, watch.not_known_yet);
    assert!(moments >= 3 && watch.named >= 3 && watch.not_known_yet >= 15);
    watch.assert_is_complete().await;
    assert_is_the_truth::<C>(&watch.test, &watch.integration).await;
}

/// What this CRM says when nobody but its customer can help.
fn lasting_refusal<C: Crm>() -> Fault {
    match C::PROVIDER {
        pb::Provider::Zendesk => Fault::NotFound,
        pb::Provider::Salesforce => Fault::ApiDisabled,
        _ => Fault::AccountClosed,
    }
}

/// A caller is never called unknown, whatever stops the copy.
pub async fn caller_is_never_unknown_whatever_stops_copy<C: Crm>() {
    let mut watch = Watch::begin::<C>().await;
    // A first copy that has come to its second page, and no further.
    watch.fail::<C>(1, Fault::ServerError, IntegrationState::InitialSync).await;
    let named_of_first_page = watch.named;
    assert!((1..5).contains(&named_of_first_page));
    watch.trigger().await;
    for state in [IntegrationState::InitialSync, IntegrationState::InitialSync, IntegrationState::Paused] {
        watch.fail::<C>(0, lasting_refusal::<C>(), state).await;
        watch.test.pass(TimeDelta::minutes(10));
    }
    watch.trigger().await;
    watch.look(IntegrationState::InitialSync).await;
    watch.fail::<C>(0, C::daily_limit(), IntegrationState::QuotaPaused).await;
    watch.test.pass(TimeDelta::hours(30));
    watch.look(IntegrationState::QuotaPaused).await;
    watch.restart().await;
    watch.fail::<C>(0, Fault::Unauthorized, IntegrationState::AuthFailed).await;
    watch.test.pass(TimeDelta::days(3));
    watch.look(IntegrationState::AuthFailed).await;
    watch.renew::<C>().await;
    watch.look(IntegrationState::InitialSync).await;
    // Off: nothing is promised of this CRM, and the answer says so.
    watch.switch(pb::SyncMode::Off).await;
    watch.assert_is_nobody(STRANGER, RequesterOutcome::SyncOff).await;
    let off = watch.test.look_up(&watch.account, STRANGER).await;
    assert!(off.sources[0].note.contains("sync is off"), "{}", off.sources[0].note);
    watch.switch(pb::SyncMode::On).await;
    watch.look(IntegrationState::InitialSync).await;

    assert_eq!(watch.test.sync_due().await, 1);
    watch.assert_is_complete().await;
    assert!(watch.not_known_yet >= 20, "{}", watch.not_known_yet);
    copy_that_was_complete_ages::<C>(watch).await;
}

/// Somebody is new in the CRM, and runs do not come through any more.
async fn copy_that_was_complete_ages<C: Crm>(mut watch: Watch) {
    watch.enter::<C>();
    watch.test.pass(TimeDelta::minutes(91));
    watch.look(IntegrationState::Stale).await;
    watch.fail::<C>(0, C::daily_limit(), IntegrationState::QuotaPaused).await;
    watch.test.pass(TimeDelta::hours(30));
    watch.restart().await;
    watch.fail::<C>(0, Fault::ServerError, IntegrationState::Stale).await;
    watch.trigger().await;
    watch.fail::<C>(0, Fault::Unauthorized, IntegrationState::AuthFailed).await;
    watch.renew::<C>().await;
    watch.look(IntegrationState::Stale).await;

    assert_eq!(watch.test.sync_due().await, 1);
    watch.assert_is_complete().await;
}

/// A caller is never called unknown while the link comes back.
pub async fn caller_is_never_unknown_while_link_returns<C: Crm>() {
    let mut watch = Watch::begin::<C>().await;
    // Cut off in the middle of its first copy, and taken up with what there is.
    watch.fail::<C>(1, Fault::ServerError, IntegrationState::InitialSync).await;
    ask_disable(&watch.test, &watch.account, &watch.integration, pb::CopiedData::Keep).await.unwrap();
    watch.test.pass(TimeDelta::minutes(5));
    assert_eq!(link::<C>(&watch.test, &watch.account, C::token()).await, watch.integration);
    watch.look(IntegrationState::InitialSync).await;
    assert_eq!(watch.test.sync_due().await, 1);
    watch.assert_is_complete().await;

    // Taken up when everything had been removed: nothing of the complete copy is left.
    ask_disable(&watch.test, &watch.account, &watch.integration, pb::CopiedData::Purge).await.unwrap();
    watch.test.sync_due().await;
    watch.test.pass(TimeDelta::minutes(5));
    assert_eq!(link::<C>(&watch.test, &watch.account, C::token()).await, watch.integration);
    let named = watch.named;
    watch.look(IntegrationState::Pending).await;
    assert_eq!(watch.named, named);
    watch.fail::<C>(1, Fault::ServerError, IntegrationState::InitialSync).await;
    watch.trigger().await;
    assert_eq!(watch.test.sync_due().await, 1);
    watch.assert_is_complete().await;
}

/// Nobody is nobody only when the last of two CRMs is complete.
#[tokio::test]
async fn nobody_is_final_only_with_both_crms_complete() {
    let test = TestApp::start().await;
    let in_zendesk = enter::<ZendeskCrm>(&test, 1);
    let in_salesforce = enter::<SalesforceCrm>(&test, 2);
    let account = test.account().await;
    let zendesk = link::<ZendeskCrm>(&test, &account, ZendeskCrm::token()).await;
    assert_eq!(test.sync_due().await, 1);
    let alone = test.look_up(&account, &in_salesforce.0).await;
    // Linked after that, and held back in the middle.
    let salesforce = link::<SalesforceCrm>(&test, &account, SalesforceCrm::token()).await;
    let pending = test.look_up(&account, &in_salesforce.0).await;
    let gate = test.salesforce.faults().gate(SalesforceCrm::PAGES, 0, GateAt::Response).unwrap();
    let run = Beside::start(&test.app);
    arrived(&gate, 1).await;
    let copying = test.look_up(&account, &in_salesforce.0).await;
    let known = test.look_up(&account, &in_zendesk.0).await;
    let requester = async |integration: &str, number: &str| {
        test.resolve(&account, integration, Subject::PhoneNumber(number.into())).await.outcome()
    };
    let of_salesforces = [requester(&salesforce, &in_salesforce.0).await, requester(&zendesk, &in_salesforce.0).await];
    let of_zendesks = [requester(&salesforce, &in_zendesk.0).await, requester(&zendesk, &in_zendesk.0).await];
    gate.open();
    assert_eq!(run.ended().await, 1);
    let copied = test.look_up(&account, STRANGER).await;
    test.pass(TimeDelta::minutes(60));
    test.zendesk.faults().add(FaultRule::always(ZendeskCrm::PAGES, Fault::ServerError)).unwrap();
    assert_eq!(test.sync_due().await, 2);
    test.pass(TimeDelta::minutes(31));
    let one_is_stale = test.look_up(&account, STRANGER).await;

    assert_eq!((alone.outcome(), alone.complete), (MatchOutcome::NotFound, true), "Salesforce is not ours yet");
    for (moment, answer) in [("pending", pending), ("copying", copying), ("one is stale", one_is_stale)] {
        assert_eq!((answer.outcome(), answer.complete), (MatchOutcome::NotKnownYet, false), "{moment}");
        assert_eq!(answer.sources.len(), 2);
    }
    assert_eq!((known.outcome(), known.complete), (MatchOutcome::Matched, false));
    // Each integration speaks for itself.
    assert_eq!(of_salesforces, [RequesterOutcome::NotKnownYet, RequesterOutcome::NotFound]);
    assert_eq!(of_zendesks, [RequesterOutcome::NotKnownYet, RequesterOutcome::Resolved]);
    assert_eq!((copied.outcome(), copied.complete), (MatchOutcome::NotFound, true));
}

/// A caller of a kind of record that is switched on later is not called unknown before it is
/// copied.
#[tokio::test]
async fn caller_of_later_kind_is_never_unknown() {
    let test = TestApp::start().await;
    let fields = json!({"LastName": "Lead", "Company": "Acme", "Phone": STRANGER});
    let lead = test.salesforce.create("Lead", &fields).unwrap();
    let leads = |copy: pb::Switch| {
        let wishes = pb::ObjectOptions { copy: copy.into(), ..Default::default() };
        pb::IntegrationOptions { salesforce_leads: Some(wishes), ..Default::default() }
    };
    let account = test.account().await;
    let salesforce = link::<SalesforceCrm>(&test, &account, SalesforceCrm::token()).await;
    ask_update(&test, &account, &salesforce, leads(pb::Switch::Off), None).await.unwrap();
    assert_eq!(test.sync_due().await, 1);
    let off = test.look_up(&account, STRANGER).await;
    test.pass(TimeDelta::minutes(5));
    ask_update(&test, &account, &salesforce, leads(pb::Switch::On), None).await.unwrap();
    let switched_on = test.look_up(&account, STRANGER).await;
    let requester = test.resolve(&account, &salesforce, Subject::PhoneNumber(STRANGER.into())).await;
    assert_eq!(test.sync_due().await, 1);
    let copied = test.look_up(&account, STRANGER).await;

    assert_eq!((off.outcome(), off.complete), (MatchOutcome::NotFound, true), "Leads are not wished");
    assert_eq!((switched_on.outcome(), switched_on.complete), (MatchOutcome::NotKnownYet, false));
    assert_eq!(requester.outcome(), RequesterOutcome::NotKnownYet);
    assert_eq!(copied.selected.unwrap().records[0].record_id, lead);
}
