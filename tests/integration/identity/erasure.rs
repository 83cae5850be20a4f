//! Erasing a person: nothing is left, nothing comes back, and others on the number stay.

use std::{
    io,
    sync::{Arc, Mutex},
};

use contact_sync::rpc::{
    claims::TokenAccounts,
    methods::TokenScope,
    pb::{self, ChangeKind, MatchOutcome, Provider},
};
use serde_json::json;
use tonic::Code;
use tracing::subscriber::DefaultGuard;

use crate::{
    support::calls::{CONTACT_15, ORG, call_with_id, click_on, dawdle, dice, id_of, refusal, seeds},
    support::{Subject, TestApp, call},
};

const BRYCE: &str = "+13108675309";
const SHARED: &str = "+13105550100";

impl TestApp {
    pub async fn erase(&self, account_id: &str, contact_id: &str) -> pb::EraseContactResponse {
        let request = pb::EraseContactRequest { account_id: account_id.into(), contact_id: contact_id.into() };
        self.contacts().erase_contact(request).await.unwrap().into_inner()
    }

    /// Tables that hold this text, in any column of any row.
    pub async fn tables_with(&self, text: &str) -> Vec<String> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select c.relname::text from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace order by 1",
        )
        .fetch_all(&self.db.pool)
        .await
        .unwrap();
        assert!(tables.len() > 15);
        let mut found = Vec::new();
        for table in tables {
            // The text as a parameter: what is asked here is in the log that is searched, too.
            let sql =
                sqlx::AssertSqlSafe(format!("select count(*) from {table} t where t::text ilike '%' || $1 || '%'"));
            let count: i64 = sqlx::query_scalar(sql).bind(text).fetch_one(&self.db.pool).await.unwrap();
            if count > 0 {
                found.push(table);
            }
        }
        found
    }
}

/// Collects what is logged.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged from here on by this thread, on which all of a test's tasks run: all that the
/// service could say, and the libraries' more talkative half.
pub fn listen() -> (Log, DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("debug,contact_sync=trace")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    tracing::callsite::rebuild_interest_cache();
    (log, guard)
}

/// Nothing is left of an erased person, and a full run brings nothing back.
#[tokio::test]
async fn erased_person_leaves_nothing_and_stays_away() {
    let (log, _logging) = listen();
    let test = TestApp::start().await;
    let user = test
        .zendesk
        .create_user(&json!({"name": "Zebulon Quux", "phone": BRYCE, "email": "zebulon@example.org"}))
        .unwrap();
    test.zendesk.add_identity(user, &json!({"type": "phone_number", "value": SHARED})).unwrap();
    let other = test.user("His Wife", SHARED);
    let (account, integration) = test.synced().await;
    let person = id_of(test.ask(&account, BRYCE, "call-1").await.selected.as_ref());
    test.resolve_call(&account, &integration, "call-1").await;
    test.ask(&account, SHARED, "call-2").await;
    test.select(&account, "call-2", &person).await;
    test.resolve_call(&account, &integration, "call-2").await;
    let wife = test.list_contacts(&account, SHARED).await.into_iter().find(|c| c.id != person).unwrap();
    test.select(&account, "call-2", &wife.id).await;
    test.click(click_on(&account, &integration, "user", &user.to_string(), BRYCE)).await;
    test.changes(&account, 0).await;
    assert!(test.tables_with("quux").await.contains(&"contacts".to_owned()), "the scan finds what is there");
    let record = user.to_string();
    assert!(test.tables_with(&record).await.contains(&"changes".to_owned()), "a correction names the record");

    let erased = test.erase(&account, &person).await;

    assert_eq!((erased.contact_id.as_str(), erased.record_count, erased.already_erased), (person.as_str(), 1, false));
    for text in ["quux", "zebulon", "3108675309", record.as_str()] {
        assert_eq!(test.tables_with(text).await, Vec::<String>::new(), "{text}");
    }
    // A changed record, a full run, and a sweep.
    test.minutes(1);
    test.zendesk.update_user(user, &json!({"name": "Zebulon Quux II"})).unwrap();
    test.trigger(&account, &integration).await;
    for kind in [pb::SyncKind::Initial, pb::SyncKind::Sweep] {
        let request = pb::TriggerSyncRequest {
            account_id: account.clone(),
            integration_id: integration.clone(),
            kind: kind.into(),
            ..Default::default()
        };
        test.syncs().trigger_sync(request).await.unwrap();
        assert_eq!(test.sync_due().await, 1);
    }
    for text in ["quux", "zebulon", "3108675309", record.as_str()] {
        assert_eq!(test.tables_with(text).await, Vec::<String>::new(), "{text} after the runs");
    }
    let log = log.text();
    assert!(log.contains("sync run is complete") && log.contains(&integration), "the log was not heard");
    for text in ["quux", "zebulon", "8675309", "555-0100", "3105550100"] {
        assert!(!log.to_lowercase().contains(text), "{text} is in the log");
    }
    // Others stay.
    let shared = test.look_up(&account, SHARED).await;
    assert_eq!(id_of(shared.selected.as_ref()), wife.id);
    assert_eq!(shared.selected.unwrap().records[0].record_id, other);
}

