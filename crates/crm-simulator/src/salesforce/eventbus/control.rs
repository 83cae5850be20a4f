//! `/__control/eventbus`: what tests in other processes say to the event bus.

use axum::http::StatusCode;
use serde_json::json;

use super::{EventBus, SalesforceRefusal, report::EventBusOrder};
use crate::{call::ApiCall, reply::VendorReply};

impl EventBus {
    /// What is steered of the bus; `None`: another control call.
    pub(in crate::salesforce) fn control(&self, call: &ApiCall) -> Option<VendorReply> {
        match (call.method.as_str(), &call.segments()[1..]) {
            ("GET", ["eventbus"]) => Some(VendorReply::json(StatusCode::OK, &self.report())),
            ("POST", ["eventbus"]) => Some(self.order(call)),
            _ => None,
        }
    }

    fn order(&self, call: &ApiCall) -> VendorReply {
        let refused = |message: String| VendorReply::json(StatusCode::BAD_REQUEST, &json!({"error": message}));
        match serde_json::from_slice(&call.body) {
            Ok(order) => match self.obey(order) {
                Ok(()) => VendorReply::empty(),
                Err(refusal) => refused(refusal.to_string()),
            },
            Err(error) => refused(error.to_string()),
        }
    }

    fn obey(&self, order: EventBusOrder) -> Result<(), SalesforceRefusal> {
        match order {
            EventBusOrder::Plan(plan) => self.change_plan(|old| *old = plan),
            EventBusOrder::Capture { object, is_captured } => self.capture(&object, is_captured)?,
            EventBusOrder::Gap { object, ids, kind } => {
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                self.gap(&object, &ids, kind)?;
            }
            EventBusOrder::Overflow { object } => self.overflow(&object)?,
            EventBusOrder::Wildcard { object } => self.wildcard(&object)?,
            EventBusOrder::NewSchema { object } => self.new_schema(&object)?,
            EventBusOrder::EndStreams { word } => self.end_streams(&word),
            EventBusOrder::Refuse { word, times } => self.refuse(&word, times),
            EventBusOrder::CorruptPayloads { count } => self.corrupt_payloads(count),
            EventBusOrder::KeepAlive => self.keep_alive(),
            EventBusOrder::DeliverDue => self.deliver_due(),
            EventBusOrder::ResetStream => self.reset_stream(),
        }
        Ok(())
    }
}
