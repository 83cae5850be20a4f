//! `contact-sync account`: makes and lists the customers of a running server.

use std::{fmt, process::ExitCode};

use clap::Subcommand;
use phone_key::Region;

use super::client::{ClientOptions, ServiceClient, json, show};
use crate::{
    domain::ids::{AccountId, IntegrationId},
    rpc::pb,
};

/// Entries asked for at once.
const PAGE_SIZE: i32 = 200;

/// Make and list accounts: the customers whose contacts are kept apart
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AccountArgs {
    #[command(subcommand)]
    command: AccountCommand,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

#[derive(Debug, Clone, Subcommand)]
enum AccountCommand {
    /// Make an account and print its id
    Create(CreateArgs),
    /// Change an account: what is not given stays
    Update(UpdateArgs),
    /// List the accounts that the token may use
    List,
}

/// Who comes first of several contacts with one number.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Policy {
    /// The contact that was created here first
    FirstCreated,
    /// The contact that an agent last chose for the number
    LastSelected,
    /// The contact whose record the CRM last updated
    LastUpdated,
    /// Contacts of one integration; with --preferred-integration
    PreferredIntegration,
}

impl From<Policy> for pb::MatchPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::FirstCreated => Self::FirstCreated,
            Policy::LastSelected => Self::LastSelected,
            Policy::LastUpdated => Self::LastUpdated,
            Policy::PreferredIntegration => Self::PreferredIntegration,
        }
    }
}

#[derive(Debug, Clone, clap::Args)]
#[command(group(
    clap::ArgGroup::new("change")
        .required(true)
        .multiple(true)
        .args(["name", "region", "further_regions", "no_further_regions", "policy", "look_aside_ms"])
))]
struct UpdateArgs {
    /// The account
    #[arg(value_name = "ACCOUNT_ID")]
    id: AccountId,
    /// New name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// New country of numbers that are written without one; stored numbers are read again
    #[arg(long, value_name = "COUNTRY")]
    region: Option<Region>,
    /// New further countries, all of them: DE,FR or the flag again for each; stored numbers are
    /// read again
    #[arg(long = "further-region", value_name = "COUNTRY", value_delimiter = ',')]
    further_regions: Option<Vec<Region>>,
    /// No further countries any more
    #[arg(long, conflicts_with = "further_regions")]
    no_further_regions: bool,
    /// Who comes first of several contacts with one number
    #[arg(long, value_name = "POLICY")]
    policy: Option<Policy>,
    /// The integration whose contacts come first
    #[arg(long, value_name = "ID", requires = "policy")]
    preferred_integration: Option<IntegrationId>,
    /// How long a call that finds nobody waits while the CRMs are asked, milliseconds: 200 to 1500;
    /// 0: not at all
    #[arg(long, value_name = "MS")]
    look_aside_ms: Option<i32>,
}

#[derive(Debug, Clone, clap::Args)]
struct CreateArgs {
    /// Name of the customer, at most 200 characters
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Country of numbers that are written without one, such as US
    #[arg(long, value_name = "COUNTRY")]
    region: Region,
    /// Another country that the customer works in: DE,FR or the flag again for each
    #[arg(long = "further-region", value_name = "COUNTRY", value_delimiter = ',')]
    further_regions: Vec<Region>,
    /// UUID of your choice: a repeat with the same one makes no second account
    #[arg(long, value_name = "UUID")]
    id: Option<AccountId>,
    /// How long a call that finds nobody waits while the CRMs are asked, milliseconds: 200 to 1500
    #[arg(long, value_name = "MS", default_value_t = 0, hide_default_value = true)]
    look_aside_ms: i32,
}

/// Asks the server, and prints its answer.
pub(super) async fn run(args: AccountArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    match args.command {
        AccountCommand::Create(args) => create(args, client).await,
        AccountCommand::Update(args) => update(args, client).await,
        AccountCommand::List => list(client).await,
    }
}

async fn create(args: CreateArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let request = pb::CreateAccountRequest {
        account_id: args.id.map(|id| id.to_string()).unwrap_or_default(),
        display_name: args.name,
        default_region: args.region.as_str().to_owned(),
        further_regions: texts(&args.further_regions),
        match_policy: 0,
        look_aside_ms: args.look_aside_ms,
    };
    let answer = client.accounts().create_account(request).await?.into_inner();
    client.print(&json::of(&answer), answer.account.as_ref().map_or("", |account| &account.id))?;
    Ok(ExitCode::SUCCESS)
}

