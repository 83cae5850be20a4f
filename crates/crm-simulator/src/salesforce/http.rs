//! A request's way through the simulated Salesforce: faults, session, limits, the resource,
//! headers. Invariant: every answer of the API tells how many calls are used, and has a date from
//! the organisation's clock.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State as AxumState},
    http::{HeaderName, Method, Response, StatusCode},
};
use serde_json::{Value, json};

use super::{
    Salesforce,
    id::RecordId,
    refusal::{SalesforceRefusal, injected, maintenance},
    session::session_of,
    soap,
};
use crate::{
    call::ApiCall,
    control,
    delivery::DeliveryWire,
    faults::{Fault, Plan},
    reply::VendorReply,
};

/// API versions that are served.
const VERSIONS: std::ops::RangeInclusive<u32> = 31..=68;

/// Salesforce's API and the control endpoints over `salesforce`. Hand it to
/// [`serve`](crate::serve).
pub fn router(salesforce: Arc<Salesforce>) -> Router {
    Router::new().fallback(respond).with_state(salesforce)
}

async fn respond(AxumState(salesforce): AxumState<Arc<Salesforce>>, request: Request) -> Response<Body> {
    let wire = DeliveryWire::of(request.extensions());
    let nothing = Plan { actions: Vec::new() };
    let call = match ApiCall::read(request).await {
        Ok(call) => call,
        Err(reply) => return wire.deliver(reply, &nothing, salesforce.now()).await,
    };
    if call.segments().first() == Some(&control::PREFIX) {
        let reply = salesforce.eventbus.control(&call).unwrap_or_else(|| {
            control::answer(&call, &salesforce.faults, &salesforce.requests, || salesforce.oracle_reply())
        });
        return wire.deliver(reply, &nothing, salesforce.now()).await;
    }
    salesforce.requests.record(call.log_entry(salesforce.now()), endpoint(&call));
    let plan = salesforce.faults.decide(call.method.as_str(), call.target());
    salesforce.apply_changes(&plan);
    wire.hold_request(&plan).await;
    let reply = salesforce.reply(&call, &plan);
    wire.deliver(reply, &plan, salesforce.now()).await
}

impl Salesforce {
    fn apply_changes(&self, plan: &Plan) {
        for fault in plan.faults() {
            match fault {
                Fault::Apply { calls } => {
                    for call in calls {
                        // A call that the vendor refuses changes nothing, as it would if a person
                        // had made it.
                        let _ = self.call(&call.method, &call.path, call.body.as_ref());
                    }
                }
                Fault::LateRow { id, queries } => {
                    if let Some(id) = RecordId::parse(id) {
                        self.state().hide(id, Some(*queries));
                    }
                }
                _ => {}
            }
        }
    }

    fn reply(&self, call: &ApiCall, plan: &Plan) -> VendorReply {
        let faults: Vec<&Fault> = plan.faults().collect();
        if let Some(page) = faults.iter().find_map(|fault| VendorReply::scripted(fault).or_else(|| maintenance(fault)))
        {
            return page;
        }
        let segments = call.segments();
        match segments.as_slice() {
            ["services", "oauth2", endpoint] => self.oauth2(call, endpoint, &faults),
            ["id", _, _] => self.identity(call),
            ["services", "Soap", flavour, ..] => match faults.iter().find_map(|fault| injected(fault)) {
                Some(refusal) => soap::fault(&refusal),
                None => self.soap(call, flavour, false),
            },
            ["services", "data"] if call.method == Method::GET => versions(),
            _ => {
                let refusal = faults.iter().find_map(|fault| injected(fault));
                let outcome = refusal.map_or_else(|| self.admit(session_of(call)), Err);
                let mut reply = match outcome {
                    Ok(()) => self.answer(call, &faults),
                    Err(refusal) => refusal.reply(),
                };
                self.add_usage(&mut reply);
                reply
            }
        }
    }

    fn add_usage(&self, reply: &mut VendorReply) {
        if !self.config.tells_limits {
            return;
        }
        let used = self.usage().used(self.now_millis());
        let header = HeaderName::from_static("sforce-limit-info");
        reply.set_header(header, &format!("api-usage={used}/{}", self.config.daily_limit));
    }

