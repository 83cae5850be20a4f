//! Records by their ids. One that no query shows is deleted for good or hidden by sharing, and
//! Salesforce answers both alike: it is gone only for a user from whom no record of its kind is
//! hidden.

use chrono::{DateTime, Utc};

use super::{
    client::SalesforceClient,
    fields::VisibleFields,
    map::ReadRows,
    refusal::{ErrorCode, RequestFailure},
    soql,
};
use crate::{
    crm::{CrmError, RecordSightings},
    domain::record::{AbsentRecord, ObjectType, RecordKey},
};

impl SalesforceClient {
    pub(super) async fn sightings(&self, keys: &[RecordKey]) -> Result<RecordSightings, CrmError> {
        let mut sightings = RecordSightings::default();
        for object in [ObjectType::Contact, ObjectType::Lead] {
            let some: Vec<RecordKey> = keys.iter().filter(|key| key.object_type == object).cloned().collect();
            if !some.is_empty() {
                sightings.absorb(self.sightings_of(object, &some).await?);
            }
        }
        Ok(sightings)
    }

    async fn sightings_of(&self, object: ObjectType, keys: &[RecordKey]) -> Result<RecordSightings, CrmError> {
        let Some((mut answer, at)) = self.show(object, keys).await? else { return Ok(RecordSightings::default()) };
        answer.records.retain(|record| keys.contains(&record.key));
        let absent = keys.iter().filter(|key| !answer.shown.contains(key)).cloned();
        let mut gone: Vec<AbsentRecord> =
            absent.map(|key| AbsentRecord { key, seen_at: Some(at), successor: None }).collect();
        // A row that does not say whose it is may be anybody's.
        if answer.nameless() > 0 || gone.is_empty() || !self.sees_all(object).await? {
            gone.clear();
        }
        Ok(RecordSightings { records: answer.records, gone, rejects: answer.rejects })
    }

    /// The rows that a query shows, and when; `None`: the object is not shown at all.
    async fn show(
        &self,
        object: ObjectType,
        keys: &[RecordKey],
    ) -> Result<Option<(ReadRows, DateTime<Utc>)>, CrmError> {
        let Some(fields) = self.known_fields(object).await? else { return Ok(None) };
        let answer = match self.rows_of(object, &fields, keys).await {
            Err(RequestFailure::Vendor(ErrorCode::InvalidType, _)) => return Ok(None),
            answered => answered?,
        };
        Ok(Some(answer))
    }

    /// The fields to ask for; read once in a client's life.
    async fn known_fields(&self, object: ObjectType) -> Result<Option<Vec<String>>, CrmError> {
        let known = &self.cache(object).fields;
        let fields = known.get_or_try_init(|| async {
            match self.describe(object).await {
                Err(RequestFailure::Vendor(ErrorCode::InvalidType | ErrorCode::NotFound, _)) => Ok(None),
                Err(failure) => Err(CrmError::from(failure)),
                Ok(visible) => Ok(visible.map(|VisibleFields { fields, .. }| fields)),
            }
        });
        Ok(fields.await?.clone())
    }

    /// Whether no record of this kind is hidden from the integration's user; asked once in a
    /// client's life. Not knowing is no.
    pub(super) async fn sees_all(&self, object: ObjectType) -> Result<bool, CrmError> {
        let known = &self.cache(object).sees_all;
        let sees_all = known.get_or_try_init(|| async {
            match self.ask_sees_all(object).await {
                Err(failure) if failure.is_final() => Ok(false),
                asked => asked.map_err(CrmError::from),
            }
        });
        Ok(*sees_all.await?)
    }

    /// "View All Data", or "View All Records" of the object, by any of the user's permission sets;
    /// the profile is one of them.
    async fn ask_sees_all(&self, object: ObjectType) -> Result<bool, RequestFailure> {
        let user = soql::literal(&self.user_id().await?);
        let assigned = format!("FROM PermissionSetAssignment WHERE AssigneeId = {user}");
        let all_data = format!("SELECT Id {assigned} AND PermissionSet.PermissionsViewAllData = true LIMIT 1");
        if self.rest.count(&all_data).await? > 0 {
            return Ok(true);
        }
        let all_records = format!(
            "SELECT Id FROM ObjectPermissions WHERE SobjectType = '{}' AND PermissionsViewAllRecords = true AND ParentId IN (SELECT PermissionSetId {assigned}) LIMIT 1",
            object.as_str()
        );
        Ok(self.rest.count(&all_records).await? > 0)
    }

    /// The rows of an object that are not deleted.
    pub(super) async fn count_of(&self, object: ObjectType) -> Result<i64, RequestFailure> {
        Ok(self.rest.count(&soql::count(object)).await?.max(0))
    }
}
