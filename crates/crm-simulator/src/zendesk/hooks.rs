//! Webhooks for events of users: made, changed, listed and removed by their endpoints, and called
//! when users change. Owns: the hooks, their secrets, what became of each call, the breaker, the
//! body and the signature of an event. There is no event for a shared number, nor for a deletion
//! for good. What is not documented is a guess: a [`HookQuirks`] field, or marked so.

use std::collections::{BTreeMap, VecDeque};

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use ring::hmac;
use serde_json::{Value, json};

use super::{Zendesk, http::authorization, refusal::ZendeskRefusal, user::wire_time};
use crate::{
    call::ApiCall,
    push::{DeliveryPlan, DeliveryReport, HookCall, QueuedCall, send},
    reply::VendorReply,
};

/// Calls that are told of at most, of a hook: Zendesk keeps them for seven days.
const CALLS_KEPT: usize = 10_000;
/// Of lists by cursor.
const PER_PAGE_MAX: usize = 100;
/// The breaker: so many errors, or such a share of at least ten calls, within five minutes end all
/// sending for a quarter of an hour. The least count is a guess.
const BREAKER_ERRORS: usize = 1_000;
const BREAKER_LEAST: usize = 10;
const BREAKER_WINDOW: TimeDelta = TimeDelta::minutes(5);
const BREAKER_PAUSE: TimeDelta = TimeDelta::minutes(15);
/// Tries after the first, and from try to try. A guess.
const RETRIES_MAX: usize = 5;
const RETRY_AFTER: TimeDelta = TimeDelta::seconds(30);

/// How types of events must be spelled in a subscription; the reference has both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventSpelling {
    /// `zen:event-type:user.created`.
    #[default]
    Colon,
    /// `zen:event-type/user.created`.
    Slash,
    /// Some with a slash, as in the reference.
    Mixed,
}

/// Who may make webhooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HookAccess {
    /// An administrator's own token, and one by OAuth that has the scope.
    #[default]
    Scoped,
    /// As before, and the OAuth client may not ask for more than reading.
    ClientReads,
    /// Nobody: 403 without a body.
    Nobody,
}

/// What Zendesk does not document of its webhooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookQuirks {
    /// How types of events must be spelled.
    pub spelling: EventSpelling,
    /// A merge's event is about the winner, and names the loser.
    pub merge_names_winner_first: bool,
    /// A deletion is told as a change of `active` alone.
    pub deletes_as_inactive: bool,
    /// Who may make webhooks.
    pub access: HookAccess,
    /// So many hooks at most; 0: no limit.
    pub hooks_max: usize,
}

struct Hook {
    name: String,
    endpoint: String,
    status: String,
    subscriptions: Vec<String>,
    secret: String,
    calls: VecDeque<(DateTime<Utc>, &'static str)>,
    broken_until: Option<DateTime<Utc>>,
}

/// The account's hooks.
#[derive(Default)]
pub(super) struct Hooks {
    by_id: BTreeMap<u64, Hook>,
    last_id: u64,
    last_event: u64,
}

impl Hook {
    fn json(&self, id: u64) -> Value {
        json!({"id": wire_id(id), "name": self.name, "endpoint": self.endpoint, "status": self.status,
            "http_method": "POST", "request_format": "json", "subscriptions": self.subscriptions})
    }

    fn change(&mut self, fields: &Value, spelling: EventSpelling) -> Result<(), ZendeskRefusal> {
        let text = |name: &str| fields[name].as_str().map(str::to_owned);
        self.name = text("name").unwrap_or_else(|| self.name.clone());
        self.endpoint = text("endpoint").unwrap_or_else(|| self.endpoint.clone());
        self.status = text("status").unwrap_or_else(|| self.status.clone());
        if let Some(subscriptions) = fields["subscriptions"].as_array() {
            let texts: Vec<String> = subscriptions.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            if texts.is_empty() || !texts.iter().all(|text| is_spelled(text, spelling)) {
                return Err(ZendeskRefusal::BadRequest {
                    code: "InvalidSubscriptions",
                    description: "Invalid event subscription",
                });
            }
            self.subscriptions = texts;
        }
        Ok(())
    }

    fn is_broken(&self, now: DateTime<Utc>) -> bool {
        self.broken_until.is_some_and(|until| now < until)
    }

