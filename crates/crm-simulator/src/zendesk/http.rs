//! A request's way through the simulated Zendesk: faults, credentials, rate limits, the endpoint,
//! headers. Invariant: every answer of the API carries Zendesk's rate limit headers and a date from
//! the account's clock.

use std::sync::{Arc, PoisonError};

use axum::{
    Router,
    body::Body,
    extract::{Request, State as AxumState},
    http::{HeaderName, Method, Response, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Zendesk,
    lists::user_json,
    me::{ADMINISTRATOR_ID, anonymous},
    read_identity,
    refusal::{ZendeskRefusal, injected},
    user::{DeletedUserJson, IdentityJson},
};
use crate::{
    call::ApiCall,
    control,
    delivery::DeliveryWire,
    faults::{Fault, Plan},
    push::DeliveryPlan,
    reply::VendorReply,
};

/// Said in headers while there is no limit.
const ACCOUNT_PER_MINUTE: u32 = 700;
const EXPORT_PER_MINUTE: u32 = 20;

/// Requests made in the current minute of the account's clock.
#[derive(Default)]
pub(super) struct Windows {
    minute: i64,
    account_used: u32,
    export_used: u32,
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Administrator,
    Anonymous,
}

/// Zendesk's API and the control endpoints over `zendesk`. Hand it to [`serve`](crate::serve).
pub fn router(zendesk: Arc<Zendesk>) -> Router {
    Router::new().fallback(respond).with_state(zendesk)
}

async fn respond(AxumState(zendesk): AxumState<Arc<Zendesk>>, request: Request) -> Response<Body> {
    let wire = DeliveryWire::of(request.extensions());
    let nothing = Plan { actions: Vec::new() };
    let call = match ApiCall::read(request).await {
        Ok(call) => call,
        Err(reply) => return wire.deliver(reply, &nothing, zendesk.now()).await,
    };
    if call.segments().first() == Some(&control::PREFIX) {
        let reply = zendesk
            .control_push(&call)
            .unwrap_or_else(|| control::answer(&call, &zendesk.faults, &zendesk.requests, || zendesk.oracle_reply()));
        return wire.deliver(reply, &nothing, zendesk.now()).await;
    }
    zendesk.requests.record(call.log_entry(zendesk.now()), call.endpoint());
    let plan = zendesk.faults.decide(call.method.as_str(), call.target());
    zendesk.apply_changes(&plan);
    wire.hold_request(&plan).await;
    let reply = zendesk.reply(&call, &plan);
    wire.deliver(reply, &plan, zendesk.now()).await
}

impl Zendesk {
    fn apply_changes(&self, plan: &Plan) {
        for fault in plan.faults() {
            let Fault::Apply { calls } = fault else { continue };
            for call in calls {
                // A call that the vendor refuses changes nothing, as it would if a person had made
                // it.
                let _ = self.call(&call.method, &call.path, call.body.as_ref());
            }
        }
    }

    /// What is steered of hooks; `None`: another control call.
    fn control_push(&self, call: &ApiCall) -> Option<VendorReply> {
        match (call.method.as_str(), &call.segments()[1..]) {
            ("POST", ["hooks"]) => {
                let plan = call.json_body().and_then(|plan| serde_json::from_value::<DeliveryPlan>(plan).ok());
                let Some(plan) = plan else {
                    return Some(VendorReply::json(
                        StatusCode::BAD_REQUEST,
                        &json!({"error": "no plan of deliveries"}),
                    ));
                };
                self.plan_deliveries(plan);
                Some(VendorReply::empty())
            }
            ("GET", ["hooks"]) => Some(VendorReply::json(StatusCode::OK, &self.deliveries())),
            _ => None,
        }
    }

    fn reply(&self, call: &ApiCall, plan: &Plan) -> VendorReply {
        let faults: Vec<&Fault> = plan.faults().collect();
        let is_bearer = authorization(call).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let refusal =
            faults.iter().find_map(|fault| VendorReply::scripted(fault).or_else(|| injected(fault, is_bearer)));
        if call.segments().first() == Some(&"oauth") {
            return refusal.unwrap_or_else(|| self.answer_oauth(call));
        }
        let mut reply = match refusal {
            Some(refusal) => refusal,
            None => match self.admit(call) {
                Ok(Caller::Administrator) => self.answer(call, &faults),
                Ok(Caller::Anonymous) if call.segments() == ["api", "v2", "users", "me"] => anonymous(call),
                Ok(Caller::Anonymous) => ZendeskRefusal::Unauthenticated.reply(),
                Err(refusal) => refusal.reply(),
            },
        };
        self.add_limit_headers(&mut reply, is_export(call));
        reply
    }

    fn admit(&self, call: &ApiCall) -> Result<Caller, ZendeskRefusal> {
        let caller = self.authenticate(call)?;
        let now = self.now().timestamp();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.minute != now.div_euclid(60) {
            *windows = Windows { minute: now.div_euclid(60), ..Windows::default() };
        }
        let limits = self.config.limits;
        let (used, limit) = if is_export(call) {
            (&mut windows.export_used, limits.export_per_minute)
        } else {
            (&mut windows.account_used, limits.account_per_minute)
        };
        if limit.is_some_and(|limit| *used >= limit) {
            return Err(ZendeskRefusal::RateLimited { retry_after_seconds: Some(seconds_to_next_minute(now)) });
        }
        *used = used.saturating_add(1);
        Ok(caller)
    }

    fn authenticate(&self, call: &ApiCall) -> Result<Caller, ZendeskRefusal> {
        let Some((scheme, credentials)) = authorization(call) else { return Ok(Caller::Anonymous) };
        if scheme.eq_ignore_ascii_case("bearer") {
            let is_right = self.oauth.admits(credentials, self.now());
            return if is_right { Ok(Caller::Administrator) } else { Err(ZendeskRefusal::InvalidToken) };
        }
        let decoded =
            STANDARD.decode(credentials).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let expected = format!("{}/token:{}", self.config.email, self.config.api_token);
        if scheme.eq_ignore_ascii_case("basic") && decoded == expected {
            Ok(Caller::Administrator)
        } else {
            Err(ZendeskRefusal::Unauthenticated)
        }
    }

    fn add_limit_headers(&self, reply: &mut VendorReply, is_export: bool) {
        if !self.config.tells_limits {
            return;
        }
        let now = self.now().timestamp();
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let resets = seconds_to_next_minute(now);
        let limits = self.config.limits;
        let left = |limit: Option<u32>, shown: u32, used: u32| limit.map_or(shown, |limit| limit.saturating_sub(used));
        let total = limits.account_per_minute.unwrap_or(ACCOUNT_PER_MINUTE);
        let remaining = left(limits.account_per_minute, total, windows.account_used);
        let mut set = |name: &'static str, value: String| reply.set_header(HeaderName::from_static(name), &value);
        set("x-rate-limit", total.to_string());
        set("x-rate-limit-remaining", remaining.to_string());
        set("ratelimit-limit", total.to_string());
        set("ratelimit-remaining", remaining.to_string());
        set("ratelimit-reset", resets.to_string());
        set("x-zendesk-api-version", "v2".to_owned());
        if is_export {
            let total = limits.export_per_minute.unwrap_or(EXPORT_PER_MINUTE);
            let remaining = left(limits.export_per_minute, total, windows.export_used);
            set(
                "zendesk-ratelimit-incremental-exports-cursor",
                format!("total={total}; remaining={remaining}; resets={resets}"),
            );
        }
    }

    /// The endpoint's answer to the administrator.
    pub(super) fn answer(&self, call: &ApiCall, faults: &[&Fault]) -> VendorReply {
        let segments = call.segments();
        let outcome = match segments.as_slice() {
            ["api", "v2", "users", rest @ ..] => self.answer_users(call, rest),
            ["api", "v2", "incremental", "users", "cursor"] if call.method == Method::GET => {
                self.export_by_cursor(call, faults)
            }
            ["api", "v2", "incremental", "users"] if call.method == Method::GET => self.export_by_time(call),
            ["api", "v2", "incremental", "users", "sample"] if call.method == Method::GET => self.sample_by_time(call),
            ["api", "v2", "deleted_users", rest @ ..] => self.answer_deleted(call, rest),
            ["api", "v2", "webhooks", rest @ ..] => self.answer_hooks(call, rest),
            ["api", "v2", "user_fields", rest @ ..] => self.answer_user_fields(call, rest),
            ["api", "v2", "search"] if call.method == Method::GET => self.search_all(call),
            ["api", "v2", "search", "count"] if call.method == Method::GET => self.search_count(call),
            _ => Err(ZendeskRefusal::InvalidEndpoint),
        };
        outcome.unwrap_or_else(|refusal| refusal.reply())
    }

    fn answer_users(&self, call: &ApiCall, rest: &[&str]) -> Result<VendorReply, ZendeskRefusal> {
        match (call.method.as_str(), rest) {
            ("GET", []) => self.list_users(call),
            ("POST", []) => self.post_user(call, false),
            ("POST", ["create_or_update"]) => self.post_user(call, true),
            ("GET", ["me"]) => Ok(self.show_me(call)),
            ("GET", ["count"]) => Ok(self.count_users(call)),
            ("GET", ["search"]) => self.search_users(call),
            ("GET", ["show_many"]) => self.show_many(call),
            (_, [id, rest @ ..]) => {
                let id = id.parse().map_err(|_| ZendeskRefusal::NotFound)?;
                self.answer_user(call, id, rest)
            }
            _ => Err(ZendeskRefusal::InvalidEndpoint),
        }
    }

    fn answer_user(&self, call: &ApiCall, id: i64, rest: &[&str]) -> Result<VendorReply, ZendeskRefusal> {
        match (call.method.as_str(), rest) {
            ("GET", []) if id == ADMINISTRATOR_ID && self.state().find(id).is_none() => Ok(self.show_me(call)),
            ("GET", []) => self.show_user(call, id, StatusCode::OK),
            ("PUT", []) => {
                self.update_user(id, &body_field(call, "user")?)?;
                self.show_user(call, id, StatusCode::OK)
            }
            ("DELETE", []) => {
                self.delete_user(id)?;
                self.show_user(call, id, StatusCode::OK)
            }
            ("PUT", ["merge"]) => {
                let winner = self.find_named(&body_field(call, "user")?)?;
                self.merge_users(id, winner)?;
                self.show_user(call, winner, StatusCode::OK)
            }
            ("GET", ["identities"]) => self.list_identities(call, id),
            ("POST", ["identities"]) => {
                let identity_id = self.add_identity(id, &body_field(call, "identity")?)?;
                self.show_identity(call, id, identity_id, StatusCode::CREATED)
            }
            (_, ["identities", identity_id, rest @ ..]) => {
                let identity_id = identity_id.parse().map_err(|_| ZendeskRefusal::NotFound)?;
                self.answer_identity(call, id, identity_id, rest)
            }
            _ => Err(ZendeskRefusal::InvalidEndpoint),
        }
    }

    fn answer_identity(
        &self,
        call: &ApiCall,
        user_id: i64,
        id: i64,
        rest: &[&str],
    ) -> Result<VendorReply, ZendeskRefusal> {
        let update = |identity: &Value| {
            let input = read_identity(identity)?;
            self.state().update_identity(user_id, id, &input, self.now())?;
            self.emit("user.identity_changed", user_id, &json!({}));
            self.show_identity(call, user_id, id, StatusCode::OK)
        };
        match (call.method.as_str(), rest) {
            ("GET", []) | ("PUT", ["request_verification"]) => self.show_identity(call, user_id, id, StatusCode::OK),
            ("PUT", []) => update(&body_field(call, "identity")?),
            ("PUT", ["verify"]) => update(&json!({"verified": true})),
            ("PUT", ["make_primary"]) => {
                self.state().make_identity_primary(user_id, id, self.now())?;
                self.list_identities(call, user_id)
            }
            ("DELETE", []) => {
                self.delete_identity(user_id, id)?;
                Ok(VendorReply::empty())
            }
            _ => Err(ZendeskRefusal::InvalidEndpoint),
        }
    }

    fn answer_deleted(&self, call: &ApiCall, rest: &[&str]) -> Result<VendorReply, ZendeskRefusal> {
        match (call.method.as_str(), rest) {
            ("GET", []) => self.list_deleted(call),
            ("GET", ["count"]) => Ok(self.count_deleted()),
            ("GET", [id]) => {
                let state = self.state();
                let user = id.parse().ok().and_then(|id| state.find(id)).filter(|user| user.is_deleted_softly());
                let user = user.ok_or(ZendeskRefusal::NotFound)?;
                Ok(VendorReply::json(
                    StatusCode::OK,
                    &json!({"deleted_user": DeletedUserJson { user, base_url: &call.base_url }}),
                ))
            }
            ("DELETE", [id]) => {
                let id = id.parse().map_err(|_| ZendeskRefusal::NotFound)?;
                self.purge_user(id)?;
                let state = self.state();
                let user = state.find(id).ok_or(ZendeskRefusal::NotFound)?;
                Ok(VendorReply::json(
                    StatusCode::OK,
                    &json!({"deleted_user": DeletedUserJson { user, base_url: &call.base_url }}),
                ))
            }
            _ => Err(ZendeskRefusal::InvalidEndpoint),
        }
    }

    fn post_user(&self, call: &ApiCall, or_update: bool) -> Result<VendorReply, ZendeskRefusal> {
        let user = body_field(call, "user")?;
        if or_update && let Ok(id) = self.find_named(&user) {
            self.update_user(id, &user)?;
            return self.show_user(call, id, StatusCode::OK);
        }
        let id = self.create_user(&user)?;
        let mut reply = self.show_user(call, id, StatusCode::CREATED)?;
        reply.set_header(header::LOCATION, &format!("{}/api/v2/users/{id}.json", call.base_url));
        Ok(reply)
    }

    /// The active user that a body names by id, e-mail address or external id.
    fn find_named(&self, user: &Value) -> Result<i64, ZendeskRefusal> {
        let state = self.state();
        let text = |name: &str| user.get(name).and_then(Value::as_str);
        // An id in quotation marks is an id too, as in Zendesk.
        let id = user.get("id").and_then(|id| id.as_i64().or_else(|| id.as_str()?.parse().ok()));
        let found = id
            .or_else(|| text("email").and_then(|email| state.email_owner(email)))
            .or_else(|| text("external_id").and_then(|external_id| state.external_id_owner(external_id)));
        found.filter(|id| state.find(*id).is_some_and(|user| user.is_active)).ok_or(ZendeskRefusal::NotFound)
    }

    pub(super) fn show_user(&self, call: &ApiCall, id: i64, status: StatusCode) -> Result<VendorReply, ZendeskRefusal> {
        let state = self.state();
        let user = state.find(id).filter(|user| !user.is_purged).ok_or(ZendeskRefusal::NotFound)?;
        Ok(VendorReply::json(status, &json!({"user": user_json(user, call)})))
    }

    fn show_identity(
        &self,
        call: &ApiCall,
        user_id: i64,
        id: i64,
        status: StatusCode,
    ) -> Result<VendorReply, ZendeskRefusal> {
        let state = self.state();
        let user = state.find(user_id).ok_or(ZendeskRefusal::NotFound)?;
        let identity = user.identities.iter().find(|identity| identity.id == id).ok_or(ZendeskRefusal::NotFound)?;
        Ok(VendorReply::json(
            status,
            &json!({"identity": IdentityJson { identity, user_id, base_url: &call.base_url }}),
        ))
    }
}

pub(super) fn body_field(call: &ApiCall, field: &'static str) -> Result<Value, ZendeskRefusal> {
    let body = call.json_body().and_then(|mut body| body.get_mut(field).map(Value::take));
    body.filter(Value::is_object).ok_or(ZendeskRefusal::Unreadable { expected: field })
}

pub(super) fn authorization(call: &ApiCall) -> Option<(&str, &str)> {
    call.headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .trim()
        .split_once(' ')
        .map(|(scheme, rest)| (scheme, rest.trim()))
}

fn is_export(call: &ApiCall) -> bool {
    call.segments().get(2) == Some(&"incremental")
}

fn seconds_to_next_minute(now: i64) -> u32 {
    u32::try_from(60 - now.rem_euclid(60)).expect("from 1 to 60")
}
