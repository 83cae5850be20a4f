//! How quick a call is answered, and what that costs beside what cannot be had quicker: `./dev
//! bench match`.
//!
//! Everything is on one machine: PostgreSQL as it is shipped, the servers, each in a process of its
//! own, and the load in this one. So rates are far below what each could do alone, and the ratios
//! are what counts. The contacts are written straight into the tables, most of them into the
//! account that is asked, the rest into 49 others; then they are analysed.
//!
//! Measured in rounds that take turns, the same number of clients, each figure the median of its
//! rounds:
//! - (a) an empty server of the same interface, whose every answer is `MatchCaller`'s to a known
//!   caller;
//! - (b) the same with the look-up's statement before that answer, by the service's own pool and
//!   code: what no service that asks PostgreSQL can beat. It turns no row into an answer and checks
//!   no token;
//! - (c) `MatchCaller` of the real binary: token, room, deadline, look-up, answer;
//! - (d) pgbench with the statement, as many clients as the service has connections.
//!
//! Then (a) and (c) when half as many calls come as (c) could answer, evenly spaced; a latency
//! counts from the moment at which the call was meant to be made. Then another (c) with one
//! connection to the database, when three times as many calls come as it could answer: how many it
//! still answers, and how soon it refuses the others. Then other calls of (c): with an id, of
//! strangers, of one caller, of a shared line. With `--compare` an account of 100,000 contacts
//! beside the large one, in the same database.
//!
//! A goal that is missed is said, and is no failure: on a shared machine such figures are noise.

mod arguments;
mod bare;
mod clients;
mod contacts;
// Of the bench of syncs, which asks more of it.
#[path = "../sync/database.rs"]
#[expect(dead_code, reason = "what that bench alone asks")]
mod database;
mod figures;
mod pgbench;
#[path = "../sync/process.rs"]
mod process;
mod service;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use contact_sync::config::Config;

use arguments::{Arguments, Measured};
use clients::{CONNECTIONS, Calls, SEED, Target};
use contacts::{Asked, SMALL, SWITCHBOARD_CONTACTS};
use figures::{Figures, Goal, Rounds, median, print_figures, print_head, print_ratio};
use pgbench::Pgbench;
use process::Scratch;
use service::Server;

/// Calls in flight when a server is to do what it can.
const CLIENTS: usize = 32;
/// Calls in flight when a service with one connection to the database is to do what it can: fewer
/// than it has room for.
const NARROW_CLIENTS: usize = 8;
/// Odd, so that there is a median.
const ROUNDS: usize = 7;
/// Of each in a round.
const SPAN: Duration = Duration::from_secs(3);
/// Before the first round: plans, caches, connections.
const WARM_UP: Duration = Duration::from_secs(3);
/// Of each in a round of offered load.
const OFFERED_SPAN: Duration = Duration::from_secs(5);
/// Rounds of offered load.
const OFFERED_ROUNDS: usize = 5;

/// A goal: `MatchCaller` beside the bare handler, calls a second.
const SERVICE_GOAL: f64 = 0.90;
/// A goal: `MatchCaller` beside the empty server, calls a second.
const EMPTY_GOAL: f64 = 0.18;
/// A goal: p99 of `MatchCaller` beside the empty server's, when both are offered the same.
const LATENCY_GOAL: f64 = 5.0;
/// A goal: answers a second when three times as many calls come, beside the most that can be
/// answered.
const OVERLOAD_GOAL: f64 = 0.80;
/// A goal, milliseconds: half of the refusals come sooner than this.
const REFUSAL_GOAL: f64 = 20.0;
/// A goal: p99 of a large account beside one of 100,000 contacts.
const SIZE_GOAL: f64 = 1.5;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(async {
        match arguments {
            Arguments::Usage => println!("./dev bench match [--contacts N] [--compare]"),
            Arguments::ServeEcho => bare::serve(None).await?,
            Arguments::ServeStatement(url) => bare::serve(Some(&url)).await?,
            Arguments::Measure(measured) => measure(measured).await?,
        }
        Ok(())
    })
}

/// A server, the way to it, and what it has shown.
struct Subject {
    name: &'static str,
    server: Server,
    target: Target,
    rounds: Rounds,
    /// Processor time of the server for a call, round by round.
    micros: Vec<f64>,
}

impl Subject {
    async fn new(name: &'static str, server: Server) -> anyhow::Result<Self> {
        let target = Target::connect(&server).await?;
        Ok(Self { name, server, target, rounds: Rounds::default(), micros: Vec::new() })
    }

