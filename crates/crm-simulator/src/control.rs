//! The endpoints under `/__control/` of every simulated vendor: faults, the oracle, the requests
//! seen. For tests in other processes. Must not: be counted, failed or authenticated as the
//! vendor's own calls are.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    call::ApiCall,
    faults::{FaultRule, Faults},
    reply::VendorReply,
    requests::RequestLog,
};

/// The first part of every control path.
pub(crate) const PREFIX: &str = "__control";

/// Answers a control call; `oracle` makes the vendor's true state.
pub(crate) fn answer(
    call: &ApiCall,
    faults: &Faults,
    requests: &RequestLog,
    oracle: impl FnOnce() -> VendorReply,
) -> VendorReply {
    match (&call.method, call.segments().get(1).copied()) {
        (&Method::POST, Some("faults")) => add_faults(call, faults),
        (&Method::GET, Some("faults")) => VendorReply::json(StatusCode::OK, &json!({"rules": faults.report()})),
        (&Method::DELETE, Some("faults")) => {
            faults.clear();
            VendorReply::empty()
        }
        (&Method::GET, Some("oracle")) => oracle(),
        (&Method::GET, Some("requests")) => VendorReply::json(StatusCode::OK, &requests.report()),
        (&Method::DELETE, Some("requests")) => {
            requests.clear();
            VendorReply::empty()
        }
        _ => refused(StatusCode::NOT_FOUND, "no such control endpoint: there are faults, oracle and requests"),
    }
}

/// One rule, or a list of rules: all of them or none.
fn add_faults(call: &ApiCall, faults: &Faults) -> VendorReply {
    let rules = match serde_json::from_slice::<Value>(&call.body) {
        Ok(body @ Value::Array(_)) => serde_json::from_value::<Vec<FaultRule>>(body),
        Ok(body) => serde_json::from_value::<FaultRule>(body).map(|rule| vec![rule]),
        Err(error) => Err(error),
    };
    let outcome = match rules {
        Ok(rules) => faults.add_all(rules).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(ids) => VendorReply::json(StatusCode::CREATED, &json!({"ids": ids})),
        Err(message) => refused(StatusCode::BAD_REQUEST, &message),
    }
}

fn refused(status: StatusCode, message: &str) -> VendorReply {
    VendorReply::json(status, &json!({"error": message}))
}
