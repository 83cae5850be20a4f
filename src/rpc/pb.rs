//! The types and service traits that build.rs generates from `proto/`, and the descriptors that
//! reflection serves. Only `rpc` and the gRPC clients of the command line see these types; nothing
//! is written by hand here.

#![expect(clippy::pedantic, clippy::allow_attributes, clippy::clone_on_ref_ptr, reason = "generated code")]

tonic::include_proto!("contactsync.v1");

/// gRPC's health checking protocol.
pub mod health {
    #![allow(rustdoc::bare_urls, reason = "comments of the published proto")]

    tonic::include_proto!("grpc.health.v1");
}

/// An encoded `google.protobuf.FileDescriptorSet` of every file in `proto/`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contactsync_descriptor.bin"));
