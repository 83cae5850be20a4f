//! Who is calling? Reading and storing are apart: a known caller costs one read, and with a call id of its own one more statement, which
//! stores the answer. A repeat, a click, a stranger or a lost race for the call id may cost one more.

use chrono::{DateTime, Utc};
use phone_key::{PhoneKey, Reading, Region};

use crate::{
    domain::{
        account::MatchRules,
        call::{CLICK_TTL, Call, Direction, Hints, Match, MatchOutcome, MatchTier, OnNoMatch, RULE_CLICKED},
        contact::{CANDIDATES_MAX, Contact, TOTAL_MAX},
        ids::{AccountId, ContactId},
        integration::is_complete,
    },
    identity::placeholder,
    store::{
        StoreError,
        adoption::Stranger,
        caller_lookup::{self, CallerLookup, LookupRequest},
        calls::{self, Answer},
        contacts,
        expected_calls::{self, Dialling, Expected},
        sources,
    },
    telemetry::chain,
};

use super::{MatchError, Matching, tiers};

/// How often a stranger is looked up again because somebody else was making the same contact.
const LOOKS_MAX: usize = 4;

/// A call that asks who it is.
pub struct Question {
    /// As the carrier gave it.
    pub phone_number: String,
    /// The region of a number without one; `None`: the account's.
    pub region: Option<Region>,
    /// The router's id; `None`: nothing is stored.
    pub call_id: Option<String>,
    /// Which way the call goes.
    pub direction: Direction,
    /// The agent who dialled; empty: not known.
    pub agent_id: String,
    /// The carrier says that the number is withheld.
    pub caller_id_withheld: bool,
    /// What to do when nobody matches.
    pub on_no_match: OnNoMatch,
    /// Weaker tiers that are asked when nobody matches.
    pub hints: Hints,
}

/// A call's number, and the rules by which it is looked up.
#[derive(Clone, Copy)]
struct NumberQuery<'a> {
    account_id: AccountId,
    question: &'a Question,
    key: PhoneKey,
    rules: &'a MatchRules,
}

/// What was found, and how.
#[derive(Clone)]
struct TieredLookup {
    lookup: CallerLookup,
    tier: MatchTier,
    rule: &'static str,
    /// "Nobody" means nobody.
    is_complete: bool,
    asked_at: DateTime<Utc>,
}

impl Matching {
    /// Names the caller of one call.
    pub async fn match_caller(&self, account_id: AccountId, question: &Question) -> Result<Match, MatchError> {
        let rules = self.rules.find(account_id).await?.ok_or(MatchError::AccountNotFound)?;
        if question.caller_id_withheld {
            return self.answer_without_key(account_id, question, &rules, MatchOutcome::Withheld).await;
        }
        match phone_key::read(&question.phone_number, question.region.or(Some(rules.default_region))) {
            Reading::Numbers(numbers) => {
                let query = NumberQuery { account_id, question, key: numbers.first().key, rules: &rules };
                let mut answer = self.answer_for_key(query).await?;
                if question.hints != Hints::default() && answer.candidates.iter().all(|contact| contact.is_placeholder)
                {
                    answer.possible = self.find_possible(account_id, query.key, &rules, question.hints).await?;
                }
                Ok(answer)
            }
            Reading::Withheld => self.answer_without_key(account_id, question, &rules, MatchOutcome::Withheld).await,
            Reading::Unparseable => {
                self.answer_without_key(account_id, question, &rules, MatchOutcome::Unparseable).await
            }
        }
    }

