//! Search as callers are looked up with it. Matching is textual, as Pipedrive's documentation has
//! it: a number is found by the letters it was typed with. The index is behind as the company's
//! configuration says: of a person who changed since, it has the copy from before that change, or
//! none. A search reads every person: it is not for large companies.

use serde_json::{Value, json};

use super::{
    Pipedrive,
    listing::{Cursor, limit_of, read_id},
    lists::page,
    person::{Entry, Person, Stamp},
    refusal::PipedriveRefusal,
    state::State,
};
use crate::{call::ApiCall, reply::VendorReply};

/// Where a search can look.
const FIELDS: [&str; 5] = ["custom_fields", "email", "notes", "phone", "name"];
/// Shortest term, letters, unless it must match exactly.
const TERM_MIN: usize = 2;
/// Longest term, bytes.
const TERM_BYTES_MAX: usize = 4_096;

impl Pipedrive {
    /// `GET /api/v2/persons/search`.
    pub(super) fn search_persons(&self, call: &ApiCall) -> Result<VendorReply, PipedriveRefusal> {
        let is_exact = matches!(call.param("exact_match"), Some("true" | "1"));
        let term = call.param("term").unwrap_or_default().trim().to_lowercase();
        let length_min = if is_exact { 1 } else { TERM_MIN };
        if term.chars().count() < length_min || term.len() > TERM_BYTES_MAX {
            return Err(PipedriveRefusal::Invalid {
                field: "term",
                problem: "must be at least 2 letters, or 1 to match exactly",
            });
        }
        let fields = call.list_param("fields");
        if !fields.iter().all(|field| FIELDS.contains(field)) {
            return Err(PipedriveRefusal::Invalid { field: "fields", problem: "holds an unknown field" });
        }
        let (after, limit) = (Cursor::read_id(call)?, limit_of(call)?);
        let org_id = read_id(call, "organization_id")?;
        let looks_in = |field: &str| fields.is_empty() || fields.contains(&field);
        let fits = |text: &str| {
            let text = text.to_lowercase();
            if is_exact { text == term } else { text.contains(&term) }
        };
        let matches = |person: &Person| {
            (looks_in("name") && fits(&person.name))
                || (looks_in("phone") && person.phones.iter().any(|entry| fits(&entry.value)))
                || (looks_in("email") && person.emails.iter().any(|entry| fits(&entry.value)))
        };
        let is_wanted = |person: &Person| {
            !person.is_hidden && !person.is_deleted() && org_id.is_none_or(|id| person.org_id == Some(id))
        };
        let state = self.state();
        let lag = Stamp::from(self.config.search_lag_seconds);
        let newest = if lag == 0 { Stamp::MAX } else { self.now().timestamp() - lag };
        let all = state.persons().range(after.saturating_add(1)..);
        let all = all.filter_map(|(_, person)| state.copy_before(person, newest));
        let mut found: Vec<&Person> =
            all.filter(|person| is_wanted(person) && matches(person)).take(limit + 1).collect();
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).map(|person| Cursor::after_id(person.id).encode());
        let items: Vec<Value> = found.iter().map(|person| item(&state, person)).collect();
        Ok(page(&json!({"items": items}), next.as_deref()))
    }
}

/// A result: numbers and addresses are bare texts here.
fn item(state: &State, person: &Person) -> Value {
    let texts = |entries: &[Entry]| entries.iter().map(|entry| entry.value.clone()).collect::<Vec<_>>();
    let primary = person.emails.iter().find(|entry| entry.is_primary).map(|entry| &entry.value);
    let organization = person.org_id.map(|id| json!({"id": id, "name": state.organization_name(id), "address": null}));
    json!({"result_score": 0.29, "item": {
        "id": person.id, "type": "person", "name": person.name, "phones": texts(&person.phones),
        "emails": texts(&person.emails), "primary_email": primary, "visible_to": 3,
        "owner": {"id": person.owner_id}, "organization": organization, "custom_fields": [], "notes": [],
        "update_time": super::person::wire_time(person.update_time)}})
}
