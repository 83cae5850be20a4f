//! The tiers behind an equal key: variants of a line, other regions of the account, and hints that
//! are never an answer. They are asked only if nobody with a record has an equal key; what an index
//! finds is proved by reading it again, and the first created comes first, whatever the policy.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;

use super::{MatchContext, MatchError};
use crate::{
    domain::{
        account::MatchRules,
        call::{MatchHints, MatchTier, PossibleCaller, RULE_ASSUMED_REGION},
        contact::{CANDIDATES_MAX, Contact},
        ids::{AccountId, ContactId},
    },
    store::{
        caller_lookup::CallerLookup,
        contacts,
        phone_numbers::{self, NumberHit},
    },
};

/// Contacts by their rank.
type RankedHits = BTreeMap<(DateTime<Utc>, ContactId), &'static str>;

/// Whether a number of this account can be found by another tier than an equal key.
pub(super) fn has_weaker(key: PhoneKey, rules: &MatchRules) -> bool {
    !rules.further_regions.is_empty() || phone_key::variants(key).next().is_some()
}

/// Puts those whom a weaker tier finds before a stranger, if nobody with a record has the very
/// number. Returns the tier and its rule; `None`: the look-up stays as it is.
pub(super) async fn widen(
    context: &MatchContext,
    account_id: AccountId,
    key: PhoneKey,
    rules: &MatchRules,
    found: &mut CallerLookup,
) -> Result<Option<(MatchTier, &'static str)>, MatchError> {
    if found.has_record() {
        return Ok(None);
    }
    let variants: Vec<phone_key::NumberVariant> = phone_key::variants(key).collect();
    let probes = phone_key::assumed_probes(key, &rules.further_regions);
    if variants.is_empty() && probes.is_empty() {
        return Ok(None);
    }
    let keys: Vec<PhoneKey> = variants.iter().map(|variant| variant.key).collect();
    let hits = phone_numbers::find_hits(&context.call_db, account_id, &keys, &probes).await?;
    let by_variant = ranked(&hits, |hit| {
        variants.iter().find(|variant| hit.key == Some(variant.key)).map(|variant| variant.rule.as_str())
    });
    let (tier, ranked) = if by_variant.is_empty() {
        let by_region = ranked(&hits, |hit| {
            phone_key::assumed_region(&hit.raw, hit.key, key, &rules.further_regions).map(|_| RULE_ASSUMED_REGION)
        });
        (MatchTier::AssumedRegion, by_region)
    } else {
        (MatchTier::Variant, by_variant)
    };
    let Some(rule) = ranked.values().next().copied() else { return Ok(None) };
    let mut candidates = find_ranked(context, account_id, &ranked).await?;
    if candidates.is_empty() {
        return Ok(None);
    }
    // Of more than are named, those that ended a moment ago are not counted out.
    found.total += if ranked.len() > CANDIDATES_MAX { ranked.len() } else { candidates.len() };
    candidates.append(&mut found.candidates);
    candidates.truncate(CANDIDATES_MAX);
    found.candidates = candidates;
    Ok(Some((tier, rule)))
}

/// Who may be meant, as far as it was asked for.
pub(super) async fn find_possible(
    context: &MatchContext,
    account_id: AccountId,
    key: PhoneKey,
    rules: &MatchRules,
    hints: MatchHints,
) -> Result<Vec<PossibleCaller>, MatchError> {
    let mut possible = Vec::new();
    if hints.suffix {
        possible.extend(find_suffix(context, account_id, key, rules).await?);
    }
    if hints.organization {
        possible.extend(find_organization(context, account_id, key).await?);
    }
    Ok(possible)
}

/// The one contact with a number without key that the caller's ends with; of several none.
async fn find_suffix(
    context: &MatchContext,
    account_id: AccountId,
    key: PhoneKey,
    rules: &MatchRules,
) -> Result<Option<PossibleCaller>, MatchError> {
    let probes = phone_key::suffix_probes(key, rules.default_region);
    let hits = phone_numbers::find_hits(&context.call_db, account_id, &[], &probes).await?;
    let ranked = ranked(&hits, |hit| {
        (hit.key.is_none() && phone_key::is_suffix(&hit.raw, key, rules.default_region)).then_some("suffix")
    });
    let mut contacts = find_ranked(context, account_id, &ranked).await?;
    Ok(if contacts.len() == 1 { contacts.pop().map(PossibleCaller::Suffix) } else { None })
}

/// The organisation with the longest main line that the caller's number begins with.
async fn find_organization(
    context: &MatchContext,
    account_id: AccountId,
    key: PhoneKey,
) -> Result<Option<PossibleCaller>, MatchError> {
    let prefixes = phone_key::org_prefixes(key);
    let keys: Vec<PhoneKey> = prefixes.iter().map(|prefix| prefix.key).collect();
    let hits = phone_numbers::find_hits(&context.call_db, account_id, &keys, &[]).await?;
    for prefix in prefixes {
        let is_main = |hit: &NumberHit| !prefix.is_switchboard || phone_key::is_switchboard(&hit.raw);
        let ranked = ranked(&hits, |hit| (hit.key == Some(prefix.key) && is_main(hit)).then_some("main_line"));
        if let Some(contact) = find_ranked(context, account_id, &ranked).await?.into_iter().next() {
            let name = if contact.organization.is_empty() { contact.display_name } else { contact.organization };
            return Ok(Some(PossibleCaller::Organization { name, key: prefix.key }));
        }
    }
    Ok(None)
}

/// The best of these, first created first.
async fn find_ranked(
    context: &MatchContext,
    account_id: AccountId,
    ranked: &RankedHits,
) -> Result<Vec<Contact>, MatchError> {
    let ids: Vec<ContactId> = ranked.keys().map(|(_, id)| *id).take(CANDIDATES_MAX).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = contacts::find_live(&context.call_db, account_id, &ids).await?;
    let mut living: Vec<Contact> = found.into_iter().map(|(_, contact)| contact).collect();
    living.sort_by_key(|contact| (contact.created_at, contact.id));
    living.dedup_by_key(|contact| contact.id);
    Ok(living)
}

/// The contacts of the hits that stand the proof, each once.
fn ranked(hits: &[NumberHit], prove: impl Fn(&NumberHit) -> Option<&'static str>) -> RankedHits {
    let mut ranked = RankedHits::new();
    for hit in hits {
        if let Some(rule) = prove(hit) {
            ranked.entry((hit.contact_created_at, hit.contact_id)).or_insert(rule);
        }
    }
    ranked
}
