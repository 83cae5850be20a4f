//! Records that are gone, and what brings them back: pages and answers go straight to `identity`,
//! in any order.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use contact_sync::{
    domain::{
        clock::Clock,
        ids::{AccountId, IdSource, IntegrationId},
        options::Options,
        record::{AbsentRecord, NormalRecord, ObjectType, RecordKey},
        suppression::{KEY_LENGTH, SuppressionKey},
    },
    identity::records::{self, AppliedBatch, RecordBatch},
    rpc::pb::Provider,
    store::{StoreError, Transaction, Tx},
};

use crate::support::TestApp;

/// What the CRM says at once.
struct Told {
    integration_id: IntegrationId,
    records: Vec<NormalRecord>,
    gone: Vec<AbsentRecord>,
    ids: Arc<IdSource>,
    now: DateTime<Utc>,
}

impl Transaction for Told {
    const NAME: &'static str = "told";
    type Output = AppliedBatch;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<AppliedBatch, StoreError> {
        let Self { integration_id, records, gone, ids, now } = self;
        let (account_id, suppression) = (tx.account_id(), SuppressionKey::new([7; KEY_LENGTH]));
        let batch = RecordBatch { records, gone, options: Options::default(), suppression: &suppression };
        records::apply(tx, account_id, *integration_id, &batch, *now, ids).await
    }
}

/// A service that is told of one record of a CRM. Seconds are the CRM's.
struct OneRecord {
    test: TestApp,
    account: String,
    integration: String,
    ids: Arc<IdSource>,
}

impl OneRecord {
    async fn held_since(second: i64) -> Self {
        let test = TestApp::start().await;
        let account = test.account().await;
        let integration = test.enable_off(&account, Provider::Pipedrive, "acme").await;
        let one = Self { test, account, integration, ids: Arc::new(IdSource::seeded(7)) };
        one.listed(second).await;
        assert!(one.lives().await);
        one
    }

    async fn take(&self, records: Vec<NormalRecord>, gone: Vec<AbsentRecord>) -> AppliedBatch {
        self.test.pass(TimeDelta::seconds(1));
        let account_id: AccountId = self.account.parse().unwrap();
        let integration_id: IntegrationId = self.integration.parse().unwrap();
        let told = Told { integration_id, records, gone, ids: Arc::clone(&self.ids), now: self.test.clock.now() };
        self.test.app.api_db.of(account_id).run(told).await.unwrap()
    }

    /// Whether a live copy of this age, from a list, leaves the record to be asked for.
    async fn listed(&self, updated_at: i64) -> bool {
        !self.take(vec![copy(updated_at, None, false)], Vec::new()).await.look_again.is_empty()
    }

    /// The same of a copy that the CRM answered with.
    async fn answered(&self, updated_at: i64, answered_at: i64) -> bool {
        !self.take(vec![copy(updated_at, Some(answered_at), false)], Vec::new()).await.look_again.is_empty()
    }

    async fn absent(&self, seen_at: i64) {
        self.take(Vec::new(), vec![AbsentRecord { key: key(), seen_at: Some(at(seen_at)), successor: None }]).await;
    }

    async fn lives(&self) -> bool {
        self.test.db.number("select count(*) from external_refs where is_live").await == 1
            && self.test.db.number("select count(*) from contacts where deleted_at is null").await == 1
    }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
}

fn key() -> RecordKey {
    RecordKey { object_type: ObjectType::Person, record_id: "7".to_owned() }
}

fn copy(updated_at: i64, answered_at: Option<i64>, is_gone: bool) -> NormalRecord {
    NormalRecord {
        key: key(),
        updated_at: Some(at(updated_at)),
        answered_at: answered_at.map(at),
        is_gone,
        successor: None,
        display_name: "Bryce Love".to_owned(),
        organization: String::new(),
        emails: Vec::new(),
        numbers: Vec::new(),
        role: String::new(),
        url: String::new(),
        region: None,
        fingerprint: Some(updated_at),
    }
}

/// The copy that was held when the CRM said that its record is gone does not bring it back; neither
/// does one that is newer, and from before.
#[tokio::test]
async fn copies_from_before_absence_revive_nobody() {
    let one = OneRecord::held_since(10).await;
    one.absent(60).await;

    for second in [10, 11, 59, 60, 62] {
        assert!(one.listed(second).await, "{second}: it is to be asked for");
        assert!(!one.lives().await, "{second}");
    }
    assert!(!one.listed(9).await, "what is older than what was held needs no answer");

    assert!(!one.listed(63).await);
    assert!(one.lives().await);
}

/// An answer brings back whom it shows if it is later than the deletion, and no other does.
#[tokio::test]
async fn later_answer_revives_and_earlier_does_not() {
    let one = OneRecord::held_since(10).await;
    one.absent(60).await;

    for second in [50, 60] {
        assert!(one.answered(10, second).await, "{second}: it is to be asked for");
        assert!(!one.lives().await, "{second}");
    }

    assert!(!one.answered(10, 61).await);
    assert!(one.lives().await);
    // Gone again, and the clock of before does not count.
    one.absent(70).await;
    assert!(one.answered(10, 65).await && !one.lives().await);
}

/// A deletion that was said twice holds from the later time on, in whatever order they came.
#[tokio::test]
async fn last_word_of_a_deletion_counts() {
    let one = OneRecord::held_since(10).await;
    one.absent(90).await;
    one.absent(60).await;

    assert!(one.answered(10, 80).await && !one.lives().await);
    one.absent(120).await;
    assert!(one.answered(10, 100).await && !one.lives().await);
    assert!(!one.answered(10, 121).await && one.lives().await);
}

/// A copy that says it is gone, with a time of change that the deletion left alone, ends the
/// record, and equally old live copies do not bring it back.
#[tokio::test]
async fn deletion_that_touched_no_time_holds_against_equal_copies() {
    let one = OneRecord::held_since(10).await;
    one.take(vec![copy(10, Some(60), true)], Vec::new()).await;
    assert!(!one.lives().await);

    assert!(one.listed(10).await && !one.lives().await);
    assert!(one.answered(10, 59).await && !one.lives().await);
    assert!(!one.answered(10, 61).await && one.lives().await);
}

/// An answer that is older than what is held changes nothing, and is asked for again.
#[tokio::test]
async fn answer_older_than_held_changes_nothing() {
    let one = OneRecord::held_since(10).await;

    assert!(one.answered(9, 60).await);
    let gone = one.take(vec![copy(9, Some(60), true)], Vec::new()).await;

    assert_eq!(gone.look_again, [key()]);
    assert!(one.lives().await);
    assert!(!one.listed(9).await, "a list may be behind");
    assert!(!one.answered(10, 61).await && one.lives().await, "equally old ones apply");
}

/// What was ended without a time, by a program of before, is brought back by an answer alone.
#[tokio::test]
async fn deletion_without_time_waits_for_an_answer() {
    let one = OneRecord::held_since(10).await;
    one.absent(60).await;
    one.test.db.execute("update external_refs set gone_seen_at = null").await;

    assert!(one.listed(1_000).await && !one.lives().await);
    assert!(!one.answered(1_000, 1_001).await && one.lives().await);
}
