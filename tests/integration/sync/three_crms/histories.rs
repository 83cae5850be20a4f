//! Random histories of each CRM: people come, change, go, return, are merged and converted, calls
//! come in, and runs come in between. After each run that can know, the copy is the truth, and
//! nobody who is gone is anybody's requester.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use contact_sync::rpc::pb;
use phone_key::Region;
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use super::{
    behaviours::{assert_is_the_truth, link, next_run_with_deletions},
    crm::Crm,
};
use crate::{
    support::calls::{dice, seeds},
    support::{Subject, TestApp, call, error_of},
};

const HISTORIES: u64 = 20;
const STEPS: u32 = 15;
/// Few, so that people share them, and strangers call from them.
const NUMBERS: [&str; 6] =
    ["+13105550101", "+13105550102", "+13105550103", "+13105550104", "+13105550105", "+13105550106"];

struct History {
    test: TestApp,
    dice: StdRng,
    account: String,
    integration: String,
    /// Whoever was ever seen alive, the dead too.
    everybody: BTreeSet<String>,
    people: u32,
    calls: u32,
}

#[expect(clippy::unused_async, reason = "awaited like every behaviour")]
pub async fn random_histories_end_in_the_truth<C: Crm>() {
    for seed in seeds(HISTORIES) {
        // In a runtime of its own, with which everything of it ends: all services at once have more
        // connections than a server takes.
        let history = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(live_through::<C>(seed));
        });
        assert!(history.join().is_ok(), "seed {seed}");
    }
}

async fn live_through<C: Crm>(seed: u64) {
    let mut history = Box::pin(History::begin::<C>(seed)).await;
    for _ in 0..STEPS {
        history.step::<C>().await;
    }
    history.run::<C>(true).await;
}

impl History {
    async fn begin<C: Crm>(seed: u64) -> Self {
        let mut worlds = C::worlds();
        let which = usize::try_from(seed).unwrap() % worlds.len();
        let test = TestApp::start_in(worlds.swap_remove(which)).await;
        let mut dice = dice(seed);
        for n in 0..4 {
            C::create(&test, &format!("Founder {n}"), NUMBERS.choose(&mut dice).unwrap());
        }
        let account = test.account().await;
        let integration = link::<C>(&test, &account, C::token()).await;
        let mut history = Self { test, dice, account, integration, everybody: BTreeSet::new(), people: 0, calls: 0 };
        history.test.pass(TimeDelta::minutes(3));
        assert_eq!(history.test.sync_due().await, 1);
        history.remember::<C>();
        history
    }

    fn remember<C: Crm>(&mut self) -> Vec<String> {
        let live: Vec<String> = C::truth(&self.test).into_keys().collect();
        self.everybody.extend(live.iter().cloned());
        live
    }

    async fn step<C: Crm>(&mut self) {
        let live = self.remember::<C>();
        let everybody: Vec<String> = self.everybody.iter().cloned().collect();
        let phone = *NUMBERS.choose(&mut self.dice).unwrap();
        // Often in one second, which is all that some CRMs tell of a time.
        self.test.pass(TimeDelta::milliseconds(*[0, 0, 500, 7_000].choose(&mut self.dice).unwrap()));
        let (test, dice) = (&self.test, &mut self.dice);
        let (one, other) = (live.choose(dice), live.choose(dice));
        match dice.random_range(0..20) {
            0..3 => {
                self.people += 1;
                C::create(test, &format!("Person {}", self.people), phone);
            }
            3..5 => one.into_iter().for_each(|id| C::rename(test, id, &format!("Renamed {}", dice.random::<u16>()))),
            5..7 => one.into_iter().for_each(|id| C::set_phone(test, id, phone)),
            7..9 => one.into_iter().for_each(|id| C::delete(test, id)),
            9..11 => {
                // Perhaps one that is not gone: then nothing happens.
                let _ = everybody.choose(dice).is_some_and(|id| C::can_restore(test, id));
            }
            11..13 => {
                let _ = one.zip(other).is_some_and(|(loser, winner)| C::can_merge(test, loser, winner));
            }
            13..15 => C::do_something_odd(test, dice, &everybody, phone),
            15..17 => self.call(phone).await,
            _ => {
                let is_sweep = self.dice.random_bool(0.5);
                self.run::<C>(is_sweep).await;
            }
        }
    }

    async fn call(&mut self, phone: &str) {
        self.calls += 1;
        let mut request = call(&self.account, phone);
        request.call_id = format!("call-{}", self.calls);
        self.test.match_caller(request).await;
    }

    /// Whatever was done before the CRM's own delays is known afterwards.
    async fn run<C: Crm>(&mut self, is_sweep: bool) {
        self.remember::<C>();
        self.test.pass(TimeDelta::minutes(3));
        if is_sweep {
            next_run_with_deletions::<C>(&self.test, &self.account, &self.integration).await;
        } else {
            super::behaviours::next_run(&self.test).await;
        }
        let run = self.test.last_run(&self.account, &self.integration).await;
        assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
        if is_sweep || C::LISTS_DELETIONS {
            assert_is_the_truth::<C>(&self.test, &self.integration).await;
            self.assert_callers_are_the_truth::<C>().await;
        }
    }

    /// Each number names exactly those who have it, and each requester is one of the living.
    async fn assert_callers_are_the_truth<C: Crm>(&self) {
        let truth = C::truth(&self.test);
        for number in NUMBERS {
            let reading = phone_key::read(number, Some(Region::parse("US").unwrap()));
            let key = reading.first().unwrap().key.as_i64();
            let owners: BTreeSet<&str> =
                truth.iter().filter(|(_, truth)| truth.keys.contains(&key)).map(|(id, _)| id.as_str()).collect();

            let found = self.test.look_up(&self.account, number).await;
            let named = found.candidates.iter().flat_map(|contact| &contact.records).filter(|record| record.is_live);
            assert_eq!(named.map(|record| record.record_id.as_str()).collect::<BTreeSet<_>>(), owners, "{number}");

            let subject = Subject::PhoneNumber(number.into());
            let resolved = self.test.resolve(&self.account, &self.integration, subject).await;
            assert!(resolved.record.iter().all(|record| owners.contains(record.record_id.as_str())), "{number}");
            assert_eq!(resolved.outcome() == pb::RequesterOutcome::NotFound, owners.is_empty(), "{number}");
        }
        for call in 1..=self.calls {
            let subject = Subject::CallId(format!("call-{call}"));
            let resolved = self.test.resolve(&self.account, &self.integration, subject).await;
            assert!(resolved.record.iter().all(|record| truth.contains_key(&record.record_id)), "call-{call}");
        }
    }
}
