//! What is left of version 1: who asks, the users, recent changes, merges. Owns: version 1's
//! envelopes and its paging by offset, which skips rows when others change meanwhile.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use chrono::NaiveDateTime;
use serde_json::{Value, json};

use super::{
    COMPANY_DOMAIN, COMPANY_ID, Pipedrive, USER_EMAIL, USER_ID,
    lists::data,
    person::{PersonV1Json, Stamp, wire_time_v1},
    refusal::PipedriveRefusal,
    state::State,
};
use crate::{call::ApiCall, reply::VendorReply};

/// Rows of a page unless asked otherwise, and the most.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 500;

impl Pipedrive {
    /// `GET /v1/users/me`.
    pub(super) fn show_me(&self) -> VendorReply {
        let mut user = self.user_json();
        if let Value::Object(fields) = &mut user {
            fields.insert("company_id".to_owned(), json!(COMPANY_ID));
            fields.insert("company_name".to_owned(), json!("Acme"));
            fields.insert("company_domain".to_owned(), json!(COMPANY_DOMAIN));
            fields.insert("company_country".to_owned(), json!("US"));
            fields.insert("company_industry".to_owned(), Value::Null);
        }
        data(&user)
    }

    /// `GET /v1/users`: the one user there is.
    pub(super) fn list_users(&self) -> VendorReply {
        data(&json!([self.user_json()]))
    }

    fn user_json(&self) -> Value {
        let is_admin = self.config.company_user_is_admin;
        json!({"id": USER_ID, "name": "Administrator", "email": USER_EMAIL, "lang": 1, "locale": "en_US",
            "timezone_name": "UTC", "timezone_offset": "+00:00", "default_currency": "USD", "phone": null,
            "activated": true, "active_flag": true, "is_deleted": false, "is_you": true, "role_id": 1,
            "created": wire_time_v1(0), "modified": wire_time_v1(0), "last_login": wire_time_v1(0),
            "is_admin": is_admin,
            "access": [{"app": "global", "admin": is_admin, "permission_set_id": "simulated"}]})
    }

    /// `PUT /v1/persons/{id}/merge`: the person of the path goes, the one of the body stays.
    pub(super) fn put_merge(&self, call: &ApiCall, loser: i64) -> Result<VendorReply, PipedriveRefusal> {
        let body = call.json_body().ok_or(PipedriveRefusal::Unreadable)?;
        // Version 1 takes a text for a number.
        let winner = body.get("merge_with_id").and_then(|id| id.as_i64().or_else(|| id.as_str()?.parse().ok()));
        let winner =
            winner.ok_or(PipedriveRefusal::Invalid { field: "merge_with_id", problem: "must be a whole number" })?;
        {
            let state = self.state();
            self.visible(&state, loser)?;
            self.visible(&state, winner)?;
        }
        self.merge_persons(loser, winner)?;
        let state = self.state();
        Ok(data(&self.person_v1(&state, winner, Some(loser))))
    }

    fn person_v1(&self, state: &State, id: i64, merged: Option<i64>) -> Value {
        let Some(person) = state.find(id) else { return Value::Null };
        let org_name = person.org_id.and_then(|id| state.organization_name(id));
        let has_empty_phones = self.config.empty_phone_entries;
        serde_json::to_value(PersonV1Json { person, org_name, has_empty_phones, merged })
            .expect("our shapes have string keys")
    }

    /// `GET /v1/recents`: persons created, changed or deleted since a time, oldest first.
    pub(super) fn list_recents(&self, call: &ApiCall) -> Result<VendorReply, PipedriveRefusal> {
        let asked = call.param("since_timestamp").unwrap_or_default();
        let since = NaiveDateTime::parse_from_str(asked, "%Y-%m-%d %H:%M:%S")
            .map_err(|_| PipedriveRefusal::Invalid {
                field: "since_timestamp",
                problem: "must be YYYY-MM-DD HH:MM:SS",
            })?
            .and_utc()
            .timestamp();
        let (start, limit) = (number_of(call, "start", 0)?, number_of(call, "limit", PAGE_DEFAULT)?.min(PAGE_MAX));
        let items = call.list_param("items");
        let has_persons = items.is_empty() || items.contains(&"person");
        let state = self.state();
        let changes = if has_persons { recent_changes(&state, since) } else { BTreeSet::new() };
        let rows: Vec<(Stamp, i64)> = changes.iter().skip(start).take(limit).copied().collect();
        let has_more = changes.len() > start.saturating_add(rows.len());
        let items: Vec<Value> = rows
            .iter()
            .map(|(_, id)| json!({"item": "person", "id": id, "data": self.person_v1(&state, *id, None)}))
            .collect();
        let mut pagination = json!({"start": start, "limit": limit, "more_items_in_collection": has_more});
        if has_more {
            pagination["next_start"] = json!(start + rows.len());
        }
        let last = rows.last().map_or_else(|| asked.to_owned(), |(stamp, _)| wire_time_v1(*stamp));
        let body = json!({"success": true, "data": items, "additional_data":
            {"since_timestamp": asked, "last_timestamp_on_page": last, "pagination": pagination}});
        Ok(VendorReply::json(StatusCode::OK, &body))
    }
}

/// When and who, each person once, at its last change or deletion.
fn recent_changes(state: &State, since: Stamp) -> BTreeSet<(Stamp, i64)> {
    let is_seen = |id: &i64| state.find(*id).is_some_and(|person| !person.is_hidden);
    let mut changes: BTreeSet<(Stamp, i64)> =
        state.by_update().range((since, i64::MIN)..).filter(|(_, id)| is_seen(id)).copied().collect();
    for (deleted_at, id) in state.by_delete().range((since, i64::MIN)..).filter(|(_, id)| is_seen(id)) {
        if let Some(person) = state.find(*id) {
            changes.remove(&person.update_key());
            changes.insert(((*deleted_at).max(person.update_time), *id));
        }
    }
    changes.extend(state.purged().iter().filter(|(_, at)| **at >= since).map(|(id, at)| (*at, *id)));
    changes
}

fn number_of(call: &ApiCall, field: &'static str, default: usize) -> Result<usize, PipedriveRefusal> {
    let Some(text) = call.param(field) else { return Ok(default) };
    text.parse().map_err(|_| PipedriveRefusal::Invalid { field, problem: "must be a whole number" })
}
