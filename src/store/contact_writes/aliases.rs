//! Merging: a contact becomes the alias of the one that goes on in its place, and is given back
//! when that one lives again.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::contacts;
use crate::{
    domain::{
        change::ChangeKind,
        ids::{AccountId, ContactId},
    },
    store::{
        StoreError, Tx,
        changes::{self, ChangedContact},
        contact_writes::numbers,
        fragments::statement,
    },
};

/// A contact of an adoption that ends, and the one that goes on in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdoptionMerge {
    /// Becomes an alias.
    pub loser_id: ContactId,
    /// Takes the loser's refs and their numbers.
    pub survivor_id: ContactId,
    /// The survivor's rank.
    pub survivor_created_at: DateTime<Utc>,
}

/// Makes each loser an alias of its survivor: refs and their numbers move, a placeholder's number
/// ends, earlier aliases follow. Both must be locked, be live, and no contact may be in two merges
/// as loser.
pub async fn alias_adopted(
    tx: &mut Tx,
    account_id: AccountId,
    merges: &[AdoptionMerge],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let losers: Vec<Uuid> = merges.iter().map(|merge| merge.loser_id.0).collect();
    let survivors: Vec<Uuid> = merges.iter().map(|merge| merge.survivor_id.0).collect();
    let ranks: Vec<DateTime<Utc>> = merges.iter().map(|merge| merge.survivor_created_at).collect();
    let both: Vec<Uuid> = losers.iter().chain(&survivors).copied().collect();
    sqlx::query!(
        "-- store::contact_writes::aliases::alias_adopted (ends placeholder numbers)
        delete from phone_numbers n
        where n.account_id = $1 and n.contact_id = any($2) and n.is_placeholder",
        account_id.0,
        &both,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::contact_writes::aliases::alias_adopted (moves numbers)
        update phone_numbers n
        set contact_id = u.survivor_id, contact_created_at = u.survivor_created_at
        from unnest($2::uuid[], $3::uuid[], $4::timestamptz[]) as u (loser_id, survivor_id, survivor_created_at)
        where n.account_id = $1 and n.contact_id = u.loser_id",
        account_id.0,
        &losers,
        &survivors,
        &ranks,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::contact_writes::aliases::alias_adopted (moves refs)
        update external_refs e
        set contact_id = u.survivor_id, updated_at = $4
        from unnest($2::uuid[], $3::uuid[]) as u (loser_id, survivor_id)
        where e.account_id = $1 and e.contact_id = u.loser_id",
        account_id.0,
        &losers,
        &survivors,
        now,
    )
    .execute(&mut **tx)
    .await?;
    // A placeholder that survives takes the name of the record that it turned out to be.
    sqlx::query!(
        "-- store::contact_writes::aliases::alias_adopted (names survivors)
        update contacts s
        set display_name = l.display_name, organization = l.organization, emails = l.emails, is_placeholder = false
        from unnest($2::uuid[], $3::uuid[]) as u (loser_id, survivor_id)
        join contacts l on l.account_id = $1 and l.contact_id = u.loser_id and not l.is_placeholder
        where s.account_id = $1 and s.contact_id = u.survivor_id and s.is_placeholder",
        account_id.0,
        &losers,
        &survivors,
    )
    .execute(&mut **tx)
    .await?;
    let aliases: Vec<MergeAlias> = merges
        .iter()
        .map(|merge| MergeAlias {
            loser_id: merge.loser_id,
            direct_id: merge.survivor_id,
            survivor_id: merge.survivor_id,
        })
        .collect();
    make_aliases(tx, account_id, ChangeKind::Adopted, &aliases, now).await?;
    let survivors: Vec<ContactId> = merges.iter().map(|merge| merge.survivor_id).collect();
    contacts::touch(tx, account_id, &survivors, now).await
}

/// A contact that becomes an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeAlias {
    /// Becomes the alias.
    pub loser_id: ContactId,
    /// The next contact of the chain, so that a restore can undo it.
    pub direct_id: ContactId,
    /// The contact at the end of the chain, which is live.
    pub survivor_id: ContactId,
}

/// Makes the contacts of records that the CRM has merged away aliases, unless a live record is left
/// to them; the survivor takes the oldest `created_at`, and so its rank. All contacts must be
/// locked.
pub async fn alias_merged(
    tx: &mut Tx,
    account_id: AccountId,
    aliases: &[MergeAlias],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (losers, survivors) = make_aliases(tx, account_id, ChangeKind::Merged, aliases, now).await?;
    if losers.is_empty() {
        return Ok(());
    }
    numbers::remove_all(tx, account_id, &losers).await?;
    age_survivors(tx, account_id, &losers, &survivors, now).await
}

