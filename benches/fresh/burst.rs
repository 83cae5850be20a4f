//! Very many records change at once: what is asked of the CRM for it, and how many hints wait.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use contact_sync::domain::provider::Provider;
use sqlx::PgConnection;
use tokio::time::sleep;

use crate::{
    World,
    database::Server,
    name_of,
    table::{Goal, Table},
};

/// Requests for 1,000 events.
const REQUESTS_GOAL: f64 = 20.0;
/// Hints of an integration, with that of the whole.
const HINTS_GOAL: f64 = 501.0;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A poll comes a minute after the last one; Zendesk's lists are a minute behind.
const PATIENCE: Duration = Duration::from_mins(5);
const NAME: &str = "Burst Renamed";

pub(crate) async fn measure(server: &Server, events: usize, table: &mut Table) -> anyhow::Result<()> {
    let world = World::start(server, events).await?;
    world.linked_account().await?;
    let mut connection = world.database.connect().await?;
    let mut asked = Vec::new();
    for provider in Provider::ALL {
        asked.push(world.crms.requests(*provider));
        for record_id in record_ids(&mut connection, *provider).await?.iter().take(events) {
            world.crms.rename(*provider, record_id, NAME)?;
        }
    }
    let (began, mut hints_max) = (Instant::now(), 0);
    let mut known = vec![None; Provider::ALL.len()];
    while known.contains(&None) {
        ensure!(began.elapsed() < PATIENCE, "the changes are not known");
        hints_max = hints_max.max(most_hints(&mut connection).await?);
        for (known, provider) in known.iter_mut().zip(Provider::ALL) {
            if known.is_none() && count_renamed(&mut connection, *provider).await? >= events {
                *known = Some(began.elapsed());
            }
        }
        sleep(LOOK_EVERY).await;
    }
    for ((provider, before), known) in Provider::ALL.iter().zip(asked).zip(known) {
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let requests = (world.crms.requests(*provider) - before) as f64 * 1_000.0 / events as f64;
        let crm = name_of(*provider);
        table.goal(crm, "requests for 1,000 events of a burst", requests, Goal::AtMost(REQUESTS_GOAL));
        let known = known.context("not known")?.as_secs_f64();
        table.fact(crm, "all of the burst known after", format!("{known:.0} s"));
    }
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    table.goal("all", "hints of an integration, at most", hints_max as f64, Goal::AtMost(HINTS_GOAL));
    Ok(())
}

async fn record_ids(connection: &mut PgConnection, provider: Provider) -> anyhow::Result<Vec<String>> {
    let ids = sqlx::query_scalar(
        "select r.record_id from external_refs r join integrations i using (account_id, integration_id)
        where i.provider = $1 order by r.record_id",
    );
    Ok(ids.bind(provider.as_str()).fetch_all(connection).await?)
}

async fn most_hints(connection: &mut PgConnection) -> anyhow::Result<i64> {
    let most = "select coalesce(max(n), 0) from (select count(*) as n from hints group by integration_id) c";
    Ok(sqlx::query_scalar(most).fetch_one(connection).await?)
}

async fn count_renamed(connection: &mut PgConnection, provider: Provider) -> anyhow::Result<usize> {
    let renamed = sqlx::query_scalar::<_, i64>(
        "select count(*) from external_refs r join integrations i using (account_id, integration_id)
        join contacts c using (account_id, contact_id)
        where i.provider = $1 and c.display_name like '%Burst Renamed'",
    );
    Ok(usize::try_from(renamed.bind(provider.as_str()).fetch_one(connection).await?)?)
}
