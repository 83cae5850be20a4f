//! The feed of changes: gapless, in order, nothing twice, from any position.

use std::{collections::BTreeSet, sync::Arc};

use chrono::TimeDelta;
use contact_sync::{
    domain::{
        clock::Clock,
        ids::{AccountId, IdSource},
    },
    feed::{ChangeFeed, PublishedRound},
    rpc::pb::{self, ChangeKind, Provider},
    store::{accounts::RulesCache, changes},
};
use futures_util::future::join_all;
use rand::RngExt;
use serde_json::json;
use tonic::Code;

use crate::{
    support::calls::{call_with_id, click_on, dice, id_of, refusal, seeds},
    support::sync::eventually,
    support::{TestApp, bearer, salesforce_connection},
};

const BRYCE: &str = "+13108675309";

impl TestApp {
    /// A page of changes.
    pub async fn changes_page(&self, account_id: &str, after: i64, page_size: i32) -> pb::ListChangesResponse {
        let request = pb::ListChangesRequest { account_id: account_id.into(), after, page_size, ..Default::default() };
        self.contacts().list_changes(request).await.unwrap().into_inner()
    }

    /// All changes behind this number.
    pub async fn changes(&self, account_id: &str, mut after: i64) -> Vec<pb::Change> {
        let mut changes = Vec::new();
        loop {
            let page = self.changes_page(account_id, after, 100).await;
            after = page.next_after;
            changes.extend(page.changes);
            if !page.has_more {
                return changes;
            }
        }
    }

    /// The corrections behind this number.
    pub async fn corrections(&self, account_id: &str, after: i64) -> Vec<pb::Correction> {
        self.changes(account_id, after).await.into_iter().filter_map(|change| change.correction).collect()
    }

    /// The number of the newest change.
    pub async fn feed_end(&self, account_id: &str) -> i64 {
        self.changes(account_id, 0).await.last().map_or(0, |change| change.number)
    }

    /// Links the simulated Salesforce; nothing is copied yet. Its id.
    pub async fn enable_salesforce(&self, account_id: &str) -> String {
        let request = pb::EnableSyncRequest {
            account_id: account_id.into(),
            provider: Provider::Salesforce.into(),
            connection: Some(salesforce_connection()),
            credentials: Some(bearer(crm_simulator::salesforce::DEFAULT_ACCESS_TOKEN)),
            ..Default::default()
        };
        self.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id
    }

    pub fn feed(&self) -> ChangeFeed {
        let rules = RulesCache::new(self.app.call_db.clone());
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        ChangeFeed::new(self.app.api_db.clone(), rules, clock, Arc::new(IdSource::seeded(99)))
    }
}

fn kinds(changes: &[pb::Change]) -> Vec<ChangeKind> {
    changes.iter().map(pb::Change::kind).collect()
}

/// Numbers 1, 2, 3 and so on.
pub fn assert_gapless(changes: &[pb::Change]) {
    let numbers: Vec<i64> = changes.iter().map(|change| change.number).collect();
    let expected: Vec<i64> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, expected);
}

/// The contacts as a reader of the feed alone has them.
fn mirrored(changes: &[pb::Change]) -> BTreeSet<String> {
    let mut living = BTreeSet::new();
    for change in changes {
        match change.kind() {
            ChangeKind::Created | ChangeKind::Changed => living.insert(change.contact_id.clone()),
            ChangeKind::Corrected => false,
            _ => living.remove(&change.contact_id),
        };
    }
    living
}

