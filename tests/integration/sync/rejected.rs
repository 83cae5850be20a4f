//! What is kept of records that could not be read: how much, for how long, for whose eyes, and when
//! it is asked for again. What each CRM's copy does is in `three_crms/rejected`.

use chrono::TimeDelta;
use contact_sync::rpc::{
    methods::TokenScope,
    pb::{self, RecordFate, sync_service_client::SyncServiceClient},
};
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::GateAt,
};
use serde_json::json;
use tonic::Code;

use crate::{
    identity::erasure::listen,
    support::calls::{CONTACT_15, ORG, click_on, refusal},
    support::sync::{Beside, EXPORT, arrived, ask_disable, ask_trigger, ask_update, sync_mode},
    support::{TestApp, error_of, only},
};

impl TestApp {
    pub async fn rejected_page(
        &self,
        account: &str,
        integration: &str,
        token: &str,
    ) -> pb::ListRejectedRecordsResponse {
        let request = pb::ListRejectedRecordsRequest {
            account_id: account.into(),
            integration_id: integration.into(),
            page_size: 200,
            page_token: token.into(),
        };
        self.syncs().list_rejected_records(request).await.unwrap().into_inner()
    }

    /// All of them.
    pub async fn rejected(&self, account: &str, integration: &str) -> Vec<pb::RejectedRecord> {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = self.rejected_page(account, integration, &token).await;
            listed.extend(page.rejected_records);
            token = page.next_page_token;
            if token.is_empty() {
                return listed;
            }
        }
    }

    pub async fn retry(
        &self,
        account: &str,
        integration: &str,
        object_type: &str,
        record_id: &str,
    ) -> pb::RetryRejectedRecordsResponse {
        let request = pb::RetryRejectedRecordsRequest {
            account_id: account.into(),
            integration_id: integration.into(),
            object_type: object_type.into(),
            record_id: record_id.into(),
        };
        self.syncs().retry_rejected_records(request).await.unwrap().into_inner()
    }

    pub async fn trace(
        &self,
        account: &str,
        integration: &str,
        object_type: &str,
        record_id: &str,
    ) -> pb::TraceRecordResponse {
        self.syncs()
            .trace_record(trace_request(account, integration, object_type, record_id))
            .await
            .unwrap()
            .into_inner()
    }
}

fn trace_request(account: &str, integration: &str, object_type: &str, record_id: &str) -> pb::TraceRecordRequest {
    pb::TraceRecordRequest {
        account_id: account.into(),
        integration_id: integration.into(),
        object_type: object_type.into(),
        record_id: record_id.into(),
    }
}

/// The time of no user's last change can be read.
fn break_all(test: &TestApp, paths: &str) {
    let replace = vec![("\"updated_at\":\"".to_owned(), b"\"updated_at\":\"x".to_vec())];
    test.zendesk.faults().add(FaultRule::always(paths, Fault::Bytes { replace })).unwrap();
}

/// The time of one user's last change cannot be read; another one, changed later, is sound.
fn break_one(test: &TestApp) {
    test.pass(TimeDelta::seconds(7));
    test.user("Zebulon Broken", "+13108675307");
    test.pass(TimeDelta::seconds(1));
    test.user("Ann Sound", "+13108675301");
    test.pass(TimeDelta::minutes(2));
    let replace = vec![("T09:00:07".to_owned(), b" at seven ".to_vec())];
    test.zendesk.faults().add(FaultRule::always(EXPORT, Fault::Bytes { replace })).unwrap();
}

async fn read_everything(test: &TestApp, account: &str, integration: &str) {
    test.pass(TimeDelta::minutes(1));
    ask_trigger(test, account, integration, |request| request.set_kind(pb::SyncKind::Initial)).await.unwrap();
    assert_eq!(test.sync_due().await, 1);
}

/// A thousand are kept, and the others counted, until a full read counts anew.
#[tokio::test]
async fn thousand_are_kept_others_counted_until_reread() {
    let test = TestApp::start().await;
    test.zendesk.generate_people(1_050, 1).unwrap();
    break_all(&test, EXPORT);
    let (account, integration) = test.synced().await;
    let left_out = async || test.rejected_page(&account, &integration, "").await.left_out;

    assert_eq!((test.rejected(&account, &integration).await.len(), left_out().await), (1_000, 50));
    read_everything(&test, &account, &integration).await;
    assert_eq!((test.rejected(&account, &integration).await.len(), left_out().await), (1_000, 50));

    test.zendesk.faults().clear();
    read_everything(&test, &account, &integration).await;
    assert_eq!((test.rejected(&account, &integration).await.len(), left_out().await), (0, 0));
    assert_eq!(test.last_run(&account, &integration).await.counts.unwrap().created, 1_050);
}

