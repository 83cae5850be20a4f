//! The command line: one file a subcommand. `serve` joins the parts through `app`; the others are
//! small tools or gRPC clients. The environment is read here and nowhere else.

mod account;
mod audit;
mod call_ref;
mod changes;
mod client;
mod completions;
mod config;
mod contact;
mod feed;
mod health;
mod keys;
mod match_caller;
mod migrate;
mod phone;
mod requester;
mod reseal;
mod serve;
mod setting_flags;
mod supervisor;
mod sync;
mod token;

#[cfg(feature = "simulator")]
mod demo;

use std::{
    ffi::OsString,
    io::{ErrorKind, Write, stdin, stdout},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use secrecy::SecretString;
use tonic::Status;

use self::client::{
    ClientOptions, ClientSecrets, CrmSecrets, LocalContext, ServiceClient,
    advice::FieldFlags,
    failure::{AskedCommand, CommandFailure},
};
use crate::{
    config::{LoadedSettings, SettingFlags},
    crm,
    domain::{
        clock::{Clock, SystemClock},
        credentials::CredentialType,
        ids::IdSource,
        provider::PerProvider,
    },
    store::schema::ProgramSchema,
    telemetry::{self, traces::TraceExport},
};

#[cfg(feature = "simulator")]
use crate::lifecycle::{ProcessLifecycle, ShutdownSignals};

/// How long threads that block may take at the end of the process.
const THREADS_GRACE: Duration = Duration::from_millis(500);

/// How a command line that cannot be read ends, by clap's custom.
const USAGE_ERROR: u8 = 2;

const FIRST_STEPS: &str = "\
First steps:
  contact-sync demo                       everything at once, with simulated CRMs
  contact-sync serve                      the service, with a private PostgreSQL
  contact-sync account create --name Acme --region US
  contact-sync sync enable --account ID --zendesk acme --email admin@acme.example --watch
  contact-sync match --account ID '+1 310 867 5309'";

/// Names the caller and attributes the ticket: a contact-identity service for call centres.
#[derive(Parser)]
#[command(version, max_term_width = 120, after_help = FIRST_STEPS)]
struct Cli {
    #[command(flatten, next_help_heading = "Settings")]
    flags: SettingFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "simulator")]
    Demo(demo::DemoArgs),
    Serve(serve::ServeArgs),
    #[command(flatten)]
    Ask(Box<Question>),
    Token(token::TokenArgs),
    CallRef(call_ref::CallRefArgs),
    Phone(phone::PhoneArgs),
    /// Bring the schema to this program's version, and end
    Migrate,
    Feed(feed::FeedArgs),
    Keys(reseal::KeysArgs),
    Config(config::ConfigArgs),
    Health(health::HealthArgs),
    Completions(completions::CompletionsArgs),
    #[cfg(feature = "simulator")]
    Simulate(crm_simulator::command::SimulateArgs),
}

/// What is asked of a running server.
#[derive(Subcommand)]
enum Question {
    Account(account::AccountArgs),
    Audit(audit::AuditArgs),
    Sync(sync::SyncArgs),
    Match(match_caller::MatchArgs),
    Select(match_caller::SelectArgs),
    Requester(requester::RequesterArgs),
    Register(requester::RegisterArgs),
    Contact(contact::ContactArgs),
    Changes(changes::ChangesArgs),
    Explain(changes::ExplainArgs),
    Erase(changes::EraseArgs),
}

impl Question {
    fn options(&self) -> &ClientOptions {
        match self {
            Self::Account(args) => &args.client,
            Self::Audit(args) => &args.client,
            Self::Sync(args) => &args.client,
            Self::Match(args) => &args.client,
            Self::Select(args) => &args.client,
            Self::Requester(args) => &args.client,
            Self::Register(args) => &args.client,
            Self::Contact(args) => &args.client,
            Self::Changes(args) => &args.client,
            Self::Explain(args) => &args.client,
            Self::Erase(args) => &args.client,
        }
    }

    /// What it calls fields of the API that others call otherwise.
    const fn field_flags(&self) -> FieldFlags {
        match self {
            Self::Audit(_) => &[("start_time", "--since"), ("end_time", "--until")],
            Self::Account(_) => &[("account_id", "ACCOUNT_ID or --id"), ("account.id", "ACCOUNT_ID")],
            Self::Match(_) | Self::Explain(_) => &[("phone_number", "NUMBER")],
            Self::Contact(_) | Self::Erase(_) => &[("contact_id", "CONTACT_ID")],
            Self::Sync(_) => &[("object_type", "--record"), ("record_id", "--record")],
            Self::Select(_) | Self::Requester(_) | Self::Register(_) | Self::Changes(_) => &[],
        }
    }

