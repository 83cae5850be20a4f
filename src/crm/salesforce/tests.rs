//! The client against the simulated Salesforce over HTTP.

mod deletions;
mod full;
mod increments;
mod newest;
mod refusals;
mod support;