/// Of a large record the first 16 KiB are kept, and a page of such fits an answer.
#[tokio::test]
async fn large_records_keep_16_kib_within_answer() {
    let test = TestApp::start().await;
    for n in 0..205 {
        test.zendesk.create_user(&json!({"name": format!("Large {n}"), "notes": "n".repeat(20_000)})).unwrap();
    }
    break_all(&test, EXPORT);
    let (account, integration) = test.synced().await;

    let page = test.rejected_page(&account, &integration, "").await;

    assert_eq!(page.rejected_records.len(), 200);
    assert!(page.rejected_records.iter().all(|rejected| rejected.raw.len() == 16 * 1024));
    let longest = test.db.number("select max(length(raw))::bigint from rejected_records").await;
    assert!((16 * 1024..17 * 1024).contains(&longest), "{longest}");
}

/// Rejected records are kept thirty days after they were last met.
#[tokio::test]
async fn rejected_records_stay_thirty_days_after_last() {
    let test = TestApp::start().await;
    test.user("Zebulon Broken", "+13108675307");
    break_all(&test, EXPORT);
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::days(20));
    read_everything(&test, &account, &integration).await;

    test.pass(TimeDelta::days(29));
    test.forget().await.unwrap();
    assert_eq!(test.rejected(&account, &integration).await.len(), 1);
    test.pass(TimeDelta::days(2));
    test.forget().await.unwrap();

    assert!(test.rejected(&account, &integration).await.is_empty());
    assert_eq!(test.rows(&account, "rejected_records").await, 0);
}

/// The content is for tokens that may read contacts, and in no table or log.
#[tokio::test]
async fn content_needs_contacts_scope_and_stays_sealed() {
    let (log, _logging) = listen();
    let test = TestApp::start().await;
    let user = test.user("Zebulon Quux", "+13108675307");
    break_all(&test, "");
    let (account, integration) = test.synced().await;
    let token = test.token(&only(&account), &[TokenScope::Sync]);
    let mut narrow = SyncServiceClient::new(test.client_with(&token));
    let request = pb::ListRejectedRecordsRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        ..Default::default()
    };

    let listed = narrow.list_rejected_records(request).await.unwrap().into_inner().rejected_records;
    let traced = narrow.trace_record(trace_request(&account, &integration, "user", &user)).await.unwrap().into_inner();
    let seen = test.trace(&account, &integration, "user", &user).await.rejected.unwrap();
    test.retry(&account, &integration, "", "").await;
    assert_eq!(test.sync_due().await, 1);

    assert_eq!((listed[0].record_id.as_str(), listed[0].raw.as_str()), (user.as_str(), ""));
    assert_eq!(traced.rejected.unwrap(), pb::RejectedRecord { raw: String::new(), ..seen.clone() });
    assert!(seen.raw.contains("Zebulon Quux"), "{}", seen.raw);
    for text in ["quux", "3108675307"] {
        assert_eq!(test.tables_with(text).await, Vec::<String>::new(), "{text}");
    }
    let run = test.last_run(&account, &integration).await;
    assert!(run.notices.iter().all(|notice| !notice.to_string().contains("Quux")), "{:?}", run.notices);
    let log = log.text();
    assert!(log.contains("sync run is complete"), "the log was not heard");
    for text in ["quux", "8675307"] {
        assert!(!log.to_lowercase().contains(text), "{text} is in the log");
    }
}

