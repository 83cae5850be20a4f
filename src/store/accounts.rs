//! The table `accounts`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use uuid::Uuid;

use super::{CallDb, Db, StoreError, known};
use crate::domain::{account::Account, ids::AccountId, phone::Region};

struct Row {
    account_id: Uuid,
    display_name: String,
    default_region: String,
    further_regions: Vec<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Account {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let region = |text: &str, column| known(Region::parse(text).ok(), "accounts", column);
        Ok(Self {
            id: AccountId(row.account_id),
            display_name: row.display_name,
            default_region: region(&row.default_region, "default_region")?,
            further_regions: row
                .further_regions
                .iter()
                .map(|text| region(text, "further_regions"))
                .collect::<Result<_, _>>()?,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn texts(regions: &[Region]) -> Vec<String> {
    regions.iter().map(|region| region.as_str().to_owned()).collect()
}

/// Stores a new account; false if the id is taken.
pub async fn insert(db: &Db, account: &Account) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::accounts::insert
        insert into accounts (account_id, display_name, default_region, further_regions, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $5)
        on conflict (account_id) do nothing",
        account.id.0,
        account.display_name,
        account.default_region.as_str(),
        &texts(&account.further_regions),
        account.created_at,
    )
    .execute(&db.pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// One account.
pub async fn find(db: &Db, account_id: AccountId) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        "-- store::accounts::find
        select account_id, display_name, default_region, further_regions, created_at, updated_at
        from accounts
        where account_id = $1",
        account_id.0,
    )
    .fetch_optional(&db.pool)
    .await?;
    row.map(Account::try_from).transpose()
}

/// Changes what is given; `None` if there is no such account.
pub async fn update(
    db: &Db,
    account_id: AccountId,
    display_name: Option<&str>,
    default_region: Option<Region>,
    further_regions: Option<&[Region]>,
    now: DateTime<Utc>,
) -> Result<Option<Account>, StoreError> {
    let further_regions = further_regions.map(texts);
    let row = sqlx::query_as!(
        Row,
        "-- store::accounts::update
        update accounts
        set display_name = coalesce($2, display_name),
            default_region = coalesce($3, default_region),
            further_regions = coalesce($4, further_regions),
            updated_at = $5
        where account_id = $1
        returning account_id, display_name, default_region, further_regions, created_at, updated_at",
        account_id.0,
        display_name,
        default_region.as_ref().map(Region::as_str),
        further_regions.as_deref(),
        now,
    )
    .fetch_optional(&db.pool)
    .await?;
    row.map(Account::try_from).transpose()
}

/// A page of accounts by id: all, or only those of `among`. One of the named statements across accounts.
pub async fn list(
    db: &Db,
    among: Option<&[AccountId]>,
    after: Option<AccountId>,
    limit: i64,
) -> Result<Vec<Account>, StoreError> {
    let among = among.map(|ids| ids.iter().map(|id| id.0).collect::<Vec<_>>());
    let rows = sqlx::query_as!(
        Row,
        "-- store::accounts::list (across accounts)
        select account_id, display_name, default_region, further_regions, created_at, updated_at
        from accounts
        where ($1::uuid[] is null or account_id = any($1))
          and ($2::uuid is null or account_id > $2)
        order by account_id
        limit $3",
        among.as_deref(),
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    rows.into_iter().map(Account::try_from).collect()
}

/// How old the call path's view of an account may be.
const REGION_TTL: Duration = Duration::from_secs(5);
/// Accounts that it keeps in view.
const REGION_ACCOUNTS_MAX: u64 = 10_000;

/// The default region of accounts for the call path, at most five seconds old.
#[derive(Clone)]
pub struct Regions {
    db: CallDb,
    cache: Cache<AccountId, Region>,
}

impl Regions {
    /// Empty at first.
    pub fn new(db: CallDb) -> Self {
        Self { db, cache: Cache::builder().max_capacity(REGION_ACCOUNTS_MAX).time_to_live(REGION_TTL).build() }
    }

    /// The region of numbers written without one; `None`: no such account.
    pub async fn find(&self, account_id: AccountId) -> Result<Option<Region>, StoreError> {
        if let Some(region) = self.cache.get(&account_id) {
            return Ok(Some(region));
        }
        let found = self
            .db
            .read(|pool| async move {
                sqlx::query_scalar!(
                    "-- store::accounts::Regions::find
                    select default_region
                    from accounts
                    where account_id = $1",
                    account_id.0,
                )
                .fetch_optional(&pool)
                .await
            })
            .await?;
        let Some(text) = found else { return Ok(None) };
        let region = known(Region::parse(&text).ok(), "accounts", "default_region")?;
        self.cache.insert(account_id, region);
        Ok(Some(region))
    }
}
