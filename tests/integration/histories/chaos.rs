//! Everything at once: two replicas whose workers never rest, a CRM that changes, callers, clicks,
//! triggers and cancellations on a few numbers. When the storm is over the copy is the truth and
//! every rule of the tables holds.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tonic::{Code, Status};

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::calls::{dice, seeds},
    support::sync::{ask_cancel, ask_trigger, eventually, soon},
    support::{TestApp, call, enable_request},
};

const CHANGES: usize = 250;
const CALLERS: usize = 3;
const CALLS: usize = 120;
const CLICKS: usize = 80;
const NUMBERS: u32 = 20;

struct Storm {
    test: TestApp,
    replica: TestApp,
    account: String,
    integration: String,
    users: Vec<i64>,
    /// Calls that were asked to try again.
    refused: AtomicUsize,
}

fn any_number(dice: &mut StdRng) -> String {
    format!("+1310867{}", 5_300 + dice.random_range(0..NUMBERS))
}

/// Calls, clicks and runs at once end in a true copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_clicks_and_passes_leave_true_copy() {
    for seed in seeds(2) {
        let mut dice = dice(seed);
        let storm = Storm::gather(seed).await;

        let mut another = || StdRng::seed_from_u64(dice.random());
        let all = async {
            tokio::join!(
                storm.change(another()),
                storm.click(another()),
                storm.operate(another()),
                storm.call(another()),
                storm.call(another()),
                storm.call(another()),
            )
        };
        soon("the end of the storm", Box::pin(all)).await;
        storm.calm().await;
    }
}

impl Storm {
    async fn gather(seed: u64) -> Self {
        let workers = |config: &mut contact_sync::config::Config| {
            config.worker.concurrency = 2;
            config.worker.poll_ms = 50;
            // A run that is left by its worker is soon taken up.
            config.worker.lease_seconds = 3;
            config.worker.heartbeat_seconds = 1;
            config.pools.sync.connections = 3;
        };
        let test = TestApp::start_with(workers).await;
        let replica = test.replica(workers).await;
        let users: Vec<i64> =
            (0..40).map(|n| test.zendesk.create_user(&json!({"name": format!("User {n}")})).unwrap()).collect();
        test.zendesk.generate_people(300, seed).unwrap();
        let account = test.account().await;
        let mut request = enable_request(&account, "acme");
        request.options = Some(pb::IntegrationOptions {
            sync: pb::SyncMode::On.into(),
            period: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..Default::default()
        });
        let integration = test.syncs().enable_sync(request).await.unwrap().into_inner().integration.unwrap().id;
        Self { test, replica, account, integration, users, refused: AtomicUsize::new(0) }
    }

    fn one_of_both(&self, dice: &mut StdRng) -> &TestApp {
        if dice.random_bool(0.5) { &self.test } else { &self.replica }
    }

