//! Pages that are not as they should be.

use crm_simulator::faults::Fault;
use serde_json::json;

use super::{Company, PERIOD, PERSONS};
use crate::crm::{CrmClient, CrmError, PageEffort};

#[tokio::test]
async fn refused_cursor_starts_the_window_again() {
    let company = Company::start().await;
    company.create_many(600);
    let client = company.client();
    let page = client.fetch_page(None, PageEffort::Whole).await.unwrap();
    company.fail("cursor=", Fault::CursorRefused);

    let refused = client.fetch_page(page.next.as_deref(), PageEffort::Whole).await;

    assert!(matches!(refused, Err(CrmError::PositionRefused)));
    assert_eq!(client.fetch_page(page.next.as_deref(), PageEffort::Whole).await.unwrap().records.len(), 100);
}

#[tokio::test]
async fn refused_window_is_no_refused_position() {
    let company = Company::start().await;
    company.fail(PERSONS, Fault::CursorRefused);

    assert!(matches!(company.refused().await, CrmError::Refused(400)));
}

#[tokio::test]
async fn position_of_nobody_is_refused() {
    let company = Company::start().await;

    for text in ["", "eyJmaWVsZCI6ImlkIn0", r#"{"v":2,"at":"checkpoint","through":1790000000}"#] {
        assert!(
            matches!(company.client().fetch_page(Some(text), PageEffort::Whole).await, Err(CrmError::PositionRefused)),
            "{text}"
        );
    }
    assert_eq!(company.pipedrive.requests().total, 0);
}

/// A cursor that does not lead on ends the run.
#[tokio::test]
async fn cursor_that_leads_nowhere_ends_run() {
    let company = Company::start().await;
    company.create_many(1_200);
    let client = company.client();
    let page = client.fetch_page(None, PageEffort::Whole).await.unwrap();
    company.fail("cursor=", Fault::StuckCursor);

    assert!(matches!(client.fetch_page(page.next.as_deref(), PageEffort::Whole).await, Err(CrmError::Stuck)));
}

/// An empty page is not the end, and rows may repeat.
#[tokio::test]
async fn empty_page_is_not_end_rows_may_repeat() {
    let company = Company::start().await;
    company.create_many(600);
    company.fail(PERSONS, Fault::EmptyPage { advance: true });
    company.fail("cursor=", Fault::DuplicateRow);

    let run = company.run(None).await;

    assert_eq!((run.records.len(), run.pages), (601, 3));
}

/// A page that does not say whether there is more is not the end.
#[tokio::test]
async fn page_silent_about_more_is_not_end() {
    let company = Company::start().await;
    company.create_many(1);
    company.fail(PERSONS, Fault::Patch { set: [].into(), remove: vec!["/additional_data".to_owned()] });

    assert!(matches!(company.refused().await, CrmError::Unreadable(_)));
}

#[tokio::test]
async fn row_that_cannot_be_read_is_rejected_alone() {
    let company = Company::start().await;
    company.create_many(3);
    company.fail(PERSONS, Fault::Patch { set: [("/data/1/id".to_owned(), json!("x"))].into(), remove: vec![] });

    let run = company.run(None).await;

    assert_eq!((run.names(), run.rejected), (vec!["P1", "P3"], 1));
}

#[tokio::test]
async fn empty_numbers_are_none() {
    let company = Company::start_with(|config| config.empty_phone_entries = true).await;
    company.pipedrive.create_person(&json!({"name": "No number"})).unwrap();
    company.create("One number");
    company.fail(PERSONS, Fault::EmptyPhones);

    let run = company.run(None).await;

    assert_eq!(run.records.iter().map(|record| record.numbers.len()).collect::<Vec<_>>(), [0, 1]);
}

/// A clock that was ahead makes everything be read again.
#[tokio::test]
async fn clock_that_was_ahead_makes_everything_reread() {
    let company = Company::start().await;
    company.create_many(1);
    company.fail(PERSONS, Fault::DateSkew { seconds: 2 * PERIOD });
    let first = company.run(None).await;
    company.advance(PERIOD);

    let refused = company.client().fetch_page(Some(&first.checkpoint), PageEffort::Whole).await;

    assert!(matches!(refused, Err(CrmError::PositionRefused)));
}