/// Records that were merged into theirs before the first copy are erased with them.
#[tokio::test]
async fn records_merged_before_first_copy_are_erased_too() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let make = |name: &str| test.salesforce.create("Contact", &json!({"LastName": name, "Phone": BRYCE})).unwrap();
    let [a, b, c] = ["A", "B", "C"].map(make);
    test.minutes(1);
    test.salesforce.merge("Contact", &b, &[a.as_str()]).unwrap();
    test.salesforce.merge("Contact", &c, &[b.as_str()]).unwrap();
    test.minutes(1);
    let integration = test.enable_salesforce(&account).await;
    test.sync_due().await;
    for record in [&a, &b, &c] {
        assert!(test.tables_with(record).await.contains(&"external_refs".to_owned()));
    }
    let person = id_of(test.look_up(&account, BRYCE).await.selected.as_ref());

    let erased = test.erase(&account, &person).await;

    assert_eq!(erased.record_count, 3);
    let request = pb::TriggerSyncRequest {
        account_id: account.clone(),
        integration_id: integration,
        kind: pb::SyncKind::Initial.into(),
        ..Default::default()
    };
    test.syncs().trigger_sync(request).await.unwrap();
    assert_eq!(test.sync_due().await, 1);
    for record in [&a, &b, &c] {
        assert_eq!(test.tables_with(record).await, Vec::<String>::new());
    }
}

/// A later call makes a fresh stranger, and a click on the record is refused.
#[tokio::test]
async fn erased_caller_is_stranger_click_is_refused() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE);
    let (account, integration) = test.synced().await;
    let person = id_of(test.look_up(&account, BRYCE).await.selected.as_ref());
    test.erase(&account, &person).await;

    let click = test.click_refused(click_on(&account, &integration, "user", &user, BRYCE)).await;
    let later = test.ask(&account, BRYCE, "call-9").await;

    assert_eq!(refusal(&click), (Code::FailedPrecondition, "ERASED".to_owned()));
    assert_eq!(later.outcome(), MatchOutcome::Created);
    assert_ne!(id_of(later.selected.as_ref()), person);
    let tombstone = test.contact(&account, &person).await;
    assert!(tombstone.delete_time.is_some() && tombstone.display_name.is_empty() && tombstone.records.is_empty());
    // The stranger is not the erased record.
    test.trigger(&account, &integration).await;
    assert!(test.look_up(&account, BRYCE).await.selected.unwrap().is_placeholder);
}

/// Erasing an alias erases the person, and repeating it is safe.
#[tokio::test]
async fn erasing_alias_erases_person_repeatably() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let stranger = id_of(test.ask(&account, BRYCE, "call-1").await.selected.as_ref());
    test.minutes(1);
    test.user("Bryce Love", BRYCE);
    test.trigger(&account, &integration).await;
    let adopted =
        test.changes(&account, 0).await.into_iter().find(|change| change.kind() == ChangeKind::Adopted).unwrap();
    assert_eq!(adopted.survivor_id, stranger);

    let first = test.erase(&account, &adopted.contact_id).await;
    let again = test.erase(&account, &stranger).await;

    assert_eq!((first.contact_id.as_str(), first.record_count, first.already_erased), (stranger.as_str(), 1, false));
    assert_eq!((again.contact_id.as_str(), again.record_count, again.already_erased), (stranger.as_str(), 0, true));
    let erased: Vec<_> =
        test.changes(&account, 0).await.into_iter().filter(|change| change.kind() == ChangeKind::Erased).collect();
    assert_eq!(erased.len(), 1);
    assert_eq!(erased[0].contact_id, stranger);
    assert!(erased[0].contact.is_none());
}