    async fn saturate(&mut self, calls: &Calls) -> anyhow::Result<()> {
        let (before, started) = (self.server.processor_time()?, Instant::now());
        let round = self.target.saturate(calls, CLIENTS, SPAN).await?;
        let used = self.server.processor_time()?.saturating_sub(before).as_secs_f64();
        self.micros.push(used * 1e6 / (round.rate * started.elapsed().as_secs_f64()));
        self.rounds.0.push(round);
        Ok(())
    }

    fn print(&self) {
        let note = format!("{:.0} us of the server's processor time a call", median(self.micros.clone()));
        print_figures(self.name, &self.rounds.median(), &note);
    }
}

async fn measure(measured: Measured) -> anyhow::Result<()> {
    let postgres = database::Server::connect().await?;
    let database = postgres.create("match").await?;
    let scratch = Scratch::make()?;
    let filling = Instant::now();
    let (asked, small) = contacts::fill(&database, measured.contacts, measured.compares).await?;
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!(
        "match: {} contacts, {} of them in the account that is asked; beside them {SWITCHBOARD_CONTACTS} of a shared line; \
        seed {SEED}, {cores} cores",
        measured.contacts, asked.contacts
    );
    println!("{}", postgres.facts().await?);
    println!(
        "filled in {:.0} s; {CLIENTS} calls in flight over {CONNECTIONS} connections",
        filling.elapsed().as_secs_f64()
    );

    let known = asked.known_callers();
    let service = Server::start_service(database.url(), &scratch, connections()).await?;
    let token = service.token.clone();
    let service = Subject::new("(c) MatchCaller, known callers", service).await?;
    let reply = service.target.ask(&known).await?;
    let echo = Server::start_bare(&reply, None, &token).await?;
    let echo = Subject::new("(a) empty server, the same answer", echo).await?;
    let bare = Server::start_bare(&reply, Some(database.url()), &token).await?;
    let bare = Subject::new("(b) bare handler, the statement alone", bare).await?;
    let pgbench = Pgbench::find(database.url(), asked, &scratch)?;
    let mut subjects = [echo, bare, service];
    closed_loop(&mut subjects, pgbench.as_ref(), &known).await?;
    let [echo, _, service] = &subjects;
    let rate = service.rounds.median().rate / 2.0;
    offered(echo, service, &known, rate).await?;
    other_calls(&service.target, asked).await?;
    if let Some(small) = small {
        compare(&service.target, asked, small, rate).await?;
    }
    let narrow = Server::start_service(database.url(), &scratch, 1).await?;
    overloaded(&Subject::new("(c)", narrow).await?, &known).await?;
    Ok(())
}

/// The call path's connections to the database, as it is shipped.
fn connections() -> u32 {
    Config::with_defaults(PathBuf::new()).pools.call.connections
}

async fn closed_loop(subjects: &mut [Subject; 3], pgbench: Option<&Pgbench>, known: &Calls) -> anyhow::Result<()> {
    let connections = connections();
    for subject in subjects.iter() {
        subject.target.saturate(known, CLIENTS, WARM_UP).await?;
    }
    let mut database = Rounds::default();
    for round in 0..ROUNDS {
        for subject in subjects.iter_mut() {
            subject.saturate(known).await?;
        }
        if let Some(pgbench) = pgbench {
            database.0.push(pgbench.saturate(connections, SEED + round as u64, SPAN).await?);
        }
    }
    let [echo, bare, service] = subjects;
    print_head("as much as can be answered");
    for subject in [&*echo, bare, service] {
        subject.print();
    }
    if pgbench.is_some() {
        print_figures("(d) pgbench, the statement", &database.median(), &format!("{connections} clients"));
    } else {
        println!("(d) is left out: there is no pgbench, neither in PG_BIN_DIR nor on the path");
    }
    let ratio = |ours: &Rounds, theirs: &Rounds| ours.ratio(theirs, |round| round.rate);
    print_ratio("(c)/(b) rate", ratio(&service.rounds, &bare.rounds), Some(Goal::AtLeast(SERVICE_GOAL)));
    print_ratio("(c)/(a) rate", ratio(&service.rounds, &echo.rounds), Some(Goal::AtLeast(EMPTY_GOAL)));
    if pgbench.is_some() {
        print_ratio("(b)/(d) rate", ratio(&bare.rounds, &database), None);
    }
    Ok(())
}

