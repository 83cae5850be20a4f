//! What an answer to "who is calling?" is made of, once everything is known. Asks nobody.

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;

use crate::{
    domain::{
        call::{MatchAnswer, MatchOutcome, MatchTier, RULE_CLICKED},
        contact::{CANDIDATES_MAX, Contact, TOTAL_MAX},
    },
    store::caller_lookup::CallerLookup,
};

/// What the look-up alone says.
pub(super) fn answer_of(
    key: PhoneKey,
    lookup: CallerLookup,
    (tier, rule): (MatchTier, &'static str),
    complete: bool,
    as_of: DateTime<Utc>,
) -> MatchAnswer {
    let total = lookup.total;
    let outcome = match total {
        0 if complete => MatchOutcome::NotFound,
        0 => MatchOutcome::NotKnownYet,
        1 => MatchOutcome::Matched,
        _ => MatchOutcome::Ambiguous,
    };
    MatchAnswer {
        outcome,
        selected: lookup.candidates.first().cloned(),
        candidates: lookup.candidates,
        total: total.min(TOTAL_MAX),
        total_is_capped: total > TOTAL_MAX,
        selection: None,
        tier: (total > 0).then_some(tier),
        rule: if total > 0 { rule } else { "" },
        possible: Vec::new(),
        sources: lookup.sources,
        complete,
        key: Some(key),
        as_of,
        is_degraded: false,
        look_asides: Vec::new(),
        look_aside_wait: None,
    }
}

/// Names the contact that an agent clicked.
pub(super) fn name_clicked(answer: &mut MatchAnswer, contact: Contact) {
    put_first(answer, contact);
    answer.outcome = MatchOutcome::Matched;
    answer.tier = Some(MatchTier::Clicked);
    answer.rule = RULE_CLICKED;
}

/// Names this contact, and puts it before the others.
pub(super) fn put_first(answer: &mut MatchAnswer, contact: Contact) {
    // One that has the number was counted, also when it stands behind the first twenty; so was one
    // of a weaker tier.
    let is_counted = answer.candidates.iter().any(|candidate| candidate.id == contact.id)
        || contact.numbers.iter().any(|number| number.key == answer.key);
    if !is_counted {
        answer.total = (answer.total + 1).min(TOTAL_MAX);
    }
    answer.candidates.retain(|candidate| candidate.id != contact.id);
    answer.candidates.insert(0, contact.clone());
    answer.candidates.truncate(CANDIDATES_MAX);
    answer.selected = Some(contact);
}
