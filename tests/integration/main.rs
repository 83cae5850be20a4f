//! Behaviour of the whole service: real Postgres, real gRPC, real HTTP to the simulated CRM. Run
//! with `./dev test`.

#![expect(unreachable_pub, reason = "nothing is outside of a test binary")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

mod api;
mod calls;
mod feed;
mod histories;
mod identity;
mod operations;
mod sync;
