//! The newest changes since a run's end, for a call that found nobody: one query for each object,
//! newest first, side by side. No position moves, and no deletion is looked for: the next run reads
//! all of it in order.

use super::{
    client::SalesforceClient,
    position::{ObjectProgress, SalesforcePosition},
    rest::QueryScope,
    run::OVERLAP,
    soql,
};
use crate::{
    crm::{CrmError, FoundRecords},
    domain::{provider::Provider, record::ObjectType},
};

/// Rows of one object: of more changes since the last run the newest matter.
const ROWS_MAX: usize = 500;

impl SalesforceClient {
    /// What has changed since this checkpoint. An object that fails costs the other nothing.
    pub(super) async fn newest(&self, checkpoint: &str) -> Result<FoundRecords, CrmError> {
        let position = SalesforcePosition::decode(checkpoint)?;
        let copied = self.options.copied(Provider::Salesforce);
        let mark_of = |object| position.marks.iter().find(|mark| mark.object == object && copied.contains(&object));
        let (contacts, leads) =
            tokio::join!(self.newest_of(mark_of(ObjectType::Contact)), self.newest_of(mark_of(ObjectType::Lead)),);
        match (contacts, leads) {
            (Err(error), Err(_)) => Err(error),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(FoundRecords { is_partial: true, ..found }),
            (Ok(mut found), Ok(more)) => {
                found.records.extend(more.records);
                found.rejects.absorb(more.rejects);
                found.is_partial |= more.is_partial;
                Ok(found)
            }
        }
    }

    async fn newest_of(&self, mark: Option<&ObjectProgress>) -> Result<FoundRecords, CrmError> {
        // Not copied, or never read yet.
        let Some(mark) = mark else { return Ok(FoundRecords::default()) };
        let since = (mark.rows_through - OVERLAP.num_milliseconds()).max(0);
        let soql = soql::newest(mark.object, &mark.fields, since, ROWS_MAX);
        let mapping = self.mapping(mark.object, &mark.fields);
        let (rows, _) = self.rest.query(&soql, QueryScope::Live, &mapping, ROWS_MAX).await?;
        Ok(FoundRecords {
            is_partial: rows.count >= ROWS_MAX,
            records: rows.records,
            rejects: rows.rejects,
            ..FoundRecords::default()
        })
    }
}
