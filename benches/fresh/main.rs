//! How fresh names are, and what that costs: `./dev bench fresh`.
//!
//! The service is the real binary in a process of its own with its defaults, but that it polls once
//! a day: what is known sooner came by an event or by a look aside. The CRMs are the simulators in
//! this process, over real HTTP and a real stream; the limits on requests that they name are out of
//! the way. Each part has a database and CRMs of its own:
//! - **pushed**: from a change in a CRM until `MatchCaller` names the person, for accounts at
//!   random, beside an account whose contacts are copied again and again; then once more while
//!   events are lost, doubled and late;
//! - **aside**: calls of people who were added a moment before, and of strangers, in accounts that
//!   look aside, where a CRM's requests take as long as over a network;
//! - **burst**: requests and hints while very many records change at once;
//! - **pairs**: first copies with events beside them and without, in turns.
//!
//! A goal that is missed is said, and is no failure: on a shared machine such figures are noise.

mod arguments;
mod aside;
mod burst;
mod crms;
// Of the bench of syncs, which asks more of it.
#[path = "../sync/database.rs"]
#[expect(dead_code, reason = "what that bench alone asks")]
mod database;
mod figures;
mod pairs;
#[path = "../sync/process.rs"]
mod process;
mod pushed;
mod service;
#[path = "../sync/table.rs"]
mod table;

use anyhow::Context as _;
use contact_sync::domain::provider::Provider;

use arguments::Arguments;
use crms::Crms;
use database::{Database, Server};
use service::{Link, Service};
use table::Table;

fn main() -> anyhow::Result<()> {
    let Some(arguments) = Arguments::read()? else { return Ok(()) };
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(measure_all(arguments))
}

async fn measure_all(arguments: Arguments) -> anyhow::Result<()> {
    let server = Server::connect().await?;
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let Arguments { changes, calls, events, pairs, contacts } = arguments;
    println!("fresh: {changes} changes, {calls} calls, {events} events, {pairs} pairs of {contacts}, {cores} cores");
    println!("{}", server.facts().await?);
    let mut table = Table::default();
    if changes > 0 {
        Box::pin(pushed::measure(&server, changes, &mut table)).await.context("pushed")?;
    }
    if calls > 0 {
        Box::pin(aside::measure(&server, calls, &mut table)).await.context("aside")?;
    }
    if events > 0 {
        Box::pin(burst::measure(&server, events, &mut table)).await.context("burst")?;
    }
    if pairs > 0 {
        Box::pin(pairs::measure(&server, pairs, contacts, &mut table)).await.context("pairs")?;
    }
    println!("{table}");
    Ok(())
}

/// CRMs, a service, and a database of its own.
pub(crate) struct World {
    pub service: Service,
    pub crms: Crms,
    pub database: Database,
}

impl World {
    /// With so many people in each CRM.
    pub(crate) async fn start(server: &Server, people: usize) -> anyhow::Result<Self> {
        let (crms, database) = (Crms::start(people).await?, server.create("fresh").await?);
        let service = Service::start(database.url(), &crms).await?;
        Ok(Self { service, crms, database })
    }

    /// An account that is linked to all CRMs, copied, and told of changes.
    pub(crate) async fn linked_account(&self) -> anyhow::Result<Vec<Link>> {
        let client = &self.service.client;
        let account = client.account(0).await?;
        let mut links = Vec::new();
        for provider in Provider::ALL {
            links.push(client.link(*provider, &account, true).await?);
        }
        for link in &links {
            client.ended_run(link).await?;
            client.pushed(link).await?;
        }
        Ok(links)
    }
}

/// A CRM as the table names it.
pub(crate) const fn name_of(provider: Provider) -> &'static str {
    match provider {
        Provider::Zendesk => "zendesk",
        Provider::Salesforce => "salesforce",
        Provider::Pipedrive => "pipedrive",
    }
}
