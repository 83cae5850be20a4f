//! Random histories of a CRM against its copy: people come, change, go and return, calls come in,
//! runs fail, are cancelled and begin anew. After quiet the copy is the truth, and on the way no
//! rule of the tables is ever broken.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use crm_simulator::{
    faults::{Fault, FaultRule},
    gate::GateAt,
};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    histories::integrity::assert_holds,
    histories::oracle::assert_is_a_true_copy,
    support::calls::{dice, seeds},
    support::sync::{Beside, EXPORT, arrived, ask_cancel, ask_disable, ask_trigger, ask_update},
    support::{TestApp, bearer, call, error_of},
};

const STEPS: u32 = 400;
/// More than a page, so that runs over everything have several.
const PEOPLE: usize = 1_100;
/// Few, so that users share them, lose them to others, and strangers call from them.
const NUMBERS: u32 = 30;

struct History {
    test: TestApp,
    dice: StdRng,
    account: String,
    integration: String,
    users: Vec<i64>,
    identities: Vec<(i64, i64)>,
}

/// Any history of the CRM ends in a true copy.
#[tokio::test]
async fn any_crm_history_ends_in_true_copy() {
    let seeds = seeds(3);
    let mut events: BTreeMap<&str, i64> = BTreeMap::new();
    for seed in &seeds {
        let mut history = History::begin(*seed).await;
        for _ in 0..STEPS {
            history.step().await;
        }
        history.quiet().await;
        history.count_events(&mut events).await;
    }
    println!("{events:?}");
    // A history in which nothing happens proves nothing.
    assert!(seeds.len() == 1 || events.values().all(|count| *count > 0), "{events:?}");
}

impl History {
    async fn begin(seed: u64) -> Self {
        let test = TestApp::start_with(|config| config.worker.attempts_max = 2).await;
        test.zendesk.generate_people(PEOPLE, seed).unwrap();
        let account = test.account().await;
        let integration = test.enable(&account, "acme").await;
        let users = test.zendesk.oracle().into_iter().map(|user| user.id).take(60).collect();
        let history = Self { test, dice: dice(seed), account, integration, users, identities: Vec::new() };
        history.misbehave();
        history
    }

    /// From now on any answer may be broken.
    fn misbehave(&self) {
        for (probability, fault) in [
            (0.20, Fault::ServerError),
            (0.05, Fault::RateLimited { retry_after_seconds: Some(0) }),
            (0.10, Fault::Truncate),
            (0.10, Fault::Reset { after_bytes: Some(300) }),
            (0.10, Fault::Html),
            (0.10, Fault::EmptyPage { advance: true }),
            (0.03, Fault::StuckCursor),
            (0.15, Fault::RepeatPrevious),
            (0.15, Fault::DuplicateRow),
            (0.03, Fault::Unprocessable),
            (0.02, Fault::Unauthorized),
        ] {
            self.test.zendesk.faults().add(FaultRule { probability, ..FaultRule::always(EXPORT, fault) }).unwrap();
        }
    }

    async fn step(&mut self) {
        // Often in the same second, which is all that Zendesk tells of a time.
        let millis = [0, 0, 300, 1_000, 20_000][self.dice.random_range(0..5)];
        self.test.pass(TimeDelta::milliseconds(millis));
        // What the CRM refuses changes nothing, as it would if a person had tried it.
        let (user, other) = (self.any_user(), self.any_user());
        let zendesk = &self.test.zendesk;
        match self.dice.random_range(0..100) {
            0..18 => self.create(),
            18..40 => self.update(),
            40..50 => self.change_identities(),
            50..60 => drop(zendesk.delete_user(user)),
            60..69 => drop(zendesk.restore_user(user)),
            69..74 => drop(zendesk.merge_users(user, other)),
            74..76 => drop(zendesk.purge_user(user)),
            76..84 => self.call().await,
            84..94 => self.next_run().await,
            94..97 => self.cancelled_run().await,
            97..98 => self.full_run().await,
            98..99 => self.switch_off_and_on().await,
            _ => self.disable_and_enable().await,
        }
    }

    fn any_user(&mut self) -> i64 {
        self.users[self.dice.random_range(0..self.users.len())]
    }

    /// One of few numbers, as somebody types it; or nothing that can be called; or none.
    fn any_phone(&mut self) -> Value {
        let line = 5_300 + self.dice.random_range(0..NUMBERS);
        match self.dice.random_range(0..8) {
            0 => json!(format!("(310) 867-{line}")),
            1 => json!(format!("1.310.867.{line}")),
            2 => json!(format!("310867{line} ext. 7")),
            3 => json!("ask the front desk"),
            4 => Value::Null,
            _ => json!(format!("+1310867{line}")),
        }
    }

    fn create(&mut self) {
        let n = self.users.len();
        let mut user = json!({"name": format!("New {n}"), "phone": self.any_phone()});
        if self.dice.random_bool(0.5) {
            user["email"] = json!(format!("new{n}@example.com"));
        }
        if self.dice.random_bool(0.1) {
            user["role"] = json!("agent");
        }
        self.users.extend(self.test.zendesk.create_user(&user).ok());
    }

    fn update(&mut self) {
        let user = self.any_user();
        let change = match self.dice.random_range(0..4) {
            0 => json!({"name": format!("Renamed {}", self.dice.random_range(0..1_000))}),
            1 => json!({"suspended": self.dice.random_bool(0.5)}),
            _ => json!({"phone": self.any_phone()}),
        };
        let _ = self.test.zendesk.update_user(user, &change);
    }

