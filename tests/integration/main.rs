//! Behaviour of the whole service: real Postgres, real gRPC, real HTTP to the simulated CRM. Run with `./dev test`.

#![expect(unreachable_pub, reason = "nothing is outside of a test binary")]

mod support;

mod main_job;
mod private_cluster;
