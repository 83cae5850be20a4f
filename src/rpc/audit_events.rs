//! Audit events, between proto and the store.

use chrono::{DateTime, Utc};
use tonic::Status;
use uuid::Uuid;

use super::{convert, page_token, parse, pb, status, together::ReadTogether};
use crate::{
    domain::{
        audit::{AuditEvent, AuditResult, NO_ACCOUNT},
        ids::AccountId,
    },
    store::{self, Db},
};

const METHOD: &str = "ListAuditEvents";
/// Later than any call.
const END_OF_TIME: DateTime<Utc> = parse::TIME_MAX;

pub(super) async fn list(
    db: &Db,
    account_id: Result<AccountId, Status>,
    request: pb::ListAuditEventsRequest,
) -> Result<pb::ListAuditEventsResponse, Status> {
    let (account_id, size, since, until) = (
        account_id,
        page_token::page_size(request.page_size),
        parse::time("start_time", request.start_time.as_ref()),
        parse::time("end_time", request.end_time.as_ref()),
    )
        .together()?;
    let micros = |time: Option<DateTime<Utc>>| time.map(|time| time.timestamp_micros().to_string());
    let filter = [account_id.to_string(), micros(since).unwrap_or_default(), micros(until).unwrap_or_default()];
    let filter = filter.each_ref().map(String::as_str);
    let after = page_token::decode(METHOD, &filter, &request.page_token)?;
    let after = after.map(|key| place(&key).ok_or_else(page_token::refused)).transpose()?;

    let before = after.unwrap_or((until.unwrap_or(END_OF_TIME), Uuid::nil()));
    let since = since.unwrap_or(DateTime::UNIX_EPOCH);
    let mut events = store::audit::list(db, account_id, since, before, convert::limit(size)).await?;

    if events.is_empty() && account_id != NO_ACCOUNT {
        store::accounts::find(db, account_id).await?.ok_or_else(status::account_not_found)?;
    }
    let next = convert::cut_page(&mut events, size).map(|last| {
        let key = [last.called_at.timestamp_micros().to_string(), last.id.to_string()];
        page_token::encode(METHOD, &filter, &key.each_ref().map(String::as_str))
    });
    Ok(pb::ListAuditEventsResponse {
        audit_events: events.into_iter().map(audit_event).collect(),
        next_page_token: next.unwrap_or_default(),
    })
}

/// The event that a page ended with.
fn place(key: &[String]) -> Option<(DateTime<Utc>, Uuid)> {
    let [micros, id] = key else { return None };
    let time = DateTime::from_timestamp_micros(micros.parse().ok()?);
    Some((time.filter(|time| (DateTime::UNIX_EPOCH..END_OF_TIME).contains(time))?, id.parse().ok()?))
}

fn audit_event(event: AuditEvent) -> pb::AuditEvent {
    let text = |id: Option<String>| id.unwrap_or_default();
    let result = match event.result {
        AuditResult::Done => pb::AuditResult::Done,
        AuditResult::Unchanged => pb::AuditResult::Unchanged,
        AuditResult::Refused => pb::AuditResult::Refused,
    };
    pb::AuditEvent {
        id: event.id.to_string(),
        call_time: Some(convert::timestamp(event.called_at)),
        subject: text(event.subject),
        method: event.method,
        result: result.into(),
        reason: text(event.reason),
        request_id: event.request_id.to_string(),
        integration_id: text(event.target.integration_id.map(|id| id.to_string())),
        sync_run_id: text(event.target.sync_run_id.map(|id| id.to_string())),
        contact_id: text(event.target.contact_id.map(|id| id.to_string())),
        fields: event.fields,
        left_out: event.left_out,
    }
}
