//! What answers say of an account's integrations: how fresh each is.

use sqlx::{
    Decode, Postgres,
    error::BoxDynError,
    postgres::{PgValueRef, types::PgRecordDecoder},
};

use super::{CallDb, StoreError, contacts::is_record, fragments::statement, known};
use crate::domain::{
    hook::PushState,
    ids::{AccountId, IntegrationId},
    integration::{Freshness, PushSight, SyncHold},
    provider::Provider,
};

is_record!(Freshness, PushSight);

// `FRESHNESS` of `fragments`, within a statement that also reads what the freshness speaks of.
impl<'r> Decode<'r, Postgres> for Freshness {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let mut fields = PgRecordDecoder::new(value)?;
        let hold = |text: String| known(text.parse::<SyncHold>().ok(), "integrations", "hold");
        Ok(Self {
            integration_id: IntegrationId(fields.try_decode()?),
            provider: known(fields.try_decode::<String>()?.parse::<Provider>().ok(), "integrations", "provider")?,
            is_enabled: fields.try_decode()?,
            is_sync_on: fields.try_decode()?,
            hold: fields.try_decode::<Option<String>>()?.map(hold).transpose()?,
            first_started_at: fields.try_decode()?,
            last_completed_at: fields.try_decode()?,
            known_through: fields.try_decode()?,
            period_seconds: fields.try_decode()?,
            is_widened: fields.try_decode()?,
            has_unread: fields.try_decode()?,
            is_push_wished: fields.try_decode()?,
            push: fields.try_decode()?,
        })
    }
}

impl<'r> Decode<'r, Postgres> for PushSight {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let mut fields = PgRecordDecoder::new(value)?;
        let state = fields.try_decode::<String>()?.parse::<PushState>().ok();
        Ok(Self { state: known(state, "push_channels", "state")?, checked_at: fields.try_decode()? })
    }
}

/// All integrations, for an answer that looks no number up.
pub async fn list(db: &CallDb, account_id: AccountId) -> Result<Vec<Freshness>, StoreError> {
    let sources = db
        .of(account_id)
        .read(|pool| async move {
            statement!(
                [
                    "-- store::sources::list
                    select " FRESHNESS r#" as "source!: Freshness"
                    from integrations i
                    where i.account_id = $1
                    order by i.integration_id"#
                ],
                account_id.0,
            )
            .fetch_all(&pool)
            .await
        })
        .await?;
    Ok(sources.into_iter().map(|row| row.source).collect())
}
