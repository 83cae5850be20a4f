//! Everything that the vault has sealed for an account, place by place: to see which key has sealed
//! it, and to put the same value under another key in its place, as long as it is still the one
//! that was read. A new column with sealed values belongs here; a test compares this list with the
//! schema.

use uuid::Uuid;

use super::{Db, StoreError, suppressions};
use crate::domain::ids::{AccountId, IntegrationId};

/// Rows that one statement reads.
const PAGE_MAX: i64 = 100;

/// The tables that hold sealed values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedTable {
    /// Credentials and access tokens.
    Integrations,
    /// What records that could not be read have in them.
    RejectedRecords,
    /// What administrators are being asked for.
    Authorizations,
    /// The account's secret for erased records.
    SuppressionKeys,
    /// By which CRMs show that events are their own.
    PushChannels,
}

/// Where a sealed value is, within its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealedPlace {
    /// `integrations.credentials`.
    Credentials(IntegrationId),
    /// `integrations.access`.
    Access(IntegrationId),
    /// `rejected_records.raw`: of which kind and record.
    Rejected(IntegrationId, String, String),
    /// `authorizations.sealed`: by its hash; of which integration, if it is not a new one.
    Authorization(Vec<u8>, Option<IntegrationId>),
    /// `suppression_keys.sealed`.
    SuppressionKey,
    /// `push_channels.secret`.
    HookSecret(IntegrationId),
}

impl SealedTable {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Integrations, Self::RejectedRecords, Self::Authorizations, Self::SuppressionKeys, Self::PushChannels];
}

impl SealedPlace {
    /// Table and column.
    pub const fn column(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "integrations.credentials",
            Self::Access(_) => "integrations.access",
            Self::Rejected(..) => "rejected_records.raw",
            Self::Authorization(..) => "authorizations.sealed",
            Self::SuppressionKey => "suppression_keys.sealed",
            Self::HookSecret(_) => "push_channels.secret",
        }
    }
}

/// A sealed value that was met.
#[derive(Debug, Clone)]
pub struct SealedValue {
    /// Where it is.
    pub place: SealedPlace,
    /// Its first bytes.
    pub head: Vec<u8>,
    /// The whole of it, if it begins otherwise than was asked.
    pub sealed: Option<Vec<u8>>,
}

/// How much of each value is read.
#[derive(Debug, Clone, Copy)]
pub struct SealedQuery<'a> {
    /// So many bytes of its beginning.
    pub head_bytes: i32,
    /// The whole of what does not begin so; `None`: nothing more.
    pub unless_begins: Option<&'a [u8]>,
}

/// The next values of a table behind this one, in the order of its keys; none: that was all.
pub async fn list(
    db: &Db,
    account_id: AccountId,
    table: SealedTable,
    after: Option<&SealedPlace>,
    query: SealedQuery<'_>,
) -> Result<Vec<SealedValue>, StoreError> {
    match table {
        SealedTable::Integrations => list_integrations(db, account_id, after, query).await,
        SealedTable::RejectedRecords => list_rejected(db, account_id, after, query).await,
        SealedTable::Authorizations => list_authorizations(db, account_id, after, query).await,
        SealedTable::SuppressionKeys if after.is_none() => list_suppression_keys(db, account_id, query).await,
        SealedTable::SuppressionKeys => Ok(Vec::new()),
        SealedTable::PushChannels => list_push_channels(db, account_id, after, query).await,
    }
}

async fn list_integrations(
    db: &Db,
    account_id: AccountId,
    after: Option<&SealedPlace>,
    query: SealedQuery<'_>,
) -> Result<Vec<SealedValue>, StoreError> {
    let after = match after {
        Some(SealedPlace::Credentials(id) | SealedPlace::Access(id)) => id.0,
        _ => Uuid::nil(),
    };
    let rows = sqlx::query!(
        "-- store::sealed_values::list_integrations
        select integration_id, substr(credentials, 1, $3) as credentials_head, substr(access, 1, $3) as access_head,
            case when substr(credentials, 1, length($4::bytea)) <> $4::bytea then credentials end as credentials,
            case when substr(access, 1, length($4::bytea)) <> $4::bytea then access end as access
        from integrations
        where account_id = $1 and integration_id > $2 and (credentials is not null or access is not null)
        order by integration_id
        limit $5",
        account_id.0,
        after,
        query.head_bytes,
        query.unless_begins,
        PAGE_MAX,
    )
    .fetch_all(db.of(account_id))
    .await?;
    let values = rows.into_iter().flat_map(|row| {
        let id = IntegrationId(row.integration_id);
        let value = |place, head: Option<Vec<u8>>, sealed| Some(SealedValue { place, head: head?, sealed });
        [
            value(SealedPlace::Credentials(id), row.credentials_head, row.credentials),
            value(SealedPlace::Access(id), row.access_head, row.access),
        ]
    });
    Ok(values.flatten().collect())
}

async fn list_rejected(
    db: &Db,
    account_id: AccountId,
    after: Option<&SealedPlace>,
    query: SealedQuery<'_>,
) -> Result<Vec<SealedValue>, StoreError> {
    let (id, object_type, record_key) = match after {
        Some(SealedPlace::Rejected(id, object_type, record_key)) => (id.0, object_type.as_str(), record_key.as_str()),
        _ => (Uuid::nil(), "", ""),
    };
    let rows = sqlx::query!(
        r#"-- store::sealed_values::list_rejected
        select integration_id, object_type, record_key, substr(raw, 1, $5) as "head!",
            case when substr(raw, 1, length($6::bytea)) <> $6::bytea then raw end as sealed
        from rejected_records
        where account_id = $1 and (integration_id, object_type, record_key) > ($2, $3, $4) and raw is not null
        order by integration_id, object_type, record_key
        limit $7"#,
        account_id.0,
        id,
        object_type,
        record_key,
        query.head_bytes,
        query.unless_begins,
        PAGE_MAX,
    )
    .fetch_all(db.of(account_id))
    .await?;
    let value = |place, head, sealed| SealedValue { place, head, sealed };
    let place = |id, object_type, record_key| SealedPlace::Rejected(IntegrationId(id), object_type, record_key);
    let values = rows
        .into_iter()
        .map(|row| value(place(row.integration_id, row.object_type, row.record_key), row.head, row.sealed));
    Ok(values.collect())
}

