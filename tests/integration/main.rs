//! Behaviour of the whole service: real Postgres, real gRPC, real HTTP to the simulated CRM. Run with `./dev test`.

#![expect(unreachable_pub, reason = "nothing is outside of a test binary")]

mod support;

mod command_line;
mod crash;
mod demo;
mod integrity;
mod main_job;
mod oracle;
mod simulated_history;
mod steps;
mod zendesk_pages;
mod zendesk_refusals;
mod zendesk_users;
mod sync_runs;
mod integrations;
mod leases;
mod private_cluster;
mod scenes;
mod match_caller;
mod call_ids;
