//! The soft stop of the whole: what is asked is still answered, who watches is told, and what was
//! begun in the database is finished before the process ends.

use std::time::Duration;

use contact_sync::rpc::pb::{self, Provider};
use futures_util::poll;
use sqlx::AssertSqlSafe;
use tonic::{Code, Request};

use crate::{
    api::methods::invoke,
    histories::integrity,
    support::TestApp,
    support::calls::{CONTACT_15, ORG, click_on, refusal},
    support::sync::{blocked, eventually, soon},
};

const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Whoever watches a run is told to watch elsewhere.
#[tokio::test]
async fn run_watchers_are_sent_elsewhere() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let integration = test.enable(&account, "acme").await;
    let run = test.last_run(&account, &integration).await;
    let request = pb::WatchSyncRunRequest { account_id: account, sync_run_id: run.id };
    let mut watching = test.syncs().watch_sync_run(request).await.unwrap().into_inner();
    let first = watching.message().await.unwrap().unwrap();

    test.lifecycle.soft().cancel();
    let end = soon("the end of the stream", watching.message()).await.unwrap_err();

    assert_eq!(first.sync_run.unwrap().state(), pb::SyncRunState::Queued);
    assert_eq!(refusal(&end), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
}

/// A call that is under way is answered, and health says no meanwhile.
#[tokio::test]
async fn open_call_is_answered_while_health_says_no() {
    let test = TestApp::start_with(|config| config.drain.wait_seconds = 30).await;
    let account = test.account().await;
    let mut blocking = test.db.pool.begin().await.unwrap();
    let lock = format!("select 1 from accounts where account_id = '{account}' for update");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *blocking).await.unwrap();
    let rename = pb::UpdateAccountRequest {
        account_id: account.clone(),
        account: Some(pb::Account { display_name: "Renamed".into(), ..Default::default() }),
        update_mask: None,
    };
    let mut accounts = test.accounts();
    let mut under_way = std::pin::pin!(accounts.update_account(rename));
    assert!(poll!(&mut under_way).is_pending());
    blocked(&test, 1).await;

    test.lifecycle.soft().cancel();
    eventually("NOT_SERVING", async || {
        invoke(test.channel.clone(), HEALTH, Request::new(Vec::new())).await.unwrap() == [0x08, 0x02]
    })
    .await;
    blocking.rollback().await.unwrap();
    let answered = soon("the answer", under_way).await.unwrap().into_inner();
    let asked_meanwhile = test.accounts().get_account(pb::GetAccountRequest { account_id: account }).await;

    assert_eq!(answered.account.unwrap().display_name, "Renamed");
    assert!(asked_meanwhile.is_ok(), "load balancers need a moment to turn away: {asked_meanwhile:?}");
}

/// A transaction whose caller has hung up is finished before the process ends.
#[tokio::test]
async fn abandoned_transaction_finishes_before_process_ends() {
    let test = TestApp::start().await;
    let account = test.account().await;
    let salesforce = test.enable_off(&account, Provider::Salesforce, ORG).await;
    let mut blocking = test.db.pool.begin().await.unwrap();
    let lock = format!("select 1 from integrations where integration_id = '{salesforce}' for update");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *blocking).await.unwrap();
    {
        // The ref waits for its integration's row; then the adapter hangs up.
        let mut callers = test.callers();
        let click = click_on(&account, &salesforce, "Contact", CONTACT_15, "+13105550100");
        let mut clicking = std::pin::pin!(callers.pre_register_contact(click));
        assert!(poll!(&mut clicking).is_pending());
        tokio::select! {
            _ = clicking => panic!("the click must wait"),
            () = blocked(&test, 1) => {}
        }
    }

    test.lifecycle.soft().cancel();
    test.lifecycle.tasks().close();
    let tasks = test.lifecycle.tasks().clone();
    let mut ended = std::pin::pin!(tasks.wait());
    let ended_early = tokio::select! {
        () = &mut ended => true,
        () = blocked(&test, 1) => false,
    };
    blocking.rollback().await.unwrap();
    soon("the end of all tasks", ended).await;

    assert!(!ended_early, "the process would have ended with a transaction open");
    assert_eq!(test.rows(&account, "external_refs").await, 1);
    assert_eq!(test.rows(&account, "expected_calls").await, 1);
    integrity::assert_holds(&test).await;
}

#[tokio::test]
async fn after_the_drain_nobody_is_let_in() {
    let test = TestApp::start().await;
    let account = test.account().await;

    test.lifecycle.soft().cancel();
    test.lifecycle.tasks().close();
    soon("the end of all tasks", test.lifecycle.tasks().wait()).await;

    let mut request = Request::new(pb::GetAccountRequest { account_id: account });
    request.set_timeout(Duration::from_secs(2));
    let refused = test.accounts().get_account(request).await.unwrap_err();
    assert!([Code::Unavailable, Code::Unknown, Code::Cancelled].contains(&refused.code()), "{refused:?}");
}
