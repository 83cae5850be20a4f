//! Rejected records and traces, between proto and `sync`.

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use tonic::Status;

use super::{convert, page_token, parse, pb, status, sync_requests::list_filter, together::ReadTogether};
use crate::{
    domain::{
        descriptor::Descriptors,
        ids::AccountId,
        record::{ObjectType, RECORD_ID_CHARS_MAX, RecordKey},
    },
    sync::{AskedRecord, OpenedReject, RecordFate, RecordInspector, RecordLook, RecordTrace},
};

const METHOD: &str = "ListRejectedRecords";

pub(super) async fn list(
    inspector: &RecordInspector,
    account_id: Result<AccountId, Status>,
    request: pb::ListRejectedRecordsRequest,
    with_content: bool,
) -> Result<pb::ListRejectedRecordsResponse, Status> {
    let ids = (account_id, parse::id("integration_id", &request.integration_id)).together();
    let filter = list_filter(&ids);
    let filter = filter.each_ref().map(String::as_str);
    let after = match &ids {
        Ok(_) => page_token::decode(METHOD, &filter, &request.page_token)
            .and_then(|key| key.map(|key| place(&key).ok_or_else(page_token::refused)).transpose()),
        Err(_) => Ok(None),
    };
    let ((account_id, integration_id), size, after) =
        (ids, page_token::page_size(request.page_size), after).together()?;

    let page =
        inspector.list_rejected(account_id, integration_id, after.as_ref(), convert::limit(size), with_content).await?;

    let mut records = page.records;
    let next = convert::cut_page(&mut records, size)
        .map(|(last, _)| page_token::encode(METHOD, &filter, &[last.key.object_type.as_str(), &last.key.record_id]));
    Ok(pb::ListRejectedRecordsResponse {
        rejected_records: records.into_iter().map(rejected_record).collect(),
        next_page_token: next.unwrap_or_default(),
        left_out: page.left_out,
    })
}

/// The key that a page ended with.
fn place(key: &[String]) -> Option<RecordKey> {
    let [object_type, record_id] = key else { return None };
    let is_key = record_id.len() <= RECORD_ID_CHARS_MAX && record_id.bytes().all(|b| b.is_ascii_graphic());
    let object_type = object_type.parse().ok().filter(|_| is_key)?;
    Some(RecordKey { object_type, record_id: record_id.clone() })
}

/// The record to ask for again; `None`: all of them.
pub(super) fn retried(
    descriptors: &Descriptors,
    object_type: &str,
    record_id: &str,
) -> Result<Option<RecordKey>, Status> {
    if object_type.is_empty() && record_id.is_empty() {
        return Ok(None);
    }
    let kind: ObjectType = object_type.parse().map_err(|_| {
        let known = parse::listed(ObjectType::ALL.iter().map(|kind| format!("`{}`", kind.as_str())));
        status::invalid("object_type", &format!("must be {known}"))
    })?;
    Ok(Some(descriptors[kind.provider()].parse_record_key(object_type, record_id)?))
}

/// The one record that a trigger is about; `None`: a run is wanted.
pub(super) fn asked(descriptors: &Descriptors, request: &pb::TriggerSyncRequest) -> Result<Option<RecordKey>, Status> {
    let key = retried(descriptors, &request.object_type, &request.record_id)?;
    if key.is_some() && request.kind != 0 {
        return Err(status::invalid("kind", "must be left out with a record: no run is started for it"));
    }
    Ok(key)
}

pub(super) fn asked_record(asked: AskedRecord, now: DateTime<Utc>) -> pb::TriggerSyncResponse {
    let look = match asked.look {
        RecordLook::Now => pb::RecordLook::Now,
        RecordLook::WithinRun => pb::RecordLook::WithinRun,
        RecordLook::OnHold => pb::RecordLook::OnHold,
    };
    pb::TriggerSyncResponse {
        already_running: asked.run.is_some(),
        sync_run: asked.run.map(|run| convert::sync_run(run, now)),
        record_look: look.into(),
    }
}

pub(super) fn trace(trace: RecordTrace) -> pb::TraceRecordResponse {
    let (fate, words) = fate(&trace.fate);
    let successor = match trace.fate {
        RecordFate::Merged(key) => Some(key),
        _ => None,
    };
    pb::TraceRecordResponse {
        fate: fate.into(),
        explanation: words.to_owned(),
        contact_id: trace.contact_id.map(|id| id.to_string()).unwrap_or_default(),
        update_time: trace.record_updated_at.map(convert::timestamp),
        apply_time: trace.applied_at.map(convert::timestamp),
        successor_type: successor.as_ref().map(|key| key.object_type.as_str().to_owned()).unwrap_or_default(),
        successor_id: successor.map(|key| key.record_id).unwrap_or_default(),
        rejected: trace.rejected.map(rejected_record),
        known_through: trace.known_through.map(convert::timestamp),
    }
}

const fn fate(fate: &RecordFate) -> (pb::RecordFate, &'static str) {
    match fate {
        RecordFate::Applied => (pb::RecordFate::Applied, "it is here as the CRM had it then; an older copy is skipped"),
        RecordFate::Reported => {
            (pb::RecordFate::Reported, "a click or a report has brought it; no run has read it yet")
        }
        RecordFate::Rejected => (
            pb::RecordFate::Rejected,
            "it could not be read when it was last met; mend it in the CRM, and the next run brings it, or ask for it again with RetryRejectedRecords",
        ),
        RecordFate::Gone => (
            pb::RecordFate::Gone,
            "the CRM has said that it is deleted, or (a Zendesk user) it is no end user and only those are copied",
        ),
        RecordFate::Merged(_) => (pb::RecordFate::Merged, "the CRM has merged or converted it into its successor"),
        RecordFate::Erased => {
            (pb::RecordFate::Erased, "its person was erased here; runs, clicks and reports leave it out")
        }
        RecordFate::NotCopied => (
            pb::RecordFate::NotCopied,
            "records of its kind are not copied; switch them on in the integration's options",
        ),
        RecordFate::NotSeen => (
            pb::RecordFate::NotSeen,
            "no run has brought it: it was made or changed after `known_through`, or the integration's user does not see it, or the CRM has no such record; TriggerSync looks for changes now",
        ),
    }
}

fn rejected_record((record, raw): OpenedReject) -> pb::RejectedRecord {
    let is_nameless = record.is_nameless();
    pb::RejectedRecord {
        object_type: record.key.object_type.as_str().to_owned(),
        record_id: if is_nameless { String::new() } else { record.key.record_id },
        reason: record.reason.as_str().to_owned(),
        fields: record.fields,
        is_copied: record.is_copied,
        is_retried: record.is_retried,
        sync_run_id: record.sync_run_id.to_string(),
        first_seen_time: Some(convert::timestamp(record.first_seen_at)),
        last_seen_time: Some(convert::timestamp(record.last_seen_at)),
        times_seen: record.times_seen,
        raw: raw.map(|raw| raw.expose_secret().to_owned()).unwrap_or_default(),
    }
}
