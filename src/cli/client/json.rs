//! Answers for programs: the proto's field names, enum values without their prefix, times as RFC 3339, unset messages as null.
//! Must not leave out a field that the proto has: what a program needs tomorrow is not known here.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::show;
use crate::rpc::pb;

fn time(time: Option<&prost_types::Timestamp>) -> Value {
    let time = time.and_then(|time| DateTime::<Utc>::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?));
    time.map_or(Value::Null, |time| Value::from(time.to_rfc3339_opts(SecondsFormat::AutoSi, true)))
}

fn list<T>(items: &[T], of: impl Fn(&T) -> Value) -> Value {
    items.iter().map(of).collect()
}

fn optional<T>(item: Option<&T>, of: impl Fn(&T) -> Value) -> Value {
    item.map_or(Value::Null, of)
}

/// An account.
pub(in crate::cli) fn account(account: &pb::Account) -> Value {
    json!({
        "id": account.id,
        "display_name": account.display_name,
        "default_region": account.default_region,
        "further_regions": account.further_regions,
        "match_policy": show::match_policy(account.match_policy()),
        "preferred_integration_id": account.preferred_integration_id,
        "create_time": time(account.create_time.as_ref()),
        "update_time": time(account.update_time.as_ref()),
    })
}

fn number(number: &pb::PhoneNumber) -> Value {
    json!({"raw": number.raw, "e164": number.e164, "label": number.label, "extension": number.extension})
}

fn provider(provider: pb::Provider) -> &'static str {
    let name = provider.as_str_name();
    name.strip_prefix("PROVIDER_").unwrap_or(name)
}

/// A record.
pub(in crate::cli) fn record(record: &pb::Record) -> Value {
    json!({
        "integration_id": record.integration_id,
        "provider": provider(record.provider()),
        "object_type": record.object_type,
        "record_id": record.record_id,
        "url": record.url,
        "is_live": record.is_live,
        "role": record.role,
    })
}

/// A contact.
pub(in crate::cli) fn contact(contact: &pb::Contact) -> Value {
    json!({
        "id": contact.id,
        "display_name": contact.display_name,
        "organization": contact.organization,
        "emails": contact.emails,
        "numbers": list(&contact.numbers, number),
        "records": list(&contact.records, record),
        "created_at": time(contact.created_at.as_ref()),
        "deleted_at": time(contact.deleted_at.as_ref()),
        "survivor_id": contact.survivor_id,
        "is_placeholder": contact.is_placeholder,
    })
}

fn source(source: &pb::Source) -> Value {
    json!({
        "integration_id": source.integration_id,
        "provider": provider(source.provider()),
        "state": show::integration_state(source.state()),
        "known_through": time(source.known_through.as_ref()),
        "note": source.note,
        "has_unread": source.has_unread,
    })
}

/// `MatchCaller`.
pub(in crate::cli) fn match_caller(answer: &pb::MatchCallerResponse) -> Value {
    json!({
        "outcome": show::outcome(answer.outcome()),
        "selected": optional(answer.selected.as_ref(), contact),
        "candidates": list(&answer.candidates, contact),
        "total": answer.total,
        "total_is_capped": answer.total_is_capped,
        "selection": optional(answer.selection.as_ref(), contact),
        "tier": show::tier(answer.tier()),
        "rule": answer.rule,
        "sources": list(&answer.sources, source),
        "complete": answer.complete,
        "e164": answer.e164,
        "possible": list(&answer.possible, possible),
    })
}

fn possible(possible: &pb::PossibleMatch) -> Value {
    json!({
        "tier": show::tier(possible.tier()),
        "contact": optional(possible.contact.as_ref(), contact),
        "organization": possible.organization,
        "main_line": possible.main_line,
    })
}

/// `ExplainMatch`.
pub(in crate::cli) fn explain_match(answer: &pb::ExplainMatchResponse) -> Value {
    json!({
        "answer": optional(answer.answer.as_ref(), match_caller),
        "steps": answer.steps,
        "about_contact": answer.about_contact,
    })
}

/// An entry of the feed.
pub(in crate::cli) fn change(change: &pb::Change) -> Value {
    json!({
        "number": change.number,
        "kind": show::change_kind(change.kind()),
        "contact_id": change.contact_id,
        "survivor_id": change.survivor_id,
        "contact": optional(change.contact.as_ref(), contact),
        "correction": optional(change.correction.as_ref(), correction),
        "create_time": time(change.create_time.as_ref()),
    })
}

