//! The nouns. Pure: no async, no I/O, no types of sqlx, tonic or reqwest. Read this first.

pub mod account;
pub mod audit;
pub mod call;
pub mod call_ref;
pub mod change;
pub mod clock;
pub mod contact;
pub mod credentials;
pub mod descriptor;
pub mod hint;
pub mod hook;
pub mod host;
pub mod ids;
pub mod integration;
pub mod integration_state;
pub mod look_aside;
pub mod match_policy;
pub mod notice;
pub mod options;
pub mod provider;
pub mod record;
pub mod rejected;
pub mod requester;
pub mod stream;
pub mod suppression;
pub mod sync_run;
