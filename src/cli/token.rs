//! `contact-sync token`: issues a token for local use, signed with the key that local mode has
//! made. Before it is printed the token is verified as the server would, so that a token that the
//! server refuses is an error here and not there. Makes no keys: a token for a server that never
//! ran helps nobody.

use std::sync::Arc;

use anyhow::{Context, bail};
use chrono::TimeDelta;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::{
    config::Config,
    domain::{clock::Clock, ids::AccountId},
    key_source::read_file,
    rpc::{
        auth::TokenVerifier,
        claims::TokenAccounts,
        local_token::{LocalClaims, LocalKeys, VALID_FOR_MAX, issue, read_signing_key},
        methods::TokenScope,
    },
};

/// Prints a token with which a client may call this server
#[derive(Debug, Clone, clap::Args)]
pub(super) struct TokenArgs {
    /// Account that the token is for; may be repeated
    #[arg(long = "account", value_name = "ID")]
    pub accounts: Vec<AccountId>,
    /// The token is for every account, those to come included
    #[arg(long, conflicts_with = "accounts")]
    pub all_accounts: bool,
    /// What the token allows; docs/api.md lists the scopes that open each method
    #[arg(
        long = "scope",
        value_name = "SCOPE,..",
        value_delimiter = ',',
        value_parser = scope_parser(),
        default_value = "calls,sync,contacts.read,admin"
    )]
    pub scopes: Vec<TokenScope>,
    /// Who will call, as it will be known to the server; for clicks: the agent's id, as the router
    /// has it
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub subject: String,
    /// How long the token is good: a number and s, m, h or d, at most 30d
    #[arg(long, value_name = "TIME", default_value = "8h", value_parser = parse_valid_for)]
    pub valid_for: TimeDelta,
}

/// The token, to be printed on a line of its own.
pub(super) fn run(args: &TokenArgs, config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<String> {
    let accounts = match (args.all_accounts, args.accounts.as_slice()) {
        (true, _) => TokenAccounts::All,
        (false, []) => bail!("say which accounts the token is for: --account ID, or --all-accounts"),
        (false, ids) => TokenAccounts::Listed(ids.iter().copied().collect()),
    };
    if let Some(url) = &config.auth.jwks_url {
        bail!("the server takes the tokens that are signed with the keys of {url} (auth.jwks_url): get one from there");
    }
    let keys = LocalKeys::in_dir(&config.local_auth_dir());
    let signing_key = read_signing_key(&keys).context(
        "no local signing key: `contact-sync serve` makes one when it runs without a configured key set (auth.jwks_file)",
    )?;
    let claims = LocalClaims {
        issuer: &config.auth.issuer,
        audience: &config.auth.audience,
        subject: &args.subject,
        accounts: &accounts,
        scopes: &args.scopes,
        now: clock.now(),
        valid_for: args.valid_for,
    };
    let token = issue(&signing_key, &claims)?;

    let jwks_file = config.auth.jwks_file.as_ref().unwrap_or(&keys.jwks_file);
    let jwks = read_file(jwks_file)?;
    TokenVerifier::new(&jwks, (&config.auth).into(), clock)
        .with_context(|| format!("the server cannot use {}", jwks_file.display()))?
        .verify(&token)
        .with_context(|| {
            format!(
                "the server would refuse a local token: {} does not hold the key of {}, or the token is too long",
                jwks_file.display(),
                keys.signing_key_file.display()
            )
        })?;
    Ok(token)
}

fn scope_parser() -> impl TypedValueParser<Value = TokenScope> {
    let values = TokenScope::ALL.map(|scope| PossibleValue::new(scope.as_str()).help(meaning(scope)));
    PossibleValuesParser::new(values).try_map(|text| text.parse::<TokenScope>())
}

fn meaning(scope: TokenScope) -> &'static str {
    match scope {
        TokenScope::Calls => "all about calls",
        TokenScope::Clicks => "an agent's clicks, and choices in calls of the agent that --subject names",
        TokenScope::Sync => "all about integrations and runs",
        TokenScope::SyncRead => "look at integrations, runs and records",
        TokenScope::SyncWrite => "link, change, trigger; disable and keep what was copied",
        TokenScope::SyncPurge => "disable, also with --purge",
        TokenScope::ContactsRead => "read contacts and their changes",
        TokenScope::ContactsErase => "erase a person",
        TokenScope::Admin => "accounts",
    }
}

