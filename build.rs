//! Compiles `proto/` with protox (no protoc needed) into tonic code and a descriptor set for
//! reflection, the command line and the tests.

#![expect(clippy::disallowed_methods, reason = "cargo talks to a build script through the environment")]

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let own = ["account", "caller", "contact", "sync"].map(|name| format!("proto/contactsync/v1/{name}.proto"));
    let health = "proto/grpc/health/v1/health.proto".to_owned();
    let descriptors = protox::compile(own.into_iter().chain([health]), ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("contactsync_descriptor.bin"), descriptors.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    // By which the command line finds a message's descriptor.
    config.enable_type_names();
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    // A vendor's API, of which the service is a client: in no descriptor set that is shown.
    let salesforce = protox::compile(["proto/salesforce/eventbus/v1/pubsub_api.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(salesforce)?;
    Ok(())
}
