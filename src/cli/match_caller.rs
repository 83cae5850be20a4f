//! `contact-sync match` and `contact-sync select`: who is calling, and whom the agent chooses.

use std::process::ExitCode;

use phone_key::Region;

use super::client::{
    AccountOption, ClientOptions, ServiceClient, json,
    show::{self, LabelledLines},
};
use crate::{domain::ids::ContactId, rpc::pb};

/// Name the caller of one call, as the call router asks it
///
/// Nobody matches: a contact is made for the number, unless --look-up is given.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct MatchArgs {
    /// The caller's number: E.164 is best; national, tel: and sip: forms are read too
    #[arg(value_name = "NUMBER", required_unless_present = "withheld")]
    number: Option<String>,
    #[command(flatten)]
    account: AccountOption,
    /// The router's id of the call: a repeat returns the stored answer, and `select` and
    /// `requester` refer to it
    #[arg(long, value_name = "ID")]
    call_id: Option<String>,
    /// Country of a number without one [default: the account's]
    #[arg(long, value_name = "COUNTRY")]
    region: Option<Region>,
    /// The number was dialled by an agent
    #[arg(long)]
    outbound: bool,
    /// The agent who dialled
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// The caller hides the number
    #[arg(long)]
    withheld: bool,
    /// Only look, and make no contact
    #[arg(long)]
    look_up: bool,
    /// If nobody matches, show who may be meant: a number without area code, or an organisation's
    /// main line
    #[arg(long)]
    possible: bool,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

