//! From a change in a CRM until its caller is named.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use contact_sync::domain::provider::Provider;
use futures_util::future::{join_all, try_join_all};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{sleep, sleep_until, timeout};

use crate::{
    World,
    crms::EventTrouble,
    database::Server,
    figures::Times,
    name_of,
    service::{Client, Link},
    table::{Goal, Table},
};

const PEOPLE: usize = 10_000;
/// Accounts that callers are of; all are linked to the same organisations.
const ACCOUNTS: usize = 3;
/// Changes of a CRM come so often, at random.
const CHANGE_EVERY: Duration = Duration::from_millis(250);
/// A change that is not known after so long was lost.
const LOST_AFTER: Duration = Duration::from_secs(30);
const ASKED_EVERY: Duration = Duration::from_millis(25);
const CALL_DEADLINE: Duration = Duration::from_secs(2);
/// Until the polls are over that streams begin with.
const POLLED_WITHIN: Duration = Duration::from_mins(3);
/// How soon a change is to be known, seconds.
const NAMED_GOAL: f64 = 2.0;
const TROUBLE: EventTrouble = EventTrouble { loss: 0.3, duplicates: 0.3, reorder: Duration::from_secs(10) };
/// Of changes whose event may be lost, so many are to be known.
const NAMED_SHARE_GOAL: f64 = 0.65;

pub(crate) async fn measure(server: &Server, changes: usize, table: &mut Table) -> anyhow::Result<()> {
    let world = World::start(server, PEOPLE).await?;
    let mut accounts = Vec::new();
    for _ in 0..ACCOUNTS {
        accounts.push(world.linked_account().await?[0].account_id.clone());
    }
    let copied = world.linked_account().await?;
    timeout(POLLED_WITHIN, first_polls_over(&world)).await.context("polls that streams begin with stay due")??;
    let is_over = Arc::new(AtomicBool::new(false));
    let copying = copy_on(world.service.client.clone(), copied, Arc::clone(&is_over));
    let measured = async {
        for (provider, named) in all_named(&world, &accounts, changes, 0).await? {
            let crm = name_of(provider);
            table.fact(crm, "change to named: p50, p95, p99", named.shown());
            table.goal(crm, "change to named, p95, s", named.percentile(95), Goal::AtMost(NAMED_GOAL));
        }
        world.crms.trouble(TROUBLE);
        for (provider, named) in all_named(&world, &accounts, changes, 1).await? {
            let crm = name_of(provider);
            table.fact(crm, "the same, events in trouble", named.shown());
            #[expect(clippy::cast_precision_loss, reason = "thousands")]
            let share = named.len() as f64 / changes as f64;
            table.goal(crm, "share named, 30 % of events lost", share, Goal::AtLeast(NAMED_SHARE_GOAL));
            let most = TROUBLE.reorder.as_secs_f64() + NAMED_GOAL;
            table.goal(crm, "named, p95, s, 10 s of reordering", named.percentile(95), Goal::AtMost(most));
        }
        is_over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (copied, measured) = tokio::join!(copying, measured);
    measured?;
    copied
}

/// A stream begins with a poll, a minute after the last run; it would name whom no event does.
async fn first_polls_over(world: &World) -> anyhow::Result<()> {
    let mut database = world.database.connect().await?;
    let due = "select count(*) from hints where record_id = ''";
    while sqlx::query_scalar::<_, i64>(due).fetch_one(&mut database).await? > 0 {
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// Copies all of it again and again.
async fn copy_on(client: Client, links: Vec<Link>, is_over: Arc<AtomicBool>) -> anyhow::Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        for link in &links {
            client.copy_again(link).await?;
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn all_named(
    world: &World,
    accounts: &[String],
    changes: usize,
    round: u64,
) -> anyhow::Result<Vec<(Provider, Times)>> {
    let of_crms = Provider::ALL.iter().zip(0_u64..).map(|(provider, at)| async move {
        let first_number = 12_032_000_000 + (at * 2 + round) * 1_000_000;
        let named = named_of(world, *provider, accounts, changes, first_number).await?;
        anyhow::Ok((*provider, Times::of(named)))
    });
    try_join_all(of_crms).await
}

/// How long each change took that was named at all.
async fn named_of(
    world: &World,
    provider: Provider,
    accounts: &[String],
    changes: usize,
    first_number: u64,
) -> anyhow::Result<Vec<Duration>> {
    let (mut dice, began) = (StdRng::seed_from_u64(first_number), Instant::now());
    let mut at = Duration::ZERO;
    let planned: Vec<(Duration, String, &String)> = (first_number..)
        .take(changes)
        .map(|number| {
            at += CHANGE_EVERY.mul_f64(dice.random_range(0.0..2.0));
            (at, format!("+{number}"), &accounts[dice.random_range(0..accounts.len())])
        })
        .collect();
    let waits = planned.into_iter().map(|(at, number, account)| async move {
        sleep_until((began + at).into()).await;
        let since = Instant::now();
        world.crms.create(provider, "Nora New", &number)?;
        while since.elapsed() < LOST_AFTER {
            // A call that is refused is asked again as any other.
            if let Ok(answer) = world.service.client.call(account, &number, CALL_DEADLINE).await?
                && answer.selected.is_some()
            {
                return Ok(Some(since.elapsed()));
            }
            sleep(ASKED_EVERY).await;
        }
        anyhow::Ok(None)
    });
    join_all(waits).await.into_iter().filter_map(Result::transpose).collect()
}
