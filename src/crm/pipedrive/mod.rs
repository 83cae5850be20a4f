//! Pipedrive. Vendor words end here: outside, a person is a record.
//!
//! A full read is every person by id. An increment is every person changed since the last pass, and then what Pipedrive's recent
//! changes hint to be deleted, each asked for by its id: version 2 of the API lists no deletions. Nothing is gone on a hint alone.

mod client;
mod limits;
mod look_up;
mod map;
mod model;
mod organizations;
mod pass;
mod position;
mod refusal;

#[cfg(test)]
#[cfg(feature = "simulator")]
mod tests;

pub(super) use client::Pipedrive;
