//! The road of a contact: integrations, runs, and each CRM.

pub mod access_tokens;
pub mod authorize;
mod credentials;
mod hint_drains;
mod hints;
mod integrations;
mod leases;
mod purge;
pub mod push;
mod push_losses;
mod push_merges;
mod push_scopes;
mod push_zendesk;
mod refusals;
mod rejected;
mod reparse;
mod schedule;
mod stop;
mod stream_standing;
mod streams;
mod sync_runs;
pub mod three_crms;
mod uninstall;
mod zendesk_answers;
mod zendesk_pages;
pub mod zendesk_refusals;
mod zendesk_users;
