//! `contact-sync sync rejected` and `sync trace`: what could not be read, and what has become of a
//! record.

use std::process::ExitCode;

use clap::Subcommand;

use super::{connection::IntegrationOption, status::PAGE_SIZE};
use crate::{
    cli::client::{
        ServiceClient,
        advice::in_own_words,
        json,
        show::{self, LabelledLines, count},
        watch,
    },
    rpc::pb,
};

/// What is shown of a record's content in a list; `sync trace` and `--json` show all of it.
const CONTENT_CHARS: usize = 300;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct RejectedArgs {
    #[command(subcommand)]
    command: RejectedCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum RejectedCommand {
    /// Show the records and values that could not be read, and why
    ///
    /// With a token that has the scope `contacts.read` also what the CRM sent.
    List(ListArgs),
    /// Have the next run ask the CRM for them again, and start it
    ///
    /// What came of it is a notice of that run. Records without an id cannot be asked for: they
    /// come with `sync trigger --full`.
    Retry(RetryArgs),
}

#[derive(Debug, Clone, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    integration: IntegrationOption,
}

#[derive(Debug, Clone, clap::Args)]
struct RetryArgs {
    #[command(flatten)]
    integration: IntegrationOption,
    /// Only this record, as its kind and id: user/35436 [default: all that have an id]
    #[arg(long, value_name = "KIND/ID", value_parser = record_key)]
    record: Option<Record>,
    /// Follow the run until it has ended
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct TraceArgs {
    #[command(flatten)]
    integration: IntegrationOption,
    /// The record, as its kind and id: user/35436, Contact/003.., Lead/00Q.., person/17
    #[arg(long, value_name = "KIND/ID", value_parser = record_key)]
    record: Record,
}

/// A kind and an id; the server knows which are possible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    object_type: String,
    record_id: String,
}

pub(super) fn record_key(text: &str) -> Result<Record, String> {
    match text.split_once('/') {
        Some((object_type, record_id)) if !object_type.is_empty() && !record_id.is_empty() => {
            Ok(Record { object_type: object_type.to_owned(), record_id: record_id.to_owned() })
        }
        _ => Err("must be a kind and an id, such as user/35436".to_owned()),
    }
}

pub(super) async fn run(args: RejectedArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    match args.command {
        RejectedCommand::List(args) => list(args, client).await,
        RejectedCommand::Retry(args) => retry(args, client).await,
    }
}

async fn list(args: ListArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let (mut records, mut page_token) = (Vec::new(), String::new());
    let left_out = loop {
        let request = pb::ListRejectedRecordsRequest {
            account_id: args.integration.account.id.to_string(),
            integration_id: args.integration.id.to_string(),
            page_size: PAGE_SIZE,
            page_token,
        };
        let page = client.syncs().list_rejected_records(request).await?.into_inner();
        records.extend(page.rejected_records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break page.left_out;
        }
    };
    let answer = pb::ListRejectedRecordsResponse { rejected_records: records, left_out, ..Default::default() };
    client.print(&json::of(&answer), listed(&answer.rejected_records, left_out))?;
    Ok(ExitCode::SUCCESS)
}

fn listed(records: &[pb::RejectedRecord], left_out: i64) -> String {
    let blocks: Vec<String> = records
        .iter()
        .map(|record| {
            let mut lines = LabelledLines::default();
            add_rejected(&mut lines, record, CONTENT_CHARS);
            lines.to_string()
        })
        .collect();
    match (blocks.is_empty(), left_out) {
        (true, 0) => "Nothing is rejected.".to_owned(),
        (_, 0) => blocks.join("\n"),
        _ => format!("{}\n{} more were met, and found no room here.\n", blocks.join("\n"), count(left_out)),
    }
}

async fn retry(args: RetryArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let account_id = args.integration.account.id.to_string();
    let Record { object_type, record_id } = args.record.unwrap_or_default();
    let integration_id = args.integration.id.to_string();
    let request =
        pb::RetryRejectedRecordsRequest { account_id: account_id.clone(), integration_id, object_type, record_id };
    let answer = client.syncs().retry_rejected_records(request).await?.into_inner();
    if let Some(run) = answer.sync_run.as_ref().filter(|_| args.watch) {
        return watch::report(client, &account_id, &run.id).await;
    }
    let mut lines = LabelledLines::default();
    lines.add("asked for", count(answer.retried));
    match &answer.sync_run {
        Some(run) => show::run(&mut lines, run),
        None => lines.add("note", "nothing with an id is rejected here; no run was started"),
    }
    if answer.already_running {
        lines.add("note", "it was under way already; if it has begun, the run after it asks");
    }
    client.print(&json::of(&answer), lines)?;
    Ok(ExitCode::SUCCESS)
}