fn texts(regions: &[Region]) -> Vec<String> {
    regions.iter().map(|region| region.as_str().to_owned()).collect()
}

async fn update(args: UpdateArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let given = [
        ("display_name", args.name.is_some()),
        ("default_region", args.region.is_some()),
        ("further_regions", args.further_regions.is_some() || args.no_further_regions),
        ("match_policy", args.policy.is_some()),
        ("look_aside_ms", args.look_aside_ms.is_some()),
    ];
    let paths = given.into_iter().filter(|(_, is_given)| *is_given).map(|(path, _)| path.to_owned()).collect();
    let account = pb::Account {
        display_name: args.name.unwrap_or_default(),
        default_region: args.region.map(|region| region.as_str().to_owned()).unwrap_or_default(),
        further_regions: texts(&args.further_regions.unwrap_or_default()),
        match_policy: args.policy.map(|policy| pb::MatchPolicy::from(policy).into()).unwrap_or_default(),
        preferred_integration_id: args.preferred_integration.map(|id| id.to_string()).unwrap_or_default(),
        look_aside_ms: args.look_aside_ms.unwrap_or_default(),
        ..Default::default()
    };
    let request = pb::UpdateAccountRequest {
        account_id: args.id.to_string(),
        account: Some(account),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    let answer = client.accounts().update_account(request).await?.into_inner();
    client.print(&json::of(&answer), AccountTable(answer.account.as_slice()))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let mut accounts = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListAccountsRequest { page_size: PAGE_SIZE, page_token };
        let page = client.accounts().list_accounts(request).await?.into_inner();
        accounts.extend(page.accounts);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let answer = pb::ListAccountsResponse { accounts, ..Default::default() };
    client.print(&json::of(&answer), AccountTable(&answer.accounts))?;
    Ok(ExitCode::SUCCESS)
}

/// One account a line.
struct AccountTable<'a>(&'a [pb::Account]);

impl fmt::Display for AccountTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("There is no account yet; `contact-sync account create` makes one.");
        }
        for account in self.0 {
            let regions: Vec<&str> =
                std::iter::once(&account.default_region).chain(&account.further_regions).map(String::as_str).collect();
            let (regions, policy) = (regions.join(","), show::match_policy(account.match_policy()));
            write!(f, "{}  {regions:<8} {policy:<21} {}", account.id, show::clean(&account.display_name))?;
            match account.look_aside_ms {
                0 => writeln!(f)?,
                ms => writeln!(f, " (looks aside for {ms} ms at most)")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Updating {
        #[command(flatten)]
        args: UpdateArgs,
    }

    fn updating(words: &[&str]) -> Result<UpdateArgs, clap::Error> {
        let words = ["update", "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f"].into_iter().chain(words.iter().copied());
        <Updating as clap::Parser>::try_parse_from(words).map(|updating| updating.args)
    }

    /// An update changes something, and further countries can be many or none.
    #[test]
    fn update_needs_change_and_takes_any_further_regions() {
        let many = ["--further-region", "GB,FR", "--further-region", "DE"];
        let codes = texts(&updating(&many).unwrap().further_regions.unwrap());

        assert_eq!(codes, ["GB", "FR", "DE"]);
        assert!(updating(&["--no-further-regions"]).unwrap().no_further_regions);
        assert!(updating(&["--no-further-regions", "--further-region", "GB"]).is_err());
        assert!(updating(&[]).is_err(), "nothing would change");
    }

    #[test]
    fn accounts_are_listed_one_a_line() {
        let account = pb::Account {
            id: "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f".into(),
            display_name: "Acme\nInc".into(),
            default_region: "US".into(),
            further_regions: vec!["GB".into()],
            match_policy: pb::MatchPolicy::LastSelected.into(),
            ..Default::default()
        };

        assert_eq!(
            AccountTable(&[account]).to_string(),
            "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f  US,GB    LAST_SELECTED         Acme Inc\n"
        );
        assert!(AccountTable(&[]).to_string().contains("account create"));
        let looking = pb::Account { look_aside_ms: 1_500, ..Default::default() };
        assert!(AccountTable(&[looking]).to_string().ends_with(" (looks aside for 1500 ms at most)\n"));
    }
}
