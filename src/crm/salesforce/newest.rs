//! The newest changes since a run's end, for a call that found nobody: one query for each object,
//! newest first, side by side. No position moves, and no deletion is looked for: the next run reads
//! all of it in order.

use futures_util::future::join_all;

use super::{
    client::SalesforceClient,
    position::{ObjectProgress, SalesforcePosition},
    rest::QueryScope,
    run::OVERLAP,
    soql,
};
use crate::{
    crm::{CrmError, FoundRecords},
    domain::provider::Provider,
};

/// Rows of one object: of more changes since the last run the newest matter.
const ROWS_MAX: usize = 500;

impl SalesforceClient {
    /// What has changed since this checkpoint. An object that fails costs the other nothing, and
    /// leaves the answer open. One that is copied and was never read yet is the next run's matter.
    pub(super) async fn newest(&self, checkpoint: &str) -> Result<FoundRecords, CrmError> {
        let position = SalesforcePosition::decode(checkpoint)?;
        let copied = self.options.copied(Provider::Salesforce);
        let marks: Vec<&ObjectProgress> = position.marks.iter().filter(|mark| copied.contains(&mark.object)).collect();
        let mut found = FoundRecords { is_partial: marks.len() < copied.len(), ..FoundRecords::default() };
        let (mut answered, mut failure) = (0, None);
        for answer in join_all(marks.iter().map(|mark| self.newest_of(mark))).await {
            match answer {
                Ok(more) => {
                    answered += 1;
                    found.records.extend(more.records);
                    found.rejects.absorb(more.rejects);
                    found.is_partial |= more.is_partial;
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if answered == 0 => Err(error),
            failure => Ok(FoundRecords { has_failed: failure.is_some(), ..found }),
        }
    }

    async fn newest_of(&self, mark: &ObjectProgress) -> Result<FoundRecords, CrmError> {
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
