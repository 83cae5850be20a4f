//! Behaviour of the whole service: real Postgres, real gRPC, real HTTP to the simulated CRM. Run with `./dev test`.

#![expect(unreachable_pub, reason = "nothing is outside of a test binary")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

mod access_tokens;
mod accounts;
mod authorization;
mod authorize;
mod bad_input;
mod call_ids;
mod caller_lookups;
mod cancellation;
mod click_to_call;
mod command_line;
mod contacts;
mod corrections;
mod crash;
mod credentials;
mod database_faults;
mod database_trouble;
mod demo;
mod drain;
mod erasure;
mod expected_calls;
mod explain;
mod false_matches;
mod feed;
mod integrations;
mod integrity;
mod isolation;
mod key_rotation;
mod leases;
mod main_job;
mod match_caller;
mod methods;
mod migrations;
mod one_stranger;
mod oracle;
mod overload;
mod plans;
mod policies;
mod private_cluster;
mod purge;
mod rejected;
mod requester;
mod reread;
mod scenes;
mod schedule;
mod schema;
mod select_match;
mod shared_lines;
mod simulated_history;
mod statements;
mod steps;
mod stop;
mod storm;
mod strangers;
mod survivors;
mod sync_runs;
mod three_crms;
mod tiers;
mod zendesk_answers;
mod zendesk_pages;
mod zendesk_refusals;
mod zendesk_users;
