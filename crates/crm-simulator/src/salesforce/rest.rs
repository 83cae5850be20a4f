//! Records over REST: one by one under `/sobjects`, up to 200 under `/composite/sobjects`. Owns:
//! the shapes of these answers. Must not: change records but through the methods of [`Salesforce`].

use axum::http::{Method, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{
    Salesforce,
    id::RecordId,
    objects::ObjectKind,
    record::Millis,
    refusal::SalesforceRefusal,
    soql::{self, Row},
    state::State,
    wire::Layout,
};
use crate::{call::ApiCall, reply::VendorReply};

/// Records in one composite call.
const COLLECTION_MAX: usize = 200;
/// Records in one composite call that reads.
const RETRIEVED_MAX: usize = 2_000;

impl Salesforce {
    /// `/sobjects` and what is below.
    pub(super) fn sobjects(
        &self,
        call: &ApiCall,
        version: &str,
        rest: &[&str],
    ) -> Result<VendorReply, SalesforceRefusal> {
        match (call.method.as_str(), rest) {
            ("GET", []) => Ok(self.describe_all(version)),
            ("GET", [object]) => self.describe_briefly(version, object),
            ("GET", [object, "describe"]) => self.describe(version, object),
            ("GET", [object, "deleted"]) => self.deleted(call, object),
            ("GET", [object, "updated"]) => self.updated(call, object),
            ("POST", [object]) => self.post_record(call, version, object),
            ("GET", [object, id]) => self.get_record(call, version, object, id),
            ("PATCH", [object, id]) => {
                self.update(object, id, &Value::Object(body(call)?))?;
                Ok(VendorReply::empty())
            }
            ("DELETE", [object, id]) => {
                self.delete(object, id)?;
                Ok(VendorReply::empty())
            }
            (method, [_] | [_, _]) => Err(SalesforceRefusal::method_not_allowed(method)),
            _ => Err(SalesforceRefusal::not_found()),
        }
    }

    fn post_record(&self, call: &ApiCall, version: &str, object: &str) -> Result<VendorReply, SalesforceRefusal> {
        let id = self.create(object, &Value::Object(body(call)?))?;
        let mut reply = VendorReply::json(StatusCode::CREATED, &json!({"id": id, "success": true, "errors": []}));
        reply.set_header(header::LOCATION, &format!("/services/data/{version}/sobjects/{object}/{id}"));
        Ok(reply)
    }

    fn get_record(
        &self,
        call: &ApiCall,
        version: &str,
        object: &str,
        id: &str,
    ) -> Result<VendorReply, SalesforceRefusal> {
        let state = self.state();
        let kind = state.schema.find(object).map_err(|_| SalesforceRefusal::not_found())?.kind;
        let fields: Vec<String> = call.list_param("fields").into_iter().map(str::to_owned).collect();
        let id_read = RecordId::parse(id).filter(|id| id.prefix() == kind.prefix());
        let record = id_read.and_then(|id| state.find(id)).ok_or_else(|| SalesforceRefusal::no_such_record(id))?;
        if record.is_deleted || state.is_hidden(record.id) {
            return Err(SalesforceRefusal::not_found());
        }
        let fields = if fields.is_empty() { all_fields(&state, kind) } else { fields };
        let query = soql::bind_search(&state.schema, kind, &fields, None, self.now_millis())?;
        let row = query.row_of(&state, record);
        Ok(VendorReply::json(StatusCode::OK, &Layout::new(&state.schema, &query, version).row(&row)))
    }

    /// `/composite/sobjects`: several records in one call.
    pub(super) fn collections(
        &self,
        call: &ApiCall,
        version: &str,
        rest: &[&str],
    ) -> Result<VendorReply, SalesforceRefusal> {
        match (&call.method, rest) {
            (&Method::POST, []) => {
                let input = body(call)?;
                self.each(records_of(&input)?, is_all_or_none(&input), |state, fields, now| {
                    let kind = state.schema.find(object_of(fields)?)?.kind;
                    state.create(kind, fields, now)
                })
            }
            (&Method::PATCH, []) => {
                let input = body(call)?;
                self.each(records_of(&input)?, is_all_or_none(&input), |state, fields, now| {
                    let id = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("id"));
                    let id = id.and_then(|(_, id)| id.as_str()).ok_or_else(|| SalesforceRefusal::missing(&["Id"]))?;
                    let id = state.id_of(object_of(fields)?, id)?;
                    state.update(id, fields, now).map(|()| id)
                })
            }
            (&Method::DELETE, []) => {
                let all_or_none = call.param("allOrNone") == Some("true");
                self.each(call.list_param("ids"), all_or_none, |state, id, now| {
                    let id = RecordId::parse(id).ok_or_else(|| SalesforceRefusal::malformed_id(id))?;
                    state.delete(id, now).map(|()| id)
                })
            }
            (&Method::GET, [object]) => {
                self.retrieve(version, object, &call.list_param("ids"), &call.list_param("fields"))
            }
            (&Method::POST, [object]) => {
                let input = body(call)?;
                let texts = |name: &str| -> Vec<&str> {
                    input.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
                };
                self.retrieve(version, object, &texts("ids"), &texts("fields"))
            }
            (method, _) => Err(SalesforceRefusal::method_not_allowed(method.as_str())),
        }
    }

    fn retrieve(
        &self,
        version: &str,
        object: &str,
        ids: &[&str],
        fields: &[&str],
    ) -> Result<VendorReply, SalesforceRefusal> {
        if ids.len() > RETRIEVED_MAX {
            return Err(SalesforceRefusal::bad("INVALID_BATCH_SIZE", "a call reads 2000 records at most"));
        }
        let state = self.state();
        let kind = state.schema.find(object)?.kind;
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        let query = soql::bind_search(&state.schema, kind, &fields, None, self.now_millis())?;
        let row = |id: &&str| -> Option<Row> {
            let record = state.find(RecordId::parse(id)?)?;
            let is_shown = !record.is_deleted && !state.is_hidden(record.id);
            (is_shown && record.id.prefix() == kind.prefix()).then(|| query.row_of(&state, record))
        };
        let rows: Vec<Option<Row>> = ids.iter().map(row).collect();
        let layout = Layout::new(&state.schema, &query, version);
        let shown: Vec<_> = rows.iter().map(|row| row.as_ref().map(|row| layout.row(row))).collect();
        Ok(VendorReply::json(StatusCode::OK, &shown))
    }

    /// Does `work` for each item and tells of each how it went. With `all_or_none`, one refusal
    /// undoes all.
    fn each<T>(
        &self,
        items: Vec<T>,
        all_or_none: bool,
        work: impl Fn(&mut State, T, Millis) -> Result<RecordId, SalesforceRefusal>,
    ) -> Result<VendorReply, SalesforceRefusal> {
        if items.is_empty() || items.len() > COLLECTION_MAX {
            let message = "Invalid number of records in the request: from 1 to 200 are accepted";
            return Err(SalesforceRefusal::bad("INVALID_BATCH_SIZE", message));
        }
        let now = self.now_millis();
        let mut state = self.state();
        let before = all_or_none.then(|| state.snapshot());
        let mut results = Vec::with_capacity(items.len());
        let mut is_refused = false;
        for item in items {
            results.push(match work(&mut state, item, now) {
                Ok(id) => json!({"id": id, "success": true, "errors": []}),
                Err(refusal) => {
                    is_refused = true;
                    json!({"success": false, "errors": [refusal.entry("statusCode")]})
                }
            });
        }
        if let Some(before) = before.filter(|_| is_refused) {
            state.restore(before);
            let rolled_back = SalesforceRefusal::bad(
                "ALL_OR_NONE_OPERATION_ROLLED_BACK",
                "Record rolled back because not all records were valid and the request was using AllOrNone header",
            );
            for result in results.iter_mut().filter(|result| result["success"] == true) {
                *result = json!({"success": false, "errors": [rolled_back.entry("statusCode")]});
            }
        }
        Ok(VendorReply::json(StatusCode::OK, &results))
    }
}