async fn list_authorizations(
    db: &Db,
    account_id: AccountId,
    after: Option<&SealedPlace>,
    query: SealedQuery<'_>,
) -> Result<Vec<SealedValue>, StoreError> {
    let after: &[u8] = match after {
        Some(SealedPlace::Authorization(hash, _)) => hash,
        _ => &[],
    };
    let rows = sqlx::query!(
        r#"-- store::sealed_values::list_authorizations
        select state_hash, integration_id, substr(sealed, 1, $3) as "head!",
            case when substr(sealed, 1, length($4::bytea)) <> $4::bytea then sealed end as sealed
        from authorizations
        where account_id = $1 and state_hash > $2
        order by state_hash
        limit $5"#,
        account_id.0,
        after,
        query.head_bytes,
        query.unless_begins,
        PAGE_MAX,
    )
    .fetch_all(db.of(account_id))
    .await?;
    let values = rows.into_iter().map(|row| SealedValue {
        place: SealedPlace::Authorization(row.state_hash, row.integration_id.map(IntegrationId)),
        head: row.head,
        sealed: row.sealed,
    });
    Ok(values.collect())
}

async fn list_suppression_keys(
    db: &Db,
    account_id: AccountId,
    query: SealedQuery<'_>,
) -> Result<Vec<SealedValue>, StoreError> {
    let rows = sqlx::query!(
        r#"-- store::sealed_values::list_suppression_keys
        select substr(sealed, 1, $2) as "head!",
            case when substr(sealed, 1, length($3::bytea)) <> $3::bytea then sealed end as sealed
        from suppression_keys
        where account_id = $1"#,
        account_id.0,
        query.head_bytes,
        query.unless_begins,
    )
    .fetch_all(db.of(account_id))
    .await?;
    let value = |head, sealed| SealedValue { place: SealedPlace::SuppressionKey, head, sealed };
    Ok(rows.into_iter().map(|row| value(row.head, row.sealed)).collect())
}

async fn list_push_channels(
    db: &Db,
    account_id: AccountId,
    after: Option<&SealedPlace>,
    query: SealedQuery<'_>,
) -> Result<Vec<SealedValue>, StoreError> {
    let after = match after {
        Some(SealedPlace::HookSecret(id)) => id.0,
        _ => Uuid::nil(),
    };
    let rows = sqlx::query!(
        r#"-- store::sealed_values::list_push_channels
        select integration_id, substr(secret, 1, $3) as "head!",
            case when substr(secret, 1, length($4::bytea)) <> $4::bytea then secret end as sealed
        from push_channels
        where account_id = $1 and integration_id > $2 and secret is not null
        order by integration_id
        limit $5"#,
        account_id.0,
        after,
        query.head_bytes,
        query.unless_begins,
        PAGE_MAX,
    )
    .fetch_all(db.of(account_id))
    .await?;
    let values = rows.into_iter().map(|row| SealedValue {
        place: SealedPlace::HookSecret(IntegrationId(row.integration_id)),
        head: row.head,
        sealed: row.sealed,
    });
    Ok(values.collect())
}

/// Puts the same value under another key in the place of the old one; false: it is another by now,
/// or gone, and stays as it is.
pub async fn replace(
    db: &Db,
    account_id: AccountId,
    place: &SealedPlace,
    old: &[u8],
    new: &[u8],
) -> Result<bool, StoreError> {
    let account = account_id.0;
    let query = match place {
        SealedPlace::Credentials(id) => sqlx::query!(
            "-- store::sealed_values::replace (credentials)
            update integrations
            set credentials = $4
            where account_id = $1 and integration_id = $2 and credentials = $3",
            account,
            id.0,
            old,
            new,
        ),
        SealedPlace::Access(id) => sqlx::query!(
            "-- store::sealed_values::replace (access)
            update integrations
            set access = $4
            where account_id = $1 and integration_id = $2 and access = $3",
            account,
            id.0,
            old,
            new,
        ),
        SealedPlace::Rejected(id, object_type, record_key) => sqlx::query!(
            "-- store::sealed_values::replace (rejected)
            update rejected_records
            set raw = $6
            where account_id = $1 and integration_id = $2 and object_type = $3 and record_key = $4 and raw = $5",
            account,
            id.0,
            object_type,
            record_key,
            old,
            new,
        ),
        SealedPlace::Authorization(hash, _) => sqlx::query!(
            "-- store::sealed_values::replace (authorization)
            update authorizations
            set sealed = $4
            where account_id = $1 and state_hash = $2 and sealed = $3",
            account,
            hash,
            old,
            new,
        ),
        SealedPlace::HookSecret(id) => sqlx::query!(
            "-- store::sealed_values::replace (hook secret)
            update push_channels
            set secret = $4
            where account_id = $1 and integration_id = $2 and secret = $3",
            account,
            id.0,
            old,
            new,
        ),
        SealedPlace::SuppressionKey => return suppressions::reseal_key(db, account_id, old, new).await,
    };
    Ok(query.execute(db.of(account_id)).await?.rows_affected() > 0)
}
