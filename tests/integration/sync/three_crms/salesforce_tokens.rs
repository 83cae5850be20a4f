//! Where Salesforce's API is: the answer to each request for a token says it, and an organisation
//! may move.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use axum::{
    extract::Request,
    http::{StatusCode, header},
    middleware::{self, Next},
    response::IntoResponse as _,
};
use contact_sync::rpc::pb;
use crm_simulator::{
    faults::{Fault, FaultRule},
    salesforce,
};
use serde_json::json;

use super::{
    behaviours::{assert_is_the_truth, link, next_run},
    crm::{Crm, SalesforceCrm},
};
use crate::support::{TestApp, error_of, serve};

const BRYCE: &str = "+13108675309";

/// A token with another instance URL is used there from then on.
#[tokio::test]
async fn tokens_other_instance_url_is_used_henceforth() {
    let test = TestApp::start().await;
    let id = SalesforceCrm::create(&test, "Bryce Love", BRYCE);
    let account = test.account().await;
    let integration = link::<SalesforceCrm>(&test, &account, SalesforceCrm::refresh_token()).await;
    assert_eq!(test.sync_due().await, 1);
    let asked = Arc::new(AtomicU64::new(0));
    let counting = {
        let asked = Arc::clone(&asked);
        middleware::map_request(move |request: Request| {
            asked.fetch_add(1, SeqCst);
            std::future::ready(request)
        })
    };
    let new_home = serve(salesforce::router(Arc::clone(&test.salesforce)).layer(counting)).await;
    test.salesforce
        .faults()
        .add(FaultRule::always("/services/oauth2/token", Fault::InstanceMoved { url: new_home }))
        .unwrap();

    // Its sessions end when it moves.
    test.salesforce.expire_sessions();
    SalesforceCrm::rename(&test, &id, "Renamed");
    SalesforceCrm::forget_requests(&test);
    next_run(&test).await;

    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
    let at_the_old = |test: &TestApp| SalesforceCrm::requests(test) - asked.load(SeqCst);
    assert_eq!(at_the_old(&test), 2, "one that is refused, and one for a token");
    SalesforceCrm::forget_requests(&test);
    asked.store(0, SeqCst);
    SalesforceCrm::rename(&test, &id, "Renamed Again");
    next_run(&test).await;
    assert_eq!(at_the_old(&test), 0, "it is remembered");
    assert!(asked.load(SeqCst) > 0);
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}

const TOKENS: &str = "/services/oauth2/token";
/// What an old host answers: status, type, body.
type OldAnswer = (u16, &'static str, &'static str);

/// A host of the organisation, which answers like an old one as soon as it is told how.
async fn home(test: &TestApp, answer: &Arc<Mutex<Option<OldAnswer>>>) -> String {
    let answer = Arc::clone(answer);
    let layer = middleware::from_fn(move |request: Request, next: Next| {
        let old = *answer.lock().unwrap();
        async move {
            let Some((status, kind, body)) = old else { return next.run(request).await };
            let headers = [(header::CONTENT_TYPE, kind), (header::LOCATION, "https://acme-2.my.salesforce.com/")];
            (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
        }
    });
    serve(salesforce::router(Arc::clone(&test.salesforce)).layer(layer)).await
}

/// An old host that does not answer any more is left for the one that a new token names.
#[tokio::test]
async fn new_tokens_host_replaces_dead_one() {
    let not_reset = r#"[{"errorCode":"URL_NOT_RESET","message":"Destination URL not reset. The URL returned from login must be set"}]"#;
    for answer in [
        (301, "text/html", "<html>moved</html>"),
        (302, "text/plain", ""),
        (404, "text/html", "<html>URL No Longer Exists</html>"),
        (403, "text/html", "<html>no</html>"),
        (400, "application/json", not_reset),
        (500, "application/json", not_reset),
        (200, "text/html", "<html>Destination URL not reset</html>"),
    ] {
        let test = TestApp::start().await;
        let id = SalesforceCrm::create(&test, "Bryce Love", BRYCE);
        let account = test.account().await;
        let old_answer = Arc::default();
        let old_home = home(&test, &old_answer).await;
        let faults = test.salesforce.faults();
        let named = faults.add(FaultRule::always(TOKENS, Fault::InstanceMoved { url: old_home })).unwrap();
        let integration = link::<SalesforceCrm>(&test, &account, SalesforceCrm::refresh_token()).await;
        assert_eq!(test.sync_due().await, 1);

        faults.remove(named);
        *old_answer.lock().unwrap() = Some(answer);
        SalesforceCrm::rename(&test, &id, "Renamed");
        next_run(&test).await;

        let run = test.last_run(&account, &integration).await;
        assert_eq!((run.state(), error_of(&run).as_str()), (pb::SyncRunState::Succeeded, ""), "{answer:?}");
        assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
    }
}

/// A new token of another organisation is not used.
#[tokio::test]
async fn new_token_of_other_organization_is_unused() {
    let test = TestApp::start().await;
    SalesforceCrm::create(&test, "Bryce Love", BRYCE);
    let account = test.account().await;
    let integration = link::<SalesforceCrm>(&test, &account, SalesforceCrm::refresh_token()).await;
    assert_eq!(test.sync_due().await, 1);
    let other = json!("https://login.salesforce.com/id/00Dx0000000BV7zEAO/005x00000012Q9PAAU");
    let set = [("/id".to_owned(), other)].into();
    test.salesforce.faults().add(FaultRule::always(TOKENS, Fault::Patch { set, remove: Vec::new() })).unwrap();
    test.salesforce.expire_sessions();
    SalesforceCrm::forget_requests(&test);

    next_run(&test).await;

    let run = test.last_run(&account, &integration).await;
    assert!(error_of(&run).starts_with("OTHER_ORGANIZATION"), "{}", error_of(&run));
    assert_eq!(SalesforceCrm::requests(&test), 2, "one that is refused, and one for a token");
}