    async fn ask(self, client: &ServiceClient, secrets: &ClientSecrets) -> anyhow::Result<ExitCode> {
        let asked = AskedCommand { flags: self.field_flags(), token_from: client.token_from() };
        let answered = self.send(client, secrets).await;
        answered.map_err(|error| if error.is::<Status>() { error.context(asked) } else { error })
    }

    async fn send(self, client: &ServiceClient, secrets: &ClientSecrets) -> anyhow::Result<ExitCode> {
        match self {
            Self::Account(args) => account::run(args, client).await,
            Self::Audit(args) => audit::run(args, client).await,
            Self::Sync(args) => sync::run(args, client, secrets).await,
            Self::Match(args) => match_caller::run(args, client).await,
            Self::Select(args) => match_caller::select(args, client).await,
            Self::Requester(args) => requester::run(args, client).await,
            Self::Register(args) => requester::register(args, client).await,
            Self::Contact(args) => contact::run(args, client).await,
            Self::Changes(args) => changes::run(args, client).await,
            Self::Explain(args) => changes::explain(args, client).await,
            Self::Erase(args) => changes::erase(args, client).await,
        }
    }
}

/// Reads the command line and does what it says. What stops it is told on standard error, without a
/// stack: it is for the person, or with `--json` the program, that gave the command.
pub fn main() -> anyhow::Result<ExitCode> {
    let cli = match read_command_line(std::env::args_os()) {
        Ok(cli) => cli,
        // Help and version go to standard output, and are no errors.
        Err(error) if error.use_stderr() && wants_json() => {
            eprintln!("{}", client::json::usage_error(&error));
            return Ok(ExitCode::from(USAGE_ERROR));
        }
        Err(error) => error.exit(),
    };
    let is_json = matches!(&cli.command, Command::Ask(question) if question.options().json);
    Ok(obey(cli).unwrap_or_else(|error| {
        let told = if is_json { client::json::error(&error) } else { client::failure::describe(&error) };
        eprintln!("{told}");
        ExitCode::FAILURE
    }))
}

fn command_line() -> clap::Command {
    setting_flags::at_every_level(Cli::command())
}

fn read_command_line(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = command_line().try_get_matches_from(words)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    cli.flags.set = setting_flags::settings(&matches);
    Ok(cli)
}

/// On a command line that could not be read.
fn wants_json() -> bool {
    std::env::args_os().any(|arg| arg == "--json")
}

