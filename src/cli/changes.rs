//! `contact-sync changes`, `explain` and `erase`: what has become of contacts, why a number is
//! answered as it is, and forgetting a person.

use std::{
    fmt,
    io::{self, BufRead, IsTerminal, Write, stderr, stdin},
    process::ExitCode,
};

use phone_key::Region;

use super::client::{
    AccountOption, ClientOptions, ServiceClient,
    failure::CommandFailure,
    json,
    show::{self, LabelledLines},
};
use crate::{domain::ids::ContactId, rpc::pb};

/// Show what has become of contacts and of earlier answers, in order
///
/// Goes on until there is no more. Pass the last number shown as --after, and --epoch with it, to
/// go on from there. If that is refused with `FEED_RESET`, the database was restored from a backup:
/// list the contacts anew, and go on behind the position that it names.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ChangesArgs {
    #[command(flatten)]
    account: AccountOption,
    /// Only what comes behind this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: i64,
    /// The epoch that the number is of: stops if the database has been restored since
    #[arg(long, value_name = "EPOCH", default_value = "")]
    epoch: String,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 1_000)]
    limit: usize,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

/// Say why a number is answered as it is, in words
///
/// Asks as a call does, and stores and creates nothing.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ExplainArgs {
    /// The number, as a carrier gives it
    #[arg(value_name = "NUMBER")]
    number: String,
    #[command(flatten)]
    account: AccountOption,
    /// Why this contact is named, or is not
    #[arg(long, value_name = "CONTACT_ID")]
    contact: Option<ContactId>,
    /// Country of a number without one [default: the account's]
    #[arg(long, value_name = "COUNTRY")]
    region: Option<Region>,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

/// Erase a person for ever: contact, records, numbers, calls
///
/// Shows whom first, and asks. No sync, click or report brings the person's records back. It cannot
/// be undone. The token needs the scope `contacts.read`, too.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct EraseArgs {
    /// The contact
    #[arg(value_name = "CONTACT_ID")]
    contact: ContactId,
    #[command(flatten)]
    account: AccountOption,
    /// Do not ask; needed where there is no terminal to ask at
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