fn correction(correction: &pb::Correction) -> Value {
    let verdict = |verdict: &pb::Verdict| {
        json!({
            "outcome": show::verdict_outcome(verdict.outcome()),
            "object_type": verdict.object_type,
            "record_id": verdict.record_id,
        })
    };
    json!({
        "call_id": correction.call_id,
        "integration_id": correction.integration_id,
        "before": optional(correction.before.as_ref(), verdict),
        "after": optional(correction.after.as_ref(), verdict),
        "is_erased": correction.is_erased,
    })
}

/// `EraseContact`.
pub(in crate::cli) fn erase_contact(answer: &pb::EraseContactResponse) -> Value {
    json!({
        "contact_id": answer.contact_id,
        "records": answer.records,
        "already_erased": answer.already_erased,
    })
}

/// `PreRegisterContact`.
pub(in crate::cli) fn pre_register(answer: &pb::PreRegisterContactResponse) -> Value {
    json!({
        "contact": optional(answer.contact.as_ref(), contact),
        "expected_until": time(answer.expected_until.as_ref()),
    })
}

/// `ResolveRequester`.
pub(in crate::cli) fn resolve_requester(answer: &pb::ResolveRequesterResponse) -> Value {
    json!({
        "outcome": show::requester_outcome(answer.outcome()),
        "record": optional(answer.record.as_ref(), record),
        "candidates": list(&answer.candidates, record),
        "evidence": show::evidence(answer.evidence()),
        "known_through": time(answer.known_through.as_ref()),
        "contact_id": answer.contact_id,
        "note": answer.note,
    })
}

/// `TestConnection`.
pub(in crate::cli) fn test_connection(answer: &pb::TestConnectionResponse) -> Value {
    json!({
        "ok": answer.ok,
        "reason": answer.reason,
        "message": answer.message,
        "estimated_contacts": answer.estimated_contacts,
    })
}

/// An integration.
pub(in crate::cli) fn integration(integration: &pb::Integration) -> Value {
    let options = integration.options.map(|options| {
        let sync = options.sync().as_str_name();
        json!({
            "sync": sync.strip_prefix("SYNC_MODE_").unwrap_or(sync),
            "period_seconds": options.period.map(|period| period.seconds),
            "salesforce_contacts": options.salesforce_contacts.map(object_options),
            "salesforce_leads": options.salesforce_leads.map(object_options),
            "pipedrive_persons": options.pipedrive_persons.map(object_options),
            "zendesk_users": options.zendesk_users().as_str_name().trim_start_matches("ZENDESK_USERS_"),
        })
    });
    json!({
        "id": integration.id,
        "provider": provider(integration.provider()),
        "organization": integration.organization,
        "state": show::integration_state(integration.state()),
        "state_detail": integration.state_detail,
        "options": options,
        "known_through": time(integration.known_through.as_ref()),
        "last_completed_time": time(integration.last_completed_time.as_ref()),
        "next_due_time": time(integration.next_due_time.as_ref()),
        "current_sync_run_id": integration.current_sync_run_id,
        "enabled": integration.enabled,
        "create_time": time(integration.create_time.as_ref()),
        "has_credentials": integration.has_credentials,
        "held_deletions": integration.held_deletions,
        "next_sweep_time": time(integration.next_sweep_time.as_ref()),
    })
}

/// A sync run.
pub(in crate::cli) fn sync_run(run: &pb::SyncRun) -> Value {
    let counts = run.counts.unwrap_or_default();
    json!({
        "id": run.id,
        "integration_id": run.integration_id,
        "kind": show::run_kind(run.kind()),
        "state": show::run_state(run.state()),
        "phase": run.phase,
        "counts": {
            "read": counts.read,
            "created": counts.created,
            "updated": counts.updated,
            "deleted": counts.deleted,
            "skipped": counts.skipped,
            "rejected": counts.rejected,
        },
        "estimated_total": run.estimated_total,
        "estimated_time_left_seconds": run.estimated_time_left.map(|left| left.seconds),
        "create_time": time(run.create_time.as_ref()),
        "start_time": time(run.start_time.as_ref()),
        "end_time": time(run.end_time.as_ref()),
        "error": run.error,
        "attempt": run.attempt,
        "notices": run.notices,
    })
}

/// A rejected record.
pub(in crate::cli) fn rejected_record(record: &pb::RejectedRecord) -> Value {
    json!({
        "object_type": record.object_type,
        "record_id": record.record_id,
        "reason": record.reason,
        "fields": record.fields,
        "is_copied": record.is_copied,
        "is_retried": record.is_retried,
        "sync_run_id": record.sync_run_id,
        "first_seen_time": time(record.first_seen_time.as_ref()),
        "last_seen_time": time(record.last_seen_time.as_ref()),
        "times_seen": record.times_seen,
        "raw": record.raw,
    })
}

