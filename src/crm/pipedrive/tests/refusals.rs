//! What Pipedrive's refusals come to, and how far its limits are used.

use std::time::Duration;

use crm_simulator::faults::Fault;

use super::{Company, PERSONS, api_token};
use crate::crm::{CrmClient, CrmError, PageEffort, RetryAdvice};

#[tokio::test]
async fn refusals_mean_what_can_be_done_about_them() {
    let company = Company::start().await;
    for (fault, reason, retry) in [
        (Fault::BurstLimited { reset_seconds: 2 }, "RATE_LIMITED", RetryAdvice::After(Duration::from_secs(2))),
        (
            Fault::RateLimited { retry_after_seconds: Some(7) },
            "RATE_LIMITED",
            RetryAdvice::After(Duration::from_secs(7)),
        ),
        (Fault::CloudflareBlocked, "RATE_LIMITED", RetryAdvice::After(Duration::from_mins(5))),
        (Fault::AccountClosed, "CRM_ACCOUNT_CLOSED", RetryAdvice::Never),
        (Fault::Unauthorized, "CREDENTIALS_REFUSED", RetryAdvice::Never),
        (Fault::ForbiddenScope, "PERMISSION_MISSING", RetryAdvice::Never),
        (Fault::NotFound, "ORGANIZATION_NOT_FOUND", RetryAdvice::Never),
        (Fault::ServerError, "CRM_UNREACHABLE", RetryAdvice::Backoff),
        (Fault::Truncate, "CRM_ANSWER_UNREADABLE", RetryAdvice::Backoff),
        (Fault::Html, "CRM_ANSWER_UNREADABLE", RetryAdvice::Backoff),
    ] {
        company.fail(PERSONS, fault);

        let error = company.refused().await;

        assert_eq!((error.reason(), error.retry()), (reason, retry), "{error}");
    }
}

#[tokio::test]
async fn spent_day_waits_for_midnight() {
    let company = Company::start().await;
    company.fail(PERSONS, Fault::DailyLimit);

    let error = company.refused().await;

    // From 14:13:20 on.
    let to_midnight = Duration::from_secs(9 * 3_600 + 46 * 60 + 40);
    assert_eq!((error.reason(), error.retry()), ("DAILY_LIMIT", RetryAdvice::After(to_midnight)));
}

/// Beyond the share of the day, nothing is asked.
#[tokio::test]
async fn beyond_daily_share_nothing_is_asked() {
    let company = Company::start_with(|config| config.limits.daily_tokens = Some(100)).await;
    let client = company.client_with(|_| {}, 30);
    let spend = async || client.fetch_page(None, PageEffort::Whole).await;
    // Two for the user, and ten for each list.
    for _ in 0..3 {
        spend().await.unwrap();
    }
    let asked = company.pipedrive.requests().total;

    let refused = spend().await;

    assert!(matches!(refused, Err(CrmError::QuotaSpent { reason: "DAILY_LIMIT", .. })));
    assert_eq!(company.pipedrive.requests().total, asked);
}

#[tokio::test]
async fn connection_to_the_company_itself_is_good() {
    let company = Company::start_with(|config| config.company_user_is_admin = false).await;

    assert!(company.client().probe().await.unwrap().estimated_contacts.is_none());
    assert_eq!(company.client().count().await.unwrap(), None);
}

#[tokio::test]
async fn token_of_another_company_is_refused() {
    let company = Company::start().await;
    company.create_many(1);
    let client = company.client_for("initech", |_| {}, 100);

    let acme = |error: &CrmError| matches!(error, CrmError::OtherOrganization(Some(name)) if name == "acme");
    assert!(client.probe().await.is_err_and(|error| acme(&error)));
    assert!(client.fetch_page(None, PageEffort::Whole).await.is_err_and(|error| acme(&error)));
    assert_eq!(company.queries(PERSONS).len(), 0);
}

#[tokio::test]
async fn wrong_token_is_refused() {
    let company = Company::start().await;
    let client = company.client_with(|target| target.access.token = api_token("wrong"), 100);

    assert!(matches!(client.probe().await, Err(CrmError::CredentialsRefused)));
}
