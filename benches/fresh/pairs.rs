//! First copies with events beside them and without, in turns.

use std::{convert::Infallible, future::pending, time::Duration};

use anyhow::Context as _;
use contact_sync::{domain::provider::Provider, rpc::pb};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::interval;

use crate::{
    World,
    database::Server,
    figures::median_between,
    name_of,
    table::{Goal, Table},
};

/// So many a second.
const EVENTS_A_SECOND: f64 = 20.0;
/// The speed beside events, to that without.
const SPEED_GOAL: f64 = 0.95;

pub(crate) async fn measure(server: &Server, pairs: usize, contacts: usize, table: &mut Table) -> anyhow::Result<()> {
    for provider in Provider::ALL {
        let world = World::start(server, contacts).await?;
        // Warms everything up, and says which records there are.
        copy(&world, *provider, None).await?;
        let ids: Vec<String> = sqlx::query_scalar("select record_id from external_refs")
            .fetch_all(&mut world.database.connect().await?)
            .await?;
        let mut ratios = Vec::new();
        for pair in 0..pairs {
            let (with, without) = if pair % 2 == 0 {
                let with = copy(&world, *provider, Some(&ids)).await?;
                (with, copy(&world, *provider, None).await?)
            } else {
                let without = copy(&world, *provider, None).await?;
                (copy(&world, *provider, Some(&ids)).await?, without)
            };
            ratios.push(with / without);
        }
        let (median, low, high) = median_between(ratios);
        let crm = name_of(*provider);
        table.goal(crm, "first copy beside events / without", median, Goal::AtLeast(SPEED_GOAL));
        table.fact(crm, "of that, 95 % interval of the median", format!("{low:.3} to {high:.3}, {pairs} pairs"));
    }
    Ok(())
}

/// Contacts a second of a first copy of a new account.
async fn copy(world: &World, provider: Provider, ids: Option<&Vec<String>>) -> anyhow::Result<f64> {
    let client = &world.service.client;
    world.crms.remove_hooks();
    let account = client.account(0).await?;
    world.database.checkpoint().await?;
    let link = client.link(provider, &account, true).await?;
    let run = tokio::select! {
        run = client.ended_run(&link) => run?,
        never = change_on(world, provider, ids) => match never? {},
    };
    client.switch_off(&link).await?;
    rate_of(&run)
}

/// Changes records at random, if there are any; until something fails.
async fn change_on(world: &World, provider: Provider, ids: Option<&Vec<String>>) -> anyhow::Result<Infallible> {
    let Some(ids) = ids else { return pending().await };
    let mut ticks = interval(Duration::from_secs_f64(1.0 / EVENTS_A_SECOND));
    let mut dice = StdRng::seed_from_u64(1);
    loop {
        ticks.tick().await;
        let name = format!("Changed {}", dice.random::<u32>());
        world.crms.rename(provider, &ids[dice.random_range(0..ids.len())], &name)?;
    }
}

fn rate_of(run: &pb::SyncRun) -> anyhow::Result<f64> {
    let (start, end) = run.start_time.zip(run.end_time).context("a run without times")?;
    #[expect(clippy::cast_precision_loss, reason = "a span of minutes")]
    let seconds = (end.seconds - start.seconds) as f64 + f64::from(end.nanos - start.nanos) / 1e9;
    let created = run.counts.as_ref().context("no counts")?.created;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(created as f64 / seconds)
}
