//! The CRMs as real HTTP servers, with faults and an oracle: what the demo, the tests and the
//! benches talk to instead of a vendor.
//!
//! Read in this order: [`zendesk`] (the vendor's API over a model of one account), [`salesforce`]
//! and [`pipedrive`] (the same of other vendors), [`faults`] (what may go wrong, and when),
//! [`people`] (who is in the account), [`command`] (the command line). Owns: vendors' wire formats
//! as the vendors send them. Invariant: depends on no other crate of this workspace, so that a
//! mistake in a client's reading of a vendor cannot hide on both sides. Must not: be reachable from
//! outside a test machine. Its control endpoints ask for no credentials.

mod call;
pub mod command;
mod connection;
mod control;
mod delivery;
pub mod faults;
pub mod gate;
mod given;
mod lines;
mod oauth;
pub mod people;
pub mod pipedrive;
pub mod push;
mod reply;
pub mod requests;
pub mod salesforce;
mod serve;
pub mod zendesk;

use std::sync::Arc;

use chrono::{DateTime, Utc};

/// A simulated vendor that is ready to be served.
pub use axum::Router;
pub use lines::LineError;
pub use oauth::TokenRequests;
pub use serve::serve;

/// Where a simulated vendor reads the time: the system's clock in the command, a clock under the
/// test's control in tests.
pub type SimulatorClock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;