#[tokio::test]
async fn a_contacts_life_is_told_in_order() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE).parse().unwrap();
    let (account, integration) = test.synced().await;
    let contact = id_of(test.look_up(&account, BRYCE).await.selected.as_ref());
    test.minutes(1);
    test.zendesk.update_user(user, &json!({"name": "Bryce L."})).unwrap();
    test.trigger(&account, &integration).await;
    test.minutes(1);
    test.zendesk.delete_user(user).unwrap();
    test.trigger(&account, &integration).await;

    let changes = test.changes(&account, 0).await;

    assert_gapless(&changes);
    assert_eq!(kinds(&changes), [ChangeKind::Created, ChangeKind::Changed, ChangeKind::Deleted]);
    assert!(changes.iter().all(|change| change.contact_id == contact && change.create_time.is_some()));
    // As it is now: gone.
    assert!(changes.iter().all(|change| change.contact.is_none()));
}

/// A new caller and the adoption by its record are told.
#[tokio::test]
async fn new_caller_and_adoption_are_told() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    let stranger = id_of(test.ask(&account, BRYCE, "call-1").await.selected.as_ref());
    test.minutes(1);
    test.user("Bryce Love", BRYCE);
    test.trigger(&account, &integration).await;

    let changes = test.changes(&account, 0).await;

    let of = |id: &str| changes.iter().filter(|change| change.contact_id == id).cloned().collect::<Vec<_>>();
    assert_eq!(kinds(&of(&stranger)), [ChangeKind::Created, ChangeKind::Changed]);
    assert_eq!(of(&stranger)[1].contact.as_ref().unwrap().display_name, "Bryce Love");
    let adopted = changes.iter().find(|change| change.kind() == ChangeKind::Adopted).unwrap();
    assert_eq!(adopted.survivor_id, stranger);
    assert_eq!(mirrored(&changes), BTreeSet::from([stranger]));
}

/// A merge that the CRM names is told with the contact that goes on.
#[tokio::test]
async fn named_merge_is_told_with_survivor() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let make = |name: &str, phone: &str| {
        let fields = json!({"LastName": name, "Phone": phone});
        test.salesforce.create("Contact", &fields).unwrap()
    };
    let (winner, loser) = (make("Winner", BRYCE), make("Loser", "+13105550100"));
    let integration = test.enable_salesforce(&account).await;
    test.sync_due().await;
    let dead = id_of(test.look_up(&account, "+13105550100").await.selected.as_ref());
    let living = id_of(test.look_up(&account, BRYCE).await.selected.as_ref());
    test.minutes(1);
    test.salesforce.merge("Contact", &winner, &[loser.as_str()]).unwrap();
    test.trigger(&account, &integration).await;

    let changes = test.changes(&account, 0).await;

    let merged = changes.iter().find(|change| change.kind() == ChangeKind::Merged).unwrap();
    assert_eq!((&merged.contact_id, &merged.survivor_id), (&dead, &living));
    assert_eq!(mirrored(&changes), BTreeSet::from([living]));
}

/// A reader may go on from any position, and begin at the end.
#[tokio::test]
async fn reader_resumes_anywhere_or_begins_at_end() {
    let test = TestApp::start().await;
    for n in 0..25 {
        test.user(&format!("Person {n}"), &format!("+1310555{n:04}"));
    }
    let (account, _) = test.synced().await;
    let all = test.changes(&account, 0).await;
    assert_gapless(&all);

    for after in [0, 1, 7, 24, 25] {
        for size in [1, 3, 1_000] {
            let (mut read, mut at) = (Vec::new(), after);
            loop {
                let page = test.changes_page(&account, at, size).await;
                at = page.next_after;
                read.extend(page.changes);
                if !page.has_more {
                    break;
                }
            }
            let expected: Vec<&pb::Change> = all.iter().filter(|change| change.number > after).collect();
            assert_eq!(read.iter().collect::<Vec<_>>(), expected, "after {after} by {size}");
        }
    }
    let request = pb::ListChangesRequest { account_id: account.clone(), only_position: true, ..Default::default() };
    let end = test.contacts().list_changes(request).await.unwrap().into_inner();
    assert_eq!((end.next_after, end.changes.len()), (25, 0));
}

