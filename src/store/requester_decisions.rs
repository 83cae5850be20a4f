//! The tables `requester_decisions` and `requester_evidence`: to whom automations were told to
//! attribute calls, and on which contacts that rests. A decision may be stale at any time;
//! `identity::corrections` looks again and writes the correction.

use std::fmt;

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use uuid::Uuid;

use super::{CallDb, StoreError, Tx, known, record_keys::key_of};
use crate::domain::{
    change::Correction,
    ids::{AccountId, ContactId, IntegrationId},
    record::RecordKey,
    requester::{RequesterEvidence, RequesterVerdict},
};

/// A decision about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequesterDecision {
    /// The call.
    pub call_id: String,
    /// For which integration.
    pub integration_id: IntegrationId,
    /// Names it in the feed.
    pub id: Uuid,
    /// What was said.
    pub verdict: RequesterVerdict,
    /// The call's contact.
    pub contact_id: Option<ContactId>,
    /// The call's number.
    pub key: Option<PhoneKey>,
}

/// Looks for a decision that somebody else kept at the same moment; the next look finds it.
const TRIES_MAX: usize = 3;

/// Keeps a decision that was just told, while its call is there. It counts as stale: a change that
/// was committed while it was made may have been missed. One that is told again, and is another one
/// now, corrects the first at once: that is what stands from here on.
pub async fn record_requester_decision(
    db: &CallDb,
    account_id: AccountId,
    decision: &RequesterDecision,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for _ in 0..TRIES_MAX {
        if try_record(db, account_id, decision, now).await? {
            return Ok(());
        }
    }
    Err(StoreError::Conflict)
}

/// False: somebody else has just told something of this call.
async fn try_record(
    db: &CallDb,
    account_id: AccountId,
    decision: &RequesterDecision,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let record = decision.verdict.record();
    let correction = StoredCorrection {
        call_id: decision.call_id.clone(),
        integration_id: decision.integration_id.0,
        // In its place comes what was told before.
        before: StoredVerdict::from(&decision.verdict),
        after: StoredVerdict::from(&decision.verdict),
        is_erased: false,
    };
    let is_recorded = sqlx::query_scalar!(
        r#"-- store::requester_decisions::try_record
        with call as materialized (
            -- Held, so that an erasure that removes the call finds the decision behind it.
            select c.call_id
            from calls c
            where c.account_id = $1 and c.call_id = $2
            for key share
        ),
        prior as materialized (
            select p.outcome, p.object_type, p.record_id, p.evidence,
                ((p.outcome, p.object_type, p.record_id) is distinct from ($5::text, $6::text, $7::text))::int as step
            from requester_decisions p
            where p.account_id = $1 and p.call_id = $2 and p.integration_id = $3
            for update
        ),
        first as (
            insert into requester_decisions (account_id, call_id, integration_id, decision_id, version, outcome, object_type, record_id,
                evidence, contact_id, e164, is_stale, decided_at)
            select $1, c.call_id, $3, $4, 0, $5, $6, $7, $8, $9, $10, true, $11
            from call c
            where not exists (select from prior)
            on conflict (account_id, call_id, integration_id) do nothing
            returning call_id
        ),
        again as (
            update requester_decisions d
            set is_stale = true, version = d.version + p.step, outcome = $5, object_type = $6, record_id = $7, evidence = $8,
                contact_id = $9, e164 = $10
            from prior p
            where d.account_id = $1 and d.call_id = $2 and d.integration_id = $3
            returning d.decision_id, d.version
        ),
        correction as (
            insert into changes (account_id, subject_id, version, kind, correction, created_at)
            select $1, a.decision_id, a.version, 'CORRECTED',
                jsonb_set($12::jsonb, '{before}', jsonb_object(array['outcome', p.outcome, 'object_type', p.object_type,
                    'record_id', p.record_id, 'evidence', p.evidence])),
                $11
            from again a
            join prior p on p.step > 0
        )
        select not exists (select from call) or exists (select from first) or exists (select from again) as "is_recorded!""#,
        account_id.0,
        decision.call_id,
        decision.integration_id.0,
        decision.id,
        decision.verdict.outcome(),
        record.map(|record| record.object_type.as_str()),
        record.map(|record| record.record_id.as_str()),
        decision.verdict.evidence().map(RequesterEvidence::as_str),
        decision.contact_id.map(|id| id.0),
        decision.key.map(PhoneKey::as_i64),
        now,
        Json(correction) as Json<StoredCorrection>,
    )
    .fetch_one(db.of(account_id))
    .await?;
    Ok(is_recorded)
}

