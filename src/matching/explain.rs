//! Why this contact, why not that one: asks as a call does, without storing anything, and says in
//! words what came out. The words are for a support agent; they hold what the agent asked about and
//! go into no log.

use phone_key::{PhoneKey, Region};

use super::{MatchContext, MatchError, match_caller};
use crate::{
    domain::{
        account::MatchRules,
        call::{
            CallDirection, MatchAnswer, MatchHints, MatchOutcome, MatchRequest, MatchTier, OnNoMatch, PossibleCaller,
        },
        contact::{Contact, ContactNumber, TOTAL_MAX},
        ids::{AccountId, ContactId},
        look_aside::AsideMode,
    },
    store::contacts,
};

/// What was asked.
pub struct ExplainRequest {
    /// The number, as a carrier would give it.
    pub phone_number: String,
    /// The region of a number without one; `None`: the account's.
    pub region: Option<Region>,
    /// A contact of which is asked why it is not named (or is).
    pub contact_id: Option<ContactId>,
}

/// A match with its reasons.
pub struct MatchExplanation {
    /// What a call from the number would be answered now.
    pub answer: MatchAnswer,
    /// How that comes about, in order.
    pub steps: Vec<String>,
    /// About the contact that was asked.
    pub about_contact: Vec<String>,
}

/// Answers as a call from this number would be answered that only looks, with every tier and hint,
/// and says why.
pub async fn explain_match(
    context: &MatchContext,
    account_id: AccountId,
    asked: &ExplainRequest,
) -> Result<MatchExplanation, MatchError> {
    let rules = context.rules.find(account_id).await?.ok_or(MatchError::AccountNotFound)?;
    let request = MatchRequest {
        phone_number: asked.phone_number.clone(),
        region: asked.region,
        call_id: None,
        direction: CallDirection::Inbound,
        agent_id: String::new(),
        caller_id_withheld: false,
        on_no_match: OnNoMatch::LookupOnly,
        hints: MatchHints { suffix: true, organization: true },
    };
    let answer = match_caller(context, account_id, &request, None).await?;
    let region = asked.region.unwrap_or(rules.default_region);
    let mut steps = vec![reading_words(&answer, &asked.phone_number, region)];
    steps.extend(match_words(&answer));
    steps.extend(answer.possible.iter().map(possible_words));
    let now = context.clock.now();
    steps.extend(
        answer
            .sources
            .iter()
            .filter(|source| !source.note(now).is_empty())
            .map(|source| format!("{} {}: {}", source.provider.as_str(), source.integration_id, source.note(now))),
    );
    steps.extend(aside_words(context, &answer, &rules));
    if rules.is_reparsing {
        steps.push("Stored numbers are being read again, after a change of the account's regions or of the rules: until then, nobody is not surely nobody.".to_owned());
    }
    let about_contact = match asked.contact_id {
        Some(id) => contact_words(context, account_id, id, &answer, &rules).await?,
        None => Vec::new(),
    };
    Ok(MatchExplanation { answer, steps, about_contact })
}

/// What a call would wait for that finds nobody with a record.
fn aside_words(context: &MatchContext, answer: &MatchAnswer, rules: &MatchRules) -> Option<String> {
    if rules.look_aside.is_zero() || !answer.candidates.iter().all(|contact| contact.is_placeholder) {
        return None;
    }
    let asked = context.aside.would_ask(context, answer).into_iter().map(|(id, mode)| {
        let source = answer.sources.iter().find(|source| source.integration_id == id);
        let crm = source.map_or("", |source| source.provider.as_str());
        match mode {
            AsideMode::Delta => format!("{crm} {id} for what has changed since its last run"),
            AsideMode::Search => format!("{crm} {id} for this number"),
        }
    });
    let asked: Vec<String> = asked.collect();
    Some(if asked.is_empty() {
        "The account looks aside, and none of its CRMs is asked in its present state.".to_owned()
    } else {
        format!(
            "A new call would wait at most {} ms while a CRM is asked: {}. That was not done now.",
            rules.look_aside.as_millis(),
            asked.join("; ")
        )
    })
}

async fn contact_words(
    context: &MatchContext,
    account_id: AccountId,
    contact_id: ContactId,
    answer: &MatchAnswer,
    rules: &MatchRules,
) -> Result<Vec<String>, MatchError> {
    let contact = contacts::find(&context.db, account_id, contact_id).await?.ok_or(MatchError::ContactNotFound)?;
    if let Some(survivor_id) = contact.survivor_id {
        return Ok(vec![format!(
            "This contact was merged: contact {survivor_id} goes on in its place. Ask about that one."
        )]);
    }
    if contact.deleted_at.is_some() {
        return Ok(vec!["This contact is deleted: it is in no answer.".to_owned()]);
    }
    let mut words = Vec::new();
    match answer.candidates.iter().position(|candidate| candidate.id == contact.id) {
        Some(0) => words.push("This contact is the one that is named.".to_owned()),
        Some(at) => words.push(format!("This contact matches, and {at} come before it.")),
        None if answer.total > answer.candidates.len() => {
            words.push("This contact is not among the first twenty.".to_owned());
        }
        None => words.push("This contact does not match.".to_owned()),
    }
    if contact.numbers.is_empty() {
        words.push("It has no number.".to_owned());
    }
    words.extend(contact.numbers.iter().map(|number| number_words(number, answer.key, rules)));
    Ok(words)
}