fn obey(cli: Cli) -> anyhow::Result<ExitCode> {
    // One crypto provider for everything that speaks TLS; a second install could only be this one
    // again.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    if let Command::Phone(args) = &cli.command {
        phone::run(args, stdin().lock(), stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Completions(args) = &cli.command {
        return print(&completions::script(args, command_line()));
    }
    if let Command::Config(args) = &cli.command {
        return tell_settings(args, &cli.flags, &clock);
    }
    let settings = load_settings(&cli.flags)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(run(cli.command, settings, clock));
    // A thread that still waits, for a name server or a disk, must not hold the process.
    runtime.shutdown_timeout(THREADS_GRACE);
    done
}

async fn run(command: Command, settings: LoadedSettings, clock: Arc<dyn Clock>) -> anyhow::Result<ExitCode> {
    let changed = config::changed(&settings);
    let config = settings.config;
    match command {
        Command::Serve(args) => {
            let traces = &config.traces;
            let instance = IdSource::from_os().new_v7(clock.now());
            let export = |endpoint| TraceExport::start(endpoint, traces.sampled_per_mille, instance);
            let export = traces.otlp_endpoint.as_deref().map(export).transpose().context("traces.otlp_endpoint")?;
            let _log = telemetry::start_log(config.log.format, &config.log.filter, export)?;
            let (version, schema) = (env!("CARGO_PKG_VERSION"), ProgramSchema::own().newest_version());
            tracing::info!(version, schema, settings = changed, "starting");
            serve::run(&args, &config, clock).await
        }
        Command::Migrate => {
            migrate::run(&config).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Feed(args) => feed::run(&args, &config).await,
        Command::Keys(args) => reseal::run(&args, &config).await,
        Command::Health(args) => print(&health::run(&args, &config).await?),
        Command::Token(args) => {
            println!("{}", token::run(&args, &config, clock)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::CallRef(args) => print(&call_ref::run(&args, &config)?),
        Command::Phone(_) | Command::Completions(_) | Command::Config(_) => Ok(ExitCode::SUCCESS),
        #[cfg(feature = "simulator")]
        Command::Demo(args) => demo::run(args, config, clock, wants_colour()).await,
        #[cfg(feature = "simulator")]
        Command::Simulate(args) => {
            let lifecycle = ProcessLifecycle::new();
            let mut signals = ShutdownSignals::listen()?;
            let stop = lifecycle.soft();
            let serving = crm_simulator::command::run(args, Arc::new(move || clock.now()), stop.clone());
            tokio::select! {
                result = serving => result?,
                _ = signals.next() => stop.cancel(),
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Ask(question) => {
            let here = LocalContext { config, clock, secrets: read_secrets() };
            let client = ServiceClient::connect(question.options(), &here).await?;
            question.ask(&client, &here.secrets).await
        }
    }
}

/// Everything that is wrong, one a line, or the settings in force.
fn tell_settings(args: &config::ConfigArgs, flags: &SettingFlags, clock: &Arc<dyn Clock>) -> anyhow::Result<ExitCode> {
    let (settings, mut problems) = LoadedSettings::inspect(flags, variables());
    let print_args = match &args.command {
        config::ConfigCommand::Check => None,
        config::ConfigCommand::Print(args) => Some(args),
    };
    if let (Some(settings), None) = (&settings, print_args) {
        problems.extend(config::needs(settings, clock));
    }
    match (settings, print_args) {
        (Some(settings), Some(args)) if problems.is_empty() => print(&config::print(args, &settings)?),
        (Some(_), None) if problems.is_empty() => {
            print("the settings are right; `contact-sync config print` shows them, with their sources")
        }
        _ => {
            for problem in problems {
                eprintln!("{}", client::failure::describe(&problem.into()));
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// On standard output. A reader that has gone away is no error.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    match writeln!(stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn load_settings(flags: &SettingFlags) -> anyhow::Result<LoadedSettings> {
    LoadedSettings::read(flags, variables()).map_err(|mut problems| {
        let others = problems.len() - 1;
        let first = anyhow::Error::new(problems.remove(0));
        if others == 0 {
            return first;
        }
        let next = format!("`contact-sync config check` with the same flags tells this and {others} more");
        CommandFailure { what: format!("{first:#}"), next }.into()
    })
}

/// The environment, without what only the clients know.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment, for the settings")]
fn variables() -> impl Iterator<Item = (String, String)> {
    // A variable that is no text is none of ours.
    let variables =
        std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
    variables.filter(|(name, _)| !client::VARIABLES.contains(&name.as_str()))
}

#[expect(clippy::disallowed_methods, reason = "secrets come from here, so that no command line shows them")]
fn read_secrets() -> ClientSecrets {
    let text = |name: &str| std::env::var(name).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let secret = |name: &str| text(name).map(SecretString::from);
    let descriptors = crm::descriptors();
    let crms = PerProvider::from_fn(|provider| {
        let name = provider.as_str();
        let signs = descriptors[provider].credentials.contains(&CredentialType::JwtBearer);
        CrmSecrets {
            api_token: secret(&format!("{name}_API_TOKEN")),
            bearer_token: secret(&format!("{name}_BEARER_TOKEN")),
            refresh_token: secret(&format!("{name}_REFRESH_TOKEN")),
            client_id: secret(&format!("{name}_CLIENT_ID")),
            client_secret: secret(&format!("{name}_CLIENT_SECRET")),
            jwt_key_file: text(&format!("{name}_JWT_KEY_FILE")).filter(|_| signs).map(Into::into),
            username: text(&format!("{name}_USERNAME")).filter(|_| signs),
        }
    });
    ClientSecrets { token: secret(client::TOKEN_VARIABLE), crms }
}

/// A terminal that shows colours, and nobody who minds (no-color.org).
#[cfg(feature = "simulator")]
#[expect(clippy::disallowed_methods, reason = "what the terminal can do, not a setting")]
fn wants_colour() -> bool {
    use std::io::IsTerminal as _;

    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stdout().is_terminal() && !is_set("NO_COLOR") && std::env::var("TERM").is_ok_and(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_by(words: &[&str]) -> Vec<String> {
        read_command_line(words.iter().map(Into::into)).unwrap_or_else(|e| panic!("{words:?}: {e}")).flags.set
    }

    #[test]
    fn the_command_line_is_sound() {
        command_line().debug_assert();
    }

    /// A setting counts wherever it stands, and a later one after an earlier one.
    #[test]
    fn settings_count_at_every_level() {
        let all = ["contact-sync", "--set", "a=1", "config", "--set=b=2", "print", "--set", "a=3", "--set", "c=4"];

        assert_eq!(set_by(&all), ["a=1", "b=2", "a=3", "c=4"]);
        assert_eq!(set_by(&["contact-sync", "--set", "a=1", "serve"]), ["a=1"]);
        assert_eq!(set_by(&["contact-sync", "serve", "--set", "a=1"]), ["a=1"]);
        assert!(set_by(&["contact-sync", "serve"]).is_empty());
    }
}