/// One without an id is listed once, and loses its content when anybody is erased.
#[tokio::test]
async fn idless_record_loses_content_at_any_erasure() {
    let test = TestApp::start().await;
    let user = test.user("Zebulon Quux", "+13108675307");
    test.user("Ann Sound", "+13108675301");
    let replace = vec![(format!("\"id\":{user},"), b"\"id\":null,".to_vec())];
    test.zendesk.faults().add(FaultRule::always(EXPORT, Fault::Bytes { replace })).unwrap();
    let (account, integration) = test.synced().await;
    read_everything(&test, &account, &integration).await;

    let listed = test.rejected(&account, &integration).await;
    let retried = test.retry(&account, &integration, "", "").await;

    let [rejected] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((rejected.record_id.as_str(), rejected.reason.as_str()), ("", "ID_UNREADABLE"));
    assert!(rejected.times_seen == 2 && rejected.raw.contains("Quux"), "{rejected:?}");
    assert_eq!((retried.retried, retried.sync_run), (0, None));
    let ann = test.look_up(&account, "+13108675301").await.selected.unwrap();
    test.erase(&account, &ann.id).await;
    let listed = test.rejected(&account, &integration).await;
    assert_eq!((listed.len(), listed[0].raw.as_str()), (1, ""));
    // A full read that can read it meets no such row any more.
    test.zendesk.faults().clear();
    read_everything(&test, &account, &integration).await;
    assert!(test.rejected(&account, &integration).await.is_empty());
}

/// A retry during a run is done by the one that follows at once.
#[tokio::test]
async fn retry_during_run_is_done_by_next() {
    let test = TestApp::start().await;
    break_one(&test);
    let (account, integration) = test.synced().await;
    test.zendesk.faults().clear();
    test.pass(TimeDelta::minutes(30));
    let gate = test.zendesk.faults().gate(EXPORT, 0, GateAt::Response).unwrap();
    let sync = Beside::start(&test.app);
    arrived(&gate, 1).await;

    let answer = test.retry(&account, &integration, "", "").await;
    gate.open();
    assert_eq!(sync.ended().await, 1);

    assert_eq!((answer.retried, answer.already_running), (1, true));
    let first = test.run(&account, &answer.sync_run.unwrap().id).await;
    assert_eq!(test.sync_due().await, 1, "the next one is due at once");
    let second = test.last_run(&account, &integration).await;
    assert!(first.notices.is_empty() && second.id != first.id);
    assert!(
        second.notices.iter().any(|notice| notice.to_string().starts_with("REJECTED_RETRIED: 1 ")),
        "{:?}",
        second.notices
    );
    assert!(test.rejected(&account, &integration).await.is_empty());
    assert_eq!(test.sync_due().await, 0);
}

/// A retry that the CRM does not answer stops no run, and is told.
#[tokio::test]
async fn unanswered_retry_stops_no_run_is_told() {
    let test = TestApp::start().await;
    break_one(&test);
    let (account, integration) = test.synced().await;
    test.zendesk.faults().clear();
    test.zendesk.faults().add(FaultRule::always("show_many", Fault::ServerError)).unwrap();
    test.user("Carl Later", "+13108675303");
    test.pass(TimeDelta::minutes(2));

    test.retry(&account, &integration, "", "").await;
    assert_eq!(test.sync_due().await, 1);

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
    assert!(
        run.notices.iter().any(|notice| notice.to_string().contains("1 were not shown or not answered for")),
        "{:?}",
        run.notices
    );
    let listed = test.rejected(&account, &integration).await;
    assert_eq!((listed.len(), listed[0].is_retried), (1, false));
    assert_eq!(test.look_up(&account, "+13108675303").await.outcome(), pb::MatchOutcome::Matched);
}

/// A retry while sync is off is refused, and leaves no wish.
#[tokio::test]
async fn retry_while_sync_off_leaves_no_wish() {
    let test = TestApp::start().await;
    test.user("Zebulon Broken", "+13108675307");
    break_all(&test, EXPORT);
    let (account, integration) = test.synced().await;
    ask_update(&test, &account, &integration, sync_mode(pb::SyncMode::Off), None).await.unwrap();
    let request = pb::RetryRejectedRecordsRequest {
        account_id: account.clone(),
        integration_id: integration.clone(),
        ..Default::default()
    };

    let refused = test.syncs().retry_rejected_records(request).await.unwrap_err();

    assert_eq!(refusal(&refused), (Code::FailedPrecondition, "SYNC_OFF".to_owned()));
    assert!(!test.rejected(&account, &integration).await[0].is_retried);
}

