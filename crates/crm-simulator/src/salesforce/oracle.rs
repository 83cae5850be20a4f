//! The truth about the organisation: what a correct copy of it must agree with. Owns: the shape of
//! the control endpoint's oracle. Veils, hidden fields and lags do not reach here.

use std::fmt;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Salesforce,
    id::RecordId,
    record::{FieldValue, Record},
    schema::ObjectSchema,
    state::State,
};
use crate::reply::VendorReply;

/// A record as it truly is; one that was deleted for good is not there. `Debug` shows no name,
/// address or number.
#[derive(Clone, PartialEq, Serialize)]
pub struct TrueRecord {
    /// The long id.
    pub id: String,
    /// In the recycle bin, by a deletion or a merge.
    pub is_deleted: bool,
    /// Sharing hides it from the user.
    pub is_hidden: bool,
    /// The record into which it was merged, directly.
    pub master_record_id: Option<String>,
    /// Every field that is not null, as on the wire.
    pub fields: Map<String, Value>,
}

impl TrueRecord {
    fn of(state: &State, record: &Record, object: &ObjectSchema) -> Self {
        let value = |slot| record.get(object, slot);
        let fields = object
            .fields()
            .filter(|(slot, _)| value(*slot) != FieldValue::Null)
            .map(|(slot, field)| (field.name.clone(), value(slot).to_json()))
            .collect();
        Self {
            id: record.id.to_string(),
            is_deleted: record.is_deleted,
            is_hidden: state.is_hidden(record.id),
            master_record_id: record.master.map(|master| master.to_string()),
            fields,
        }
    }

    /// A field's text; `None` if it is null or no text.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).and_then(Value::as_str)
    }
}

impl fmt::Debug for TrueRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TrueRecord")
            .field("id", &self.id)
            .field("is_deleted", &self.is_deleted)
            .field("is_hidden", &self.is_hidden)
            .field("master_record_id", &self.master_record_id)
            .finish_non_exhaustive()
    }
}

impl Salesforce {
    /// Every record of an object by id, deleted ones included; none if there is no such object.
    pub fn records(&self, object: &str) -> Vec<TrueRecord> {
        let state = self.state();
        let Ok(object) = state.schema.find(object) else { return Vec::new() };
        state.table(object.kind).records().values().map(|record| TrueRecord::of(&state, record, object)).collect()
    }

    /// One record of the oracle.
    pub fn record(&self, id: &str) -> Option<TrueRecord> {
        let state = self.state();
        let id = RecordId::parse(id)?;
        Some(TrueRecord::of(&state, state.find(id)?, state.schema.of_id(id)?))
    }

    /// How many records of an object there are, deleted ones included.
    pub fn record_count(&self, object: &str) -> usize {
        let state = self.state();
        state.schema.find(object).map_or(0, |object| state.table(object.kind).records().len())
    }

    pub(super) fn oracle_reply(&self) -> VendorReply {
        #[derive(Serialize)]
        struct Oracle {
            now: DateTime<Utc>,
            accounts: Vec<TrueRecord>,
            contacts: Vec<TrueRecord>,
            leads: Vec<TrueRecord>,
        }
        let body = Oracle {
            now: self.now(),
            accounts: self.records("Account"),
            contacts: self.records("Contact"),
            leads: self.records("Lead"),
        };
        VendorReply::json(StatusCode::OK, &body)
    }
}