    fn change_identities(&mut self) {
        if self.dice.random_bool(0.6) || self.identities.is_empty() {
            let (user, phone) = (self.any_user(), self.any_phone());
            let added = self.test.zendesk.add_identity(user, &json!({"type": "phone_number", "value": phone}));
            self.identities.extend(added.ok().map(|identity| (user, identity)));
        } else {
            let (user, identity) = self.identities.swap_remove(self.dice.random_range(0..self.identities.len()));
            let _ = self.test.zendesk.delete_identity(user, identity);
        }
    }

    async fn call(&mut self) {
        let line = 5_300 + self.dice.random_range(0..NUMBERS);
        let mut request = call(&self.account, &format!("+1310867{line}"));
        request.call_id = format!("call-{}", self.dice.random_range(0..1_000_000_u32));
        let answer = self.test.match_caller(request).await;
        assert!(answer.selected.is_some());
    }

    async fn next_run(&mut self) {
        self.test.pass(TimeDelta::minutes(self.dice.random_range(1..20)));
        self.renew_what_stands().await;
        self.test.sync_due().await;
        assert_holds(&self.test).await;
    }

    /// New credentials after a refusal, and a trigger after a pause: what an administrator would
    /// do.
    async fn renew_what_stands(&self) {
        match self.test.integration(&self.account, &self.integration).await.state() {
            pb::IntegrationState::AuthFailed => {
                let credentials = Some(bearer("zendesk-token"));
                ask_update(&self.test, &self.account, &self.integration, None, credentials).await.unwrap();
            }
            pb::IntegrationState::Paused => {
                ask_trigger(&self.test, &self.account, &self.integration, |_| {}).await.unwrap();
            }
            _ => {}
        }
    }

    /// A run that is stopped while its page is on the way.
    async fn cancelled_run(&mut self) {
        self.renew_what_stands().await;
        let asked = ask_trigger(&self.test, &self.account, &self.integration, |_| {}).await.unwrap();
        let run = asked.sync_run.unwrap().id;
        let skip = self.dice.random_range(0..2);
        let gate = self.test.zendesk.faults().gate(EXPORT, skip, GateAt::Response).unwrap();
        let sync = Beside::start(&self.test.app);
        let sync = tokio::select! {
            // It may fail, or end, before it comes to the gate.
            () = self.test_run_ended(&run) => sync,
            () = arrived(&gate, 1) => {
                let _ = ask_cancel(&self.test, &self.account, &run).await;
                sync
            }
        };
        gate.open();
        sync.ended().await;
        assert_holds(&self.test).await;
    }

    async fn test_run_ended(&self, run: &str) {
        crate::support::sync::eventually("the run's end", async || {
            !matches!(
                self.test.run(&self.account, run).await.state(),
                pb::SyncRunState::Queued | pb::SyncRunState::Running
            )
        })
        .await;
    }

    async fn full_run(&mut self) {
        self.renew_what_stands().await;
        let initial = |request: &mut pb::TriggerSyncRequest| request.set_kind(pb::SyncKind::Initial);
        ask_trigger(&self.test, &self.account, &self.integration, initial).await.unwrap();
        self.test.sync_due().await;
        assert_holds(&self.test).await;
    }

    async fn switch_off_and_on(&mut self) {
        for mode in [pb::SyncMode::Off, pb::SyncMode::On] {
            let options = crate::support::sync::sync_mode(mode);
            let credentials = (mode == pb::SyncMode::On).then(|| bearer("zendesk-token"));
            ask_update(&self.test, &self.account, &self.integration, options, credentials).await.unwrap();
            self.test.pass(TimeDelta::milliseconds(10));
        }
        assert_holds(&self.test).await;
    }

    async fn disable_and_enable(&mut self) {
        let copied_data = if self.dice.random_bool(0.3) { pb::CopiedData::Purge } else { pb::CopiedData::Keep };
        ask_disable(&self.test, &self.account, &self.integration, copied_data).await.unwrap();
        self.test.sync_due().await;
        assert_holds(&self.test).await;
        self.test.pass(TimeDelta::milliseconds(10));
        assert_eq!(self.test.enable(&self.account, "acme").await, self.integration);
    }

    /// The CRM is well and nothing changes any more: two runs bring everything.
    async fn quiet(&mut self) {
        self.test.zendesk.faults().clear();
        for _ in 0..2 {
            self.test.pass(TimeDelta::hours(1));
            self.renew_what_stands().await;
            assert_eq!(self.test.sync_due().await, 1);
            let run = self.test.last_run(&self.account, &self.integration).await;
            assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
            self.test.pass(TimeDelta::seconds(1));
        }
        assert_is_a_true_copy(&self.test, &self.integration).await;
        assert_holds(&self.test).await;
    }

    async fn count_events(&self, events: &mut BTreeMap<&'static str, i64>) {
        for (what, sql) in [
            ("failed runs", "select count(*) from sync_runs where state = 'FAILED'"),
            ("cancelled runs", "select count(*) from sync_runs where state = 'CANCELLED'"),
            ("incremental runs", "select count(*) from sync_runs where state = 'SUCCEEDED' and kind = 'INCREMENTAL'"),
            ("tombstones", "select count(*) from contacts where deleted_at is not null and survivor_id is null"),
            ("adopted strangers", "select count(*) from contacts where survivor_id is not null"),
            ("shared numbers", "select count(*) from (select from phone_numbers group by e164 having count(*) > 1) t"),
        ] {
            *events.entry(what).or_default() += self.test.db.number(sql).await;
        }
    }
}
