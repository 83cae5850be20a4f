//! Where Salesforce's API is: the answer to each request for a token says it, and an organisation may move.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use axum::{extract::Request, middleware};
use contact_sync::simulator::{
    faults::{Fault, Rule},
    salesforce,
};

use super::{
    behaviours::{assert_is_the_truth, link, next_pass},
    crm::{Crm, SalesforceCrm},
};
use crate::support::{TestApp, serve};

const BRYCE: &str = "+13108675309";

#[tokio::test]
async fn a_token_with_another_instance_url_is_used_there_from_then_on() {
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
        .add(Rule::always("/services/oauth2/token", Fault::InstanceMoved { url: new_home }))
        .unwrap();

    // Its sessions end when it moves.
    test.salesforce.expire_sessions();
    SalesforceCrm::rename(&test, &id, "Renamed");
    SalesforceCrm::forget_requests(&test);
    next_pass(&test).await;

    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
    let at_the_old = |test: &TestApp| SalesforceCrm::requests(test) - asked.load(SeqCst);
    assert_eq!(at_the_old(&test), 2, "one that is refused, and one for a token");
    SalesforceCrm::forget_requests(&test);
    asked.store(0, SeqCst);
    SalesforceCrm::rename(&test, &id, "Renamed Again");
    next_pass(&test).await;
    assert_eq!(at_the_old(&test), 0, "it is remembered");
    assert!(asked.load(SeqCst) > 0);
    assert_is_the_truth::<SalesforceCrm>(&test, &integration).await;
}
