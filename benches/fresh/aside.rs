//! Calls of people whom only a CRM knows, and of strangers, while its requests take their time.

use std::time::{Duration, Instant};

use contact_sync::{
    domain::provider::Provider,
    rpc::pb::{LookAside, LookAsideOutcome},
};
use futures_util::future::try_join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    World,
    database::Server,
    figures::Times,
    name_of,
    service::Link,
    table::{Goal, Table},
};

const PEOPLE: usize = 200;
/// Accounts of each CRM: one asks its CRM every 5 s at most.
const ACCOUNTS: u64 = 20;
const BUDGET_MS: i32 = 1_500;
/// As routers are told to set it.
const DEADLINE: Duration = Duration::from_secs(2);
/// From the calls of an account to its next ones: 20 looks a minute at most.
const TURN_EVERY: Duration = Duration::from_millis(6_500);
/// One who was added, and a stranger.
const CALLS_A_TURN: usize = 2;
const P50_GOAL: f64 = 0.45;
const P95_GOAL: f64 = 1.2;

/// What came of calls.
#[derive(Default)]
struct CallTimes {
    /// Of those who were added, and were named.
    found: Vec<Duration>,
    /// Of those who were added and were not.
    missed: usize,
    strangers: Vec<Duration>,
    /// Calls without an answer.
    failed: usize,
}

pub(crate) async fn measure(server: &Server, calls: usize, table: &mut Table) -> anyhow::Result<()> {
    let world = World::start(server, PEOPLE).await?;
    let client = &world.service.client;
    let mut links = Vec::new();
    for provider in Provider::ALL {
        for _ in 0..ACCOUNTS {
            let account = client.account(BUDGET_MS).await?;
            links.push(client.link(*provider, &account, false).await?);
        }
    }
    for link in &links {
        client.ended_run(link).await?;
    }
    world.crms.slow_down()?;
    let turns = calls.div_ceil(CALLS_A_TURN * links.len()).max(1);
    let world = &world;
    let asked = links.iter().zip(0..).map(|(link, ordinal)| async move { turns_of(world, link, ordinal, turns).await });
    let mut times = try_join_all(asked).await?.into_iter().zip(&links).collect::<Vec<_>>();
    for provider in Provider::ALL {
        let mut all = CallTimes::default();
        for (one, _) in times.iter_mut().filter(|(_, link)| link.provider == *provider) {
            all.found.append(&mut one.found);
            all.strangers.append(&mut one.strangers);
            (all.missed, all.failed) = (all.missed + one.missed, all.failed + one.failed);
        }
        tell(name_of(*provider), all, table);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn tell(crm: &'static str, times: CallTimes, table: &mut Table) {
    let (found, strangers) = (Times::of(times.found), Times::of(times.strangers));
    table.fact(crm, "look aside, found: p50, p95, p99", found.shown());
    table.goal(crm, "found, p50, s", found.percentile(50), Goal::AtMost(P50_GOAL));
    table.goal(crm, "found, p95, s", found.percentile(95), Goal::AtMost(P95_GOAL));
    table.fact(crm, "added a moment before, not found", times.missed.to_string());
    table.fact(crm, "strangers: p50, p95, p99", strangers.shown());
    table.goal(crm, "calls without an answer in time", times.failed as f64, Goal::AtMost(0.0));
}

async fn turns_of(world: &World, link: &Link, ordinal: u64, turns: usize) -> anyhow::Result<CallTimes> {
    let (mut times, mut dice) = (CallTimes::default(), StdRng::seed_from_u64(ordinal));
    let mut next_number = 12_033_000_000 + ordinal * 1_000_000;
    sleep(TURN_EVERY.mul_f64(dice.random_range(0.0..1.0))).await;
    for _ in 0..turns {
        let began = Instant::now();
        let (added, stranger) = (format!("+{next_number}"), format!("+{}", next_number + 1));
        next_number += 2;
        world.crms.create(link.provider, "Nora New", &added)?;
        let (of_added, of_stranger) = tokio::join!(timed(world, link, &added), timed(world, link, &stranger));
        match of_added? {
            Some((took, LookAsideOutcome::Found)) => times.found.push(took),
            Some(_) => times.missed += 1,
            None => times.failed += 1,
        }
        match of_stranger? {
            Some((took, _)) => times.strangers.push(took),
            None => times.failed += 1,
        }
        sleep(TURN_EVERY.saturating_sub(began.elapsed())).await;
    }
    Ok(times)
}

/// How long a call took, and what its look came to; `None`: it was not answered in time.
async fn timed(world: &World, link: &Link, number: &str) -> anyhow::Result<Option<(Duration, LookAsideOutcome)>> {
    let began = Instant::now();
    let answer = world.service.client.call(&link.account_id, number, DEADLINE).await?;
    let took = began.elapsed();
    Ok(answer.ok().map(|answer| {
        let outcome = answer.look_asides.first().map_or(LookAsideOutcome::Unspecified, LookAside::outcome);
        (took, outcome)
    }))
}
