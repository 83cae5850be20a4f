//! Behaviour of the whole service: real Postgres, real gRPC, real HTTP to the simulated CRM. Run with `./dev test`.

#![expect(unreachable_pub, reason = "nothing is outside of a test binary")]

mod support;

mod integrity;
mod main_job;
mod oracle;
mod steps;
mod zendesk_pages;
mod zendesk_users;
mod private_cluster;
