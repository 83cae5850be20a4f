//! A request's way through the simulated Pipedrive: faults, credentials, limits, the endpoint,
//! headers. Invariant: every answer of the API carries the limits' headers and a date from the
//! company's clock. The authorization server, which has a host of its own in life, answers here
//! under `/oauth/`.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State as AxumState},
    http::{Response, StatusCode},
};
use serde_json::{Value, json};

use super::{
    Pipedrive,
    limits::seconds_to_midnight,
    lists::data,
    refusal::{PipedriveRefusal, injected},
};
use crate::{
    call::ApiCall,
    control,
    delivery::DeliveryWire,
    faults::{Fault, Plan},
    push::DeliveryPlan,
    reply::VendorReply,
};

/// Pipedrive's API, its authorization server and the control endpoints over `pipedrive`. Hand it to
/// [`serve`](crate::serve).
pub fn router(pipedrive: Arc<Pipedrive>) -> Router {
    Router::new().fallback(respond).with_state(pipedrive)
}

async fn respond(AxumState(pipedrive): AxumState<Arc<Pipedrive>>, request: Request) -> Response<Body> {
    let wire = DeliveryWire::of(request.extensions());
    let nothing = Plan { actions: Vec::new() };
    let call = match ApiCall::read(request).await {
        Ok(call) => call,
        Err(reply) => return wire.deliver(reply, &nothing, pipedrive.now()).await,
    };
    if call.segments().first() == Some(&control::PREFIX) {
        let reply = pipedrive.control_push(&call).unwrap_or_else(|| {
            control::answer(&call, &pipedrive.faults, &pipedrive.requests, || pipedrive.oracle_reply())
        });
        return wire.deliver(reply, &nothing, pipedrive.now()).await;
    }
    pipedrive.requests.record(log_entry(&call, &pipedrive), call.endpoint());
    let plan = pipedrive.faults.decide(call.method.as_str(), call.target());
    pipedrive.apply_changes(&plan);
    wire.hold_request(&plan).await;
    let reply = pipedrive.reply(&call, &plan);
    wire.deliver(reply, &plan, pipedrive.now()).await
}

/// The log must not keep the API token that stands in a query.
fn log_entry(call: &ApiCall, pipedrive: &Pipedrive) -> crate::requests::LoggedRequest {
    let mut entry = call.log_entry(pipedrive.now());
    let kept: Vec<&str> = entry.query.split('&').filter(|pair| !pair.starts_with("api_token=")).collect();
    entry.query = kept.join("&");
    entry
}

impl Pipedrive {
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
            ("POST", ["uninstall"]) => {
                if let Some(call) = self.uninstall_app() {
                    self.queue.put(0, call, self.now());
                }
                Some(VendorReply::empty())
            }
            _ => None,
        }
    }

    fn reply(&self, call: &ApiCall, plan: &Plan) -> VendorReply {
        let faults: Vec<&Fault> = plan.faults().collect();
        let now = self.now();
        let until_midnight = seconds_to_midnight(now);
        let refusal =
            faults.iter().find_map(|fault| VendorReply::scripted(fault).or_else(|| injected(fault, until_midnight)));
        if call.segments().first() == Some(&"oauth") {
            return refusal.unwrap_or_else(|| self.answer_oauth(call, &faults));
        }
        let credential = self.authenticate(call);
        let mut reply = match (refusal, &credential) {
            (Some(refusal), _) => refusal,
            (None, Err(refusal)) => refusal.reply(),
            (None, Ok(credential)) => match self.budget.take(self.config.limits, *credential, call, now) {
                Ok(()) => self.answer(call, &faults),
                Err(refusal) => refusal.reply(),
            },
        };
        if self.config.tells_limits {
            self.budget.add_headers(&mut reply, self.config.limits, credential.ok(), now);
        }
        reply
    }

    fn answer_oauth(&self, call: &ApiCall, faults: &[&Fault]) -> VendorReply {
        match (call.method.as_str(), call.segments().as_slice()) {
            ("GET", ["oauth", "authorize"]) => self.authorize(call),
            ("POST", ["oauth", "token"]) => self.grant_token(call, faults),
            ("POST", ["oauth", "revoke"]) => self.revoke_token(call),
            _ => PipedriveRefusal::UnknownEndpoint.reply(),
        }
    }

    /// The endpoint's answer to the token's user.
    pub(super) fn answer(&self, call: &ApiCall, faults: &[&Fault]) -> VendorReply {
        let segments = call.segments();
        let outcome = match segments.as_slice() {
            ["api", "v2", rest @ ..] => self.answer_v2(call, rest, faults),
            // Version 1 has both paths.
            ["api", "v1", rest @ ..] | ["v1", rest @ ..] => self.answer_v1(call, rest),
            _ => Err(PipedriveRefusal::UnknownEndpoint),
        };
        outcome.unwrap_or_else(|refusal| refusal.reply())
    }

    fn answer_v2(&self, call: &ApiCall, rest: &[&str], faults: &[&Fault]) -> Result<VendorReply, PipedriveRefusal> {
        match (call.method.as_str(), rest) {
            ("GET", ["persons"]) => self.list_persons(call, faults),
            ("POST", ["persons"]) => {
                let id = self.create_person(&body_of(call)?)?;
                self.show_person(call, id)
            }
            ("GET", ["persons", "search"]) => self.search_persons(call),
            ("GET", ["persons", id]) => self.show_person(call, person_id(id)?),
            ("PATCH", ["persons", id]) => {
                let id = person_id(id)?;
                self.visible(&self.state(), id)?;
                self.update_person(id, &body_of(call)?)?;
                self.show_person(call, id)
            }
            ("DELETE", ["persons", id]) => {
                let id = person_id(id)?;
                self.visible(&self.state(), id)?;
                self.delete_person(id)?;
                Ok(data(&json!({"id": id})))
            }
            ("GET", ["personFields"]) => Ok(self.list_person_fields()),
            ("GET", ["organizations"]) => self.list_organizations(call),
            ("GET", ["organizations", id]) => {
                self.show_organization(id.parse().map_err(|_| PipedriveRefusal::NotFound { entity: "Organization" })?)
            }
            _ => Err(PipedriveRefusal::UnknownEndpoint),
        }
    }

    fn answer_v1(&self, call: &ApiCall, rest: &[&str]) -> Result<VendorReply, PipedriveRefusal> {
        match (call.method.as_str(), rest) {
            ("GET", ["users", "me"]) => Ok(self.show_me()),
            ("GET", ["users"]) => Ok(self.list_users()),
            ("GET", ["recents"]) => self.list_recents(call),
            (_, ["webhooks", rest @ ..]) => self.answer_hooks(call, rest),
            ("PUT", ["persons", id, "merge"]) => self.put_merge(call, person_id(id)?),
            (_, ["persons", ..]) => Err(PipedriveRefusal::Gone),
            _ => Err(PipedriveRefusal::UnknownEndpoint),
        }
    }

    /// Makes any call of the API as the token's user, free of faults, limits and the request log.
    /// Returns status and body (null if it is not JSON).
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), &'static str> {
        let reply = self.answer(&ApiCall::local(method, path, body)?, &[]);
        Ok((reply.status, serde_json::from_slice(&reply.body).unwrap_or_default()))
    }
}

fn person_id(text: &str) -> Result<i64, PipedriveRefusal> {
    text.parse().map_err(|_| PipedriveRefusal::PERSON)
}

fn body_of(call: &ApiCall) -> Result<Value, PipedriveRefusal> {
    call.json_body().filter(Value::is_object).ok_or(PipedriveRefusal::Unreadable)
}