/// Choose the contact of a call, as an agent does who sees several
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SelectArgs {
    #[command(flatten)]
    account: AccountOption,
    /// The call, by the id that `match` was given
    #[arg(long, value_name = "ID")]
    call_id: String,
    /// The contact that is chosen
    #[arg(long, value_name = "ID")]
    contact: ContactId,
    /// The agent who chooses
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

/// Asks who it is, and prints the answer.
pub(super) async fn run(args: MatchArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let mut request = pb::MatchCallerRequest {
        account_id: args.account.id.to_string(),
        phone_number: args.number.unwrap_or_default(),
        default_region: args.region.map(|region| region.as_str().to_owned()).unwrap_or_default(),
        call_id: args.call_id.unwrap_or_default(),
        agent_id: args.agent.unwrap_or_default(),
        caller_id_withheld: args.withheld,
        with_suffix: args.possible,
        with_organization: args.possible,
        ..Default::default()
    };
    if args.outbound {
        request.set_direction(pb::Direction::Outbound);
    }
    if args.look_up {
        request.set_on_no_match(pb::OnNoMatch::LookupOnly);
    }
    let answer = client.callers().match_caller(request).await?.into_inner();
    client.print(&json::of(&answer), lines(&answer))?;
    Ok(ExitCode::SUCCESS)
}

/// Stores the agent's choice, and prints it.
pub(super) async fn select(args: SelectArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let request = pb::SelectMatchRequest {
        account_id: args.account.id.to_string(),
        call_id: args.call_id,
        contact_id: args.contact.to_string(),
        agent_id: args.agent.unwrap_or_default(),
    };
    let answer = client.callers().select_match(request).await?.into_inner();
    let mut lines = LabelledLines::default();
    if let Some(contact) = &answer.selection {
        lines.add("chosen", show::person(contact));
        show::contact(&mut lines, contact);
    }
    client.print(&json::of(&answer), lines)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(answer: &pb::MatchCallerResponse) -> LabelledLines {
    let mut lines = LabelledLines::default();
    lines.add("outcome", format!("{}: {}", show::outcome(answer.outcome()), meaning(answer)));
    lines.add("number read", &answer.e164);
    if let Some(selected) = &answer.selected {
        show::contact(&mut lines, selected);
    }
    if answer.tier() != pb::MatchTier::Unspecified {
        lines.add("matched by", format!("{} {}", show::tier(answer.tier()), answer.rule));
    }
    if answer.candidates.len() > 1 {
        for candidate in &answer.candidates {
            lines.add("candidates", format!("{}  {}", candidate.id, show::person(candidate)));
        }
    }
    if let Some(selection) = &answer.selection {
        lines.add("chosen", format!("{}  {}", selection.id, show::person(selection)));
    }
    for possible in &answer.possible {
        let who = possible.contact.as_ref().map_or_else(
            || format!("{} ({})", show::clean(&possible.organization), possible.main_line),
            |contact| format!("{}  {}", contact.id, show::person(contact)),
        );
        lines.add("possibly", format!("{who} by {}", show::tier(possible.tier())));
    }
    show::sources(&mut lines, &answer.sources);
    look_asides(&mut lines, answer);
    if !answer.complete {
        lines.add("complete", "no: the caller may be known to a CRM, and not yet, or no longer surely, here");
    }
    lines
}

/// What was asked while the phone rang.
fn look_asides(lines: &mut LabelledLines, answer: &pb::MatchCallerResponse) {
    let waited = answer.look_aside_wait.as_ref().map(|wait| i64::from(wait.nanos) / 1_000_000 + wait.seconds * 1_000);
    let after = waited.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
    for look in &answer.look_asides {
        let source = answer.sources.iter().find(|source| source.integration_id == look.integration_id);
        let crm = source.map(|source| show::provider(source.provider())).unwrap_or_default();
        let outcome = look.outcome().as_str_name().trim_start_matches("LOOK_ASIDE_OUTCOME_");
        lines.add("looked aside", format!("{crm} {outcome}{after}"));
    }
}

/// The outcome in words.
fn meaning(answer: &pb::MatchCallerResponse) -> String {
    match answer.outcome() {
        pb::MatchOutcome::Unspecified => "unknown to this client".to_owned(),
        pb::MatchOutcome::Matched => "this contact has the number".to_owned(),
        pb::MatchOutcome::Ambiguous => {
            let more = if answer.total_is_capped { "more than " } else { "" };
            format!("{more}{} contacts have the number; the first is the default", answer.total)
        }
        pb::MatchOutcome::Created => {
            "nobody had the number when the call came; this contact was made for it".to_owned()
        }
        pb::MatchOutcome::NotFound => "nobody has the number".to_owned(),
        pb::MatchOutcome::NotKnownYet => "nobody here has the number, and not every CRM is copied".to_owned(),
        pb::MatchOutcome::Withheld => "the caller hides the number; nothing was created".to_owned(),
        pb::MatchOutcome::Unparseable => "not a number that can be called; nothing was created".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(id: &str, name: &str) -> pb::Contact {
        pb::Contact { id: id.into(), display_name: name.into(), ..Default::default() }
    }

    /// An ambiguous answer shows everyone, with the id to choose by.
    #[test]
    fn ambiguous_answer_shows_everyone_with_id() {
        let mut answer = pb::MatchCallerResponse {
            selected: Some(contact("0199-a", "Maria Ortiz")),
            candidates: vec![contact("0199-a", "Maria Ortiz"), contact("0199-b", "Daniel Ortiz")],
            total: 2,
            e164: "+14155550142".into(),
            complete: true,
            ..Default::default()
        };
        answer.set_outcome(pb::MatchOutcome::Ambiguous);

        assert_eq!(
            lines(&answer).to_string(),
            "outcome      AMBIGUOUS: 2 contacts have the number; the first is the default\n\
             number read  +14155550142\n\
             name         Maria Ortiz\n\
             contact      0199-a\n\
             candidates   0199-a Maria Ortiz\n             0199-b Daniel Ortiz\n"
        );
    }

    #[test]
    fn looks_aside_are_told_with_their_crm() {
        let look = pb::LookAside { integration_id: "01".into(), outcome: pb::LookAsideOutcome::NothingFound.into() };
        let answer = pb::MatchCallerResponse {
            sources: vec![pb::Source {
                integration_id: "01".into(),
                provider: pb::Provider::Salesforce.into(),
                ..Default::default()
            }],
            look_asides: vec![look],
            look_aside_wait: Some(prost_types::Duration { seconds: 1, nanos: 250_000_000 }),
            complete: true,
            ..Default::default()
        };

        assert!(lines(&answer).to_string().contains("looked aside  Salesforce NOTHING_FOUND after 1250 ms\n"));
    }

    #[test]
    fn an_incomplete_answer_says_so() {
        let mut answer = pb::MatchCallerResponse::default();
        answer.set_outcome(pb::MatchOutcome::NotKnownYet);

        assert!(lines(&answer).to_string().contains("complete  no: the caller may be known"));
    }
}
