//! `contact-sync audit`: who did what to an account, and what was refused.

use std::{fmt, process::ExitCode};

use chrono::{DateTime, Utc};

use super::client::{ACCOUNT_VARIABLE, ClientOptions, ServiceClient, json, show};
use crate::{domain::ids::AccountId, rpc::pb};

/// Events asked for at once.
const PAGE_SIZE_MAX: usize = 200;

/// Show who did what to an account, newest first, and what was refused
///
/// Each write over the API leaves an event, and so does an administrator who comes back from a CRM.
/// Events are kept a year, unless the server's `audit.keep_days` says otherwise. The token needs
/// the scope `admin`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AuditArgs {
    /// Account, as `account list` shows it
    #[arg(long, value_name = "ID", env = ACCOUNT_VARIABLE, required_unless_present = "no_account")]
    account: Option<AccountId>,
    /// What belongs to no account: refused tokens, missing scopes, and what was asked of accounts
    /// that are not there or not the caller's
    #[arg(long)]
    no_account: bool,
    /// Only calls that came then or later, such as 2026-11-30T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Only calls that came before
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

/// Asks page by page, and prints the events.
pub(super) async fn run(args: AuditArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let account = args.account.filter(|_| !args.no_account);
    let mut request = pb::ListAuditEventsRequest {
        account_id: account.map(|id| id.to_string()).unwrap_or_default(),
        start_time: args.since.map(timestamp),
        end_time: args.until.map(timestamp),
        ..Default::default()
    };
    let mut answer = pb::ListAuditEventsResponse::default();
    while answer.audit_events.len() < args.limit {
        let left = (args.limit - answer.audit_events.len()).min(PAGE_SIZE_MAX);
        request.page_size = i32::try_from(left).unwrap_or(i32::MAX);
        let page = client.accounts().list_audit_events(request.clone()).await?.into_inner();
        answer.audit_events.extend(page.audit_events);
        answer.next_page_token.clone_from(&page.next_page_token);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    client.print(&json::of(&answer), AuditTable(&answer))?;
    Ok(ExitCode::SUCCESS)
}

fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or_default();
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}

/// One event a line.
struct AuditTable<'a>(&'a pb::ListAuditEventsResponse);

impl fmt::Display for AuditTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.audit_events.is_empty() {
            return f.write_str("Nobody has changed or wanted anything in this time.");
        }
        for event in &self.0.audit_events {
            let (time, result) = (show::time(event.call_time.as_ref()), show::audit_result(event.result()));
            let subject = if event.subject.is_empty() { "-".to_owned() } else { show::clean(&event.subject) };
            write!(f, "{time}  {result:<9}  {:<21}  {subject:<23}", event.method)?;
            let named = [
                ("", &event.reason),
                ("integration ", &event.integration_id),
                ("run ", &event.sync_run_id),
                ("contact ", &event.contact_id),
            ];
            for (name, value) in named.iter().filter(|(_, value)| !value.is_empty()) {
                write!(f, "  {name}{value}")?;
            }
            if !event.fields.is_empty() {
                write!(f, "  ({})", event.fields.join(", "))?;
            }
            if event.left_out > 0 {
                write!(f, "  and {} more", show::count(event.left_out))?;
            }
            writeln!(f)?;
        }
        if !self.0.next_page_token.is_empty() {
            writeln!(f, "There are older ones: --limit shows more, --until those before a time.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Asking {
        #[command(flatten)]
        args: AuditArgs,
    }

    /// An account is named, or none is meant; times are read as they are written.
    #[test]
    fn account_or_none_must_be_said() {
        let asking = |words: &[&str]| <Asking as clap::Parser>::try_parse_from([&["audit"], words].concat());

        assert!(asking(&[]).is_err());
        assert!(asking(&["--no-account"]).is_ok());
        let args = asking(&["--account", "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f", "--since", "2026-11-30T12:00:00Z"]);
        assert_eq!(args.unwrap().args.since.map(timestamp).unwrap().seconds, 1_796_040_000);
        assert!(asking(&["--no-account", "--until", "yesterday"]).is_err());
    }

    #[test]
    fn events_are_listed_one_a_line() {
        let mut refused = pb::AuditEvent {
            method: "MatchCaller".into(),
            reason: "TOKEN_EXPIRED".into(),
            left_out: 12,
            ..Default::default()
        };
        refused.set_result(pb::AuditResult::Refused);
        let mut done = pb::AuditEvent {
            method: "UpdateSync".into(),
            subject: "desk".into(),
            integration_id: "0199-a".into(),
            fields: vec!["credentials".into()],
            ..Default::default()
        };
        done.set_result(pb::AuditResult::Done);
        let page = pb::ListAuditEventsResponse { audit_events: vec![refused, done], next_page_token: "more".into() };

        let text = AuditTable(&page).to_string();
        let lines: Vec<&str> = text.lines().collect();

        assert!(lines[0].contains("REFUSED    MatchCaller            -"), "{text}");
        assert!(lines[0].ends_with("  TOKEN_EXPIRED  and 12 more"), "{text}");
        assert!(lines[1].contains("DONE       UpdateSync             desk"), "{text}");
        assert!(lines[1].ends_with("  integration 0199-a  (credentials)"), "{text}");
        assert!(lines[2].contains("--limit"), "{text}");
    }
}
