//! Hints that a record may have changed: how they are written, what becomes of many, and what is
//! left of them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use contact_sync::{
    domain::{
        clock::Clock as _,
        hint::{HINTS_MAX, HintBatch, NewHint},
    },
    rpc::pb,
    store::{StoreError, Transaction, Tx, hints},
};
use serde_json::json;

use crate::{
    histories::integrity::assert_holds,
    support::TestApp,
    support::hints::{HintWriter, event, user, waiting},
    support::sync::{ask_disable, blocked},
};

/// The rows as they are: record, event time, and whether they are due.
async fn rows(test: &TestApp) -> Vec<(String, Option<DateTime<Utc>>, bool)> {
    sqlx::query_as("select record_id, event_time, not_before <= $1 from hints order by length(record_id), record_id")
        .bind(test.clock.now())
        .fetch_all(&test.db.pool)
        .await
        .unwrap()
}

/// A hint that comes again is the same row, and another write.
#[tokio::test]
async fn repeated_hint_is_one_row_with_latest_event() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let writer = HintWriter::new(&test, &account, &integration);
    let now = test.clock.now();
    let write_id = "select count(distinct write_id) from hints";

    writer.write(&[event(7, now), event(7, now - TimeDelta::seconds(3)), event(8, now)]).await;
    assert_eq!(test.db.number(write_id).await, 1);
    test.pass(TimeDelta::seconds(5));
    // Delivered late.
    writer.write(&[event(7, now - TimeDelta::seconds(9))]).await;

    assert_eq!(rows(&test).await, [("7".to_owned(), Some(now), true), ("8".to_owned(), Some(now), true)]);
    assert_eq!(test.db.number(write_id).await, 2, "whoever took the first write does not delete the second");
    let first = "select count(*) from hints where record_id = '7' and last_at - first_at = interval '5 seconds'";
    assert_eq!(test.db.number(first).await, 1);
    assert_holds(&test).await;
}

/// However many records change, a few hundred rows say so; the rest is one poll.
#[tokio::test]
async fn burst_of_hints_stays_bounded_as_one_poll() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let writer = HintWriter::new(&test, &account, &integration);
    let now = test.clock.now();

    for batch in 0..100 {
        let hints: Vec<NewHint> = (0..100).map(|n| event(batch * 100 + n + 1, now)).collect();
        writer.write(&hints).await;
    }

    assert_eq!(waiting(&test).await, i64::try_from(HINTS_MAX).unwrap() + 1);
    let rows = rows(&test).await;
    assert_eq!(rows[0], (String::new(), Some(now), false), "the poll waits for the CRM's lists");
    assert!(rows[1..].iter().all(|(_, _, is_due)| *is_due));
    test.pass(TimeDelta::seconds(65));
    assert!(self::rows(&test).await[0].2);
}

/// Writers of the same records in any order wait for each other, and none is refused.
#[tokio::test]
async fn writers_in_any_order_meet_without_conflict() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let writer = HintWriter::new(&test, &account, &integration);
    let now = test.clock.now();
    let up: Vec<NewHint> = (1..=50).map(|n| event(n, now)).collect();
    let down: Vec<NewHint> = up.iter().rev().cloned().collect();

    let attempts = (0..20).map(|n| writer.write(if n % 2 == 0 { &up } else { &down }));
    futures_util::future::join_all(attempts).await;

    assert_eq!(waiting(&test).await, 50);
}

/// A database that does not answer in time is told as such, and the write may be repeated.
#[tokio::test]
async fn slow_write_of_hints_ends_in_time() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let writer = HintWriter::new(&test, &account, &integration);
    let hints = [event(7, test.clock.now())];
    let mut lock = test.db.pool.begin().await.unwrap();
    sqlx::query("lock table hints").execute(&mut *lock).await.unwrap();

    let batch = writer.batch(&hints);
    let (refused, ()) = tokio::join!(hints::write(writer.db(), &batch, Duration::from_millis(300)), blocked(&test, 1),);
    assert!(matches!(refused, Err(StoreError::Timeout(_))), "{refused:?}");
    lock.rollback().await.unwrap();
    writer.write(&hints).await;

    assert_eq!(waiting(&test).await, 1);
}

/// Hints that are written with something else are there if that is.
#[tokio::test]
async fn hints_of_transaction_share_its_fate() {
    struct WriteHints {
        batch: HintBatch<'static>,
        fails: bool,
    }

    impl Transaction for WriteHints {
        const NAME: &'static str = "write_hints";
        type Output = ();
        type Error = StoreError;

        async fn run(&self, tx: &mut Tx) -> Result<(), StoreError> {
            hints::write_in(tx, &self.batch).await?;
            if self.fails { Err(StoreError::Busy) } else { Ok(()) }
        }
    }

    let test = TestApp::start().await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let writer = HintWriter::new(&test, &account, &integration);
    let hints: &'static [NewHint] = Box::leak(Box::new([event(7, test.clock.now())]));
    let of_account = writer.db().of(account.parse().unwrap());

    assert!(of_account.run(WriteHints { batch: writer.batch(hints), fails: true }).await.is_err());
    assert_eq!(waiting(&test).await, 0);
    of_account.run(WriteHints { batch: writer.batch(hints), fails: false }).await.unwrap();
    assert_eq!(waiting(&test).await, 1);
}

/// What nobody looks at is forgotten after a week.
#[tokio::test]
async fn hints_are_forgotten_after_seven_days() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let writer = HintWriter::new(&test, &account, &integration);
    writer.write(&[event(7, test.clock.now())]).await;
    test.pass(TimeDelta::days(5));
    writer.write(&[event(8, test.clock.now())]).await;
    test.pass(TimeDelta::days(3));

    test.forget().await.unwrap();

    assert_eq!(rows(&test).await.into_iter().map(|row| row.0).collect::<Vec<_>>(), ["8"]);
}

/// No hint keeps the id of an erased person's record, or of a CRM that was taken away.
#[tokio::test]
async fn erasure_and_purge_take_hints_along() {
    let test = TestApp::start().await;
    let ann = test.zendesk.create_user(&json!({"name": "Ann", "phone": "+13108675301"})).unwrap();
    let (account, integration) = test.synced().await;
    let other = test.enable(&account, "other").await;
    test.sync_due().await;
    let writer = HintWriter::new(&test, &account, &integration);
    let now = test.clock.now();
    let merged = NewHint { successor: Some(user(ann)), ..event(4_444, now) };
    writer.write(&[event(ann, now), merged, event(5_555, now)]).await;
    HintWriter::new(&test, &account, &other).write(&[event(6_666, now)]).await;

    let person = test.look_up(&account, "+13108675301").await.candidates.into_iter();
    let person = person.filter(|contact| contact.records[0].integration_id == integration);
    test.erase(&account, &person.map(|contact| contact.id).next().unwrap()).await;
    assert_eq!(rows(&test).await.into_iter().map(|row| row.0).collect::<Vec<_>>(), ["5555", "6666"]);

    ask_disable(&test, &account, &integration, pb::CopiedData::Purge).await.unwrap();
    test.sync_due().await;
    assert_eq!(rows(&test).await.into_iter().map(|row| row.0).collect::<Vec<_>>(), ["6666"]);
    assert_holds(&test).await;
}
