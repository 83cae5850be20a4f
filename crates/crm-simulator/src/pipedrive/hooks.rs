//! Webhooks of version 2: made and listed by version 1's endpoints, and called when persons change.
//! Owns: the hooks, their bans, the body of an event. A call is tried again after 3, 30 and 150
//! seconds; ten first tries in a row that fail ban a hook for half an hour, and what happens
//! meanwhile is never sent. What is not documented is a guess, and marked so.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{
    COMPANY_DOMAIN, COMPANY_ID, Pipedrive, USER_ID, lists::data, person::wire_time, refusal::PipedriveRefusal,
};
use crate::{
    call::ApiCall,
    push::{DeliveryPlan, DeliveryReport, HookCall, QueuedCall, send},
    reply::VendorReply,
};

/// Hooks of a user.
const HOOKS_MAX: usize = 40;
/// Seconds from try to try.
const RETRIES: [i64; 3] = [3, 30, 150];
const BAN_AFTER: u32 = 10;
const BAN: TimeDelta = TimeDelta::minutes(30);

/// A hook, as it was made.
struct Hook {
    name: Value,
    url: String,
    action: String,
    object: String,
    user: String,
    password: String,
    add_time: DateTime<Utc>,
    last_status: Option<u16>,
    failed_first_tries: u32,
    banned_until: Option<DateTime<Utc>>,
}

/// The company's hooks by id.
#[derive(Default)]
pub(super) struct Hooks {
    by_id: BTreeMap<u64, Hook>,
    last_id: u64,
    last_event: u64,
}

impl Hook {
    fn json(&self, id: u64) -> Value {
        json!({"id": id, "company_id": COMPANY_ID, "owner_id": USER_ID, "user_id": USER_ID, "name": self.name,
            "event_action": self.action, "event_object": self.object, "subscription_url": self.url,
            "is_active": 1, "version": "2.0", "type": "general", "http_auth_user": self.user,
            "http_auth_password": "***", "last_http_status": self.last_status,
            "add_time": self.add_time.to_rfc3339_opts(SecondsFormat::Millis, true), "remove_time": null})
    }
}

impl Pipedrive {
    /// `/v1/webhooks`.
    pub(super) fn answer_hooks(&self, call: &ApiCall, rest: &[&str]) -> Result<VendorReply, PipedriveRefusal> {
        if !self.config.allows_webhooks {
            return Err(PipedriveRefusal::ScopeMissing);
        }
        match (call.method.as_str(), rest) {
            ("GET", []) => {
                let hooks = self.hooks();
                let mut listed: Vec<Value> = hooks.by_id.iter().map(|(id, hook)| hook.json(*id)).collect();
                if !self.config.lists_hook_names {
                    listed.iter_mut().filter_map(Value::as_object_mut).for_each(|hook| drop(hook.remove("name")));
                }
                Ok(data(&listed))
            }
            ("POST", []) => self.make_hook(&call.json_body().ok_or(PipedriveRefusal::Unreadable)?),
            ("DELETE", [id]) => {
                let id: u64 = id.parse().map_err(|_| PipedriveRefusal::NotFound { entity: "Webhook" })?;
                let removed = self.hooks().by_id.remove(&id);
                removed.ok_or(PipedriveRefusal::NotFound { entity: "Webhook" })?;
                self.queue.forget(id);
                Ok(VendorReply::json(StatusCode::OK, &json!({"status": "ok", "success": true})))
            }
            _ => Err(PipedriveRefusal::UnknownEndpoint),
        }
    }

