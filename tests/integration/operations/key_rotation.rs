//! The key ring is rotated: a new key becomes primary, every run seals its credentials with it, and
//! the old key can leave.

use std::sync::Arc;

use chrono::TimeDelta;
use contact_sync::{
    app::{AppWorld, ServiceApp},
    domain::{clock::Clock, ids::IdSource},
    rpc::pb,
    vault::KeyRing,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{TestApp, error_of};

pub const OLD: &str = r#"{"id":"k1","key":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}"#;
pub const NEW: &str = r#"{"id":"k2","key":"ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="}"#;

/// A run seals credentials with the primary key, so that the old one can leave.
#[tokio::test]
async fn run_reseals_credentials_so_old_key_leaves() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;

    test.pass(TimeDelta::minutes(30));
    let both = replica(&test, &format!(r#"{{"primary":"k2","keys":[{NEW},{OLD}]}}"#));
    assert_eq!(both.sync_worker.run_due().await.unwrap(), 1);
    test.pass(TimeDelta::minutes(30));
    let new_alone = replica(&test, &format!(r#"{{"primary":"k2","keys":[{NEW}]}}"#));
    assert_eq!(new_alone.sync_worker.run_due().await.unwrap(), 1);

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
}

fn replica(test: &TestApp, key_ring: &str) -> ServiceApp {
    replica_with(test, Arc::new(KeyRing::parse(key_ring).unwrap()))
}

fn replica_with(test: &TestApp, key_ring: Arc<KeyRing>) -> ServiceApp {
    let world = AppWorld {
        clock: Arc::clone(&test.clock) as Arc<dyn Clock>,
        ids: Arc::new(IdSource::seeded(9)),
        key_ring,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        health: contact_sync::rpc::health::ServingHealth::new(false),
    };
    ServiceApp::new(&test.config, test.db.url(), world).unwrap()
}

/// A process that has not read the newest ring yet holds nothing: minutes later it has read it.
#[tokio::test]
async fn run_with_unread_key_is_looked_at_again() {
    let test = TestApp::start().await;
    let (account, integration) = test.synced().await;
    test.pass(TimeDelta::minutes(30));
    let ahead = replica(&test, &format!(r#"{{"primary":"k2","keys":[{NEW},{OLD}]}}"#));
    assert_eq!(ahead.sync_worker.run_due().await.unwrap(), 1);
    test.pass(TimeDelta::minutes(30));
    let ring = Arc::new(KeyRing::parse(&format!(r#"{{"primary":"k1","keys":[{OLD}]}}"#)).unwrap());
    let behind = replica_with(&test, Arc::clone(&ring));

    assert_eq!(behind.sync_worker.run_due().await.unwrap(), 1);
    let run = test.last_run(&account, &integration).await;
    assert!(error_of(&run).starts_with("CREDENTIALS_SEALED_BY_ANOTHER_KEY"), "{}", error_of(&run));
    assert_eq!(test.integration(&account, &integration).await.state(), pb::IntegrationState::Active);
    ring.replace(&format!(r#"{{"primary":"k2","keys":[{NEW},{OLD}]}}"#)).unwrap();
    test.pass(TimeDelta::minutes(3));
    assert_eq!(behind.sync_worker.run_due().await.unwrap(), 1);

    let run = test.last_run(&account, &integration).await;
    assert_eq!(run.state(), pb::SyncRunState::Succeeded, "{}", error_of(&run));
}
