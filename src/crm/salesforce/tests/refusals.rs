//! What goes wrong, and what it means.

use std::time::Duration;

use crm_simulator::faults::Fault;
use serde_json::json;

use super::support::{Org, run};
use crate::{
    crm::{CrmClient, CrmError, PageEffort},
    domain::{options::Options, record::ObjectType},
};

async fn error_with(fault: Fault) -> CrmError {
    let org = Org::start().await;
    org.fault("/queryAll", None, fault);
    run(&org.client(), None).await.err().unwrap()
}

#[tokio::test]
async fn each_failure_has_its_meaning() {
    let daily = error_with(Fault::DailyLimit).await;
    assert!(
        matches!(daily, CrmError::QuotaSpent { reason: "DAILY_LIMIT", resume_after, .. } if resume_after == Duration::from_hours(1)),
        "{daily}"
    );
    let concurrent = error_with(Fault::RateLimited { retry_after_seconds: None }).await;
    assert!(matches!(concurrent, CrmError::RateLimited { retry_after: Some(_) }), "{concurrent}");
    let page = error_with(Fault::Unavailable { retry_after_seconds: None }).await;
    assert!(matches!(page, CrmError::Unavailable(_)), "{page}");
    let html = error_with(Fault::Html).await;
    assert!(matches!(html, CrmError::Unreadable(_)), "{html}");
    let disabled = error_with(Fault::ApiDisabled).await;
    assert!(matches!(disabled, CrmError::AccountClosed(_)), "{disabled}");
    let forbidden = error_with(Fault::ForbiddenRole).await;
    assert!(matches!(forbidden, CrmError::PermissionMissing(_)), "{forbidden}");
    let locator = error_with(Fault::LocatorGone).await;
    assert!(matches!(locator, CrmError::Unavailable(_)), "{locator}");
    let stuck = error_with(Fault::EmptyPage { advance: false }).await;
    assert!(matches!(stuck, CrmError::Stuck), "{stuck}");
}

#[tokio::test]
async fn an_expired_session_is_told() {
    let org = Org::start().await;
    org.simulated.expire_sessions();

    let page = org.client().fetch_page(None, PageEffort::Whole).await.err().unwrap();
    let probe = org.client().probe().await.err().unwrap();

    assert!(matches!(page, CrmError::CredentialsRefused), "{page}");
    assert!(matches!(probe, CrmError::CredentialsRefused), "{probe}");
}

/// A failed page is read again from the same place.
#[tokio::test]
async fn failed_page_is_read_from_same_place() {
    let org = Org::start_with(|config| config.page_rows_max = 200).await;
    org.simulated.generate_people(500, 0, 1).unwrap();
    let client = org.client();
    let first = client.fetch_page(None, PageEffort::Whole).await.unwrap();
    org.fault("/queryAll", Some(1), Fault::ServerError);
    assert!(client.fetch_page(first.next.as_deref(), PageEffort::Whole).await.is_err());

    let rest = run(&client, first.next.as_deref()).await.unwrap();

    assert_eq!(first.records.len() + rest.records.len(), 500);
}

#[tokio::test]
async fn the_share_of_the_day_is_not_runed() {
    let org = Org::start_with(|config| config.daily_limit = 20).await;
    let client = org.client_of("00D000000000001", Options::default(), i64::MAX, 50);

    let mut last = client.fetch_page(None, PageEffort::Whole).await.map(|_| ());
    for _ in 0..20 {
        if last.is_err() {
            break;
        }
        last = client.fetch_page(None, PageEffort::Whole).await.map(|_| ());
    }

    assert!(matches!(last, Err(CrmError::QuotaSpent { reason: "DAILY_LIMIT", .. })));
    assert!(org.simulated.requests().total <= 11);
}

#[tokio::test]
async fn a_probe_tells_the_organisation_apart_and_counts() {
    let org = Org::start().await;
    org.contact(&json!({}));
    org.lead();
    let id = org.client().rest.identity().await.unwrap().organization_id;

    let probe = org.client_of(&id, Options::default(), i64::MAX, 100).probe().await.unwrap();
    let other = org.client_of("00D000000000xyz", Options::default(), i64::MAX, 100).probe().await.err().unwrap();

    assert_eq!(probe.estimated_contacts, Some(2));
    assert!(matches!(&other, CrmError::OtherOrganization(Some(opened)) if *opened == id), "{other}");
}

/// A probe wants to see one kind at least.
#[tokio::test]
async fn probe_wants_one_visible_kind_at_least() {
    let org = Org::start_with(|config| config.has_leads = false).await;
    org.contact(&json!({}));
    let id = org.client().rest.identity().await.unwrap().organization_id;
    let mut only_leads = Options::default();
    only_leads.objects[ObjectType::Contact].is_copied = false;

    let probe = org.client_of(&id, Options::default(), i64::MAX, 100).probe().await.unwrap();
    let error = org.client_of(&id, only_leads, i64::MAX, 100).probe().await.err().unwrap();

    assert_eq!(probe.estimated_contacts, Some(1));
    assert!(matches!(error, CrmError::PermissionMissing(_)), "{error}");
}

#[tokio::test]
async fn a_place_that_is_none_is_refused() {
    let org = Org::start().await;

    let error = org.client().fetch_page(Some("MTU3NjYxMzUzOS4wfHw0Njd8"), PageEffort::Whole).await.err().unwrap();

    assert!(matches!(error, CrmError::PositionRefused), "{error}");
}
