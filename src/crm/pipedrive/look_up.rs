//! Persons by their ids. Invariant: nobody is gone unless Pipedrive says so of this very person, to
//! somebody who sees everybody.

use std::collections::HashSet;

use super::{
    client::PipedriveClient,
    map::{self, PersonRow},
    organizations::LeftOut,
};
use crate::{
    crm::{
        CrmError, PageEffort, RecordSightings,
        json::{self, BodyText},
    },
    domain::{
        record::{Record, RecordKey},
        rejected::PageRejects,
    },
};

/// What became of asking for one person.
enum PersonAnswer {
    Row(Option<PersonRow>, PageRejects),
    Nobody,
    Hidden,
}

impl PipedriveClient {
    /// A list leaves out those who are deleted, hidden or unknown, without a word: each of them is
    /// asked for alone.
    pub(super) async fn sightings(&self, keys: &[RecordKey]) -> Result<RecordSightings, CrmError> {
        let (records, rejects) = self.list(keys).await?;
        let mut shown: HashSet<RecordKey> = rejects.keys().collect();
        let mut sightings = RecordSightings { rejects, ..RecordSightings::default() };
        for record in records {
            shown.insert(record.key.clone());
            if keys.contains(&record.key) {
                sightings.see(record);
            }
        }
        let missing: Vec<RecordKey> = keys.iter().filter(|key| !shown.contains(*key)).cloned().collect();
        sightings.absorb(self.sightings_alone(&missing).await?);
        Ok(sightings)
    }

    /// Asks for each alone.
    pub(super) async fn sightings_alone(&self, keys: &[RecordKey]) -> Result<RecordSightings, CrmError> {
        let (mut sightings, mut persons) = (RecordSightings::default(), Vec::new());
        for key in keys {
            match self.find(&key.record_id).await? {
                PersonAnswer::Nobody => sightings.gone.push(key.clone()),
                PersonAnswer::Hidden => {}
                PersonAnswer::Row(person, rejects) => {
                    persons.extend(person);
                    sightings.rejects.absorb(rejects);
                }
            }
        }
        // A host that has begun to answer like that to everything is no Pipedrive any more: it must
        // still know the token's user.
        if !sightings.gone.is_empty() {
            self.me().await?;
        }
        // A run says that organizations are hidden; here it would be said for each few persons.
        for record in self.records(persons, PageEffort::Whole, &mut LeftOut::default()).await? {
            if keys.contains(&record.key) {
                sightings.see(record);
            }
        }
        Ok(sightings)
    }

    async fn list(&self, keys: &[RecordKey]) -> Result<(Vec<Record>, PageRejects), CrmError> {
        // What a click has registered may be no id at all, and would spoil the list for the others.
        let ids: Vec<&str> =
            keys.iter().map(|key| key.record_id.as_str()).filter(|id| id.parse::<i64>().is_ok()).collect();
        if ids.is_empty() {
            return Ok((Vec::new(), PageRejects::default()));
        }
        let query = [("ids", ids.join(",")), ("limit", ids.len().to_string())];
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (body, _) = self.get_text("/api/v2/persons", &query).await?;
        let (persons, rejects) = json::off_thread(move || map::listed(&body)).await?;
        Ok((self.records(persons, PageEffort::Whole, &mut LeftOut::default()).await?, rejects))
    }

    async fn find(&self, id: &str) -> Result<PersonAnswer, CrmError> {
        let reply = self.send(&format!("/api/v2/persons/{id}"), &[]).await?;
        if reply.says_absent() {
            return Ok(if self.sees_everything().await? { PersonAnswer::Nobody } else { PersonAnswer::Hidden });
        }
        match reply.refusal() {
            None => {
                let (person, rejects) = json::off_thread(move || map::one(&BodyText::json(reply.body)?)).await?;
                Ok(PersonAnswer::Row(person, rejects))
            }
            // 400: not even an id. Whatever else is refused of one person is no word of a deletion.
            Some(CrmError::PermissionMissing(_) | CrmError::OrganizationNotFound | CrmError::Refused(_)) => {
                Ok(PersonAnswer::Hidden)
            }
            Some(error) => Err(error),
        }
    }
}