    /// A caller may be asked to try again, and nothing else.
    fn tolerate<T>(&self, answer: Result<T, Status>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(status) if status.code() == Code::Unavailable => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(status) => panic!("{status:?}"),
        }
    }

    async fn change(&self, mut dice: StdRng) {
        let zendesk = &self.test.zendesk;
        for n in 0..CHANGES {
            let user = self.users[dice.random_range(0..self.users.len())];
            // What is refused changes nothing.
            let _ = match dice.random_range(0..10) {
                0..5 => zendesk.update_user(user, &json!({"phone": any_number(&mut dice)})),
                5 => zendesk.update_user(user, &json!({"phone": null})),
                6 => zendesk.update_user(user, &json!({"name": format!("Name {n}")})),
                7 => zendesk.delete_user(user),
                8 => zendesk.restore_user(user),
                _ => {
                    zendesk.create_user(&json!({"name": format!("New {n}"), "phone": any_number(&mut dice)})).map(drop)
                }
            };
            self.test.pass(TimeDelta::seconds(dice.random_range(0..40)));
            tokio::task::yield_now().await;
            if n % 10 == 0 {
                // Runs keep up with the changes, so that there are many.
                let runs = "select count(*) from sync_runs where state = 'SUCCEEDED'";
                let before = self.test.db.number(runs).await;
                self.test.pass(TimeDelta::seconds(61));
                eventually("a run", async || self.test.db.number(runs).await > before).await;
            }
        }
    }

    async fn call(&self, mut dice: StdRng) {
        for _ in 0..CALLS {
            let mut request = call(&self.account, &any_number(&mut dice));
            if dice.random_bool(0.5) {
                request.call_id = format!("call-{}", dice.random_range(0..300));
                // One number to a call id.
                let line = request.call_id.bytes().map(u32::from).sum::<u32>() % NUMBERS;
                request.phone_number = format!("+1310867{}", 5_300 + line);
            }
            let answer = self.one_of_both(&mut dice).callers().match_caller(request).await;
            if let Some(answer) = self.tolerate(answer) {
                assert!(answer.into_inner().selected.is_some(), "a caller without a contact");
            }
        }
    }

    async fn click(&self, mut dice: StdRng) {
        let users: Vec<i64> = self.test.zendesk.oracle().into_iter().map(|user| user.id).collect();
        for _ in 0..CLICKS {
            let mut request = pb::PreRegisterContactRequest {
                account_id: self.account.clone(),
                integration_id: self.integration.clone(),
                object_type: "user".into(),
                record_id: users[dice.random_range(0..users.len())].to_string(),
                phone_number: any_number(&mut dice),
                display_name: "Clicked".into(),
                ..Default::default()
            };
            if dice.random_bool(0.3) {
                let found = self.one_of_both(&mut dice).look_up(&self.account, &request.phone_number).await;
                request.contact_id = found.selected.map(|contact| contact.id).unwrap_or_default();
            }
            let answer = self.one_of_both(&mut dice).callers().pre_register_contact(request).await;
            match answer {
                // The record is deleted, the contact has a record, or has gone meanwhile.
                Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) => {}
                other => drop(self.tolerate(other)),
            }
        }
    }

    async fn operate(&self, mut dice: StdRng) {
        for _ in 0..40 {
            let Ok(asked) = ask_trigger(self.one_of_both(&mut dice), &self.account, &self.integration, |request| {
                request.kind = dice.random_range(0..3);
            })
            .await
            else {
                continue;
            };
            let run = asked.sync_run.unwrap().id;
            if dice.random_bool(0.3) {
                // It may have ended by now.
                let _ = ask_cancel(&self.test, &self.account, &run).await;
            } else {
                eventually("a run's end", async || {
                    let state = self.test.run(&self.account, &run).await.state();
                    !matches!(state, pb::SyncRunState::Queued | pb::SyncRunState::Running)
                })
                .await;
            }
        }
    }

    async fn calm(&self) {
        for _ in 0..2 {
            self.test.pass(TimeDelta::seconds(1));
            let mut request = pb::TriggerSyncRequest {
                account_id: self.account.clone(),
                integration_id: self.integration.clone(),
                ..Default::default()
            };
            request.set_kind(pb::SyncKind::Initial);
            let run = self.test.syncs().trigger_sync(request).await.unwrap().into_inner().sync_run.unwrap().id;
            eventually("the last runs", async || {
                self.test.run(&self.account, &run).await.state() == pb::SyncRunState::Succeeded
            })
            .await;
        }
        self.test.lifecycle.soft().cancel();
        self.replica.lifecycle.soft().cancel();
        let kinds: BTreeSet<String> = sqlx::query_scalar("select kind || ' ' || state from sync_runs")
            .fetch_all(&self.test.db.pool)
            .await
            .unwrap()
            .into_iter()
            .collect();
        println!("{kinds:?}, asked to try again: {}", self.refused.load(Ordering::Relaxed));
        assert!(self.refused.load(Ordering::Relaxed) < CALLERS * CALLS / 20);
        assert_is_a_true_copy(&self.test, &self.integration).await;
        assert_holds(&self.test).await;
    }
}
