//! How quick a sync is, and what it costs: `./dev bench sync`.
//!
//! The service is the real binary in a process of its own, as an operator runs it: worker, lease,
//! pages over HTTP, a database whose durability is what PostgreSQL ships with. The CRM is the
//! simulator, over real HTTP, in this process; so the service's peak memory is its own alone. On
//! one machine the simulator and PostgreSQL take their share of the cores, which a vendor and a
//! database server would not. The limits on requests that a CRM names are set so high that they are
//! not felt: a vendor's own, which the service keeps to, are what a first copy waits for in life.
//!
//! Measured, a CRM after the other, each on a database of its own:
//! - the first copy: from the run's start to its end, as the service stores them;
//! - COPY of the same rows: what the first copy wrote, read out in PostgreSQL's binary form and
//!   written by one COPY a table into a fresh database of the same server, keys, indexes and
//!   foreign keys as shipped. No writer can be quicker; the ratio does not depend on the machine as
//!   rates do;
//! - apply alone: the part of the first copy that is the pages' transactions (`apply_ms` in the log
//!   line that ends a run: the service measures it for its operators), compared with the same COPY;
//! - an increment with nothing new: requests that the simulator saw;
//! - an increment after changes in the CRM: each a new name, every fourth a new number too;
//! - the service's peak memory after all of this.
//!
//! A goal that is missed is said, and is no failure: on a shared machine such figures are noise.

mod arguments;
mod copy;
mod crm;
mod database;
mod process;
mod service;
mod table;

use anyhow::{Context as _, ensure};

use arguments::Arguments;
use copy::Rows;
use crm::Crm;
use database::Server;
use service::{RunFigures, Service};
use table::{Goal, Table};

/// A goal, as a ratio to COPY of the same rows.
const FIRST_COPY_GOAL: f64 = 0.40;
/// A goal, as a ratio to COPY of the same rows.
const APPLY_GOAL: f64 = 0.55;
/// A goal, as a ratio to the rate of the first copy.
const CHANGES_GOAL: f64 = 0.5;
/// A goal, requests of an increment with nothing new for each type of objects.
const REQUESTS_GOAL: f64 = 2.0;
/// A goal, MB of 1,000,000 bytes, for a million contacts.
const MEMORY_GOAL: f64 = 300.0;

fn main() -> anyhow::Result<()> {
    let Some(arguments) = Arguments::read()? else { return Ok(()) };
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(measure_all(&arguments))
}

async fn measure_all(arguments: &Arguments) -> anyhow::Result<()> {
    let server = Server::connect().await?;
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!(
        "sync: {} contacts, {} changes, seed {}, {cores} cores",
        arguments.contacts,
        arguments.changes(),
        crm::SEED
    );
    println!("{}", server.facts().await?);
    let mut table = Table::default();
    for provider in &arguments.providers {
        let crm = Crm::start(*provider, arguments.contacts).await?;
        let measured = measure(&server, &crm, arguments, &mut table).await;
        measured.with_context(|| format!("{} could not be measured", provider.name()))?;
    }
    println!("{table}");
    Ok(())
}

async fn measure(server: &Server, crm: &Crm, arguments: &Arguments, table: &mut Table) -> anyhow::Result<()> {
    let name = crm.provider.name();
    let database = server.create("sync").await?;
    let mut service = Service::start(database.url(), crm).await?;
    database.checkpoint().await?;

    service.enable(crm).await?;
    let first = service.ended_run().await?;
    ensure!(
        first.created == arguments.contacts,
        "the first copy made {} of {} contacts",
        first.created,
        arguments.contacts
    );
    let rows = Rows::read_out(&database).await?;
    let copied = rows.write_to(&server.create("copy").await?).await?;
    let copy_rate = rate(arguments.contacts, copied.as_secs_f64());
    let first_rate = rate(first.created, first.seconds);
    let apply_rate = rate(first.created, first.apply_seconds);
    table.fact(name, "first copy", format!("{first_rate:.0} contacts/s, {:.1} s", first.seconds));
    table.fact(name, "of that: fetch, normalize, apply", parts(&first));
    table.fact(name, "COPY of the same rows", format!("{copy_rate:.0} contacts/s, {:.1} s", copied.as_secs_f64()));
    table.goal(name, "first copy / COPY", first_rate / copy_rate, Goal::AtLeast(FIRST_COPY_GOAL));
    table.goal(name, "apply alone / COPY", apply_rate / copy_rate, Goal::AtLeast(APPLY_GOAL));

    crm.clear_requests();
    service.trigger().await?;
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let requests = crm.requests() as f64 / crm.provider.object_types();
    table.goal(name, "requests for each type, nothing new", requests, Goal::AtMost(REQUESTS_GOAL));

    crm.change(&database.record_ids(arguments.changes()).await?)?;
    let changes = service.trigger().await?;
    ensure!(
        changes.updated == arguments.changes(),
        "the increment changed {} of {} contacts",
        changes.updated,
        arguments.changes()
    );
    let changes_rate = rate(changes.updated, changes.seconds);
    table.fact(name, "increment", format!("{changes_rate:.0} contacts/s, {:.1} s", changes.seconds));
    table.fact(name, "of that: fetch, normalize, apply", parts(&changes));
    table.goal(name, "increment / first copy", changes_rate / first_rate, Goal::AtLeast(CHANGES_GOAL));

    table.goal(name, "peak memory of the service, MB", service.peak_memory()?, Goal::AtMost(MEMORY_GOAL));
    service.stop().await
}

fn rate(contacts: u64, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let contacts = contacts as f64;
    contacts / seconds
}

fn parts(run: &RunFigures) -> String {
    format!(
        "{:.1} s, {:.1} s, {:.1} s in {} pages",
        run.fetch_seconds, run.normalize_seconds, run.apply_seconds, run.pages
    )
}