    fn note(&mut self, now: DateTime<Utc>, status: &'static str) {
        self.calls.push_back((now, status));
        let surplus = self.calls.len().saturating_sub(CALLS_KEPT);
        self.calls.drain(..surplus);
        let of_late = self.calls.iter().filter(|(at, _)| now - *at < BREAKER_WINDOW);
        let (all, failed) =
            of_late.fold((0, 0), |(all, failed), (_, status)| (all + 1, failed + usize::from(*status != "success")));
        if failed > BREAKER_ERRORS || (all >= BREAKER_LEAST && failed * 10 >= all * 7) {
            self.broken_until = Some(now + BREAKER_PAUSE);
        }
    }
}

fn wire_id(id: u64) -> String {
    format!("01WEBHOOK{id:017}")
}

fn is_spelled(text: &str, spelling: EventSpelling) -> bool {
    let Some(rest) = text.strip_prefix("zen:event-type") else { return false };
    let with_slash = ["user.merged", "user.identity_created", "user.identity_changed"];
    match spelling {
        EventSpelling::Colon => rest.starts_with(':'),
        EventSpelling::Slash => rest.starts_with('/'),
        EventSpelling::Mixed => rest.starts_with('/') == with_slash.contains(&&rest[1..]),
    }
}

impl Zendesk {
    /// `/api/v2/webhooks`.
    pub(super) fn answer_hooks(&self, call: &ApiCall, rest: &[&str]) -> Result<VendorReply, ZendeskRefusal> {
        let quirks = self.config.hooks;
        if quirks.access == HookAccess::Nobody || !self.may_have_hooks(call) {
            let mut reply = VendorReply::empty();
            reply.status = StatusCode::FORBIDDEN;
            return Ok(reply);
        }
        let hooks = &mut *self.hooks();
        let find = |hooks: &Hooks, text: &str| {
            let found = hooks.by_id.keys().copied().find(|id| wire_id(*id) == text);
            found.ok_or(ZendeskRefusal::NotFound)
        };
        match (call.method.as_str(), rest) {
            ("GET", []) => {
                let part = call.param("filter[name_contains]").unwrap_or_default();
                let found = hooks.by_id.iter().filter(|(_, hook)| hook.name.contains(part));
                Ok(page(call, "webhooks", found.map(|(id, hook)| hook.json(*id))))
            }
            ("POST", []) => {
                if quirks.hooks_max > 0 && hooks.by_id.len() >= quirks.hooks_max {
                    return Err(ZendeskRefusal::BadRequest {
                        code: "LimitExceeded",
                        description: "The limit of webhooks is reached",
                    });
                }
                let mut hook = Hook {
                    name: String::new(),
                    endpoint: String::new(),
                    status: "active".to_owned(),
                    subscriptions: Vec::new(),
                    secret: self.draw_secret(hooks.last_id + 1),
                    calls: VecDeque::new(),
                    broken_until: None,
                };
                hook.change(&hook_of(call)?, quirks.spelling)?;
                hooks.last_id += 1;
                let reply = VendorReply::json(StatusCode::CREATED, &json!({"webhook": hook.json(hooks.last_id)}));
                hooks.by_id.insert(hooks.last_id, hook);
                Ok(reply)
            }
            ("PATCH", [id]) => {
                let id = find(hooks, id)?;
                let hook = hooks.by_id.get_mut(&id).ok_or(ZendeskRefusal::NotFound)?;
                hook.change(&hook_of(call)?, quirks.spelling)?;
                Ok(VendorReply::json(StatusCode::OK, &json!({"webhook": hook.json(id)})))
            }
            ("DELETE", [id]) => {
                let id = find(hooks, id)?;
                hooks.by_id.remove(&id);
                self.queue.forget(id);
                Ok(VendorReply::empty())
            }
            (method @ ("GET" | "POST"), [id, "signing_secret"]) => {
                let id = find(hooks, id)?;
                hooks.last_event += u64::from(method == "POST");
                let renewed = self.draw_secret(1_000_000 + hooks.last_event);
                let hook = hooks.by_id.get_mut(&id).ok_or(ZendeskRefusal::NotFound)?;
                if method == "POST" {
                    hook.secret = renewed;
                }
                let body = json!({"signing_secret": {"algorithm": "SHA256", "secret": hook.secret}});
                Ok(VendorReply::json(StatusCode::OK, &body))
            }
            ("GET", [id, "invocations"]) => {
                let hook = hooks.by_id.get(&find(hooks, id)?).ok_or(ZendeskRefusal::NotFound)?;
                Ok(list_calls(hook, call))
            }
            _ => Err(ZendeskRefusal::InvalidEndpoint),
        }
    }

