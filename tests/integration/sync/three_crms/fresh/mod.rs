//! Random histories of CRMs that push their changes: runs and looks at hints stand still at any
//! point, die there, or lose their lease, while people change and events come late, twice, in any
//! order or never. At no moment is anybody held as they were before, and when all is quiet the copy
//! is the truth: by push alone where every event came.

mod history;
mod streams;
mod versions;

use crm_simulator::push::DeliveryPlan;
use rand::{RngExt, rngs::StdRng};

use self::history::FreshHistory;
use super::crm::{Crm, PipedriveCrm, SalesforceCrm, ZendeskCrm};
use crate::{
    support::calls::{dice, seeds},
    support::{TestApp, Worlds},
    sync::authorize::start_in,
};

/// Of each CRM. On demand: `HISTORIES=3400 ./dev test --profile long -E 'test(/fresh::/)'`.
const HISTORIES: u64 = 67;
/// Tests of a CRM that share its histories.
const SHARDS: u64 = 3;
const STEPS: u32 = 40;

/// A CRM that pushes its changes.
pub trait PushingCrm: Crm {
    /// A person who is given a number that somebody has is an event.
    const PUSHES_SHARED_NUMBERS: bool;
    /// Pages of runs, and of nothing else.
    const RUN_PAGES: &'static str = Self::PAGES;
    /// It is this service that opens a stream, instead of the CRM that calls.
    const STREAMS: bool = false;
    /// So long after an event its record may be answered as it was before, in some worlds.
    const SHOWS_LATE_MS: u32 = 0;

    /// The service beside CRMs that push to it.
    async fn start(world: Worlds) -> TestApp {
        start_in(world).await
    }

    /// How deliveries go wrong from now on.
    fn plan_deliveries(test: &TestApp, plan: DeliveryPlan);
    /// What is due by the CRM's clock arrives.
    async fn deliver(test: &TestApp);
    /// What only this CRM can do to its records, and pushes. What it refuses changes nothing.
    fn do_something_pushed(_: &TestApp, _: &mut StdRng, _: &[String], _: &str) {}
}

impl PushingCrm for PipedriveCrm {
    const PUSHES_SHARED_NUMBERS: bool = true;

    fn plan_deliveries(test: &TestApp, plan: DeliveryPlan) {
        test.pipedrive.plan_deliveries(plan);
    }

    async fn deliver(test: &TestApp) {
        test.pipedrive.deliver_due().await;
    }
}

impl PushingCrm for ZendeskCrm {
    const PUSHES_SHARED_NUMBERS: bool = false;

    fn plan_deliveries(test: &TestApp, plan: DeliveryPlan) {
        test.zendesk.plan_deliveries(plan);
    }

    async fn deliver(test: &TestApp) {
        test.zendesk.deliver_due().await;
    }
}

fn count_of_histories() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "tests have no Config")]
    let given = std::env::var("HISTORIES").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(HISTORIES)
}

/// Each in a runtime of its own, with which everything of it ends.
fn live_through_all<C: PushingCrm>(shard: u64) {
    for seed in seeds(count_of_histories()).into_iter().filter(|seed| seed % SHARDS == shard) {
        let history = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(live_through::<C>(seed));
        });
        assert!(history.join().is_ok(), "seed {seed}");
    }
}

async fn live_through<C: PushingCrm>(seed: u64) {
    let mut dice = dice(seed);
    let is_lossy = dice.random_bool(0.3);
    let is_odd = dice.random_bool(0.3);
    let plan = DeliveryPlan {
        delay_ms: dice.random_range(0..20_000),
        reorder_ms: dice.random_range(0..10_000),
        loss: if is_lossy { 0.3 } else { 0.0 },
        duplicates: 0.3,
        ..DeliveryPlan::default()
    };
    let mut history = FreshHistory::begin::<C>(seed, dice, plan).await;
    history.is_odd = is_odd;
    for _ in 0..STEPS {
        history.step::<C>().await;
    }
    let is_shown = plan.delay_ms >= C::SHOWS_LATE_MS;
    history.end_by_push::<C>(!is_lossy && !is_odd && is_shown).await;
    history.end_by_polls::<C>().await;
}

macro_rules! shards {
    ($($crm:ident: $type:ty,)*) => {$(
        mod $crm {
            use super::*;

            #[test]
            fn histories_end_in_the_truth_0() {
                live_through_all::<$type>(0);
            }

            #[test]
            fn histories_end_in_the_truth_1() {
                live_through_all::<$type>(1);
            }

            #[test]
            fn histories_end_in_the_truth_2() {
                live_through_all::<$type>(2);
            }
        }
    )*};
}

shards! {
    pipedrive: PipedriveCrm,
    salesforce: SalesforceCrm,
    zendesk: ZendeskCrm,
}
