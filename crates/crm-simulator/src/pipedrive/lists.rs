//! Lists and records of persons and organisations. Owns: version 2's envelopes and what goes wrong
//! with pages.

use std::{borrow::Cow, ops::Bound};

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    HiddenAnswer, Pipedrive,
    listing::{Cursor, Listing, limit_of, read_ids, read_shown},
    person::{Entry, Person, PersonJson, Shown, wire_time},
    refusal::PipedriveRefusal,
    state::State,
};
use crate::{call::ApiCall, faults::Fault, reply::VendorReply};

impl Pipedrive {
    /// `GET /api/v2/persons`.
    pub(super) fn list_persons(&self, call: &ApiCall, faults: &[&Fault]) -> Result<VendorReply, PipedriveRefusal> {
        let mut listing = Listing::read(call)?;
        listing.shown.has_empty_phones = self.config.empty_phone_entries;
        let state = self.state();
        let mut rows = listing.rows(&state, self.config.lists_deleted);
        let has_more = rows.len() > listing.limit;
        rows.truncate(listing.limit);
        let last = rows.last().map(|person| listing.cursor(listing.key(person), 0));
        let mut next = if has_more { last } else { None };
        let stay = |turn| listing.cursor(listing.after.unwrap_or(listing.beginning()), turn);
        let mut rows: Vec<Cow<'_, Person>> = rows.into_iter().map(Cow::Borrowed).collect();
        for fault in faults {
            match fault {
                Fault::EmptyPage { advance } => {
                    rows.clear();
                    next = Some(stay(if *advance { listing.turn + 1 } else { listing.turn }));
                }
                Fault::StuckCursor => next = Some(stay(listing.turn)),
                Fault::RepeatPrevious => {
                    let previous = listing.after.and_then(|(_, id)| state.find(id)).map(Cow::Borrowed);
                    rows.splice(0..0, previous);
                }
                Fault::DuplicateRow => rows.extend(rows.first().cloned()),
                Fault::StaleRow { id } => rows.extend(state.previous_copy(*id).map(Cow::Borrowed)),
                Fault::EmptyPhones => rows.iter_mut().for_each(|person| {
                    let is_primary = person.phones.is_empty();
                    person.to_mut().phones.push(Entry { value: "".into(), is_primary, label: "other".into() });
                }),
                _ => {}
            }
        }
        let data: Vec<_> = rows.iter().map(|person| PersonJson { person, shown: &listing.shown }).collect();
        Ok(page(&data, next.map(|cursor| cursor.encode()).as_deref()))
    }

    /// `GET /api/v2/persons/{id}`, and the answer to a create or update.
    pub(super) fn show_person(&self, call: &ApiCall, id: i64) -> Result<VendorReply, PipedriveRefusal> {
        let shown = Shown { has_empty_phones: self.config.empty_phone_entries, ..read_shown(call)? };
        let state = self.state();
        let person = self.visible(&state, id)?;
        if person.is_deleted() && self.config.deleted_answers_not_found {
            return Err(PipedriveRefusal::PERSON);
        }
        Ok(data(&PersonJson { person, shown: &shown }))
    }

    /// A person that the token's user may see.
    pub(super) fn visible<'s>(&self, state: &'s State, id: i64) -> Result<&'s Person, PipedriveRefusal> {
        let person = state.find(id).ok_or(PipedriveRefusal::PERSON)?;
        match (person.is_hidden, self.config.hidden_answer) {
            (false, _) => Ok(person),
            (true, HiddenAnswer::NotFound) => Err(PipedriveRefusal::PERSON),
            (true, HiddenAnswer::Forbidden) => Err(PipedriveRefusal::NotVisible),
        }
    }

    /// `GET /api/v2/organizations`: by id.
    pub(super) fn list_organizations(&self, call: &ApiCall) -> Result<VendorReply, PipedriveRefusal> {
        let (after, limit, ids) = (Cursor::read_id(call)?, limit_of(call)?, read_ids(call)?);
        let state = self.state();
        let from = (Bound::Excluded(after), Bound::Unbounded);
        let is_wanted = |id: &i64| ids.as_ref().is_none_or(|ids| ids.contains(id));
        let found = state.organizations().range(from).filter(|(id, _)| is_wanted(id));
        let mut ids: Vec<i64> = found.map(|(id, _)| *id).take(limit + 1).collect();
        let has_more = ids.len() > limit;
        ids.truncate(limit);
        let next = if has_more { ids.last().map(|id| Cursor::after_id(*id).encode()) } else { None };
        let rows: Vec<_> = ids.into_iter().map(|id| organization_json(&state, id)).collect();
        Ok(page(&rows, next.as_deref()))
    }

    /// `GET /api/v2/personFields`: some of those that every company has, and its own phones.
    pub(super) fn list_person_fields(&self) -> VendorReply {
        let field = |code: &str, name: &str, kind: &str, is_own: bool| {
            json!({"field_name": name, "field_code": code, "description": null, "field_type": kind, "options": null,
                "subfields": null, "is_custom_field": is_own, "is_optional_response_field": false})
        };
        let mut fields = vec![field("name", "Name", "varchar", false), field("phones", "Phone", "phone", false)];
        fields.extend(self.config.custom_phones.iter().map(|(code, name)| field(code, name, "phone", true)));
        page(&fields, None)
    }

    /// `GET /api/v2/organizations/{id}`.
    pub(super) fn show_organization(&self, id: i64) -> Result<VendorReply, PipedriveRefusal> {
        let organization = organization_json(&self.state(), id);
        if organization.is_null() {
            return Err(PipedriveRefusal::NotFound { entity: "Organization" });
        }
        Ok(data(&organization))
    }
}

fn organization_json(state: &State, id: i64) -> Value {
    state.organizations().get(&id).map_or(Value::Null, |organization| {
        let time = wire_time(organization.add_time);
        json!({"id": id, "name": organization.name, "owner_id": super::USER_ID, "add_time": time,
            "update_time": time, "is_deleted": false, "visible_to": 3, "label_ids": [], "address": null,
            "custom_fields": {}})
    })
}

/// The envelope of one record.
pub(super) fn data(data: &impl Serialize) -> VendorReply {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        success: bool,
        data: &'a T,
    }
    VendorReply::json(StatusCode::OK, &Envelope { success: true, data })
}

/// The envelope of a page.
pub(super) fn page(data: &impl Serialize, next_cursor: Option<&str>) -> VendorReply {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        success: bool,
        data: &'a T,
        additional_data: Value,
    }
    VendorReply::json(
        StatusCode::OK,
        &Envelope { success: true, data, additional_data: json!({"next_cursor": next_cursor}) },
    )
}