pub(super) fn all_fields(state: &State, kind: ObjectKind) -> Vec<String> {
    state.schema.object(kind).visible_fields().map(|(_, field)| field.name.clone()).collect()
}

/// The body as a JSON object.
pub(super) fn body(call: &ApiCall) -> Result<Map<String, Value>, SalesforceRefusal> {
    if let Some(Value::Object(fields)) = call.json_body() { Ok(fields) } else { Err(SalesforceRefusal::unreadable()) }
}

fn records_of(input: &Map<String, Value>) -> Result<Vec<&Map<String, Value>>, SalesforceRefusal> {
    let records =
        input.get("records").and_then(Value::as_array).ok_or_else(|| SalesforceRefusal::missing(&["records"]))?;
    records.iter().map(|record| record.as_object().ok_or_else(SalesforceRefusal::unreadable)).collect()
}

fn is_all_or_none(input: &Map<String, Value>) -> bool {
    input.get("allOrNone").and_then(Value::as_bool).unwrap_or(false)
}

fn object_of(fields: &Map<String, Value>) -> Result<&str, SalesforceRefusal> {
    let object = fields.get("attributes").and_then(|attributes| attributes.get("type")).and_then(Value::as_str);
    object.ok_or_else(|| SalesforceRefusal::bad("INVALID_FIELD", "each record needs attributes with a type"))
}