/// `RetryRejectedRecords`.
pub(in crate::cli) fn retry_rejected_records(answer: &pb::RetryRejectedRecordsResponse) -> Value {
    json!({
        "retried": answer.retried,
        "sync_run": optional(answer.sync_run.as_ref(), sync_run),
        "already_running": answer.already_running,
    })
}

/// `TraceRecord`.
pub(in crate::cli) fn trace_record(answer: &pb::TraceRecordResponse) -> Value {
    json!({
        "fate": show::record_fate(answer.fate()),
        "explanation": answer.explanation,
        "contact_id": answer.contact_id,
        "update_time": time(answer.update_time.as_ref()),
        "apply_time": time(answer.apply_time.as_ref()),
        "successor_type": answer.successor_type,
        "successor_id": answer.successor_id,
        "rejected": optional(answer.rejected.as_ref(), rejected_record),
        "known_through": time(answer.known_through.as_ref()),
    })
}

fn object_options(wishes: pb::ObjectOptions) -> Value {
    let switch = |switch: pb::Switch| switch.as_str_name().trim_start_matches("SWITCH_").to_owned();
    json!({ "copy": switch(wishes.copy()), "mirror_deletions": switch(wishes.mirror_deletions()) })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::rpc::pb::FILE_DESCRIPTOR_SET;

    /// The fields of a message in the proto.
    fn fields(message: &str) -> Vec<String> {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let found = set.file.iter().flat_map(|file| &file.message_type).find(|of| of.name() == message).unwrap();
        let mut names: Vec<String> = found.field.iter().map(|field| field.name().to_owned()).collect();
        names.sort();
        names
    }

    fn keys(value: &Value) -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    }

    #[test]
    fn every_field_of_the_proto_is_there() {
        assert_eq!(keys(&account(&pb::Account::default())), fields("Account"));
        assert_eq!(keys(&number(&pb::PhoneNumber::default())), fields("PhoneNumber"));
        assert_eq!(keys(&record(&pb::Record::default())), fields("Record"));
        assert_eq!(keys(&contact(&pb::Contact::default())), fields("Contact"));
        assert_eq!(keys(&source(&pb::Source::default())), fields("Source"));
        assert_eq!(keys(&match_caller(&pb::MatchCallerResponse::default())), fields("MatchCallerResponse"));
        assert_eq!(keys(&possible(&pb::PossibleMatch::default())), fields("PossibleMatch"));
        assert_eq!(keys(&explain_match(&pb::ExplainMatchResponse::default())), fields("ExplainMatchResponse"));
        assert_eq!(keys(&change(&pb::Change::default())), fields("Change"));
        assert_eq!(keys(&correction(&pb::Correction::default())), fields("Correction"));
        assert_eq!(keys(&erase_contact(&pb::EraseContactResponse::default())), fields("EraseContactResponse"));
        assert_eq!(
            keys(&pre_register(&pb::PreRegisterContactResponse::default())),
            fields("PreRegisterContactResponse")
        );
        assert_eq!(
            keys(&resolve_requester(&pb::ResolveRequesterResponse::default())),
            fields("ResolveRequesterResponse")
        );
        assert_eq!(keys(&test_connection(&pb::TestConnectionResponse::default())), fields("TestConnectionResponse"));
        assert_eq!(keys(&integration(&pb::Integration::default())), fields("Integration"));
        assert_eq!(keys(&rejected_record(&pb::RejectedRecord::default())), fields("RejectedRecord"));
        assert_eq!(
            keys(&retry_rejected_records(&pb::RetryRejectedRecordsResponse::default())),
            fields("RetryRejectedRecordsResponse")
        );
        assert_eq!(keys(&trace_record(&pb::TraceRecordResponse::default())), fields("TraceRecordResponse"));
        assert_eq!(keys(&sync_run(&pb::SyncRun::default())["counts"]), fields("SyncCounts"));
        let run: Vec<String> = keys(&sync_run(&pb::SyncRun::default()))
            .into_iter()
            .map(|key| key.replace("estimated_time_left_seconds", "estimated_time_left"))
            .collect();
        assert_eq!(run, fields("SyncRun"));
    }

    #[test]
    fn times_are_rfc_3339_and_absent_ones_null() {
        let at = prost_types::Timestamp { seconds: 1_795_338_000, nanos: 250_000_000 };

        assert_eq!(time(Some(&at)), "2026-11-22T09:00:00.250Z");
        assert_eq!(time(None), Value::Null);
    }
}