/// Four publishers and readers at once see every change once, and in order.
#[tokio::test]
async fn publishers_and_readers_see_changes_once_ordered() {
    for seed in seeds(2) {
        let mut dice = dice(seed);
        let test = TestApp::start().await;
        let account = test.account().await;
        let integration = test.enable_off(&account, Provider::Zendesk, "acme").await;
        let replica = test.replica(|_| {}).await;
        let id: AccountId = account.parse().unwrap();
        let numbers: Vec<String> = (0..60).map(|_| format!("+1310555{:04}", dice.random_range(0..40))).collect();
        let writes = numbers.iter().enumerate().map(|(n, number)| {
            let (test, replica, account, integration) = (&test, &replica, &account, &integration);
            async move {
                let app = if n % 2 == 0 { test } else { replica };
                if n % 3 == 0 {
                    let record = format!("{}", 1_000 + n % 20);
                    let _ = app
                        .callers()
                        .pre_register_contact(click_on(account, integration, "user", &record, number))
                        .await;
                } else {
                    app.match_caller(crate::support::call(account, number)).await;
                }
            }
        });
        let feeds = [test.feed(), replica.feed(), test.feed(), replica.feed()];
        let publishers = feeds.iter().map(|feed| async move {
            for _ in 0..30 {
                // Three transactions at most wait for a fourth; a wait that is too long is tried
                // again.
                let _ = feed.publish(id).await;
                tokio::task::yield_now().await;
            }
        });
        let readers = (0..4).map(|reader| {
            let (app, account) = (if reader % 2 == 0 { &test } else { &replica }, &account);
            async move {
                let (mut read, mut after) = (Vec::new(), 0);
                for _ in 0..30 {
                    let page = app.changes_page(account, after, 7).await;
                    after = page.next_after;
                    read.extend(page.changes);
                }
                read
            }
        });
        let (_, _, read) = tokio::join!(join_all(writes), join_all(publishers), join_all(readers));

        let all = test.changes(&account, 0).await;
        assert_gapless(&all);
        for read in read {
            assert_gapless(&read);
            for (early, late) in read.iter().zip(&all) {
                assert_eq!((early.number, early.kind, &early.contact_id), (late.number, late.kind, &late.contact_id));
            }
        }
        let written = test.rows(&account, "changes").await;
        assert_eq!(usize::try_from(written).unwrap(), all.len(), "seed {seed}");
        // What the feed says is what there is.
        let listed: BTreeSet<String> =
            test.list_contacts(&account, "").await.into_iter().map(|contact| contact.id).collect();
        assert_eq!(mirrored(&all), listed, "seed {seed}");
        assert_eq!(test.feed().publish(id).await.unwrap(), PublishedRound { numbered: 0, looked_at: 0 });
    }
}

/// Versions of a contact are numbered in their order.
#[tokio::test]
async fn contact_versions_are_numbered_in_order() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE).parse().unwrap();
    let (account, integration) = test.synced().await;
    for n in 0..5 {
        test.minutes(1);
        test.zendesk.update_user(user, &json!({"name": format!("Bryce {n}")})).unwrap();
        test.trigger(&account, &integration).await;
    }
    // The clocks of several processes differ: the times stand in the wrong order.
    test.db.execute("update changes set created_at = created_at - version * interval '1 hour'").await;

    test.changes(&account, 0).await;

    let wrong = test
        .db
        .number("select count(*) from changes a join changes b using (account_id, subject_id) where a.version < b.version and a.number > b.number")
        .await;
    assert_eq!(wrong, 0);
}

/// Changes are kept thirty days, and a reader who was away is told.
#[tokio::test]
async fn absent_reader_is_told_after_thirty_days() {
    let test = TestApp::start().await;
    let user = test.user("Bryce Love", BRYCE).parse().unwrap();
    let (account, integration) = test.synced().await;
    assert_eq!(test.feed_end(&account).await, 1);
    test.pass(TimeDelta::days(31));
    test.zendesk.update_user(user, &json!({"name": "Bryce L."})).unwrap();
    test.trigger(&account, &integration).await;
    test.forget().await.unwrap();

    let request = pb::ListChangesRequest { account_id: account.clone(), ..Default::default() };
    let away = test.contacts().list_changes(request).await.unwrap_err();
    let here = test.changes(&account, 1).await;

    assert_eq!(refusal(&away), (Code::FailedPrecondition, "CHANGES_FORGOTTEN".to_owned()));
    assert_eq!(kinds(&here), [ChangeKind::Changed]);
    assert_eq!(here[0].number, 2);
}

