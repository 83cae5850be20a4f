//! Compiles Salesforce's Pub/Sub API into tonic code: the server, and apart the client of the
//! tests.

#![expect(clippy::disallowed_methods, reason = "cargo talks to a build script through the environment")]

use std::{env, error::Error, fs, path::PathBuf};

const FOLDER: &str = "../../proto/salesforce";
/// Where the messages stand.
const API: &str = "crate::salesforce::eventbus::api";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FOLDER}");
    let file = format!("{FOLDER}/eventbus/v1/pubsub_api.proto");
    let descriptors = protox::compile([file], [FOLDER])?;
    tonic_prost_build::configure().build_client(false).compile_fds(descriptors.clone())?;
    let client = PathBuf::from(env::var("OUT_DIR")?).join("client");
    fs::create_dir_all(&client)?;
    let configured = tonic_prost_build::configure().build_server(false).build_transport(false).out_dir(client);
    configured.extern_path(".eventbus.v1", API).compile_fds(descriptors)?;
    Ok(())
}