    /// The resource's answer to the administrator.
    pub(super) fn answer(&self, call: &ApiCall, faults: &[&Fault]) -> VendorReply {
        let segments = call.segments();
        let outcome = match segments.as_slice() {
            ["services", "data"] => Ok(versions()),
            ["services", "Soap", flavour, ..] => Ok(self.soap(call, flavour, true)),
            ["services", "data", version, rest @ ..] if is_version(version) => {
                self.resource(call, version, rest, faults)
            }
            _ => Err(SalesforceRefusal::not_found()),
        };
        outcome.unwrap_or_else(|refusal| refusal.reply())
    }

    fn resource(
        &self,
        call: &ApiCall,
        version: &str,
        rest: &[&str],
        faults: &[&Fault],
    ) -> Result<VendorReply, SalesforceRefusal> {
        let is_get = call.method == Method::GET;
        match rest {
            ["sobjects", rest @ ..] => self.sobjects(call, version, rest),
            ["composite", "sobjects", rest @ ..] => self.collections(call, version, rest),
            ["jobs", "query", rest @ ..] => self.query_jobs(call, version, rest, faults),
            ["parameterizedSearch"] => self.parameterized_search(call, version),
            [resource @ ("query" | "queryAll")] if is_get => self.query(call, version, resource, faults),
            [resource @ ("query" | "queryAll"), locator] if is_get => {
                self.query_more(call, version, resource, locator, faults)
            }
            ["search"] if is_get => self.search(call, version),
            ["limits"] if is_get => Ok(self.limits()),
            [] if is_get => Ok(resources(version)),
            ["query" | "queryAll" | "search" | "limits"] => {
                Err(SalesforceRefusal::method_not_allowed(call.method.as_str()))
            }
            _ => Err(SalesforceRefusal::not_found()),
        }
    }

    /// `GET /limits`.
    fn limits(&self) -> VendorReply {
        let max = self.config.daily_limit;
        let used = self.usage().used(self.now_millis());
        let full = |max: u32| json!({"Max": max, "Remaining": max});
        let body = json!({
            "DailyApiRequests": {"Max": max, "Remaining": max.saturating_sub(used)},
            "DailyBulkApiBatches": full(15_000),
            "DailyBulkV2QueryFileStorageMB": full(976_562),
            "DailyBulkV2QueryJobs": full(10_000),
            "DataStorageMB": full(1_073),
            "FileStorageMB": full(1_073),
        });
        VendorReply::json(StatusCode::OK, &body)
    }
}

fn is_version(text: &str) -> bool {
    let number = text.strip_prefix('v').and_then(|number| number.strip_suffix(".0"));
    number.and_then(|number| number.parse().ok()).is_some_and(|number| VERSIONS.contains(&number))
}

/// `GET /services/data`: open to everybody.
fn versions() -> VendorReply {
    let version = |number: u32| {
        // Three releases a year; v68 came in summer 2026.
        let (year, season) = (26 - (68 - number) / 3, ["Summer", "Spring", "Winter"][((68 - number) % 3) as usize]);
        json!({
            "label": format!("{season} '{year}"),
            "url": format!("/services/data/v{number}.0"),
            "version": format!("{number}.0"),
        })
    };
    VendorReply::json(StatusCode::OK, &VERSIONS.map(version).collect::<Vec<Value>>())
}

fn resources(version: &str) -> VendorReply {
    let names = ["composite", "jobs", "limits", "parameterizedSearch", "query", "queryAll", "search", "sobjects"];
    let resource = |name: &str| (name.to_owned(), json!(format!("/services/data/{version}/{name}")));
    VendorReply::json(StatusCode::OK, &names.map(resource).into_iter().collect::<Value>())
}

/// `METHOD /path` with `{id}` and `{locator}`, for counting.
fn endpoint(call: &ApiCall) -> String {
    let mut endpoint = call.method.to_string();
    endpoint.push(' ');
    for segment in call.segments() {
        let is_locator = segment.split_once('-').is_some_and(|(id, _)| RecordId::parse(id).is_some());
        endpoint.push('/');
        endpoint.push_str(match segment {
            _ if is_locator => "{locator}",
            // No name of a resource is so long and has a digit in front.
            _ if segment.starts_with(|first: char| first.is_ascii_digit()) && RecordId::parse(segment).is_some() => {
                "{id}"
            }
            _ => segment,
        });
    }
    endpoint
}
