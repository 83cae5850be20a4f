//! Answers as a person reads them: a few aligned lines of label and value, times in UTC, enum
//! values as the proto names them. Everything that came from a CRM or a server is cleaned of
//! control characters, which could steer a terminal. Must not call the server.

use std::{collections::HashMap, fmt};

use chrono::{DateTime, Utc};
use tonic::Code;

use super::advice::{in_own_words, next_step};
use crate::rpc::pb;

/// Longest line that is printed; a longer value goes on in the next, below itself.
const WIDTH_MAX: usize = 100;
/// Between label and value.
const GAP: usize = 2;

/// Labels and values, aligned when printed. An empty value leaves its line out; equal labels in a
/// row are shown once.
#[derive(Default)]
pub(in crate::cli) struct LabelledLines(Vec<(String, String)>);

impl LabelledLines {
    /// One more line, unless the value is empty.
    pub(in crate::cli) fn add(&mut self, label: &str, value: impl AsRef<str>) {
        let value = clean(value.as_ref());
        if !value.is_empty() {
            self.0.push((label.to_owned(), value));
        }
    }
}

impl fmt::Display for LabelledLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.0.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0) + GAP;
        let mut last = "";
        for (label, value) in &self.0 {
            let mut shown = if label == last { "" } else { label.as_str() };
            for line in wrap(value, WIDTH_MAX.saturating_sub(column)) {
                writeln!(f, "{shown:<column$}{line}")?;
                shown = "";
            }
            last = label;
        }
        Ok(())
    }
}

/// Without control characters; white space at both ends and in runs becomes one blank or none.
pub(in crate::cli) fn clean(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Breaks a text at blanks into lines of at most so many characters; a longer word stays whole.
pub(in crate::cli) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A moment, to the second.
pub(in crate::cli) fn time(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| DateTime::<Utc>::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?));
    time.map(|time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default()
}

/// A span of time, as one would say it.
pub(in crate::cli) fn span(duration: &prost_types::Duration) -> String {
    match duration.seconds {
        seconds if seconds >= 3_600 && seconds % 3_600 == 0 => format!("{} h", seconds / 3_600),
        seconds if seconds >= 60 && seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds if seconds > 60 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{seconds} s"),
    }
}

/// A count with its thousands apart.
pub(in crate::cli) fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A provider's own name.
pub(in crate::cli) fn provider(provider: pb::Provider) -> String {
    provider.known().map_or_else(|| "unknown CRM".to_owned(), |known| known.to_string())
}

/// `MATCHED`, `AMBIGUOUS` and so on.
pub(in crate::cli) fn outcome(outcome: pb::MatchOutcome) -> &'static str {
    short(outcome.as_str_name(), "MATCH_OUTCOME_")
}

/// `EXACT`, `VARIANT` and so on.
pub(in crate::cli) fn tier(tier: pb::MatchTier) -> &'static str {
    short(tier.as_str_name(), "MATCH_TIER_")
}

/// `RESOLVED` and so on.
pub(in crate::cli) fn requester_outcome(outcome: pb::RequesterOutcome) -> &'static str {
    short(outcome.as_str_name(), "REQUESTER_OUTCOME_")
}

/// `ACTIVE`, `OFF` and so on.
pub(in crate::cli) fn integration_state(state: pb::IntegrationState) -> &'static str {
    short(state.as_str_name(), "INTEGRATION_STATE_")
}

/// `RUNNING`, `SUCCEEDED` and so on.
pub(in crate::cli) fn run_state(state: pb::SyncRunState) -> &'static str {
    short(state.as_str_name(), "SYNC_RUN_STATE_")
}

/// `INITIAL` or `INCREMENTAL`.
pub(in crate::cli) fn run_kind(kind: pb::SyncKind) -> &'static str {
    short(kind.as_str_name(), "SYNC_KIND_")
}

/// `CREATED`, `MERGED` and so on.
pub(in crate::cli) fn change_kind(kind: pb::ChangeKind) -> &'static str {
    short(kind.as_str_name(), "CHANGE_KIND_")
}

/// `FIRST_CREATED` and so on.
pub(in crate::cli) fn match_policy(policy: pb::MatchPolicy) -> &'static str {
    short(policy.as_str_name(), "MATCH_POLICY_")
}