/// Has the CRM asked for one record.
pub(super) async fn look(
    integration: IntegrationOption,
    record: Record,
    client: &ServiceClient,
) -> anyhow::Result<ExitCode> {
    let Record { object_type, record_id } = record;
    let mut lines = LabelledLines::default();
    lines.add("record", format!("{object_type}/{record_id}"));
    let request = pb::TriggerSyncRequest {
        account_id: integration.account.id.to_string(),
        integration_id: integration.id.to_string(),
        object_type,
        record_id,
        ..Default::default()
    };
    let answer = client.syncs().trigger_sync(request).await?.into_inner();
    lines.add("look", show::record_look(answer.record_look()));
    lines.add("next", "in a few seconds `contact-sync sync trace` shows what became of it");
    client.print(&json::of(&answer), lines)?;
    Ok(ExitCode::SUCCESS)
}

/// Asks what has become of a record.
pub(super) async fn trace(args: TraceArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let request = pb::TraceRecordRequest {
        account_id: args.integration.account.id.to_string(),
        integration_id: args.integration.id.to_string(),
        object_type: args.record.object_type,
        record_id: args.record.record_id,
    };
    let answer = client.syncs().trace_record(request).await?.into_inner();
    client.print(&json::of(&answer), traced(&answer))?;
    Ok(ExitCode::SUCCESS)
}

fn traced(answer: &pb::TraceRecordResponse) -> LabelledLines {
    let mut lines = LabelledLines::default();
    lines.add("fate", show::record_fate(answer.fate()));
    lines.add("meaning", in_own_words(&answer.explanation));
    lines.add("contact", &answer.contact_id);
    lines.add("changed", show::time(answer.update_time.as_ref()));
    lines.add("written here", show::time(answer.apply_time.as_ref()));
    if !answer.successor_id.is_empty() {
        lines.add("successor", format!("{}/{}", answer.successor_type, answer.successor_id));
    }
    if let Some(record) = &answer.rejected {
        add_rejected(&mut lines, record, usize::MAX);
    }
    lines.add("known through", show::time(answer.known_through.as_ref()));
    lines
}

fn add_rejected(lines: &mut LabelledLines, record: &pb::RejectedRecord, content_chars: usize) {
    let id = if record.record_id.is_empty() { "(no id)" } else { &record.record_id };
    lines.add("rejected", format!("{}/{id}", record.object_type));
    let copied = if record.is_copied { "copied without these values" } else { "not copied" };
    lines.add("reason", format!("{} {} ({copied})", record.reason, record.fields));
    lines.add("first seen", show::time(record.first_seen_time.as_ref()));
    lines.add("last seen", show::time(record.last_seen_time.as_ref()));
    lines.add("times seen", count(record.times_seen));
    if record.is_retried {
        lines.add("retry", "the next run asks for it again");
    }
    let shown: String = record.raw.chars().take(content_chars).collect();
    let more = if shown.len() < record.raw.len() { ".." } else { "" };
    lines.add("content", format!("{shown}{more}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(record_id: &str, raw: &str) -> pb::RejectedRecord {
        pb::RejectedRecord {
            object_type: "user".into(),
            record_id: record_id.into(),
            reason: "TIME_UNREADABLE".into(),
            fields: "updated_at".into(),
            times_seen: 3,
            raw: raw.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_record_is_named_by_kind_and_id() {
        let named = record_key("Contact/003D000000QV9n2").unwrap();

        assert_eq!((named.object_type.as_str(), named.record_id.as_str()), ("Contact", "003D000000QV9n2"));
        for wrong in ["", "user", "/1", "user/"] {
            assert!(record_key(wrong).is_err(), "{wrong}");
        }
    }

    /// A list shows why, and the beginning of what was sent.
    #[test]
    fn list_shows_reason_and_beginning_of_content() {
        let text = listed(&[rejected("7", &"x".repeat(5_000)), rejected("", "\u{1b}[2J")], 1_500);

        assert!(text.contains("user/7") && text.contains("user/(no id)"), "{text}");
        assert!(text.contains("TIME_UNREADABLE updated_at (not copied)"), "{text}");
        assert!(text.contains("x..") && text.len() < 1_500, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.ends_with("1,500 more were met, and found no room here.\n"), "{text}");
        assert_eq!(listed(&[], 0), "Nothing is rejected.");
    }

    #[test]
    fn a_trace_shows_all_that_was_sent() {
        let content = "x".repeat(5_000);
        let answer = pb::TraceRecordResponse {
            fate: pb::RecordFate::Rejected.into(),
            rejected: Some(rejected("7", &content)),
            ..Default::default()
        };

        let text = traced(&answer).to_string();

        assert!(text.contains("REJECTED") && text.contains(&content), "{text}");
    }
}