    async fn answer_for_key(&self, query: NumberQuery<'_>) -> Result<Match, MatchError> {
        for _ in 0..LOOKS_MAX {
            let found = self.find(query).await?;
            let call = found.lookup.call.as_ref();
            if let Some(call) = call.filter(|call| call.outcome.is_some()) {
                if call.key != Some(query.key) {
                    return Err(MatchError::CallIdReused);
                }
                if let Some(answer) = self.stored_answer(query, call, &found).await? {
                    return Ok(answer);
                }
            }
            // A call that was bound by its id leaves other agents' clicks alone.
            let is_bound = call.is_some_and(|call| call.selection_id.is_some());
            if found.lookup.has_expected_call && !is_bound {
                match self.answer_clicked(query, &found).await? {
                    ClickOutcome::Answer(answer) => return Ok(*answer),
                    ClickOutcome::LookAgain => continue,
                    ClickOutcome::Nothing => {}
                }
            }
            if let Some(answer) = self.fresh_answer(query, found).await? {
                return Ok(answer);
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn find(&self, query: NumberQuery<'_>) -> Result<TieredLookup, MatchError> {
        let NumberQuery { account_id, question, key, rules } = query;
        let now = self.clock.now();
        let request = LookupRequest {
            call_id: question.call_id.as_deref(),
            direction: question.direction,
            clicks_since: now - CLICK_TTL,
            policy: rules.policy,
        };
        let mut lookup = caller_lookup::look_up(&self.call_db, account_id, key, &request).await?;
        let weaker =
            if tiers::has_weaker(key, rules) { self.widen(account_id, key, rules, &mut lookup).await? } else { None };
        let (tier, rule) = weaker.unwrap_or((MatchTier::Exact, rules.policy.rule()));
        let is_complete = !rules.is_reparsing && is_complete(&lookup.sources, now);
        Ok(TieredLookup { lookup, tier, rule, is_complete, asked_at: now })
    }

    /// The answer of a call that has no stored one that stands. `None`: look again.
    async fn fresh_answer(&self, query: NumberQuery<'_>, mut found: TieredLookup) -> Result<Option<Match>, MatchError> {
        let NumberQuery { account_id, question, key, .. } = query;
        let call = found.lookup.call.take();
        let mut answer = answer_of(key, found);
        let selection_id = call.as_ref().and_then(|call| call.selection_id);
        if let Some(contact) = self.live_one(account_id, selection_id, &answer.candidates).await? {
            let is_only_clicked = call.as_ref().is_some_and(|call| call.outcome.is_none());
            if is_only_clicked && question.direction == Direction::Outbound {
                name_clicked(&mut answer, contact.clone());
            }
            answer.selection = Some(contact);
        }
        if answer.selected.is_none() && question.on_no_match == OnNoMatch::Create {
            let replaces = call.as_ref().and_then(|call| call.contact_id);
            let created = self.create_stranger(account_id, question, key, replaces).await?;
            return Ok(created.map(|stranger| {
                answer.outcome = MatchOutcome::Created;
                answer.candidates = vec![stranger.clone()];
                answer.selected = Some(stranger);
                answer.total = 1;
                answer
            }));
        }
        let is_kept = self.keep(query, &mut answer, call.as_ref()).await?;
        Ok(is_kept.then_some(answer))
    }

    /// Stores the answer of a call that has an id. False: another router asked with the same id at the same moment, and both must hear
    /// the same; look again.
    async fn keep(&self, query: NumberQuery<'_>, answer: &mut Match, known: Option<&Call>) -> Result<bool, MatchError> {
        let NumberQuery { account_id, question, .. } = query;
        let Some(call_id) = question.call_id.as_deref() else { return Ok(true) };
        let row = answer_row(question, call_id, answer);
        let now = self.clock.now();
        let Some(known) = known else {
            let stored = calls::insert_answer(&self.call_db, account_id, &row, now).await;
            let is_first = unless_in_trouble(stored)?;
            answer.is_degraded = is_first.is_none();
            return Ok(is_first.unwrap_or(true));
        };
        let stored = calls::store_answer(&self.call_db, account_id, &row, known.contact_id, now).await;
        let Some(stored) = unless_in_trouble(stored)? else {
            answer.is_degraded = true;
            return Ok(true);
        };
        let Some(stored) = stored.filter(|stored| {
            stored.key == row.key
                && stored.outcome == Some(row.outcome)
                && stored.contact_id == row.contact_id
                && stored.tier == row.tier
        }) else {
            return Ok(false);
        };
        if stored.selection_id != known.selection_id {
            // The agent chose between the read and this.
            answer.selection = self.live_one(account_id, stored.selection_id, &answer.candidates).await?;
        }
        Ok(true)
    }

    /// A repeat returns the stored outcome and the same contact, or its survivor, and the selection beside it. `None`: that answer
    /// was "nobody", or its contact is gone, and it is asked anew.
    async fn stored_answer(
        &self,
        query: NumberQuery<'_>,
        call: &Call,
        found: &TieredLookup,
    ) -> Result<Option<Match>, MatchError> {
        let (account_id, at_hand) = (query.account_id, &found.lookup.candidates);
        let Some(outcome) = call.outcome.filter(|outcome| !outcome.is_asked_anew()) else { return Ok(None) };
        let Some(selected) = self.live_one(account_id, call.contact_id, at_hand).await? else {
            return Ok(None);
        };
        let selection = self.live_one(account_id, call.selection_id, at_hand).await?;
        let mut answer = answer_of(query.key, found.clone());
        answer.selection = selection;
        put_first(&mut answer, selected);
        answer.outcome = outcome;
        answer.tier = call.tier;
        match call.tier {
            Some(MatchTier::Clicked) => answer.rule = RULE_CLICKED,
            Some(_) if answer.rule.is_empty() => answer.rule = query.rules.policy.rule(),
            Some(_) => {}
            None => answer.rule = "",
        }
        Ok(Some(answer))
    }

    /// The contact that an agent clicked to make this call.
    async fn answer_clicked(&self, query: NumberQuery<'_>, found: &TieredLookup) -> Result<ClickOutcome, MatchError> {
        let NumberQuery { account_id, question, key, .. } = query;
        let now = self.clock.now();
        let (call_id, agent_id) = (question.call_id.as_deref(), question.agent_id.as_str());
        let dialling = Dialling { call_id, agent_id, clicks_since: now - CLICK_TTL, now };
        match expected_calls::consume(&self.call_db, account_id, key, &dialling).await? {
            Expected::Nothing => Ok(ClickOutcome::Nothing),
            // A repeat of the call was quicker, and has stored its answer.
            Expected::Consumed { is_stored: false, .. } if call_id.is_some() => Ok(ClickOutcome::LookAgain),
            Expected::Consumed { contact_id, .. } => {
                let at_hand = &found.lookup.candidates;
                let Some(contact) = self.live_one(account_id, Some(contact_id), at_hand).await? else {
                    return Ok(ClickOutcome::LookAgain);
                };
                let mut answer = answer_of(key, found.clone());
                name_clicked(&mut answer, contact.clone());
                answer.selection = call_id.is_some().then_some(contact);
                Ok(ClickOutcome::Answer(Box::new(answer)))
            }
            Expected::SeveralAgents(contact_ids) => {
                let mut clicked = contacts::find_live(&self.call_db, account_id, &contact_ids).await?;
                clicked.sort_by_key(|(_, contact)| (contact.is_placeholder, contact.created_at, contact.id));
                let mut answer = answer_of(key, found.clone());
                // Before everyone else with the number: one of them was meant.
                for (_, contact) in clicked.into_iter().rev() {
                    put_first(&mut answer, contact);
                }
                answer.outcome = MatchOutcome::Ambiguous;
                answer.tier = Some(MatchTier::Clicked);
                answer.rule = RULE_CLICKED;
                let is_kept = self.keep(query, &mut answer, found.lookup.call.as_ref()).await?;
                Ok(if is_kept { ClickOutcome::Answer(Box::new(answer)) } else { ClickOutcome::LookAgain })
            }
        }
    }

    async fn create_stranger(
        &self,
        account_id: AccountId,
        question: &Question,
        key: PhoneKey,
        replaces: Option<ContactId>,
    ) -> Result<Option<Contact>, MatchError> {
        let now = self.clock.now();
        let stranger = Stranger {
            contact_id: ContactId(self.ids.new_v7(now)),
            key,
            raw: truncated(&question.phone_number),
            call_id: question.call_id.as_deref(),
            direction: question.direction,
            replaces,
        };
        Ok(placeholder::create(&self.call_db, &self.db, account_id, &stranger, now).await?)
    }

    async fn answer_without_key(
        &self,
        account_id: AccountId,
        question: &Question,
        rules: &MatchRules,
        outcome: MatchOutcome,
    ) -> Result<Match, MatchError> {
        let now = self.clock.now();
        let sources = sources::list(&self.call_db, account_id).await?;
        let complete = !rules.is_reparsing && is_complete(&sources, now);
        let mut answer = Match {
            outcome,
            selected: None,
            candidates: Vec::new(),
            total: 0,
            total_is_capped: false,
            selection: None,
            tier: None,
            rule: "",
            possible: Vec::new(),
            sources,
            complete,
            key: None,
            as_of: now,
            is_degraded: false,
        };
        if let Some(call_id) = &question.call_id {
            let row = answer_row(question, call_id, &answer);
            let stored = calls::store_answer(&self.call_db, account_id, &row, None, now).await;
            let Some(stored) = unless_in_trouble(stored)? else {
                answer.is_degraded = true;
                return Ok(answer);
            };
            let stored = match stored {
                Some(stored) => stored,
                // Stored by somebody else in the same moment: it is there now.
                None => calls::find(&self.call_db, account_id, call_id).await?.ok_or(StoreError::Conflict)?,
            };
            if stored.key.is_some() || stored.raw.as_deref() != Some(truncated(&question.phone_number)) {
                return Err(MatchError::CallIdReused);
            }
            answer.outcome = stored.outcome.unwrap_or(outcome);
            answer.selection = self.live_one(account_id, stored.selection_id, &[]).await?;
        }
        Ok(answer)
    }

    /// The contact, or its survivor, read only if it is not among those at hand.
    async fn live_one(
        &self,
        account_id: AccountId,
        contact_id: Option<ContactId>,
        at_hand: &[Contact],
    ) -> Result<Option<Contact>, MatchError> {
        let Some(contact_id) = contact_id else { return Ok(None) };
        if let Some(contact) = at_hand.iter().find(|contact| contact.id == contact_id) {
            return Ok(Some(contact.clone()));
        }
        let found = contacts::find_live(&self.call_db, account_id, &[contact_id]).await?;
        Ok(found.into_iter().map(|(_, contact)| contact).next())
    }
}

/// What became of the clicks that wait for a call.
enum ClickOutcome {
    /// The call is the clicked contact's (or one of several).
    Answer(Box<Match>),
    /// Things have moved on meanwhile.
    LookAgain,
    /// None was for this call.
    Nothing,
}

/// What the look-up alone says.
fn answer_of(key: PhoneKey, found: TieredLookup) -> Match {
    let TieredLookup { lookup, tier, rule, is_complete: complete, asked_at: as_of } = found;
    let total = lookup.total;
    let outcome = match total {
        0 if complete => MatchOutcome::NotFound,
        0 => MatchOutcome::NotKnownYet,
        1 => MatchOutcome::Matched,
        _ => MatchOutcome::Ambiguous,
    };
    Match {
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
    }
}

/// The answer as it is stored with its call.
fn answer_row<'a>(question: &'a Question, call_id: &'a str, answer: &Match) -> Answer<'a> {
    Answer {
        call_id,
        key: answer.key,
        raw: answer.key.is_none().then(|| truncated(&question.phone_number)),
        direction: question.direction,
        outcome: answer.outcome,
        contact_id: answer.selected.as_ref().map(|contact| contact.id),
        tier: answer.tier,
    }
}

fn name_clicked(answer: &mut Match, contact: Contact) {
    put_first(answer, contact);
    answer.outcome = MatchOutcome::Matched;
    answer.tier = Some(MatchTier::Clicked);
    answer.rule = RULE_CLICKED;
}

/// Names this contact, and puts it before the others.
fn put_first(answer: &mut Match, contact: Contact) {
    // One that has the number was counted, also when it stands behind the first twenty; so was one of a weaker tier.
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

/// `None`: the database does not store it at the moment. The phone rings now, so the answer is given although it is not kept; a repeat of
/// its call is looked up again, and kept as soon as that is possible (decision 45).
fn unless_in_trouble<T>(stored: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match stored {
        Err(error) if error.is_transient() && !matches!(error, StoreError::Conflict) => {
            tracing::warn!(error = %chain(&error), "an answer is given, and could not be stored with its call");
            Ok(None)
        }
        stored => stored.map(Some),
    }
}

/// What is kept of a raw number: at most [`phone_key::RAW_LENGTH_MAX`] bytes, whole characters.
fn truncated(raw: &str) -> &str {
    &raw[..raw.floor_char_boundary(phone_key::RAW_LENGTH_MAX)]
}