/// Leaves of each loser that has no live record a tombstone that leads to its survivor, and takes
/// its own aliases along. Returns those that are aliases by it, and their survivors.
async fn make_aliases(
    tx: &mut Tx,
    account_id: AccountId,
    kind: ChangeKind,
    aliases: &[MergeAlias],
    now: DateTime<Utc>,
) -> Result<(Vec<Uuid>, Vec<Uuid>), StoreError> {
    let losers: Vec<Uuid> = aliases.iter().map(|alias| alias.loser_id.0).collect();
    let directs: Vec<Uuid> = aliases.iter().map(|alias| alias.direct_id.0).collect();
    let survivors: Vec<Uuid> = aliases.iter().map(|alias| alias.survivor_id.0).collect();
    let made = statement!(
        ChangedContact,
        [
            "-- store::contact_writes::aliases::make_aliases
            update contacts c
            set " TOMBSTONE ", merged_into = u.direct_id, survivor_id = u.survivor_id
            from unnest($3::uuid[], $4::uuid[], $5::uuid[]) as u (loser_id, direct_id, survivor_id)
            where c.account_id = $1 and c.contact_id = u.loser_id
              and (c.merged_into is distinct from u.direct_id or c.survivor_id is distinct from u.survivor_id)
              and not exists (
                select from external_refs e
                where e.account_id = $1 and e.contact_id = c.contact_id and e.is_live
              )
            returning c.contact_id, c.version, c.survivor_id"
        ],
        account_id.0,
        now,
        &losers,
        &directs,
        &survivors,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, kind, &made, now).await?;
    let (losers, survivors): (Vec<Uuid>, Vec<Uuid>) =
        made.into_iter().filter_map(|row| Some((row.contact_id, row.survivor_id?))).unzip();
    if !losers.is_empty() {
        sqlx::query!(
            "-- store::contact_writes::aliases::make_aliases (earlier ones follow)
            update contacts a
            set survivor_id = u.survivor_id, updated_at = $4
            from unnest($2::uuid[], $3::uuid[]) as u (loser_id, survivor_id)
            where a.account_id = $1 and a.survivor_id = u.loser_id",
            account_id.0,
            &losers,
            &survivors,
            now,
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok((losers, survivors))
}

/// Makes each survivor as old as the oldest of its losers, and its numbers with it.
async fn age_survivors(
    tx: &mut Tx,
    account_id: AccountId,
    losers: &[Uuid],
    survivors: &[Uuid],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let aged = sqlx::query!(
        "-- store::contact_writes::aliases::age_survivors
        with oldest as (
            select u.survivor_id, min(l.created_at) as created_at
            from unnest($2::uuid[], $3::uuid[]) as u (loser_id, survivor_id)
            join contacts l on l.account_id = $1 and l.contact_id = u.loser_id
            group by u.survivor_id
        )
        update contacts s
        set created_at = o.created_at, updated_at = $4, version = s.version + 1
        from oldest o
        where s.account_id = $1 and s.contact_id = o.survivor_id and s.created_at > o.created_at
        returning s.contact_id, s.created_at, s.version, s.survivor_id",
        account_id.0,
        losers,
        survivors,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    if aged.is_empty() {
        return Ok(());
    }
    let (contact_ids, ranks): (Vec<Uuid>, Vec<DateTime<Utc>>) =
        aged.iter().map(|row| (row.contact_id, row.created_at)).unzip();
    let changed: Vec<ChangedContact> = aged
        .into_iter()
        .map(|row| ChangedContact { contact_id: row.contact_id, version: row.version, survivor_id: row.survivor_id })
        .collect();
    changes::record(tx, account_id, ChangeKind::Changed, &changed, now).await?;
    sqlx::query!(
        "-- store::contact_writes::aliases::age_survivors (numbers)
        update phone_numbers n
        set contact_created_at = u.created_at
        from unnest($2::uuid[], $3::timestamptz[]) as u (contact_id, created_at)
        where n.account_id = $1 and n.contact_id = u.contact_id",
        account_id.0,
        &contact_ids,
        &ranks,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Gives contacts that live again the aliases back that were merged into them, directly or through
/// others. The feed says where each leads now: it may never have been told of the steps between.
pub async fn restore_aliases(
    tx: &mut Tx,
    account_id: AccountId,
    revived: &[ContactId],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = revived.iter().map(|id| id.0).collect();
    let returned = sqlx::query_as!(
        ChangedContact,
        "-- store::contact_writes::aliases::restore_aliases
        update contacts c
        set survivor_id = a.survivor_id, updated_at = $3, version = c.version + 1
        from (
            with recursive alias as (
                select c.contact_id, c.merged_into as survivor_id
                from contacts c
                where c.account_id = $1 and c.merged_into = any($2)
                union
                select c.contact_id, a.survivor_id
                from alias a
                join contacts c on c.account_id = $1 and c.merged_into = a.contact_id
            )
            select contact_id, survivor_id
            from alias
        ) a
        where c.account_id = $1 and c.contact_id = a.contact_id and c.survivor_id <> a.survivor_id
        returning c.contact_id, c.version, c.survivor_id",
        account_id.0,
        &ids,
        now,
    )
    .fetch_all(&mut **tx)
    .await?;
    changes::record(tx, account_id, ChangeKind::Merged, &returned, now).await
}