    fn make_hook(&self, body: &Value) -> Result<VendorReply, PipedriveRefusal> {
        let text = |field: &'static str| {
            body[field].as_str().map(str::to_owned).ok_or(PipedriveRefusal::Invalid { field, problem: "is required" })
        };
        let (url, action, object) = (text("subscription_url")?, text("event_action")?, text("event_object")?);
        if body["version"] != "2.0" {
            return Err(PipedriveRefusal::Invalid { field: "version", problem: "must be 2.0" });
        }
        let now = self.now();
        let hooks = &mut *self.hooks();
        if hooks.by_id.len() >= HOOKS_MAX {
            return Err(PipedriveRefusal::HooksLimit);
        }
        hooks.last_id += 1;
        let hook = Hook {
            name: body["name"].clone(),
            url,
            action,
            object,
            user: body["http_auth_user"].as_str().unwrap_or_default().to_owned(),
            password: body["http_auth_password"].as_str().unwrap_or_default().to_owned(),
            add_time: now,
            last_status: None,
            failed_first_tries: 0,
            banned_until: None,
        };
        let mut reply = data(&hook.json(hooks.last_id));
        reply.status = StatusCode::CREATED;
        hooks.by_id.insert(hooks.last_id, hook);
        Ok(reply)
    }

    /// A person has changed: every hook that wants to know is called. `more` is what else stands in
    /// `meta`.
    pub(super) fn emit(&self, action: &str, id: i64, more: &Value) {
        let now = self.now();
        let updated_at = self.state().find(id).map(|person| wire_time(person.update_time));
        let person = |is_there: bool| if is_there { json!({"id": id, "update_time": updated_at}) } else { Value::Null };
        let hooks = &mut *self.hooks();
        for (hook_id, hook) in &hooks.by_id {
            if !matches!(hook.object.as_str(), "*" | "person") || !(hook.action == "*" || hook.action == action) {
                continue;
            }
            hooks.last_event += 1;
            let mut meta = json!({"action": action, "entity": "person", "entity_id": id.to_string(),
                "id": format!("event-{}", hooks.last_event), "company_id": COMPANY_ID.to_string(),
                "user_id": USER_ID.to_string(), "webhook_id": hook_id.to_string(), "host": format!("{COMPANY_DOMAIN}.pipedrive.com"),
                "timestamp": now.to_rfc3339_opts(SecondsFormat::Millis, true), "is_bulk_edit": false,
                "version": "2.0", "type": "general", "change_source": "app", "attempt": 1});
            if let (Some(meta), Some(more)) = (meta.as_object_mut(), more.as_object()) {
                meta.extend(more.clone());
            }
            let body =
                json!({"meta": meta, "data": person(action != "delete"), "previous": person(action != "create")});
            let basic = STANDARD.encode(format!("{}:{}", hook.user, hook.password));
            let call = HookCall {
                method: "POST",
                url: hook.url.clone(),
                headers: vec![
                    ("authorization", format!("Basic {basic}")),
                    ("content-type", "application/json".to_owned()),
                    ("user-agent", "Pipedrive Webhooks".to_owned()),
                ],
                body: body.to_string(),
            };
            self.queue.put(*hook_id, call, now);
        }
    }

    /// How deliveries go wrong from now on.
    pub fn plan_deliveries(&self, plan: DeliveryPlan) {
        self.queue.set_plan(plan);
    }

    /// What became of calls to hooks.
    pub fn deliveries(&self) -> DeliveryReport {
        self.queue.report()
    }

    /// How many hooks there are.
    pub fn hook_count(&self) -> usize {
        self.hooks().by_id.len()
    }

    /// Takes every hook away, as an administrator does, or Pipedrive after three bad days.
    pub fn remove_hooks(&self) {
        self.hooks().by_id.clear();
    }

    /// Sends what is due by the company's clock; the calls that were sent.
    pub async fn deliver_due(&self) -> Vec<HookCall> {
        let mut sent = Vec::new();
        for queued in self.queue.take_due(self.now()) {
            if self.is_banned(queued.hook_id) {
                self.queue.count_lost();
                continue;
            }
            let status = send(&queued.call).await.ok();
            sent.push(queued.call.clone());
            self.note(queued, status);
        }
        sent
    }

    fn is_banned(&self, hook_id: u64) -> bool {
        let now = self.now();
        self.hooks().by_id.get(&hook_id).is_some_and(|hook| hook.banned_until.is_some_and(|until| now < until))
    }

    fn note(&self, queued: QueuedCall, status: Option<u16>) {
        let (now, is_delivered) = (self.now(), status.is_some_and(|status| (200..300).contains(&status)));
        self.queue.count(is_delivered);
        if let Some(hook) = self.hooks().by_id.get_mut(&queued.hook_id) {
            hook.last_status = status;
            if is_delivered {
                hook.failed_first_tries = 0;
            } else if queued.attempt == 0 {
                hook.failed_first_tries += 1;
                if hook.failed_first_tries >= BAN_AFTER {
                    (hook.failed_first_tries, hook.banned_until) = (0, Some(now + BAN));
                }
            }
        }
        if let (false, Some(wait)) = (is_delivered, RETRIES.get(queued.attempt)) {
            let due_at = now + TimeDelta::seconds(*wait);
            self.queue.put_again(QueuedCall { due_at, attempt: queued.attempt + 1, ..queued });
        }
    }
}
