//! Salesforce: Contacts and Leads by REST queries, or by the bulk interface where there are very many. Vendor words end here:
//! outside, its objects are records.

mod bulk;
mod client;
mod deleted;
mod fields;
mod host;
mod look_up;
mod map;
mod model;
mod pass;
mod position;
mod refusal;
mod rest;
mod rows;
mod soql;

pub(super) use client::Salesforce;
