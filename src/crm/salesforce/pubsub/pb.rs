//! What build.rs makes of `proto/salesforce`; nothing is written by hand.

#![expect(clippy::pedantic, clippy::doc_lazy_continuation, unreachable_pub, reason = "generated code")]

tonic::include_proto!("eventbus.v1");