/// Asks page by page, and prints each.
pub(super) async fn run(args: ChangesArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let (mut after, mut left, mut epoch) = (args.after, args.limit, args.epoch);
    let mut answer = pb::ListChangesResponse { next_after: after, epoch: epoch.clone(), ..Default::default() };
    while left > 0 {
        let request = pb::ListChangesRequest {
            account_id: args.account.id.to_string(),
            after,
            page_size: i32::try_from(left).unwrap_or(i32::MAX),
            only_position: false,
            epoch: std::mem::take(&mut epoch),
        };
        let page = client.contacts().list_changes(request).await?.into_inner();
        (after, epoch) = (page.next_after, page.epoch.clone());
        left = left.saturating_sub(page.changes.len());
        answer.changes.extend(page.changes);
        answer = pb::ListChangesResponse { changes: answer.changes, ..page };
        if !answer.has_more {
            break;
        }
    }
    client.print(&json::of(&answer), ChangeTable(&answer.changes))?;
    if answer.has_more && !client.is_json() {
        eprintln!(
            "There are more: go on with --after {} --epoch {}, or a larger --limit.",
            answer.next_after, answer.epoch
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks why, and prints the words.
pub(super) async fn explain(args: ExplainArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let request = pb::ExplainMatchRequest {
        account_id: args.account.id.to_string(),
        phone_number: args.number,
        default_region: args.region.map(|region| region.as_str().to_owned()).unwrap_or_default(),
        contact_id: args.contact.map(|id| id.to_string()).unwrap_or_default(),
    };
    let answer = client.callers().explain_match(request).await?.into_inner();
    let mut lines = LabelledLines::default();
    let match_answer = answer.answer.clone().unwrap_or_default();
    lines.add("a call gets", show::outcome(match_answer.outcome()));
    if let Some(selected) = &match_answer.selected {
        lines.add("named", format!("{}  {}", selected.id, show::person(selected)));
    }
    for step in &answer.steps {
        lines.add("why", show::clean(step));
    }
    for words in &answer.about_contact {
        lines.add("that contact", show::clean(words));
    }
    client.print(&json::of(&answer), lines)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows whom, asks, erases, and prints what is left.
pub(super) async fn erase(args: EraseArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let account_id = args.account.id.to_string();
    let person = find_person(&account_id, args.contact.to_string(), client).await?;
    if !client.is_json() {
        eprint!("{}", erased_person(&person));
    }
    let is_sure = args.yes || stdin().is_terminal() && !client.is_json() && is_confirmed(stdin().lock(), stderr())?;
    if !is_sure {
        return Err(CommandFailure {
            what: "nothing was erased: erasing cannot be undone".to_owned(),
            next: "if it is this person, repeat with --yes".to_owned(),
        }
        .into());
    }
    let request = pb::EraseContactRequest { account_id, contact_id: args.contact.to_string() };
    let erased = client.contacts().erase_contact(request).await?.into_inner();
    let mut lines = LabelledLines::default();
    lines.add("erased", &erased.contact_id);
    lines.add("records", format!("{} will not come back", erased.record_count));
    if erased.already_erased {
        lines.add("note", "the person had been erased before");
    }
    client.print(&json::of(&erased), lines)?;
    Ok(ExitCode::SUCCESS)
}

/// Whom an id means: the contact, or the one that lives on in its place.
async fn find_person(account_id: &str, contact_id: String, client: &ServiceClient) -> anyhow::Result<pb::Contact> {
    let request = pb::GetContactRequest { account_id: account_id.to_owned(), contact_id };
    let contact = client.contacts().get_contact(request).await?.into_inner().contact.unwrap_or_default();
    if contact.survivor_id.is_empty() {
        return Ok(contact);
    }
    let request = pb::GetContactRequest { account_id: account_id.to_owned(), contact_id: contact.survivor_id };
    Ok(client.contacts().get_contact(request).await?.into_inner().contact.unwrap_or_default())
}

/// Who is to be erased, as its operator may see it before it is done.
fn erased_person(person: &pb::Contact) -> LabelledLines {
    let mut lines = LabelledLines::default();
    lines.add(
        "to erase",
        if person.display_name.is_empty() { "a contact without a name" } else { &person.display_name },
    );
    lines.add("contact", &person.id);
    lines.add("organization", &person.organization);
    for number in &person.numbers {
        lines.add("number", if number.e164.is_empty() { &number.raw } else { &number.e164 });
    }
    for email in &person.emails {
        lines.add("email", email);
    }
    for record in &person.records {
        lines.add("record", show::record(record));
    }
    lines.add("records", format!("{}, which will not come back", person.records.len()));
    lines
}

/// Asks at the terminal. Anything but "yes" is no.
fn is_confirmed(mut answers: impl BufRead, mut terminal: impl Write) -> io::Result<bool> {
    write!(terminal, "Erase this person for ever? It cannot be undone. Type yes: ")?;
    terminal.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

/// One change a line.
struct ChangeTable<'a>(&'a [pb::Change]);

impl fmt::Display for ChangeTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("Nothing has changed behind this number.");
        }
        for change in self.0 {
            let what = match &change.correction {
                Some(correction) => correction_words(correction),
                None => contact_words(change),
            };
            let kind = show::change_kind(change.kind());
            writeln!(f, "{:>6}  {}  {kind:<9} {what}", change.number, show::time(change.create_time.as_ref()))?;
        }
        Ok(())
    }
}

fn contact_words(change: &pb::Change) -> String {
    match &change.contact {
        Some(contact) => format!("{}  {}", change.contact_id, show::person(contact)),
        None if !change.survivor_id.is_empty() => format!("{} -> {}", change.contact_id, change.survivor_id),
        None => change.contact_id.clone(),
    }
}

fn correction_words(correction: &pb::Correction) -> String {
    if correction.is_erased {
        return "a person was erased".to_owned();
    }
    let verdict = |verdict: &Option<pb::RequesterVerdict>| {
        let verdict = verdict.clone().unwrap_or_default();
        match verdict.outcome() {
            pb::RequesterVerdictOutcome::Resolved => format!("{} {}", verdict.object_type, verdict.record_id),
            pb::RequesterVerdictOutcome::Ambiguous => "several".to_owned(),
            pb::RequesterVerdictOutcome::None | pb::RequesterVerdictOutcome::Unspecified => "nobody".to_owned(),
        }
    };
    let (before, after) = (verdict(&correction.before), verdict(&correction.after));
    show::clean(&format!("call {}: not {before}, but {after}", correction.call_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (typed, is_sure) in
            [("yes\n", true), (" YES \r\n", true), ("y\n", false), ("\n", false), ("", false), ("no\n", false)]
        {
            assert_eq!(is_confirmed(typed.as_bytes(), io::sink()).unwrap(), is_sure, "{typed:?}");
        }
    }

    /// Who is to be erased is shown also without a name or a record.
    #[test]
    fn person_to_erase_shows_without_name_or_record() {
        let number = pb::PhoneNumber { e164: "+13108675309".into(), ..Default::default() };
        let stranger = pb::Contact { id: "0199".into(), numbers: vec![number], ..Default::default() };

        let text = erased_person(&stranger).to_string();

        assert!(text.contains("a contact without a name") && text.contains("+13108675309"), "{text}");
        assert!(text.contains("0, which will not come back"), "{text}");
    }

    #[test]
    fn changes_are_listed_one_a_line() {
        let mut created = pb::Change { number: 7, contact_id: "0199-a".into(), ..Default::default() };
        created.contact = Some(pb::Contact { display_name: "Ann".into(), ..Default::default() });
        created.set_kind(pb::ChangeKind::Created);
        let mut corrected = pb::Change { number: 8, ..Default::default() };
        corrected.set_kind(pb::ChangeKind::Corrected);
        let mut after = pb::RequesterVerdict { object_type: "user".into(), record_id: "11".into(), outcome: 0 };
        after.set_outcome(pb::RequesterVerdictOutcome::Resolved);
        corrected.correction = Some(pb::Correction { call_id: "c1".into(), after: Some(after), ..Default::default() });

        let text = ChangeTable(&[created, corrected]).to_string();

        assert!(text.lines().next().unwrap().contains("CREATED   0199-a  Ann"), "{text}");
        assert!(text.lines().nth(1).unwrap().ends_with("CORRECTED call c1: not nobody, but user 11"), "{text}");
        assert!(ChangeTable(&[]).to_string().starts_with("Nothing has changed"));
    }
}
