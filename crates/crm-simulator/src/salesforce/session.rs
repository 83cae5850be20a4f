//! Who asks, and what the organisation still allows. Owns: the organisation's and the
//! administrator's ids, the reading of sessions, the count of calls in 24 hours.

use std::{collections::VecDeque, sync::Arc};

use axum::http::header;

use super::{
    Salesforce,
    id::RecordId,
    input::Changes,
    objects::ObjectKind,
    record::{Millis, Record, Values},
    refusal::SalesforceRefusal,
    schema::{ObjectSchema, Schema},
};
use crate::call::ApiCall;

const HOUR: Millis = 3_600_000;
/// Hours over which calls are counted.
const HOURS: i64 = 24;

/// The organisation.
pub(super) fn organization() -> RecordId {
    RecordId::numbered("00D", 1)
}

/// The user who does everything.
pub(super) fn administrator() -> RecordId {
    RecordId::numbered(ObjectKind::User.prefix(), 1)
}

/// The administrator as a record.
pub(super) fn administrator_record(schema: &Schema, username: &str, now: Millis) -> Record {
    let object = schema.object(ObjectKind::User);
    let changes = [("Username", username), ("Email", username), ("FirstName", "Ada"), ("LastName", "Admin")]
        .into_iter()
        .fold(Changes::default(), |changes, (name, value)| changes.set(object, name, Some(value.to_owned())))
        .set(object, "IsActive", Some("true".to_owned()));
    let values = Values::default().with(&changes.0);
    let id = administrator();
    Record { id, is_deleted: false, master: None, created: now, modified: now, stamp: now, values }
}

/// The administrator's one permission set, that of the profile, and that it is the administrator's.
pub(super) fn permission_records(schema: &Schema, sees_all: bool, now: Millis) -> [(ObjectKind, Record); 2] {
    let record = |kind: ObjectKind, fields: &[(&str, String)]| {
        let object = schema.object(kind);
        let set = |changes: Changes, (name, value): &(&str, String)| changes.set(object, name, Some(value.clone()));
        let values = Values::default().with(&fields.iter().fold(Changes::default(), set).0);
        let id = RecordId::numbered(kind.prefix(), 1);
        (kind, Record { id, is_deleted: false, master: None, created: now, modified: now, stamp: now, values })
    };
    let profile = [
        ("Name", "X00e000000000001".to_owned()),
        ("Label", "System Administrator".to_owned()),
        ("IsOwnedByProfile", "true".to_owned()),
        ("PermissionsViewAllData", sees_all.to_string()),
    ];
    let set = record(ObjectKind::PermissionSet, &profile);
    let assignment = [("PermissionSetId", set.1.id.to_string()), ("AssigneeId", administrator().to_string())];
    [set, record(ObjectKind::PermissionSetAssignment, &assignment)]
}

/// Calls, or deliveries, by hour of the organisation's clock, over 24 hours.
#[derive(Default)]
pub(super) struct Usage {
    hours: VecDeque<(i64, u32)>,
}

impl Usage {
    /// Calls in the last 24 hours.
    pub(super) fn used(&mut self, now: Millis) -> u32 {
        let oldest = now.div_euclid(HOUR) - HOURS;
        while self.hours.front().is_some_and(|(hour, _)| *hour <= oldest) {
            self.hours.pop_front();
        }
        self.hours.iter().map(|(_, count)| count).sum()
    }

    pub(super) fn count(&mut self, now: Millis, calls: u32) {
        let hour = now.div_euclid(HOUR);
        match self.hours.back_mut() {
            Some((last, count)) if *last == hour => *count = count.saturating_add(calls),
            _ => self.hours.push_back((hour, calls)),
        }
    }
}

impl Salesforce {
    /// Lets a call with a good session in, and counts it.
    pub(super) fn admit(&self, session: Option<&str>) -> Result<(), SalesforceRefusal> {
        let is_good = session.is_some_and(|session| self.oauth.admits(session, self.now()));
        if !is_good {
            return Err(SalesforceRefusal::invalid_session());
        }
        let now = self.now_millis();
        let mut usage = self.usage();
        if usage.used(now) >= self.config.daily_limit {
            return Err(SalesforceRefusal::daily_limit());
        }
        usage.count(now, 1);
        Ok(())
    }
}

impl Salesforce {
    /// Whether permissions promise the administrator every record of an object.
    pub(super) fn user_sees_all(&self, kind: ObjectKind) -> bool {
        let state = self.state();
        let all = |of: ObjectKind| {
            let object = state.schema.object(of);
            state.table(of).records().values().map(move |record| (object, record))
        };
        let text = |(object, record): (&ObjectSchema, &Arc<Record>), name: &str| {
            record.stored_text(object, name).unwrap_or_default().to_owned()
        };
        let user = administrator().to_string();
        let sets: Vec<String> = all(ObjectKind::PermissionSetAssignment)
            .filter(|found| text(*found, "AssigneeId") == user)
            .map(|found| text(found, "PermissionSetId"))
            .collect();
        let sees_data = all(ObjectKind::PermissionSet)
            .any(|found| sets.contains(&found.1.id.to_string()) && text(found, "PermissionsViewAllData") == "true");
        sees_data
            || all(ObjectKind::ObjectPermissions).any(|found| {
                sets.contains(&text(found, "ParentId"))
                    && text(found, "SobjectType") == kind.name()
                    && text(found, "PermissionsViewAllRecords") == "true"
            })
    }
}

/// The session of a REST call, under either of the schemes that Salesforce takes.
pub(super) fn session_of(call: &ApiCall) -> Option<&str> {
    let header = call.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, session) = header.trim().split_once(' ')?;
    let is_known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("oauth");
    is_known.then_some(session.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_forgotten_after_24_hours() {
        let mut usage = Usage::default();
        usage.count(0, 1);
        usage.count(HOUR - 1, 1);
        usage.count(HOUR, 1);

        assert_eq!(usage.used(HOUR), 3);
        assert_eq!(usage.used(24 * HOUR), 1);
        assert_eq!(usage.used(25 * HOUR), 0);
    }
}