#[tokio::test]
async fn changes_that_nobody_read_are_forgotten_and_counted() {
    let test = TestApp::start().await;
    test.user("Bryce Love", BRYCE);
    let (account, _) = test.synced().await;
    test.pass(TimeDelta::days(31));
    test.forget().await.unwrap();
    assert_eq!(test.rows(&account, "changes").await, 0);

    let request = pb::ListChangesRequest { account_id: account.clone(), ..Default::default() };
    let first = test.contacts().list_changes(request).await.unwrap_err();

    assert_eq!(refusal(&first), (Code::FailedPrecondition, "CHANGES_FORGOTTEN".to_owned()));
    assert!(test.changes(&account, 1).await.is_empty());
}

/// A reader as one should be: it keeps the position and its epoch.
pub struct Reader {
    after: i64,
    epoch: String,
    seen: BTreeSet<i64>,
}

impl Reader {
    pub fn new() -> Self {
        Self { after: 0, epoch: String::new(), seen: BTreeSet::new() }
    }

    fn request(&self, account_id: &str) -> pb::ListChangesRequest {
        pb::ListChangesRequest {
            account_id: account_id.into(),
            after: self.after,
            epoch: self.epoch.clone(),
            ..Default::default()
        }
    }

    /// Reads to the end; no number comes twice.
    pub async fn read(&mut self, test: &TestApp, account_id: &str) -> Result<usize, tonic::Status> {
        let mut count = 0;
        loop {
            let page = test.contacts().list_changes(self.request(account_id)).await?.into_inner();
            (self.after, self.epoch) = (page.next_after, page.epoch);
            count += page.changes.len();
            for change in page.changes {
                assert!(self.seen.insert(change.number), "number {} came twice", change.number);
            }
            if !page.has_more {
                return Ok(count);
            }
        }
    }

    /// What `FEED_RESET` says is to be done.
    pub async fn begin_anew(&mut self, test: &TestApp, account_id: &str) {
        let request =
            pb::ListChangesRequest { account_id: account_id.into(), only_position: true, ..Default::default() };
        let position = test.contacts().list_changes(request).await.unwrap().into_inner();
        (self.after, self.epoch) = (position.next_after, position.epoch);
    }
}

/// Strangers who call, as often as the database needs to come back: one change each.
pub async fn strangers(test: &TestApp, account: &str, range: std::ops::Range<usize>) {
    for n in range {
        eventually("a stranger's call", async || {
            let request = call_with_id(account, &format!("+1310556{n:04}"), &format!("stranger-{n}"));
            test.callers().match_caller(request).await.is_ok()
        })
        .await;
    }
}

/// A reader of a restored database is told to begin anew, and hears of everything that follows.
#[tokio::test]
async fn restored_database_resets_readers_then_goes_on() {
    let test = TestApp::start().await;
    let account = test.account().await;
    strangers(&test, &account, 0..2).await;
    let (mut reader, mut plain) = (Reader::new(), Reader::new());
    assert_eq!(reader.read(&test, &account).await.unwrap(), 2);
    let copy = test.db.back_up().await;
    strangers(&test, &account, 2..5).await;
    assert_eq!(reader.read(&test, &account).await.unwrap(), 3);
    // One that keeps the number alone.
    plain.after = reader.after;

    test.db.restore(&copy).await;
    strangers(&test, &account, 5..11).await;

    for reader in [&mut reader, &mut plain] {
        let reset = reader.read(&test, &account).await.unwrap_err();
        assert_eq!(refusal(&reset), (Code::FailedPrecondition, "FEED_RESET".to_owned()));
        assert!(reset.message().contains("list the contacts anew"), "{reset:?}");
        reader.begin_anew(&test, &account).await;
        let seen = reader.after;
        reader.read(&test, &account).await.unwrap();
        assert!(reader.after >= seen);
    }
    strangers(&test, &account, 11..13).await;
    assert_eq!(reader.read(&test, &account).await.unwrap(), 2);
    assert_eq!(plain.read(&test, &account).await.unwrap(), 2);
}

