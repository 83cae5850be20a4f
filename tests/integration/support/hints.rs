//! What tests of hints do again and again.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use contact_sync::{
    app::ServiceApp,
    domain::{
        clock::Clock as _,
        hint::{HintBatch, HintReason, NewHint},
        ids::IdSource,
        record::{ObjectType, RecordKey},
    },
    store::{Db, hints},
};

use crate::support::TestApp;
use crate::support::sync::Beside;

const WITHIN: Duration = Duration::from_secs(10);

pub fn user(id: i64) -> RecordKey {
    RecordKey { object_type: ObjectType::User, record_id: id.to_string() }
}

pub fn event(id: i64, event_time: DateTime<Utc>) -> NewHint {
    NewHint { event_time: Some(event_time), ..NewHint::of_record(user(id), HintReason::Event) }
}

/// Writes hints as whoever hears of a change does.
pub struct HintWriter<'t> {
    test: &'t TestApp,
    account: &'t str,
    integration: &'t str,
    ids: IdSource,
}

impl<'t> HintWriter<'t> {
    pub fn new(test: &'t TestApp, account: &'t str, integration: &'t str) -> Self {
        Self { test, account, integration, ids: IdSource::seeded(99) }
    }

    pub fn db(&self) -> &Db {
        &self.test.app.api_db
    }

    pub fn batch<'h>(&self, hints: &'h [NewHint]) -> HintBatch<'h> {
        HintBatch {
            account_id: self.account.parse().unwrap(),
            integration_id: self.integration.parse().unwrap(),
            hints,
            listing_lag: TimeDelta::seconds(65),
            write_id: self.ids.new_v4(),
            now: self.test.clock.now(),
        }
    }

    pub async fn write(&self, hints: &[NewHint]) {
        hints::write(self.db(), &self.batch(hints), WITHIN).await.unwrap();
    }
}

/// How many hints there are.
pub async fn waiting(test: &TestApp) -> i64 {
    test.db.number("select count(*) from hints").await
}

/// A look at all hints that are due, beside the test.
pub fn drain_beside(app: &ServiceApp) -> Beside {
    let worker = Arc::clone(&app.sync_worker);
    Beside::of(async move { worker.drain_hints().await.unwrap() })
}

/// Looks at all hints that are due; how many integrations had some.
pub async fn drain(test: &TestApp) -> usize {
    test.app.sync_worker.drain_hints().await.unwrap()
}

/// Requests by id since the log was cleared.
pub fn look_ups(test: &TestApp) -> usize {
    test.zendesk.requests().recent.iter().filter(|request| request.path.contains("/show_many")).count()
}