/// `DONE`, `REFUSED` and so on.
pub(in crate::cli) fn audit_result(result: pb::AuditResult) -> &'static str {
    short(result.as_str_name(), "AUDIT_RESULT_")
}

/// `APPLIED`, `REJECTED` and so on.
pub(in crate::cli) fn record_fate(fate: pb::RecordFate) -> &'static str {
    short(fate.as_str_name(), "RECORD_FATE_")
}

/// When a record is asked for, in words.
pub(in crate::cli) const fn record_look(look: pb::RecordLook) -> &'static str {
    match look {
        pb::RecordLook::Unspecified => "none; the server is older than this client, and has started a run",
        pb::RecordLook::Now => "a worker asks the CRM now",
        pb::RecordLook::WithinRun => "the run under way asks the CRM between two pages",
        pb::RecordLook::OnHold => "the integration is on hold; its next run asks: `sync status` says why",
    }
}

fn short(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// `Zendesk user 9001`.
pub(in crate::cli) fn record(record: &pb::Record) -> String {
    let text = format!("{} {} {}", provider(record.provider()), record.object_type, record.record_id);
    if record.is_live { text } else { format!("{text}, gone") }
}

fn number(number: &pb::PhoneNumber) -> String {
    let mut parts = Vec::new();
    if number.e164 != number.raw {
        parts.push(format!("written {:?}", number.raw));
    }
    if number.e164.is_empty() {
        parts.push("cannot be called".to_owned());
    }
    if !number.extension.is_empty() {
        parts.push(format!("extension {}", number.extension));
    }
    if !number.label.is_empty() {
        parts.push(number.label.clone());
    }
    let shown = if number.e164.is_empty() { "-" } else { &number.e164 };
    format!("{shown} {}", parts.join(", ")).trim_end().to_owned()
}

/// Name and records in one line.
pub(in crate::cli) fn person(contact: &pb::Contact) -> String {
    let mut text = contact.display_name.clone();
    for of in contact.records.iter().filter(|record| record.is_live).take(3) {
        text = format!("{text}, {}", record(of));
    }
    if contact.is_placeholder { format!("{text}, no record yet") } else { text }
}

/// Everything about a contact.
pub(in crate::cli) fn contact(lines: &mut LabelledLines, contact: &pb::Contact) {
    lines.add("name", &contact.display_name);
    lines.add("contact", &contact.id);
    lines.add("organization", &contact.organization);
    for of in &contact.numbers {
        lines.add("number", number(of));
    }
    for email in &contact.emails {
        lines.add("email", email);
    }
    for of in &contact.records {
        let role = if of.role.is_empty() { String::new() } else { format!(", {}", of.role) };
        lines.add("record", format!("{}{role}", record(of)));
        lines.add("record", &of.url);
    }
    if contact.is_placeholder {
        lines.add("note", "known by a call only; the next sync that brings this number adopts this contact");
    }
    lines.add("created", time(contact.create_time.as_ref()));
    lines.add("deleted", time(contact.delete_time.as_ref()));
    lines.add("lives on as", &contact.survivor_id);
}

/// How far each CRM's copy can be trusted.
pub(in crate::cli) fn sources(lines: &mut LabelledLines, sources: &[pb::Source]) {
    for source in sources {
        let known = time(source.known_through.as_ref());
        let known = if known.is_empty() { String::new() } else { format!(", known through {known}") };
        let state = integration_state(source.state());
        lines.add("source", format!("{} {state}{known}", provider(source.provider())));
        lines.add("source", in_own_words(&source.note));
    }
}

/// An integration as its administrator needs it.
pub(in crate::cli) fn integration(lines: &mut LabelledLines, integration: &pb::Integration) {
    lines.add("integration", &integration.id);
    lines.add("crm", format!("{} {}", provider(integration.provider()), integration.organization));
    lines.add("state", integration_state(integration.state()));
    lines.add("state", in_own_words(&integration.state_detail));
    let options = integration.options.clone().unwrap_or_default();
    let period = options.period.as_ref().map(span).unwrap_or_default();
    match (integration.enabled, options.sync()) {
        (false, _) => lines.add("sync", "disabled"),
        (true, pb::SyncMode::Off) => lines.add("sync", "off"),
        (true, _) => lines.add("sync", format!("on, {period} after each run")),
    }
    for (what, wishes) in [
        ("Contacts", &options.salesforce_contacts),
        ("Leads", &options.salesforce_leads),
        ("persons", &options.pipedrive_persons),
    ] {
        let Some(wishes) = wishes else { continue };
        let copied = if wishes.copy() == pb::Switch::Off { "not copied" } else { "copied" };
        let mirrored = if wishes.mirror_deletions() == pb::Switch::Off { "not mirrored" } else { "mirrored" };
        lines.add("options", format!("{what} {copied}, deletions {mirrored}"));
    }
    if options.zendesk_users() == pb::ZendeskUsers::EndUsers {
        lines.add("options", "end users only");
    }
    let phone_fields = options.zendesk_phone_fields.map(|fields| fields.keys).unwrap_or_default();
    if !phone_fields.is_empty() {
        lines.add("options", format!("numbers also in the custom fields {}", phone_fields.join(", ")));
    }
    if let Some(push) = &integration.push {
        lines.add("push", pushed(push));
        if let Some(notice) = &push.notice {
            lines.add("push", in_own_words(&notice.to_string()));
        }
    }
    if integration.held_deletions > 0 {
        let held = count(integration.held_deletions);
        lines.add(
            "held back",
            format!("{held} deletions, more than a sweep makes unasked; look in the CRM, then `sync confirm-deletions --held {}`", integration.held_deletions),
        );
    }
    lines.add("credentials", if integration.has_credentials { "stored" } else { "none" });
    lines.add("known through", time(integration.known_through.as_ref()));
    lines.add("last run", time(integration.last_completed_time.as_ref()));
    lines.add("next run", time(integration.next_due_time.as_ref()));
    lines.add("next sweep", time(integration.next_sweep_time.as_ref()));
    lines.add("current run", &integration.current_sync_run_id);
}

/// `ACTIVE, last event 2026-11-30T12:00:00Z, here after 0.8s, 2 suspected losses`.
fn pushed(push: &pb::PushStatus) -> String {
    let state = short(push.state().as_str_name(), "PUSH_STATE_");
    let last = time(push.last_event_time.as_ref());
    let last = if last.is_empty() { String::new() } else { format!(", last event {last}") };
    let lag = push.last_lag.as_ref();
    let lag = lag.map(|lag| format!(", here after {}.{} s", lag.seconds, lag.nanos / 100_000_000)).unwrap_or_default();
    let losses = match push.suspected_losses {
        0 => String::new(),
        some => format!(", {} suspected losses", count(some)),
    };
    format!("{state}{last}{lag}{losses}")
}

/// `2,013 read: 2,005 created, 3 updated, 0 deleted, 5 skipped, 0 rejected`.
pub(in crate::cli) fn counts(run: &pb::SyncRun) -> String {
    let of = run.counts.unwrap_or_default();
    format!(
        "{} read: {} created, {} updated, {} deleted, {} skipped, {} rejected",
        count(of.read),
        count(of.created),
        count(of.updated),
        count(of.deleted),
        count(of.skipped),
        count(of.rejected)
    )
}

fn next_after(error: &pb::Notice) -> String {
    next_step(Code::FailedPrecondition, &error.reason, &HashMap::new()).unwrap_or_default()
}

/// What an integration does after a failed run.
pub(in crate::cli) fn after_failure(lines: &mut LabelledLines, integration: &pb::Integration) {
    lines.add("integration", integration_state(integration.state()));
    lines.add("integration", in_own_words(&integration.state_detail));
    lines.add("next run", time(integration.next_due_time.as_ref()));
}

/// The last failed run among these, newest first: when, why, what to do, and whether it is over.
pub(in crate::cli) fn last_failure(lines: &mut LabelledLines, runs: &[pb::SyncRun]) {
    let Some(at) = runs.iter().position(|run| run.state() == pb::SyncRunState::Failed) else { return };
    let is_over = runs[..at].iter().any(|run| run.state() == pb::SyncRunState::Succeeded);
    let since = if is_over { "; a run has succeeded since" } else { "" };
    let failed = &runs[at];
    lines.add("last failure", format!("{}, run {}{since}", time(failed.end_time.as_ref()), failed.id));
    if let Some(error) = &failed.error {
        lines.add("last failure", in_own_words(&error.to_string()));
        if !is_over {
            lines.add("next", next_after(error));
        }
    }
}

/// A sync run, as it is now.
pub(in crate::cli) fn run(lines: &mut LabelledLines, run: &pb::SyncRun) {
    lines.add("run", &run.id);
    let times = match (time(run.start_time.as_ref()), time(run.end_time.as_ref())) {
        (start, _) if start.is_empty() => String::new(),
        (start, end) if end.is_empty() => format!(", since {start}"),
        (_, end) => format!(", ended {end}"),
    };
    lines.add("state", format!("{} {}{times}", run_kind(run.kind()), run_state(run.state())));
    lines.add("records", counts(run));
    if let Some(error) = &run.error {
        lines.add("error", in_own_words(&error.to_string()));
        lines.add("next", next_after(error));
    }
    for notice in &run.notices {
        lines.add("notice", in_own_words(&notice.to_string()));
    }
    if run.attempt > 1 {
        lines.add("attempts", run.attempt.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values stand below each other, and empty ones are left out.
    #[test]
    fn values_stand_in_lines_empty_left_out() {
        let mut lines = LabelledLines::default();
        lines.add("name", "Bryce Love");
        lines.add("organization", "");
        lines.add("number", "+13108675309");
        lines.add("number", "+13105550100");

        assert_eq!(lines.to_string(), "name    Bryce Love\nnumber  +13108675309\n        +13105550100\n");
    }

    #[test]
    fn a_long_value_goes_on_below_itself() {
        let mut lines = LabelledLines::default();
        lines.add("next", "word ".repeat(30));

        let text = lines.to_string();

        assert!(text.lines().all(|line| line.chars().count() <= WIDTH_MAX), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("      word"), "{text}");
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
    }

    /// A name cannot steer the terminal or break a line.
    #[test]
    fn name_cannot_steer_terminal_or_break_line() {
        assert_eq!(clean("Bryce\u{1b}[2J\u{9b}Love\r\n"), "Bryce [2J Love");
        assert_eq!(clean(" \t Bryce   Love\u{7f}"), "Bryce Love");
    }

    #[test]
    fn counts_have_thousands_apart() {
        let shown: Vec<String> = [0, 999, 1_000, 12_345_678, -1_234].into_iter().map(count).collect();

        assert_eq!(shown, ["0", "999", "1,000", "12,345,678", "-1,234"]);
    }

    /// Spans are said in the largest unit that fits.
    #[test]
    fn spans_use_largest_fitting_unit() {
        let of = |seconds| span(&prost_types::Duration { seconds, nanos: 0 });

        assert_eq!([of(45), of(60), of(90), of(1_800), of(86_400)], ["45 s", "1 min", "1 min 30 s", "30 min", "24 h"]);
    }

    /// A number shows what the CRM has only where that differs.
    #[test]
    fn number_shows_crms_text_only_where_different() {
        let of = |raw: &str, e164: &str, extension: &str| {
            number(&pb::PhoneNumber {
                raw: raw.into(),
                e164: e164.into(),
                label: "phone".into(),
                extension: extension.into(),
            })
        };

        assert_eq!(of("+13108675309", "+13108675309", ""), "+13108675309 phone");
        assert_eq!(
            of("(310)-867-5309", "+13108675309", "4"),
            "+13108675309 written \"(310)-867-5309\", extension 4, phone"
        );
        assert_eq!(of("911", "", ""), "- written \"911\", cannot be called, phone");
    }

    #[test]
    fn a_person_is_shown_with_live_records_only() {
        let of = |record_id: &str, is_live| pb::Record {
            provider: pb::Provider::Zendesk.into(),
            object_type: "user".into(),
            record_id: record_id.into(),
            is_live,
            ..Default::default()
        };
        let contact = pb::Contact {
            display_name: "Bryce Love".into(),
            records: vec![of("1", true), of("2", false)],
            ..Default::default()
        };

        assert_eq!(person(&contact), "Bryce Love, Zendesk user 1");
    }
}
