//! Custom fields of users: made, listed and switched off by their endpoints. Owns: the fields, not
//! their values, which stand in each user. There is no field for phone numbers: text holds them.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Zendesk, http::body_field, refusal::ZendeskRefusal};
use crate::{call::ApiCall, reply::VendorReply};

/// A page of the list has so many fields at most.
const PER_PAGE_MAX: usize = 100;

/// A custom field of users.
pub(super) struct UserField {
    id: i64,
    key: String,
    kind: String,
    title: String,
    is_active: bool,
}

impl UserField {
    fn json(&self) -> Value {
        json!({"id": self.id, "key": self.key, "type": self.kind, "title": self.title, "active": self.is_active,
            "description": "", "position": 9999, "regexp_for_validation": null})
    }
}

impl Zendesk {
    /// `/api/v2/user_fields`.
    pub(super) fn answer_user_fields(&self, call: &ApiCall, rest: &[&str]) -> Result<VendorReply, ZendeskRefusal> {
        let mut fields = self.user_fields.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match (call.method.as_str(), rest) {
            ("GET", []) => {
                let size = call.param("page[size]").and_then(|size| size.parse().ok()).unwrap_or(PER_PAGE_MAX);
                let from = call.param("page[after]").and_then(|after| after.parse().ok()).unwrap_or(0);
                let page: Vec<Value> =
                    fields.iter().skip(from).take(size.min(PER_PAGE_MAX)).map(UserField::json).collect();
                let next = from + page.len();
                let meta = json!({"has_more": next < fields.len(), "after_cursor": next.to_string()});
                Ok(VendorReply::json(StatusCode::OK, &json!({"user_fields": page, "meta": meta})))
            }
            ("POST", []) => {
                let given = body_field(call, "user_field")?;
                let text = |name: &str| given[name].as_str().unwrap_or_default().to_owned();
                let field = UserField {
                    id: i64::try_from(fields.len()).unwrap_or(0) + 1,
                    key: text("key"),
                    kind: text("type"),
                    title: text("title"),
                    is_active: given["active"].as_bool().unwrap_or(true),
                };
                let reply = VendorReply::json(StatusCode::CREATED, &json!({"user_field": field.json()}));
                fields.push(field);
                Ok(reply)
            }
            ("PUT", [id]) => {
                let field = fields.iter_mut().find(|field| field.id.to_string() == **id);
                let field = field.ok_or(ZendeskRefusal::NotFound)?;
                field.is_active = body_field(call, "user_field")?["active"].as_bool().unwrap_or(field.is_active);
                Ok(VendorReply::json(StatusCode::OK, &json!({"user_field": field.json()})))
            }
            _ => Err(ZendeskRefusal::InvalidEndpoint),
        }
    }
}
