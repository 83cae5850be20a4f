//! contact-sync names the caller and attributes the ticket. It copies the contacts of a customer's
//! CRMs into Postgres, keeps the copy fresh, and answers over gRPC in the time a phone needs to
//! start ringing.
//!
//! Read in this order. A call: `rpc::server` -> `rpc::connection` -> `rpc::gate` -> `rpc::caller`
//! -> `matching` -> `store::caller_lookup`. A contact: `sync::worker` -> `sync::run` ->
//! `crm::zendesk` -> `sync::normalize` -> `sync::apply` -> `identity` -> `store`. ARCHITECTURE.md
//! walks both roads.

pub mod domain;

pub mod click_to_call;
pub mod erasure;
pub mod feed;
pub mod integrations;
pub mod matching;
pub mod retention;
pub mod sync;

pub mod audit;
pub mod credentials;
pub mod identity;

pub mod crm;
pub mod key_source;
pub mod store;
pub mod vault;

pub mod listeners;
pub mod rpc;

pub mod app;
pub mod cli;
pub mod config;
pub mod jwt;
pub mod lifecycle;
pub mod telemetry;
pub mod tls;