/// After a restore that nothing shows, an operator begins a new epoch of all feeds.
#[tokio::test]
async fn operator_begins_new_epoch_after_unseen_restore() {
    let test = TestApp::start().await;
    let accounts = [test.account().await, test.account().await];
    let mut readers = [Reader::new(), Reader::new()];
    for (reader, account) in readers.iter_mut().zip(&accounts) {
        strangers(&test, account, 0..3).await;
        assert_eq!(reader.read(&test, account).await.unwrap(), 3);
    }

    assert_eq!(changes::distrust_all(test.db.url()).await.unwrap(), 2);

    for (reader, account) in readers.iter_mut().zip(&accounts) {
        let reset = reader.read(&test, account).await.unwrap_err();
        assert_eq!(refusal(&reset), (Code::FailedPrecondition, "FEED_RESET".to_owned()));
        reader.begin_anew(&test, account).await;
        strangers(&test, account, 3..5).await;
        assert_eq!(reader.read(&test, account).await.unwrap(), 2);
        // Once: the epoch stays.
        strangers(&test, account, 5..6).await;
        assert_eq!(reader.read(&test, account).await.unwrap(), 1);
        let old = Reader { after: 3, ..Reader::new() }.request(account);
        let reset = test.contacts().list_changes(old).await.unwrap_err();
        assert_eq!(refusal(&reset), (Code::FailedPrecondition, "FEED_RESET".to_owned()));
    }
}

/// A reader from the beginning of a later epoch is told where it begins.
#[tokio::test]
async fn reader_from_zero_hears_later_epochs_start() {
    let test = TestApp::start().await;
    let account = test.account().await;
    strangers(&test, &account, 0..3).await;
    Reader::new().read(&test, &account).await.unwrap();
    changes::distrust_all(test.db.url()).await.unwrap();

    let refused = Reader::new().read(&test, &account).await.unwrap_err();

    assert_eq!(refusal(&refused), (Code::FailedPrecondition, "CHANGES_FORGOTTEN".to_owned()));
    let mut reader = Reader::new();
    reader.begin_anew(&test, &account).await;
    strangers(&test, &account, 3..4).await;
    assert_eq!(reader.read(&test, &account).await.unwrap(), 1);
}

/// An epoch of another account, or of nobody, is refused.
#[tokio::test]
async fn foreign_or_unknown_epoch_is_refused() {
    let test = TestApp::start().await;
    let (account, other) = (test.account().await, test.account().await);
    let (mut reader, mut elsewhere) = (Reader::new(), Reader::new());
    for (reader, account) in [(&mut reader, &account), (&mut elsewhere, &other)] {
        strangers(&test, account, 0..1).await;
        reader.read(&test, account).await.unwrap();
    }

    for epoch in [elsewhere.epoch.as_str(), "no-epoch", "0"] {
        let request = pb::ListChangesRequest { epoch: epoch.into(), ..reader.request(&account) };
        let refused = test.contacts().list_changes(request).await.unwrap_err();
        assert_eq!(refusal(&refused), (Code::FailedPrecondition, "FEED_RESET".to_owned()));
    }
    let request = pb::ListChangesRequest { epoch: "x".repeat(65), ..reader.request(&account) };
    assert_eq!(test.contacts().list_changes(request).await.unwrap_err().code(), Code::InvalidArgument);
}
