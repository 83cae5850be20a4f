//! Persons by their ids. Invariant: nobody is gone unless Pipedrive says so of this very person, to
//! somebody who sees everybody.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{
    client::PipedriveClient,
    map::{self, PersonRow, PersonsPage},
    organizations::LeftOut,
};
use crate::{
    crm::{
        CrmError, PageEffort, RecordSightings, http,
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
    /// As of this time.
    Nobody(DateTime<Utc>),
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
                sightings.records.push(record);
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
                PersonAnswer::Nobody(at) => sightings.miss(key.clone(), at),
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
                sightings.records.push(record);
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
        let (body, headers) = self.get_text("/api/v2/persons", &query).await?;
        let at = http::answered_at(&headers)?;
        let PersonsPage { persons, rejects, .. } =
            self.persons_of(body, map::listed, PageEffort::Whole, &mut LeftOut::default()).await?;
        let persons = persons.into_iter().map(|person| person.answered_at(at)).collect();
        Ok((self.records(persons, PageEffort::Whole, &mut LeftOut::default()).await?, rejects))
    }

    async fn find(&self, id: &str) -> Result<PersonAnswer, CrmError> {
        let reply = self.send(&format!("/api/v2/persons/{id}"), &[]).await?;
        if reply.says_absent() {
            let at = http::answered_at(&reply.headers)?;
            return Ok(if self.sees_everything().await? { PersonAnswer::Nobody(at) } else { PersonAnswer::Hidden });
        }
        match reply.refusal() {
            None => {
                let at = http::answered_at(&reply.headers)?;
                let body = json::off_thread(move || BodyText::json(reply.body)).await?;
                let PersonsPage { persons, rejects, .. } =
                    self.persons_of(body, map::one, PageEffort::Whole, &mut LeftOut::default()).await?;
                let person = persons.into_iter().next();
                Ok(PersonAnswer::Row(person.map(|person| person.answered_at(at)), rejects))
            }
            // 400: not even an id. Whatever else is refused of one person is no word of a deletion.
            Some(CrmError::PermissionMissing(_) | CrmError::OrganizationNotFound | CrmError::Refused(_)) => {
                Ok(PersonAnswer::Hidden)
            }
            Some(error) => Err(error),
        }
    }
}
