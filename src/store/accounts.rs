//! The table `accounts`.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use phone_key::{KEY_VERSION, Region};
use uuid::Uuid;

use super::{CallDb, Db, StoreError, Transaction, Tx, audit, known};
use crate::domain::{
    account::{Account, MatchRules},
    audit::{AuditActor, AuditResult, AuditTarget},
    ids::{AccountId, IntegrationId},
    match_policy::MatchPolicy,
};

struct AccountRow {
    account_id: Uuid,
    display_name: String,
    default_region: String,
    further_regions: Vec<String>,
    match_policy: String,
    preferred_integration_id: Option<Uuid>,
    look_aside_ms: i32,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<AccountRow> for Account {
    type Error = StoreError;

    fn try_from(row: AccountRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: AccountId(row.account_id),
            display_name: row.display_name,
            default_region: region_of(&row.default_region)?,
            further_regions: row.further_regions.iter().map(|text| region_of(text)).collect::<Result<_, _>>()?,
            match_policy: policy_of(&row.match_policy, row.preferred_integration_id)?,
            look_aside_ms: row.look_aside_ms,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn region_of(text: &str) -> Result<Region, StoreError> {
    known(Region::parse(text).ok(), "accounts", "default_region, further_regions")
}

fn policy_of(text: &str, preferred: Option<Uuid>) -> Result<MatchPolicy, StoreError> {
    known(MatchPolicy::of(text, preferred.map(IntegrationId)), "accounts", "match_policy")
}

fn texts(regions: &[Region]) -> Vec<String> {
    regions.iter().map(|region| region.as_str().to_owned()).collect()
}

/// What has become of an account that was to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreatedAccount {
    /// It was made.
    New,
    /// It was there, with the same content.
    Same(Account),
    /// The id is another account's.
    Taken,
}

/// Makes an account, and says who did.
pub async fn create(db: &Db, account: &Account, actor: &AuditActor) -> Result<CreatedAccount, StoreError> {
    db.of(account.id).run(CreateAccount { account: account.clone(), actor: actor.clone() }).await
}

struct CreateAccount {
    account: Account,
    actor: AuditActor,
}

impl Transaction for CreateAccount {
    const NAME: &'static str = "create_account";
    type Output = CreatedAccount;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<CreatedAccount, StoreError> {
        let Self { account, actor } = self;
        let account_id = tx.account_id();
        let (created, result) = if insert(tx, account).await? {
            (CreatedAccount::New, AuditResult::Done)
        } else {
            match lock(tx, account_id).await? {
                Some(known) if known.has_content_of(account) => (CreatedAccount::Same(known), AuditResult::Unchanged),
                Some(_) => return Ok(CreatedAccount::Taken),
                None => return Err(StoreError::Conflict),
            }
        };
        audit::insert(tx, account_id, actor, AuditTarget::default(), result, &[]).await?;
        Ok(created)
    }
}

/// Stores a new account; false if the id is taken.
async fn insert(tx: &mut Tx, account: &Account) -> Result<bool, StoreError> {
    let done = sqlx::query!(
        "-- store::accounts::insert
        insert into accounts (account_id, display_name, default_region, further_regions, match_policy, preferred_integration_id,
            key_version, created_at, updated_at, look_aside_ms)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)
        on conflict (account_id) do nothing",
        account.id.0,
        account.display_name,
        account.default_region.as_str(),
        &texts(&account.further_regions),
        account.match_policy.as_str(),
        account.match_policy.preferred().map(|id| id.0),
        KEY_VERSION,
        account.created_at,
        account.look_aside_ms,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// One account.
pub async fn find(db: &Db, account_id: AccountId) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query_as!(
        AccountRow,
        "-- store::accounts::find
        select account_id, display_name, default_region, further_regions, match_policy, preferred_integration_id, look_aside_ms, created_at, updated_at
        from accounts
        where account_id = $1",
        account_id.0,
    )
    .fetch_optional(db.of(account_id))
    .await?;
    row.map(Account::try_from).transpose()
}

/// The same in a transaction, which nobody changes until it ends.
async fn lock(tx: &mut Tx, account_id: AccountId) -> Result<Option<Account>, StoreError> {
    let row = sqlx::query_as!(
        AccountRow,
        "-- store::accounts::lock
        select account_id, display_name, default_region, further_regions, match_policy, preferred_integration_id, look_aside_ms, created_at, updated_at
        from accounts
        where account_id = $1
        for share",
        account_id.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Account::try_from).transpose()
}

/// What of an account is to change; what is `None` stays.
#[derive(Clone, Default)]
pub struct AccountChange {
    /// New name.
    pub display_name: Option<String>,
    /// New default region.
    pub default_region: Option<Region>,
    /// New further regions, all of them.
    pub further_regions: Option<Vec<Region>>,
    /// New policy.
    pub match_policy: Option<MatchPolicy>,
    /// New budget of a look aside, milliseconds.
    pub look_aside_ms: Option<i32>,
}

impl AccountChange {
    /// What is given, by name.
    fn fields(&self) -> Vec<&'static str> {
        let given = [
            ("display_name", self.display_name.is_some()),
            ("default_region", self.default_region.is_some()),
            ("further_regions", self.further_regions.is_some()),
            ("match_policy", self.match_policy.is_some()),
            ("look_aside_ms", self.look_aside_ms.is_some()),
        ];
        given.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect()
    }
}

/// Changes what is given, and says who did; `None` if there is no such account. Other regions: the
/// stored numbers are to be read again, and the next run of each integration is to be a sweep: of
/// two spellings of one number a record keeps the first only, and both may be numbers now.
pub async fn update(
    db: &Db,
    account_id: AccountId,
    actor: &AuditActor,
    change: AccountChange,
    now: DateTime<Utc>,
) -> Result<Option<Account>, StoreError> {
    db.of(account_id).run(UpdateAccount { actor: actor.clone(), change, now }).await
}

struct UpdateAccount {
    actor: AuditActor,
    change: AccountChange,
    now: DateTime<Utc>,
}

impl Transaction for UpdateAccount {
    const NAME: &'static str = "update_account";
    type Output = Option<Account>;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<Option<Account>, StoreError> {
        let account_id = tx.account_id();
        // Before the account, as a page locks them.
        request_sweeps(tx, account_id, &self.change, self.now).await?;
        let Some(account) = update_account(tx, account_id, &self.change, self.now).await? else { return Ok(None) };
        let fields = self.change.fields();
        audit::insert(tx, account_id, &self.actor, AuditTarget::default(), AuditResult::Done, &fields).await?;
        Ok(Some(account))
    }
}

async fn request_sweeps(
    tx: &mut Tx,
    account_id: AccountId,
    change: &AccountChange,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let further_regions = change.further_regions.as_deref().map(texts);
    sqlx::query!(
        "-- store::accounts::request_sweeps
        with moved as materialized (
            select i.integration_id
            from integrations i
            where i.account_id = $1 and i.first_started_at is not null and exists (
                select
                from accounts a
                where a.account_id = $1
                  and (a.default_region <> coalesce($2, a.default_region) or a.further_regions <> coalesce($3, a.further_regions))
            )
            order by i.integration_id
            for no key update
        )
        update integrations i
        set sweep_due_at = $4
        from moved m
        where i.account_id = $1 and i.integration_id = m.integration_id",
        account_id.0,
        change.default_region.as_ref().map(Region::as_str),
        further_regions.as_deref(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn update_account(
    tx: &mut Tx,
    account_id: AccountId,
    change: &AccountChange,
    now: DateTime<Utc>,
) -> Result<Option<Account>, StoreError> {
    let further_regions = change.further_regions.as_deref().map(texts);
    let row = sqlx::query_as!(
        AccountRow,
        "-- store::accounts::update_account
        update accounts
        set display_name = coalesce($2, display_name),
            default_region = coalesce($3, default_region),
            further_regions = coalesce($4, further_regions),
            match_policy = coalesce($5, match_policy),
            preferred_integration_id = case when $5::text is null then preferred_integration_id else $6 end,
            look_aside_ms = coalesce($8, look_aside_ms),
            reparse_requested_at = case
                when coalesce($3, default_region) <> default_region or coalesce($4, further_regions) <> further_regions then $7
                else reparse_requested_at
            end,
            reparse_after = case
                when coalesce($3, default_region) <> default_region or coalesce($4, further_regions) <> further_regions then null
                else reparse_after
            end,
            updated_at = $7
        where account_id = $1
        returning account_id, display_name, default_region, further_regions, match_policy, preferred_integration_id, look_aside_ms, created_at, updated_at",
        account_id.0,
        change.display_name,
        change.default_region.as_ref().map(Region::as_str),
        further_regions.as_deref(),
        change.match_policy.map(MatchPolicy::as_str),
        change.match_policy.and_then(MatchPolicy::preferred).map(|id| id.0),
        now,
        change.look_aside_ms,
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Account::try_from).transpose()
}

/// A page of accounts by id: all, or only those of `among`. One of the named statements across
/// accounts.
pub async fn list(
    db: &Db,
    among: Option<&[AccountId]>,
    after: Option<AccountId>,
    limit: i64,
) -> Result<Vec<Account>, StoreError> {
    let among = among.map(|ids| ids.iter().map(|id| id.0).collect::<Vec<_>>());
    let rows = sqlx::query_as!(
        AccountRow,
        "-- store::accounts::list (across accounts)
        select account_id, display_name, default_region, further_regions, match_policy, preferred_integration_id, look_aside_ms, created_at, updated_at
        from accounts
        where ($1::uuid[] is null or account_id = any($1))
          and ($2::uuid is null or account_id > $2)
        order by account_id
        limit $3",
        among.as_deref(),
        after.map(|id| id.0),
        limit,
    )
    .fetch_all(db.all())
    .await?;
    rows.into_iter().map(Account::try_from).collect()
}

/// Whether the account's numbers are read with these regions, until this transaction ends.
pub async fn hold_rules(
    tx: &mut Tx,
    account_id: AccountId,
    default_region: Region,
    has_further_regions: bool,
) -> Result<bool, StoreError> {
    let held = sqlx::query_scalar!(
        "-- store::accounts::hold_rules
        select account_id
        from accounts
        where account_id = $1 and default_region = $2 and (cardinality(further_regions) > 0) = $3
        for share",
        account_id.0,
        default_region.as_str(),
        has_further_regions,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(held.is_some())
}

/// How old the call path's view of an account may be.
const RULES_TTL: Duration = Duration::from_secs(5);
/// Accounts that it keeps in view.
const RULES_ACCOUNTS_MAX: u64 = 10_000;

/// The rules of accounts for the call path, at most five seconds old.
#[derive(Clone)]
pub struct RulesCache {
    db: CallDb,
    cache: Cache<AccountId, Arc<MatchRules>>,
}

impl RulesCache {
    /// Empty at first.
    pub fn new(db: CallDb) -> Self {
        Self { db, cache: Cache::builder().max_capacity(RULES_ACCOUNTS_MAX).time_to_live(RULES_TTL).build() }
    }

    /// How numbers are read and who comes first; `None`: no such account.
    pub async fn find(&self, account_id: AccountId) -> Result<Option<Arc<MatchRules>>, StoreError> {
        if let Some(rules) = self.cache.get(&account_id) {
            return Ok(Some(rules));
        }
        let found = self
            .db
            .of(account_id)
            .read(|pool| async move {
                sqlx::query!(
                    "-- store::accounts::RulesCache::find
                    select default_region, further_regions, match_policy, preferred_integration_id, look_aside_ms,
                        reparse_requested_at is not null or key_version < $2 as \"is_reparsing!\"
                    from accounts
                    where account_id = $1",
                    account_id.0,
                    KEY_VERSION,
                )
                .fetch_optional(&pool)
                .await
            })
            .await?;
        let Some(row) = found else { return Ok(None) };
        let rules = Arc::new(MatchRules {
            default_region: region_of(&row.default_region)?,
            further_regions: row.further_regions.iter().map(|text| region_of(text)).collect::<Result<_, _>>()?,
            policy: policy_of(&row.match_policy, row.preferred_integration_id)?,
            look_aside: Duration::from_millis(u64::try_from(row.look_aside_ms).unwrap_or(0)),
            is_reparsing: row.is_reparsing,
        });
        self.cache.insert(account_id, Arc::clone(&rules));
        Ok(Some(rules))
    }
}