/// A stranger and a tombstone can be erased, and an unknown contact cannot.
#[tokio::test]
async fn strangers_and_tombstones_can_be_erased() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE).parse().unwrap();
    let (account, integration) = test.synced().await;
    let dead = id_of(test.look_up(&account, BRYCE).await.selected.as_ref());
    test.zendesk.delete_user(user).unwrap();
    test.trigger(&account, &integration).await;
    let stranger = id_of(test.ask(&account, SHARED, "call-1").await.selected.as_ref());

    let tombstone = test.erase(&account, &dead).await;
    test.erase(&account, &stranger).await;
    let nobody = pb::EraseContactRequest { account_id: account.clone(), contact_id: uuid::Uuid::nil().to_string() };
    let nobody = test.contacts().erase_contact(nobody).await.unwrap_err();

    assert_eq!(tombstone.record_count, 1);
    assert_eq!(refusal(&nobody), (Code::NotFound, "CONTACT_NOT_FOUND".to_owned()));
    assert_eq!(test.rows(&account, "external_refs").await, 0);
    assert_eq!(test.tables_with("3105550100").await, Vec::<String>::new());
    // Restored in the CRM: it stays erased.
    test.zendesk.restore_user(user).unwrap();
    test.minutes(1);
    test.trigger(&account, &integration).await;
    assert_eq!(test.rows(&account, "external_refs").await, 0);
    assert_eq!(test.look_up(&account, BRYCE).await.outcome(), MatchOutcome::NotFound);
}

/// What was told of a person's call goes with the call, also where it names somebody else.
#[tokio::test]
async fn decision_goes_with_erased_persons_call() {
    let test = TestApp::start().await;
    test.user("Ann", SHARED);
    test.user("Bob", SHARED);
    let (account, integration) = test.synced().await;
    let answer = test.ask(&account, SHARED, "call-1").await;
    let first = id_of(answer.selected.as_ref());
    test.select(&account, "call-1", &first).await;
    test.resolve_call(&account, &integration, "call-1").await;
    let other = answer.candidates.into_iter().map(|contact| contact.id).find(|id| *id != first).unwrap();
    test.select(&account, "call-1", &other).await;
    let kept = async || {
        let count = "select (select count(*) from calls) + (select count(*) from requester_decisions)";
        test.db.number(count).await
    };
    assert_eq!(kept().await, 2);
    let copy =
        "create table late_calls as select * from calls; create table late_told as select * from requester_decisions";
    test.db.execute(copy).await;

    test.erase(&account, &other).await;
    assert_eq!(kept().await, 0);

    // As a router and an automation write it that had begun before the erasure.
    let late = "insert into calls select * from late_calls; insert into requester_decisions select * from late_told";
    test.db.execute(late).await;
    assert_eq!(kept().await, 2);
    test.forget().await.unwrap();
    assert_eq!(kept().await, 0);
    assert_eq!(id_of(test.look_up(&account, SHARED).await.selected.as_ref()), first);
}

#[tokio::test]
async fn erasing_needs_its_own_scope() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let token = test.token(
        &TokenAccounts::All,
        &[TokenScope::Calls, TokenScope::Sync, TokenScope::ContactsRead, TokenScope::Admin],
    );
    let request = pb::EraseContactRequest { account_id: account, contact_id: uuid::Uuid::nil().to_string() };
    let mut client = pb::contact_service_client::ContactServiceClient::new(test.client_with(&token));

    assert_eq!(client.erase_contact(request).await.unwrap_err().code(), Code::PermissionDenied);
}

/// A call, an automation that asks to whom it belongs, and a reader of the feed; each may be
/// refused. Whether a record was told.
async fn call_and_ask(test: &TestApp, account: &str, integration: &str, number: &str) -> bool {
    let call_id = format!("call-{number}");
    let _ = test.callers().match_caller(call_with_id(account, number, &call_id)).await;
    let request = pb::ResolveRequesterRequest {
        default_region: String::new(),
        account_id: account.into(),
        integration_id: integration.into(),
        subject: Some(Subject::CallId(call_id)),
    };
    let told = test.callers().resolve_requester(request).await;
    let request = pb::ListChangesRequest { account_id: account.into(), ..Default::default() };
    let _ = test.contacts().list_changes(request).await;
    told.is_ok_and(|told| told.into_inner().outcome() == pb::RequesterOutcome::Resolved)
}