/// A trace tells why a record is here, or why not.
#[tokio::test]
async fn trace_tells_why_record_is_here() {
    let test = TestApp::start().await;
    let here = test.user("Ann Sound", "+13108675301");
    let gone = test.user("Bob Gone", "+13108675302");
    let (account, integration) = test.synced().await;
    test.zendesk.delete_user(gone.parse().unwrap()).unwrap();
    test.pass(TimeDelta::minutes(30));
    assert_eq!(test.sync_due().await, 1);
    let later = test.user("Carl Later", "+13108675303");
    test.clicked(click_on(&account, &integration, "user", "4711", "+13108675304")).await;
    let salesforce = test.enable_off(&account, pb::Provider::Salesforce, ORG).await;
    let leads = pb::ObjectOptions { copy: pb::Switch::Off.into(), ..Default::default() };
    let options = pb::IntegrationOptions { salesforce_leads: Some(leads), ..Default::default() };
    ask_update(&test, &account, &salesforce, options, None).await.unwrap();

    for (integration, object_type, id, fate) in [
        (&integration, "user", here.as_str(), RecordFate::Applied),
        (&integration, "user", gone.as_str(), RecordFate::Gone),
        (&integration, "user", later.as_str(), RecordFate::NotSeen),
        (&integration, "user", "4711", RecordFate::Reported),
        (&salesforce, "Lead", crate::support::calls::LEAD_15, RecordFate::NotCopied),
        (&salesforce, "Contact", CONTACT_15, RecordFate::NotSeen),
    ] {
        let traced = test.trace(&account, integration, object_type, id).await;

        assert_eq!(traced.fate(), fate, "{object_type} {id}");
        assert!(!traced.explanation.is_empty() && traced.rejected.is_none());
        let is_held = matches!(fate, RecordFate::Applied | RecordFate::Gone | RecordFate::Reported);
        assert_eq!((traced.apply_time.is_some(), traced.contact_id.is_empty()), (is_held, !is_held), "{id}");
    }
}

/// A trace names what a record was merged into.
#[tokio::test]
async fn trace_names_what_record_merged_into() {
    let test = TestApp::start().await;
    let create = |name: &str| test.salesforce.create("Contact", &json!({"LastName": name})).unwrap();
    let (winner, loser) = (create("Winner"), create("Loser"));
    let account = test.account().await;
    let request = pb::EnableSyncRequest {
        account_id: account.clone(),
        provider: pb::Provider::Salesforce.into(),
        connection: Some(crate::support::salesforce_connection()),
        credentials: Some(crate::support::bearer("salesforce-token")),
        ..Default::default()
    };
    let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id;
    assert_eq!(test.sync_due().await, 1);
    test.salesforce.merge("Contact", &winner, &[loser.as_str()]).unwrap();
    test.pass(TimeDelta::minutes(30));
    assert_eq!(test.sync_due().await, 1);

    let traced = test.trace(&account, &integration, "Contact", &loser[..15]).await;

    assert_eq!(traced.fate(), RecordFate::Merged);
    assert_eq!((traced.successor_type.as_str(), traced.successor_id.as_str()), ("Contact", winner.as_str()));
}

#[tokio::test]
async fn rejected_records_of_one_account_are_nobody_elses() {
    let test = TestApp::start().await;
    let user = test.user("Zebulon Broken", "+13108675307");
    break_all(&test, EXPORT);
    let (account, integration) = test.synced().await;
    let other = test.account().await;
    let theirs = test.enable(&other, "acme").await;
    assert_eq!(test.sync_due().await, 1);
    // The same record of the same CRM, each sealed for its own integration.
    assert_eq!([test.rejected(&account, &integration).await.len(), test.rejected(&other, &theirs).await.len()], [1, 1]);
    test.db
        .execute(&format!(
            "update rejected_records set raw = (select raw from rejected_records where account_id = '{account}') where account_id = '{other}'"
        ))
        .await;
    assert_eq!(test.rejected(&other, &theirs).await[0].raw, "", "it opens for no other account");

    ask_disable(&test, &other, &theirs, pb::CopiedData::Purge).await.unwrap();
    test.sync_due().await;
    let crossed = test.syncs().trace_record(trace_request(&other, &integration, "user", &user)).await.unwrap_err();

    assert_eq!(refusal(&crossed), (Code::NotFound, "INTEGRATION_NOT_FOUND".to_owned()));
    assert_eq!(test.rejected(&account, &integration).await.len(), 1);
}
