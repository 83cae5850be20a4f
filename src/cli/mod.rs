//! The command line: one file a subcommand. `serve` joins the parts through `app`; the others are small tools or gRPC clients.

mod migrate;
mod phone;
mod serve;
mod token;

#[cfg(feature = "simulator")]
mod simulate;

use std::{
    io::{stdin, stdout},
    process::ExitCode,
    sync::Arc,
};

use clap::{Parser, Subcommand};

use crate::{
    config::{Config, Flags},
    domain::clock::{Clock, SystemClock},
    lifecycle::{Lifecycle, Signals},
    telemetry,
};

/// Names the caller and attributes the ticket: a contact-identity service for call centres.
#[derive(Parser)]
#[command(version, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Migrate,
    Token(token::TokenArgs),
    Phone(phone::PhoneArgs),
    #[cfg(feature = "simulator")]
    Simulate(simulate::SimulateArgs),
}

/// Reads the command line and does what it says.
pub fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    // One crypto provider for everything that speaks TLS; a second install could only be this one again.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    if let Command::Phone(args) = &cli.command {
        phone::run(args, stdin().lock(), stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = load_config(&cli.flags)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(cli.command, config, clock))
}

async fn run(command: Command, config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => {
            telemetry::start_log(config.log.format, &config.log.filter)?;
            serve::run(&args, &config, clock).await
        }
        Command::Migrate => {
            migrate::run(&config).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Token(args) => {
            println!("{}", token::run(&args, &config, clock)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Phone(_) => Ok(ExitCode::SUCCESS),
        #[cfg(feature = "simulator")]
        Command::Simulate(args) => {
            let lifecycle = Lifecycle::new();
            let mut signals = Signals::listen()?;
            let stop = lifecycle.soft();
            let serving = simulate::run(args, Arc::new(move || clock.now()), stop.clone());
            tokio::select! {
                result = serving => result?,
                _ = signals.next() => stop.cancel(),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment, for Config")]
fn load_config(flags: &Flags) -> anyhow::Result<Config> {
    Ok(Config::load(flags, std::env::vars())?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
