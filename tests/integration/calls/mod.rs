//! The road of a call: who is named, what is kept of it, and to whom a ticket is attributed.

mod call_ids;
mod caller_lookups;
mod click_to_call;
mod expected_calls;
mod explain;
mod false_matches;
mod look_aside;
mod main_job;
mod match_caller;
mod one_stranger;
mod own_calls;
mod policies;
mod requester;
mod select_match;
mod shared_lines;
pub mod strangers;
mod tiers;
