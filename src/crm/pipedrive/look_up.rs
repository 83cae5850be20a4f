//! Persons by their ids. Invariant: nobody is gone unless Pipedrive says so of this very person, to somebody who sees everybody.

use std::collections::HashSet;

use super::{
    client::Pipedrive,
    map::{self, Person},
    organizations::LeftOut,
};
use crate::{
    crm::{
        CrmError, Effort, Sighting,
        json::{self, Text},
    },
    domain::record::{Record, RecordKey},
};

/// What became of asking for one person.
enum Found {
    Row(Option<Person>),
    Nobody,
    Hidden,
}

impl Pipedrive {
    /// A list leaves out those who are deleted, hidden or unknown, without a word: each of them is asked for alone.
    pub(super) async fn sightings(&self, keys: &[RecordKey]) -> Result<Vec<Sighting>, CrmError> {
        let mut sightings = Vec::with_capacity(keys.len());
        let mut shown = HashSet::new();
        for record in self.list(keys).await? {
            if keys.contains(&record.key) && shown.insert(record.key.clone()) {
                sightings.push(seen(record));
            }
        }
        let missing: Vec<RecordKey> = keys.iter().filter(|key| !shown.contains(*key)).cloned().collect();
        sightings.extend(self.sightings_alone(&missing).await?);
        Ok(sightings)
    }

    /// Asks for each alone.
    pub(super) async fn sightings_alone(&self, keys: &[RecordKey]) -> Result<Vec<Sighting>, CrmError> {
        let mut sightings = Vec::with_capacity(keys.len());
        let (mut rows, mut shown) = (Vec::new(), Vec::new());
        for key in keys {
            match self.find(&key.record_id).await? {
                Found::Nobody => sightings.push(Sighting::Gone(key.clone())),
                Found::Hidden => sightings.push(Sighting::Hidden(key.clone())),
                Found::Row(row) => {
                    rows.extend(row);
                    shown.push(key.clone());
                }
            }
        }
        // A host that has begun to answer like that to everything is no Pipedrive any more: it must still know the token's user.
        if sightings.iter().any(|sighting| matches!(sighting, Sighting::Gone(_))) {
            self.me().await?;
        }
        // A pass says that organizations are hidden; here it would be said for each few persons.
        for record in self.records(rows, Effort::Whole, &mut LeftOut::default()).await? {
            if let Some(place) = shown.iter().position(|key| *key == record.key) {
                shown.swap_remove(place);
                sightings.push(seen(record));
            }
        }
        // There, but not to be understood.
        sightings.extend(shown.into_iter().map(Sighting::Hidden));
        Ok(sightings)
    }

    async fn list(&self, keys: &[RecordKey]) -> Result<Vec<Record>, CrmError> {
        // What a click has registered may be no id at all, and would spoil the list for the others.
        let ids: Vec<&str> =
            keys.iter().map(|key| key.record_id.as_str()).filter(|id| id.parse::<i64>().is_ok()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let query = [("ids", ids.join(",")), ("limit", ids.len().to_string())];
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (body, _) = self.get_text("/api/v2/persons", &query).await?;
        let (persons, _) = json::off_thread(move || map::listed(&body)).await?;
        self.records(persons, Effort::Whole, &mut LeftOut::default()).await
    }

    async fn find(&self, id: &str) -> Result<Found, CrmError> {
        let reply = self.send(&format!("/api/v2/persons/{id}"), &[]).await?;
        if reply.says_absent() {
            return Ok(if self.sees_everything().await? { Found::Nobody } else { Found::Hidden });
        }
        match reply.refusal() {
            None => json::off_thread(move || map::one(&Text::json(reply.body)?)).await.map(Found::Row),
            // 400: not even an id. Whatever else is refused of one person is no word of a deletion.
            Some(CrmError::PermissionMissing(_) | CrmError::OrganizationNotFound | CrmError::Refused(_)) => {
                Ok(Found::Hidden)
            }
            Some(error) => Err(error),
        }
    }
}

fn seen(record: Record) -> Sighting {
    if record.is_gone { Sighting::Gone(record.key) } else { Sighting::Found(Box::new(record)) }
}