    /// A token of an administrator's own may; one by OAuth, if it has the scope.
    fn may_have_hooks(&self, call: &ApiCall) -> bool {
        match authorization(call) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                let scope = self.oauth.scope_of(token, self.now()).unwrap_or_default();
                scope.split(' ').any(|word| matches!(word, "write" | "webhooks:write"))
            }
            _ => true,
        }
    }

    /// Whether a client asks for what it may not have.
    pub(super) fn is_scope_refused(&self, scope: Option<&str>) -> bool {
        self.config.hooks.access == HookAccess::ClientReads && scope.is_some_and(|scope| scope != "read")
    }

    fn draw_secret(&self, serial: u64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.config.seed.to_be_bytes());
        STANDARD.encode(hmac::sign(&key, &serial.to_be_bytes()))
    }

    /// A user has changed: every hook that wants to know is called.
    pub(super) fn emit(&self, kind: &str, user_id: i64, event: &Value) {
        let now = self.now();
        let updated_at = self.state().find(user_id).map(|user| wire_time(user.updated_at));
        let hooks = &mut *self.hooks();
        for (hook_id, hook) in &mut hooks.by_id {
            let is_wanted = |text: &String| text.rsplit([':', '/']).next() == Some(kind);
            let Some(spelled) = hook.subscriptions.iter().find(|text| is_wanted(text)) else { continue };
            if hook.status != "active" {
                continue;
            }
            if hook.is_broken(now) {
                hook.calls.push_back((now, "circuit broken"));
                self.queue.count_lost();
                continue;
            }
            hooks.last_event += 1;
            let time = now.to_rfc3339_opts(SecondsFormat::Millis, true);
            let body = json!({"account_id": 22_129_848, "id": format!("event-{}", hooks.last_event), "time": time,
                "type": spelled, "subject": format!("zen:user:{user_id}"), "zendesk_event_version": "2022-06-20",
                "detail": {"id": user_id.to_string(), "updated_at": updated_at}, "event": event});
            let mut text = body.to_string();
            // As it is sent is what is signed: a reader that writes it anew gets another text.
            text.push('\n');
            let signed_at = now.to_rfc3339_opts(SecondsFormat::Secs, true);
            let key = hmac::Key::new(hmac::HMAC_SHA256, hook.secret.as_bytes());
            let signature = hmac::sign(&key, format!("{signed_at}{text}").as_bytes());
            let call = HookCall {
                method: "POST",
                url: hook.endpoint.clone(),
                headers: vec![
                    ("content-type", "application/json".to_owned()),
                    ("x-zendesk-webhook-signature", STANDARD.encode(signature)),
                    ("x-zendesk-webhook-signature-timestamp", signed_at),
                    ("user-agent", "Zendesk Webhook".to_owned()),
                ],
                body: text,
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

    /// Takes every hook away, as an administrator does.
    pub fn remove_hooks(&self) {
        self.hooks().by_id.clear();
    }

    /// Sends what is due by the account's clock; the calls that were sent.
    pub async fn deliver_due(&self) -> Vec<HookCall> {
        let mut sent = Vec::new();
        for queued in self.queue.take_due(self.now()) {
            let status = send(&queued.call).await.ok();
            sent.push(queued.call.clone());
            self.note(queued, status);
        }
        sent
    }

    fn note(&self, queued: QueuedCall, status: Option<u16>) {
        let now = self.now();
        let told = match status {
            Some(200..300) => "success",
            Some(400..500) => "client error",
            Some(_) => "server error",
            None => "timeout",
        };
        self.queue.count(told == "success");
        if let Some(hook) = self.hooks().by_id.get_mut(&queued.hook_id) {
            hook.note(now, told);
        }
        let is_tried_again = matches!(status, None | Some(409 | 429 | 503)) && queued.attempt < RETRIES_MAX;
        if is_tried_again {
            self.queue.put_again(QueuedCall { due_at: now + RETRY_AFTER, attempt: queued.attempt + 1, ..queued });
        }
    }
}

/// A page of what became of calls, the oldest first unless asked otherwise.
fn list_calls(hook: &Hook, call: &ApiCall) -> VendorReply {
    let time = |name: &str| call.param(name).and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let (from, to) = (time("filter[from_ts]"), time("filter[to_ts]"));
    let is_asked = |at: DateTime<Utc>| from.is_none_or(|from| at >= from) && to.is_none_or(|to| at <= to);
    let mut told: Vec<_> = hook.calls.iter().filter(|(at, _)| is_asked(*at)).collect();
    if call.param("sort") == Some("-latest_completed_at") {
        told.reverse();
    }
    let calls = told.into_iter().map(|(at, status)| {
        json!({"status": status, "latest_completed_at": at.to_rfc3339_opts(SecondsFormat::Millis, true)})
    });
    page(call, "invocations", calls)
}

/// A page by cursor, of as many as are asked for, at most a hundred.
fn page(call: &ApiCall, name: &str, all: impl Iterator<Item = Value>) -> VendorReply {
    let number = |name: &str| call.param(name).and_then(|text| text.parse::<usize>().ok());
    let (size, from) =
        (number("page[size]").unwrap_or(PER_PAGE_MAX).min(PER_PAGE_MAX), number("page[after]").unwrap_or(0));
    let all: Vec<Value> = all.collect();
    let page: Vec<Value> = all.iter().skip(from).take(size).cloned().collect();
    let next = from + page.len();
    let meta = json!({"has_more": next < all.len(), "after_cursor": next.to_string()});
    VendorReply::json(StatusCode::OK, &json!({name: page, "meta": meta}))
}

fn hook_of(call: &ApiCall) -> Result<Value, ZendeskRefusal> {
    let body = call.json_body().and_then(|mut body| body.get_mut("webhook").map(Value::take));
    body.filter(Value::is_object).ok_or(ZendeskRefusal::Unreadable { expected: "webhook" })
}