/// Five hundred erasures that race with syncs, calls, clicks and automations bring nobody back.
/// F20: an erasure racing a sync, a call, a click, an automation and a reader of the feed.
#[tokio::test]
async fn racing_erasures_bring_nobody_back() {
    const RACES: usize = 500;
    const ROUNDS: usize = 10;
    for seed in seeds(1) {
        let mut dice = dice(seed);
        let test = TestApp::start().await;
        let account = test.account().await;
        let integration = test.enable(&account, "acme").await;
        let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
        test.click(click_on(&account, &salesforce, "Contact", CONTACT_15, "+13105559999")).await;
        let mut users = Vec::new();
        for n in 0..RACES {
            users.push(test.user(&format!("Zebulon Quux {n}"), &format!("+1310556{n:04}")));
        }
        test.sync_due().await;
        let people = test.list_all(&account).await;
        assert_eq!(people.len(), RACES + 1);
        let mut told = 0;
        for round in 0..ROUNDS {
            test.minutes(1);
            let mine = RACES / ROUNDS * round..RACES / ROUNDS * (round + 1);
            let mut erasures = Vec::new();
            for n in mine.clone() {
                let user: u64 = users[n].parse().unwrap();
                test.zendesk
                    .update_user(user.try_into().unwrap(), &json!({"name": format!("Zebulon Quux {n} II")}))
                    .unwrap();
                let number = format!("+1310556{n:04}");
                let person = people.iter().find(|c| c.numbers.iter().any(|own| own.e164 == number)).unwrap().id.clone();
                erasures.push((person, number, users[n].clone()));
            }
            let mut seeds: Vec<_> = erasures.iter().map(|_| crate::support::calls::dice_of(&mut dice)).collect();
            let racing = erasures.iter().zip(&mut seeds).map(|((person, number, user), dice)| {
                let (test, account, integration) = (&test, &account, &integration);
                async move {
                    dawdle(dice, 200).await;
                    let mut callers = test.callers();
                    let click = callers.pre_register_contact(click_on(account, integration, "user", user, number));
                    let mut later = crate::support::calls::dice_of(dice);
                    let asked = async {
                        dawdle(&mut later, 2_000).await;
                        call_and_ask(test, account, integration, number).await
                    };
                    let (_, erased, is_told) = tokio::join!(click, test.erase(account, person), asked);
                    assert_eq!(erased.record_count, 1);
                    // Never after the answer.
                    let after = test.look_up(account, number).await;
                    assert!(after.candidates.iter().all(|contact| contact.is_placeholder), "{after:?}");
                    test.match_caller(call(account, number)).await;
                    is_told
                }
            });
            let request = pb::TriggerSyncRequest {
                account_id: account.clone(),
                integration_id: integration.clone(),
                ..Default::default()
            };
            test.syncs().trigger_sync(request).await.unwrap();
            let (_, answers) = tokio::join!(test.sync_due(), futures_util::future::join_all(racing));
            told += answers.into_iter().filter(|is_told| *is_told).count();
        }
        for _ in 0..3 {
            test.minutes(40);
            test.trigger(&account, &integration).await;
        }
        assert_eq!(test.tables_with("quux").await, Vec::<String>::new(), "seed {seed}");
        println!("{told} of {RACES} were told to an automation meanwhile");
        assert!(told > RACES / 20);
        test.changes(&account, 0).await;
        for table in ["external_refs", "requester_decisions", "phone_numbers"] {
            let sql = format!("select count(*) from {table} where integration_id::text = $1 and record_id = any($2)");
            let sql = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(&integration).bind(&users);
            assert_eq!(sql.fetch_one(&test.db.pool).await.map(|count: i64| count).unwrap(), 0, "{table}, seed {seed}");
        }
        let corrected = "select count(*) from changes
            where correction -> 'before' ->> 'record_id' = any($1) or correction -> 'after' ->> 'record_id' = any($1)";
        let corrected: i64 = sqlx::query_scalar(corrected).bind(&users).fetch_one(&test.db.pool).await.unwrap();
        assert_eq!(corrected, 0, "seed {seed}");
        let left = test.list_all(&account).await;
        assert!(left.iter().all(|contact| contact.is_placeholder || contact.records[0].integration_id == salesforce));
    }
}
