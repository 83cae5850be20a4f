//! `contact-sync requester` and `contact-sync register`: whom a ticket belongs to, and records that
//! are known before the next sync.

use std::process::ExitCode;

use phone_key::Region;

use super::client::{
    AccountOption, ClientOptions, ServiceClient,
    advice::in_own_words,
    json,
    show::{self, LabelledLines},
};
use crate::{
    domain::ids::{ContactId, IntegrationId},
    rpc::pb::{self, resolve_requester_request::Subject},
};

/// Find the CRM record to which a ticket, case or deal belongs, as the automation engine asks it
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RequesterArgs {
    #[command(flatten)]
    account: AccountOption,
    /// Integration in which it will be created
    #[arg(long, value_name = "ID")]
    integration: IntegrationId,
    #[command(flatten)]
    subject: SubjectArgs,
    /// Country of a number without one [default: the account's]
    #[arg(long, value_name = "COUNTRY", requires = "number")]
    region: Option<Region>,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
struct SubjectArgs {
    /// Of the call with this id
    #[arg(long, value_name = "ID")]
    call_id: Option<String>,
    /// Of this contact
    #[arg(long, value_name = "ID")]
    contact: Option<ContactId>,
    /// Of a number alone
    #[arg(long, value_name = "NUMBER")]
    number: Option<String>,
}

impl SubjectArgs {
    fn subject(self) -> Option<Subject> {
        let contact = self.contact.map(|id| Subject::ContactId(id.to_string()));
        self.call_id.map(Subject::CallId).or(contact).or(self.number.map(Subject::PhoneNumber))
    }
}

/// Make a CRM record known before the next sync: a click on its number, or a record that has just
/// been created
///
/// Without --call-id the next outbound call to the number within five minutes is this record's.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RegisterArgs {
    #[command(flatten)]
    account: AccountOption,
    /// Integration that the record belongs to; its sync may be off
    #[arg(long, value_name = "ID")]
    integration: IntegrationId,
    /// Kind of record: user, Contact, Lead or person
    #[arg(long = "type", value_name = "TYPE")]
    object_type: String,
    /// The CRM's id of the record
    #[arg(long, value_name = "ID")]
    record: String,
    /// The number that was clicked or called
    #[arg(long, value_name = "NUMBER")]
    number: String,
    /// Country of a number without one [default: the account's]
    #[arg(long, value_name = "COUNTRY")]
    region: Option<Region>,
    /// The record's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The record's e-mail address
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// The agent who clicked
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// The call that the record belongs to
    #[arg(long, value_name = "ID")]
    call_id: Option<String>,
    /// The contact that `match` made for the caller, and that this record is
    #[arg(long, value_name = "ID")]
    contact: Option<ContactId>,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

/// Asks for the requester, and prints the answer.
pub(super) async fn run(args: RequesterArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let request = pb::ResolveRequesterRequest {
        account_id: args.account.id.to_string(),
        integration_id: args.integration.to_string(),
        subject: args.subject.subject(),
        default_region: args.region.map(|region| region.as_str().to_owned()).unwrap_or_default(),
    };
    let answer = client.callers().resolve_requester(request).await?.into_inner();
    client.print(&json::of(&answer), lines(&answer))?;
    Ok(ExitCode::SUCCESS)
}

/// Registers the record, and prints its contact.
pub(super) async fn register(args: RegisterArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let request = pb::PreRegisterContactRequest {
        account_id: args.account.id.to_string(),
        integration_id: args.integration.to_string(),
        object_type: args.object_type,
        record_id: args.record,
        phone_number: args.number,
        display_name: args.name.unwrap_or_default(),
        email: args.email.unwrap_or_default(),
        agent_id: args.agent.unwrap_or_default(),
        call_id: args.call_id.unwrap_or_default(),
        contact_id: args.contact.map(|id| id.to_string()).unwrap_or_default(),
        default_region: args.region.map(|region| region.as_str().to_owned()).unwrap_or_default(),
    };
    let answer = client.callers().pre_register_contact(request).await?.into_inner();
    let mut lines = LabelledLines::default();
    if let Some(contact) = &answer.contact {
        show::contact(&mut lines, contact);
    }
    let until = show::time(answer.expire_time.as_ref());
    if !until.is_empty() {
        lines.add("expected", format!("an outbound call to the number until {until} is this contact's"));
    }
    client.print(&json::of(&answer), lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(answer: &pb::ResolveRequesterResponse) -> LabelledLines {
    let mut lines = LabelledLines::default();
    lines.add("outcome", show::requester_outcome(answer.outcome()));
    if let Some(record) = &answer.record {
        lines.add("record", show::record(record));
        lines.add("record", &record.url);
        lines.add("because", because(answer.evidence()));
    }
    for candidate in &answer.candidates {
        lines.add("candidates", show::record(candidate));
    }
    lines.add("contact", &answer.contact_id);
    lines.add("note", in_own_words(&answer.note));
    lines.add("known through", show::time(answer.known_through.as_ref()));
    lines
}

fn because(evidence: pb::RequesterEvidence) -> &'static str {
    match evidence {
        pb::RequesterEvidence::Unspecified => "",
        pb::RequesterEvidence::SelectedContact => "it is the contact's own record",
        pb::RequesterEvidence::OnlyRecordWithNumber => "it is the only record there with the number",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const ID: &str = "7b0c5f9e-58b4-4a3f-9d1e-0a2b3c4d5e6f";

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        requester: RequesterArgs,
    }

    fn parse(subject: &[&str]) -> Result<Option<Subject>, clap::Error> {
        let fixed = ["requester", "--account", ID, "--integration", ID];
        Command::try_parse_from([&fixed, subject].concat()).map(|command| command.requester.subject.subject())
    }

    #[test]
    fn exactly_one_subject_is_asked_for() {
        assert_eq!(parse(&["--call-id", "c-1"]).unwrap(), Some(Subject::CallId("c-1".into())));
        assert_eq!(parse(&["--contact", ID]).unwrap(), Some(Subject::ContactId(ID.into())));
        assert_eq!(parse(&["--number", "+1"]).unwrap(), Some(Subject::PhoneNumber("+1".into())));
        assert!(parse(&[]).is_err());
        assert!(parse(&["--call-id", "c-1", "--number", "+1"]).is_err());
    }

    #[test]
    fn a_resolved_requester_is_the_record_and_why() {
        let mut answer = pb::ResolveRequesterResponse {
            record: Some(pb::Record {
                provider: pb::Provider::Zendesk.into(),
                object_type: "user".into(),
                record_id: "9001".into(),
                is_live: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        answer.set_outcome(pb::RequesterOutcome::Resolved);
        answer.set_evidence(pb::RequesterEvidence::SelectedContact);

        assert_eq!(
            lines(&answer).to_string(),
            "outcome  RESOLVED\nrecord   Zendesk user 9001\nbecause  it is the contact's own record\n"
        );
    }
}
