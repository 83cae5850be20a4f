//! More calls than the database answers: who finds no room is told at once, everybody else is
//! answered, and other accounts notice nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use contact_sync::rpc::pb;
use futures_util::future::join_all;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    support::calls::{look_only, refusal},
    support::{TestApp, call},
};

const NUMBER: &str = "+13108675309";

/// What a lone account may have of the 24 places for each of two connections.
const SHARE: usize = 32;

async fn ask(test: &TestApp, account: &str) -> Result<pb::MatchCallerResponse, Status> {
    test.callers().match_caller(look_only(call(account, NUMBER))).await.map(tonic::Response::into_inner)
}

/// A burst is answered up to the share, and refused above it.
#[tokio::test]
async fn burst_above_share_is_refused() {
    let test = TestApp::start_with(|config| config.pools.call.connections = 2).await;
    let account = test.account().await;

    let answers = join_all((0..200).map(|_| ask(&test, &account))).await;

    let answered = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(answered >= SHARE, "{answered} of 200 answered");
    for refused in answers.into_iter().filter_map(Result::err) {
        assert_eq!(refusal(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
        assert!(refused.get_error_details().retry_info().unwrap().retry_delay.is_some());
    }
    ask(&test, &account).await.unwrap();
}

/// An account that floods is noticed by no other.
#[tokio::test]
async fn flooding_account_is_noticed_by_no_other() {
    let test = TestApp::start_with(|config| config.pools.call.connections = 1).await;
    let (noisy, quiet) = (test.account().await, test.account().await);
    let is_over = AtomicBool::new(false);
    let flood = join_all((0..30).map(|_| async {
        while !is_over.load(Ordering::Relaxed) {
            let _ = ask(&test, &noisy).await;
        }
    }));
    let calls = async {
        for _ in 0..20 {
            let answer = ask(&test, &quiet).await;
            // Before a failed answer ends the test, and with it the flood.
            if answer.is_err() {
                is_over.store(true, Ordering::Relaxed);
            }
            answer.unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    };

    tokio::join!(flood, calls);
}
