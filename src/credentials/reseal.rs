//! Everything that is sealed comes under the newest key, so that an older one can leave the ring:
//! value by value, beside a service that goes on writing. What was written meanwhile stays as it
//! is. Interrupted, it is begun again and meets only what is left.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{ACCESS, AUTHORIZATION, CREDENTIALS, CredentialVault, HOOK, REJECTED, SUPPRESSION, scope};
use crate::{
    domain::ids::{AccountId, IntegrationId},
    store::{
        Db, StoreError, accounts,
        sealed_values::{self, SealedPlace, SealedQuery, SealedTable, SealedValue},
    },
    vault::{HEAD_BYTES_MAX, SealScope, key_id_of},
};

/// Accounts that are found at once.
const ACCOUNTS_PAGE: i64 = 100;

/// Seals what is stored anew.
#[derive(Clone)]
pub struct VaultResealer {
    /// Where it is.
    pub db: Db,
    /// Opens by every key, seals by the newest.
    pub vault: CredentialVault,
}

/// How many values each key has sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealCounts(BTreeMap<(String, &'static str), u64>);

/// What became of sealing anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResealOutcome {
    /// Values that are under the newest key now.
    pub resealed: u64,
    /// Values that were changed by the service meanwhile, or that it held too long.
    pub passed_over: u64,
    /// Values that do not open: their key is not in the ring, or they were moved or damaged.
    pub unopened: u64,
}

impl SealCounts {
    /// Each key with each column that it has sealed values in, and how many; an empty key: these
    /// are no sealed values.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        self.0.iter().map(|((key, column), count)| (key.as_str(), *column, *count))
    }

    /// Values under other keys than this one.
    pub fn others_than(&self, key_id: &str) -> u64 {
        self.rows().filter(|(key, ..)| *key != key_id).map(|(.., count)| count).sum()
    }

    fn add(&mut self, value: &SealedValue) {
        let key = key_id_of(&value.head).unwrap_or_default().to_owned();
        *self.0.entry((key, value.place.column())).or_default() += 1;
    }
}

impl VaultResealer {
    /// Whose keys have sealed what, in all accounts; changes nothing. `told` learns how many
    /// accounts were looked at so far.
    pub async fn count(&self, mut told: impl FnMut(u64)) -> Result<SealCounts, StoreError> {
        let (mut counts, mut accounts) = (SealCounts::default(), AccountPages::default());
        while let Some(page) = accounts.next(&self.db).await? {
            for account_id in page {
                let query = SealedQuery { head_bytes: head_bytes(), unless_begins: None };
                let mut values = ValuePages::of(account_id, query);
                while let Some(page) = values.next(&self.db).await? {
                    for value in &page {
                        counts.add(value);
                    }
                }
            }
            told(accounts.seen);
        }
        Ok(counts)
    }

    /// Seals everything anew that another key than the newest has sealed, in all accounts.
    pub async fn reseal(&self, mut told: impl FnMut(u64)) -> Result<ResealOutcome, StoreError> {
        let (mut outcome, mut accounts) = (ResealOutcome::default(), AccountPages::default());
        while let Some(page) = accounts.next(&self.db).await? {
            for account_id in page {
                self.reseal_account(account_id, &mut outcome).await?;
            }
            told(accounts.seen);
        }
        Ok(outcome)
    }

    async fn reseal_account(&self, account_id: AccountId, outcome: &mut ResealOutcome) -> Result<(), StoreError> {
        let newest = self.vault.key_ring.primary_head();
        let query = SealedQuery { head_bytes: head_bytes(), unless_begins: Some(&newest) };
        let mut values = ValuePages::of(account_id, query);
        while let Some(page) = values.next(&self.db).await? {
            for SealedValue { place, sealed, .. } in page {
                let Some(old) = sealed else { continue };
                let Some(new) = self.sealed_anew(account_id, &place, &old) else {
                    outcome.unopened += 1;
                    continue;
                };
                match sealed_values::replace(&self.db, account_id, &place, &old, &new).await {
                    Ok(true) => outcome.resealed += 1,
                    // A run holds the row; the next time it does not.
                    Ok(false) | Err(StoreError::Timeout(_) | StoreError::Conflict) => outcome.passed_over += 1,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// `None`: it does not open.
    fn sealed_anew(&self, account_id: AccountId, place: &SealedPlace, old: &[u8]) -> Option<Vec<u8>> {
        let scope = scope_of(account_id, place);
        let plaintext = self.vault.key_ring.open(&scope, old).ok()?;
        self.vault.ids.with_rng(|rng| self.vault.key_ring.seal(rng, &scope, &plaintext)).ok()
    }
}

fn head_bytes() -> i32 {
    i32::try_from(HEAD_BYTES_MAX).expect("a head has some dozens of bytes")
}

fn scope_of(account_id: AccountId, place: &SealedPlace) -> SealScope<'static> {
    let nobodys = IntegrationId(Uuid::nil());
    match place {
        SealedPlace::Credentials(id) => scope(account_id, *id, CREDENTIALS),
        SealedPlace::Access(id) => scope(account_id, *id, ACCESS),
        SealedPlace::Rejected(id, ..) => scope(account_id, *id, REJECTED),
        SealedPlace::Authorization(_, id) => scope(account_id, id.unwrap_or(nobodys), AUTHORIZATION),
        SealedPlace::SuppressionKey => scope(account_id, nobodys, SUPPRESSION),
        SealedPlace::HookSecret(id) => scope(account_id, *id, HOOK),
    }
}

/// All accounts, a page at a time.
#[derive(Default)]
struct AccountPages {
    after: Option<AccountId>,
    seen: u64,
}

impl AccountPages {
    async fn next(&mut self, db: &Db) -> Result<Option<Vec<AccountId>>, StoreError> {
        let page = accounts::list(db, None, self.after, ACCOUNTS_PAGE).await?;
        let page: Vec<AccountId> = page.into_iter().map(|account| account.id).collect();
        let Some(last) = page.last() else { return Ok(None) };
        self.after = Some(*last);
        self.seen += page.len() as u64;
        Ok(Some(page))
    }
}

/// The sealed values of an account, a page at a time.
struct ValuePages<'a> {
    account_id: AccountId,
    query: SealedQuery<'a>,
    tables: std::array::IntoIter<SealedTable, 5>,
    table: Option<SealedTable>,
    after: Option<SealedPlace>,
}

impl<'a> ValuePages<'a> {
    fn of(account_id: AccountId, query: SealedQuery<'a>) -> Self {
        let mut tables = SealedTable::ALL.into_iter();
        let table = tables.next();
        Self { account_id, query, tables, table, after: None }
    }

    async fn next(&mut self, db: &Db) -> Result<Option<Vec<SealedValue>>, StoreError> {
        while let Some(table) = self.table {
            let page = sealed_values::list(db, self.account_id, table, self.after.as_ref(), self.query).await?;
            if let Some(last) = page.last() {
                self.after = Some(last.place.clone());
                return Ok(Some(page));
            }
            (self.table, self.after) = (self.tables.next(), None);
        }
        Ok(None)
    }
}
