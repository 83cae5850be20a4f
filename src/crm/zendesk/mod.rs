//! Zendesk Support. Vendor words end here: outside, a user is a record.

mod client;
mod map;
mod model;
mod refusal;
mod signature;

pub(super) use client::Zendesk;