/// How the text became a number, or why it did not.
fn reading_words(answer: &MatchAnswer, raw: &str, region: Region) -> String {
    let how = how_read(raw, region);
    match (answer.outcome, answer.key) {
        (MatchOutcome::Withheld, _) => {
            format!("The caller hides the number ({how}): nobody is looked up, and nobody is created.")
        }
        (_, Some(key)) => format!("The number is read as {}: {how}.", key.e164()),
        (_, None) => format!(
            "This is not a number that could be called from elsewhere ({how}): nobody is looked up, and nobody is created."
        ),
    }
}

fn how_read(raw: &str, region: Region) -> String {
    let steps = phone_key::explain(raw, Some(region)).steps;
    steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn match_words(answer: &MatchAnswer) -> Vec<String> {
    let Some(key) = answer.key else { return Vec::new() };
    let strangers = answer.candidates.iter().filter(|contact| contact.is_placeholder).count();
    let mut words = vec![match answer.tier {
        Some(MatchTier::Exact) if answer.candidates.len() == strangers => {
            "Nobody in a CRM has exactly this number; it has called before, and a placeholder stands for it.".to_owned()
        }
        Some(MatchTier::Exact) => format!("{} with exactly this number.", count(answer)),
        Some(MatchTier::Variant) => format!(
            "Nobody in a CRM has exactly {}; {} with another form of the same line ({}).",
            key.e164(),
            count(answer),
            answer.rule
        ),
        Some(MatchTier::AssumedRegion) => format!(
            "Nobody in a CRM has exactly {}; {} with a number written without a country that is this one in another region of the account.",
            key.e164(),
            count(answer)
        ),
        Some(MatchTier::Clicked) => "An agent has clicked this number of this contact.".to_owned(),
        None if answer.complete => {
            "Nobody has this number, and every integration is up to date and read wholly: a call would get a new placeholder."
                .to_owned()
        }
        None => {
            "Nobody here has this number, but not every integration is up to date, or could be read wholly: it may be known to a CRM.".to_owned()
        }
    }];
    if answer.candidates.len() > 1 {
        words.extend(answer.candidates.iter().enumerate().map(|(at, contact)| place_words(at, contact, answer)));
    }
    if answer.total_is_capped {
        words.push(format!("More than {TOTAL_MAX} have it: this is a shared line, such as a switchboard."));
    }
    words
}

fn count(answer: &MatchAnswer) -> String {
    match (answer.total, answer.total_is_capped) {
        (1, _) => "One contact is here".to_owned(),
        (total, false) => format!("{total} contacts are here"),
        (total, true) => format!("More than {total} contacts are here"),
    }
}

fn place_words(at: usize, contact: &Contact, answer: &MatchAnswer) -> String {
    let why = match (at, contact.is_placeholder) {
        (_, true) => "a stranger's placeholder, which comes behind everyone with a record".to_owned(),
        (0, false) => format!("named, by the rule {}", answer.rule),
        (_, false) => "also has it, and comes later by that rule".to_owned(),
    };
    format!(
        "{}. contact {} ({}), created {}: {why}.",
        at + 1,
        contact.id,
        contact.display_name,
        contact.created_at.format("%F %T")
    )
}

fn possible_words(possible: &PossibleCaller) -> String {
    match possible {
        PossibleCaller::Suffix(contact) => format!(
            "Possibly contact {} ({}): it has a number without area code that this one ends with. Never taken for an answer.",
            contact.id, contact.display_name
        ),
        PossibleCaller::Organization { name, key } => {
            format!("Possibly a line of {name}: its main line is {}. Never taken for an answer.", key.e164())
        }
    }
}

/// Why a stored number is not the caller's, or is.
fn number_words(number: &ContactNumber, asked: Option<PhoneKey>, rules: &MatchRules) -> String {
    let shown = &number.raw;
    let assumed = |asked| phone_key::assumed_region(shown, number.key, asked, &rules.further_regions);
    if let Some((asked, region)) = asked.and_then(|asked| Some((asked, assumed(asked)?)))
        && number.key != Some(asked)
    {
        return format!(
            "“{shown}” is written without a country, and is {} in {region}, where the account works too.",
            asked.e164()
        );
    }
    let Some(key) = number.key else {
        let why = how_read(shown, rules.default_region);
        return format!("“{shown}” is not a number that could be called from elsewhere, so it matches nobody: {why}.");
    };
    match asked {
        Some(asked) if asked == key => format!("“{shown}” is {}: the very number.", key.e164()),
        Some(asked) if phone_key::variants(asked).any(|variant| variant.key == key) => {
            format!("“{shown}” is {}: another form of the same line.", key.e164())
        }
        Some(asked) => {
            let (one, two) = (asked.e164(), key.e164());
            let same = one.bytes().rev().zip(two.bytes().rev()).take_while(|(a, b)| a == b).count();
            let near = if same >= 7 {
                format!(", though the last {same} digits are alike: other digits are another line")
            } else {
                String::new()
            };
            format!("“{shown}” is {two}: another number{near}.")
        }
        None => format!("“{shown}” is {}.", key.e164()),
    }
}