/// Marks the decisions that rest on one of these contacts, or are about one of their numbers.
pub async fn mark_stale(tx: &mut Tx, account_id: AccountId, contact_ids: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::requester_decisions::mark_stale
        with affected as materialized (
            select g.call_id, g.integration_id
            from requester_evidence g
            where g.account_id = $1 and g.contact_id = any($2)
            union
            select d.call_id, d.integration_id
            from unnest(array(
                select distinct n.e164
                from phone_numbers n
                where n.account_id = $1 and n.contact_id = any($2) and n.e164 is not null
            )) as k (e164)
            cross join lateral (
                select r.call_id, r.integration_id
                from requester_decisions r
                where r.account_id = $1 and r.e164 = k.e164
            ) d
        )
        update requester_decisions d
        set is_stale = true
        from affected a
        where d.account_id = $1 and d.call_id = a.call_id and d.integration_id = a.integration_id and not d.is_stale",
        account_id.0,
        contact_ids,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Marks what was told of this call.
pub(super) async fn mark_stale_of_call(tx: &mut Tx, account_id: AccountId, call_id: &str) -> Result<(), StoreError> {
    sqlx::query!(
        "-- store::requester_decisions::mark_stale_of_call
        update requester_decisions
        set is_stale = true
        where account_id = $1 and call_id = $2",
        account_id.0,
        call_id,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether there is a decision to look at again.
pub async fn has_stale(tx: &mut Tx, account_id: AccountId) -> Result<bool, StoreError> {
    let has_stale = sqlx::query_scalar!(
        r#"-- store::requester_decisions::has_stale
        select exists (select from requester_decisions where account_id = $1 and is_stale) as "has_stale!""#,
        account_id.0,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(has_stale)
}

/// Locks some stale decisions, the oldest.
pub async fn lock_stale(tx: &mut Tx, account_id: AccountId, limit: i64) -> Result<Vec<RequesterDecision>, StoreError> {
    let rows = sqlx::query!(
        "-- store::requester_decisions::lock_stale
        select d.call_id, d.integration_id, d.decision_id, d.outcome, d.object_type, d.record_id, d.evidence, d.contact_id, d.e164
        from requester_decisions d
        where d.account_id = $1 and (d.call_id, d.integration_id) in (
            select s.call_id, s.integration_id
            from requester_decisions s
            where s.account_id = $1 and s.is_stale
            order by s.decided_at
            limit $2
        )
        -- In the order in which all decisions of a call are locked.
        order by d.call_id, d.integration_id
        for update",
        account_id.0,
        limit,
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let record =
                row.object_type.zip(row.record_id).map(|(object_type, id)| key_of(&object_type, id)).transpose()?;
            let evidence = row.evidence.as_deref().and_then(|text| text.parse::<RequesterEvidence>().ok());
            Ok(RequesterDecision {
                call_id: row.call_id,
                integration_id: IntegrationId(row.integration_id),
                id: row.decision_id,
                verdict: known(RequesterVerdict::of(&row.outcome, record, evidence), "requester_decisions", "outcome")?,
                contact_id: row.contact_id.map(ContactId),
                key: row
                    .e164
                    .map(|e164| known(PhoneKey::try_from_i64(e164).ok(), "requester_decisions", "e164"))
                    .transpose()?,
            })
        })
        .collect()
}

/// Writes what a second look at a locked decision has found: the contacts that it rests on and, if
/// the verdict is another one, that verdict and its correction.
pub async fn save_requester_decision(
    tx: &mut Tx,
    account_id: AccountId,
    decision: &RequesterDecision,
    now_told: &RequesterVerdict,
    evidence_ids: &[ContactId],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let evidence_ids: Vec<Uuid> = evidence_ids.iter().map(|id| id.0).collect();
    sqlx::query!(
        "-- store::requester_decisions::save_requester_decision (evidence that is none any more)
        delete from requester_evidence
        where account_id = $1 and call_id = $2 and integration_id = $3 and contact_id <> all($4)",
        account_id.0,
        decision.call_id,
        decision.integration_id.0,
        &evidence_ids,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- store::requester_decisions::save_requester_decision (evidence)
        insert into requester_evidence (account_id, call_id, integration_id, contact_id)
        select $1, $2, $3, u.contact_id
        from unnest($4::uuid[]) as u (contact_id)
        on conflict do nothing",
        account_id.0,
        decision.call_id,
        decision.integration_id.0,
        &evidence_ids,
    )
    .execute(&mut **tx)
    .await?;
    let is_other = !decision.verdict.is_same(now_told);
    let record = now_told.record();
    let version = sqlx::query_scalar!(
        "-- store::requester_decisions::save_requester_decision
        update requester_decisions
        set is_stale = false, version = version + $4::boolean::int, outcome = $5, object_type = $6, record_id = $7, evidence = $8, e164 = $9
        where account_id = $1 and call_id = $2 and integration_id = $3
        returning version",
        account_id.0,
        decision.call_id,
        decision.integration_id.0,
        is_other,
        now_told.outcome(),
        record.map(|record| record.object_type.as_str()),
        record.map(|record| record.record_id.as_str()),
        now_told.evidence().map(RequesterEvidence::as_str),
        decision.key.map(PhoneKey::as_i64),
    )
    .fetch_one(&mut **tx)
    .await?;
    if is_other {
        let correction = StoredCorrection {
            call_id: decision.call_id.clone(),
            integration_id: decision.integration_id.0,
            before: StoredVerdict::from(&decision.verdict),
            after: StoredVerdict::from(now_told),
            is_erased: false,
        };
        sqlx::query!(
            "-- store::requester_decisions::save_requester_decision (correction)
            insert into changes (account_id, subject_id, version, kind, correction, created_at)
            values ($1, $2, $3, 'CORRECTED', $4, $5)",
            account_id.0,
            decision.id,
            version,
            Json(correction) as Json<StoredCorrection>,
            now,
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// A correction as it stands in `changes.correction`.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredCorrection {
    call_id: String,
    integration_id: Uuid,
    before: StoredVerdict,
    after: StoredVerdict,
    #[serde(default)]
    is_erased: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredVerdict {
    outcome: String,
    object_type: Option<String>,
    record_id: Option<String>,
    evidence: Option<String>,
}

// sqlx wants it of every column; record ids stay out of it.
impl fmt::Debug for StoredCorrection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredCorrection").field("integration_id", &self.integration_id).finish_non_exhaustive()
    }
}

impl From<&RequesterVerdict> for StoredVerdict {
    fn from(verdict: &RequesterVerdict) -> Self {
        let record = verdict.record();
        Self {
            outcome: verdict.outcome().to_owned(),
            object_type: record.map(|record| record.object_type.as_str().to_owned()),
            record_id: record.map(|record| record.record_id.clone()),
            evidence: verdict.evidence().map(|evidence| evidence.as_str().to_owned()),
        }
    }
}

impl TryFrom<StoredVerdict> for RequesterVerdict {
    type Error = StoreError;

    fn try_from(stored: StoredVerdict) -> Result<Self, StoreError> {
        let record: Option<RecordKey> =
            stored.object_type.zip(stored.record_id).map(|(object_type, id)| key_of(&object_type, id)).transpose()?;
        let evidence = stored.evidence.as_deref().and_then(|text| text.parse::<RequesterEvidence>().ok());
        known(Self::of(&stored.outcome, record, evidence), "changes", "correction")
    }
}

pub(super) fn correction_of(stored: StoredCorrection) -> Result<Correction, StoreError> {
    Ok(Correction {
        call_id: stored.call_id,
        integration_id: IntegrationId(stored.integration_id),
        before: stored.before.try_into()?,
        after: stored.after.try_into()?,
        is_erased: stored.is_erased,
    })
}