async fn offered(echo: &Subject, service: &Subject, known: &Calls, rate: f64) -> anyhow::Result<()> {
    let (mut of_echo, mut of_service) = (Rounds::default(), Rounds::default());
    let mut refused = Vec::new();
    for _ in 0..OFFERED_ROUNDS {
        of_echo.0.push(echo.target.offer(known, rate, OFFERED_SPAN).await?.answered);
        let offered = service.target.offer(known, rate, OFFERED_SPAN).await?;
        refused.push(offered.refused_share);
        of_service.0.push(offered.answered);
    }
    print_head(&format!("{rate:.0} calls a second, half of (c)"));
    print_figures(echo.name, &of_echo.median(), "");
    print_figures(service.name, &of_service.median(), "");
    print_ratio("(c)/(a) p99", of_service.ratio(&of_echo, p99), Some(Goal::AtMost(LATENCY_GOAL)));
    println!("refused for want of room, by round, of 1: {refused:.4?}");
    Ok(())
}

/// One connection to the database is the limit here, not the processors, of which the load takes
/// its part: three times what all connections can answer cannot be offered by the machine that
/// answers it.
async fn overloaded(service: &Subject, known: &Calls) -> anyhow::Result<()> {
    service.target.saturate(known, NARROW_CLIENTS, WARM_UP).await?;
    let capacity = service.target.saturate(known, NARROW_CLIENTS, SPAN).await?;
    let (mut answered, mut refused, mut shares) = (Rounds::default(), Rounds::default(), Vec::new());
    for _ in 0..OFFERED_ROUNDS {
        let offered = service.target.offer(known, capacity.rate * 3.0, OFFERED_SPAN).await?;
        answered.0.push(offered.answered);
        refused.0.extend(offered.refused);
        shares.push(offered.refused_share);
    }
    print_head(&format!(
        "one connection to the database; {:.0} calls a second, three times too many",
        capacity.rate * 3.0
    ));
    print_figures("as much as can be answered", &capacity, "");
    print_figures("answered, from when they were due", &answered.median(), "");
    print_figures("refused, from when they were made", &refused.median(), "");
    print_ratio(
        "answered/as much as can be",
        answered.median().rate / capacity.rate,
        Some(Goal::AtLeast(OVERLOAD_GOAL)),
    );
    print_ratio("ms to a refusal, p50", refused.median().p50.as_secs_f64() * 1_000.0, Some(Goal::AtMost(REFUSAL_GOAL)));
    println!("refused for want of room, by round, of 1: {shares:.4?}");
    Ok(())
}

async fn other_calls(service: &Target, asked: Asked) -> anyhow::Result<()> {
    print_head("other calls of (c)");
    for (what, calls) in [
        ("known callers, each call with an id", asked.calls_with_ids()),
        ("strangers, each becomes a contact", asked.strangers()),
        ("one caller again and again", asked.one_caller()),
        ("a shared line of 10,000 contacts", asked.switchboard()),
    ] {
        print_figures(what, &service.saturate(&calls, CLIENTS, SPAN).await?, "");
    }
    let (known, switchboard) = (asked.known_callers(), asked.switchboard());
    let alone = service.saturate(&known, CLIENTS / 2, SPAN).await?;
    let (beside, _) = tokio::try_join!(
        service.saturate(&known, CLIENTS / 2, SPAN),
        service.saturate(&switchboard, CLIENTS / 2, SPAN)
    )?;
    print_figures("known callers, half of the clients alone", &alone, "");
    print_figures("the same, the others at the shared line", &beside, "");
    Ok(())
}

/// How much slower a large account is than one of 100,000 contacts.
async fn compare(service: &Target, large: Asked, small: Asked, rate: f64) -> anyhow::Result<()> {
    let (of_large, of_small) = (large.known_callers(), small.known_callers());
    let (mut saturated, mut offered) = (<[Rounds; 2]>::default(), <[Rounds; 2]>::default());
    service.saturate(&of_small, CLIENTS, WARM_UP).await?;
    for _ in 0..OFFERED_ROUNDS {
        for (index, calls) in [&of_large, &of_small].into_iter().enumerate() {
            saturated[index].0.push(service.saturate(calls, CLIENTS, SPAN).await?);
            offered[index].0.push(service.offer(calls, rate, OFFERED_SPAN).await?.answered);
        }
    }
    for (title, [large_rounds, small_rounds]) in
        [("(c), as much as can be answered", &saturated), (&*format!("(c), {rate:.0} calls a second"), &offered)]
    {
        print_head(title);
        print_figures(&format!("{} contacts", large.contacts), &large_rounds.median(), "");
        print_figures(&format!("{SMALL} contacts"), &small_rounds.median(), "");
        print_ratio("large/small p99", large_rounds.ratio(small_rounds, p99), Some(Goal::AtMost(SIZE_GOAL)));
    }
    Ok(())
}

fn p99(figures: &Figures) -> f64 {
    figures.p99.as_secs_f64()
}