fn parse_valid_for(text: &str) -> Result<TimeDelta, String> {
    let wrong = || "a number and s, m, h or d, from 1s to 30d".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (count, unit) = text.split_at(split);
    let count: i64 = count.parse().map_err(|_| wrong())?;
    let time = match unit {
        "s" => TimeDelta::try_seconds(count),
        "m" => TimeDelta::try_minutes(count),
        "h" => TimeDelta::try_hours(count),
        "d" => TimeDelta::try_days(count),
        _ => None,
    };
    time.filter(|time| *time >= TimeDelta::seconds(1) && *time <= VALID_FOR_MAX).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, path::PathBuf};

    use chrono::DateTime;
    use clap::Parser;

    use super::*;
    use crate::rpc::claims::TokenRules;
    use crate::{
        domain::clock::ManualClock,
        rpc::local_token::{ensure_local_keys, generate},
    };

    const ACCOUNT: &str = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        token: TokenArgs,
    }

    fn parse(args: &[&str]) -> Result<TokenArgs, clap::Error> {
        Command::try_parse_from([&["token"], args].concat()).map(|command| command.token)
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(DateTime::from_timestamp(1_795_305_600, 0).unwrap()))
    }

    /// A data directory of this test's own, removed at its end.
    struct DataDir(PathBuf);

    impl DataDir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("contact-sync-token-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn config(&self) -> Config {
            Config::with_defaults(self.0.clone())
        }
    }

    impl Drop for DataDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_printed_token_is_what_the_server_accepts() {
        let dir = DataDir::new("accepted");
        let keys = ensure_local_keys(&dir.config().local_auth_dir(), &[1; 32]).unwrap();
        let args =
            parse(&["--account", ACCOUNT, "--scope", "calls,admin", "--subject", "router", "--valid-for", "30d"]);

        let token = run(&args.unwrap(), &dir.config(), clock()).unwrap();

        let jwks = fs::read_to_string(keys.jwks_file).unwrap();
        let clock = clock();
        let same_clock = Arc::clone(&clock);
        let verifier = TokenVerifier::new(&jwks, TokenRules::new("contact-sync", "contact-sync"), same_clock).unwrap();
        clock.advance(TimeDelta::days(30) - TimeDelta::seconds(1));
        let caller = verifier.verify(&token).unwrap();
        assert_eq!(caller.subject(), "router");
        assert_eq!(caller.accounts(), &TokenAccounts::Listed(HashSet::from([ACCOUNT.parse().unwrap()])));
        assert!(caller.has(TokenScope::Calls) && caller.has(TokenScope::Admin) && !caller.has(TokenScope::Sync));
        assert!(!token.contains(char::is_whitespace));
    }

    /// A token without accounts or without keys is not made.
    #[test]
    fn token_needs_accounts_and_keys() {
        let dir = DataDir::new("not-made");
        let all = parse(&["--all-accounts"]).unwrap();

        let error = run(&all, &dir.config(), clock()).unwrap_err();
        assert!(error.to_string().contains("no local signing key"), "{error:#}");
        ensure_local_keys(&dir.config().local_auth_dir(), &[1; 32]).unwrap();
        run(&all, &dir.config(), clock()).unwrap();
        let error = run(&parse(&[]).unwrap(), &dir.config(), clock()).unwrap_err();
        assert!(error.to_string().contains("--all-accounts"), "{error:#}");
    }

    /// A token that the server would refuse is an error.
    #[test]
    fn token_server_would_refuse_is_error() {
        let dir = DataDir::new("refused");
        let mut config = dir.config();
        ensure_local_keys(&config.local_auth_dir(), &[1; 32]).unwrap();
        let other = dir.0.join("issuer.json");
        fs::write(&other, generate(&[2; 32]).jwks_json).unwrap();
        config.auth.jwks_file = Some(other);

        let error = run(&parse(&["--all-accounts"]).unwrap(), &config, clock()).unwrap_err();

        assert!(error.to_string().contains("would refuse a local token"), "{error:#}");
    }

    /// Help and completions know every scope.
    #[test]
    fn every_scope_is_offered_with_its_meaning() {
        for scope in TokenScope::ALL {
            assert_eq!(parse(&["--scope", scope.as_str()]).unwrap().scopes, [scope]);
            let help = <Command as clap::CommandFactory>::command().render_long_help().to_string();
            assert!(help.contains(&format!("- {scope}: ")), "{help}");
        }
        let two = parse(&["--scope", "sync.read,sync.write", "--scope", "clicks"]).unwrap();
        assert_eq!(two.scopes, [TokenScope::SyncRead, TokenScope::SyncWrite, TokenScope::Clicks]);
    }

    #[test]
    fn arguments_are_checked() {
        assert_eq!(parse(&["--valid-for", "90m"]).unwrap().valid_for, TimeDelta::minutes(90));
        assert_eq!(parse(&[]).unwrap().valid_for, TimeDelta::hours(8));
        for wrong in [
            &["--valid-for", "31d"][..],
            &["--valid-for", "0s"],
            &["--valid-for", "8"],
            &["--valid-for", "8w"],
            &["--valid-for", "99999999999999999999d"],
            &["--valid-for", "9223372036854775807d"],
            &["--scope", "calls,everything"],
            &["--scope", "sync.*"],
            &["--account", "me"],
            &["--account", ACCOUNT, "--all-accounts"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
