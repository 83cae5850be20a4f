//! crm-simulator: see `crm-simulator --help` and README.md.

use std::sync::Arc;

use chrono::Utc;
use clap::Parser;
use crm_simulator::command::{SimulateArgs, run};
use tokio_util::sync::CancellationToken;

/// Zendesk, Salesforce and Pipedrive as HTTP servers, for tests of programs that talk to them.
#[derive(Parser)]
#[command(version, max_term_width = 120)]
struct CommandLine {
    #[command(flatten)]
    simulate: SimulateArgs,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = CommandLine::parse().simulate;
    #[expect(clippy::disallowed_methods, reason = "the one place that joins the parts")]
    let clock = Arc::new(Utc::now);
    let stop = CancellationToken::new();
    let serving = run(args, clock, stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    stop.cancel();
    serving.await
}
