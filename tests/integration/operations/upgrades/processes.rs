//! The program itself, on a schema of the next release, and on one that has left it behind.

use std::{fs, process::Command};

use super::program;
use crate::{
    operations::crash::{Files, Process},
    support::{TestApp, sync::eventually},
};

const NEXT: (i64, &str) = (
    99_990_101_000_000,
    "alter table calls add column weather text; update schema_compatibility set oldest_program = '0.1.0'",
);
const CONTRACTS: (i64, &str) = (
    99_990_101_000_100,
    "alter table calls drop column weather; update schema_compatibility set oldest_program = '98.0.0'",
);

/// `contact-sync migrate`: its exit code, and what it printed and said.
fn migrate(test: &TestApp) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_contact-sync"));
    command.arg("migrate").env_clear().env("CONTACT_SYNC_DATA_DIR", "/nonexistent").env("DATABASE_URL", test.db.url());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test]
async fn binary_goes_back_alone_unless_schema_forbids() {
    let test = TestApp::start().await;
    let files = Files::make(&test);
    let log = || fs::read_to_string(files.0.join("log")).unwrap();

    program("97.0.0", &[NEXT]).migrate(test.db.url()).await.unwrap();
    let (code, said) = migrate(&test);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("by a newer program") && said.contains("Programs from 0.1.0 on run on it."), "{said}");
    let process = Process::start(&test, &files).await;
    eventually("serving", async || log().contains("serving gRPC")).await;
    drop(process);

    program("99.0.0", &[NEXT, CONTRACTS]).migrate(test.db.url()).await.unwrap();
    let (code, said) = migrate(&test);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("needs version 98.0.0"), "{said}");
    let mut process = Process::start(&test, &files).await;
    eventually("its end", async || process.child.try_wait().unwrap().is_some()).await;
    assert_eq!(process.child.wait().unwrap().code(), Some(1), "{}", log());
    assert!(log().contains("needs version 98.0.0") && log().contains("Run 98.0.0 or newer"), "{}", log());
}
