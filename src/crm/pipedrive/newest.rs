//! The newest changes since a run's end, for a call that found nobody: one request, newest first.
//! No position moves, and neither deletions nor organizations are asked for: that is the next run's
//! matter.

use std::collections::HashMap;

use super::{
    client::PipedriveClient,
    map,
    organizations::LeftOut,
    position::PipedrivePosition,
    run::{OVERLAP, PER_PAGE},
};
use crate::crm::{CrmError, FoundRecords, PageEffort};

impl PipedriveClient {
    /// What has changed since this checkpoint.
    pub(super) async fn newest(&self, checkpoint: &str) -> Result<FoundRecords, CrmError> {
        if !self.is_copied {
            return Ok(FoundRecords::default());
        }
        let PipedrivePosition::Checkpoint { through } = PipedrivePosition::read(checkpoint)? else {
            return Err(CrmError::PositionRefused);
        };
        let since = through.checked_sub_signed(OVERLAP).ok_or(CrmError::PositionRefused)?;
        let (since, limit) = (since.format("%Y-%m-%dT%H:%M:%SZ").to_string(), PER_PAGE.to_string());
        let query = [
            ("limit", limit.as_str()),
            ("sort_by", "update_time"),
            ("sort_direction", "desc"),
            ("updated_since", &since),
        ];
        let (body, _) = self.get_text("/api/v2/persons", &query).await?;
        let mut left_out = LeftOut::default();
        let page = self.persons_of(body, map::page, PageEffort::Essential, &mut left_out).await?;
        let is_partial = page.next_cursor.is_some() || left_out.is_partial;
        let mut found = FoundRecords { is_partial, rejects: page.rejects, ..FoundRecords::default() };
        let mut names = HashMap::new();
        for person in &page.persons {
            let Some(id) = person.organization_id.filter(|_| !person.is_deleted) else { continue };
            match self.organization_names.get(&id) {
                Some(name) => drop(names.insert(id, name)),
                None => found.unnamed.push(person.key()),
            }
        }
        found.records = page.persons.into_iter().map(|person| map::record(person, &self.base_url, &names)).collect();
        Ok(found)
    }
}
