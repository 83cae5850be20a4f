//! Who is calling? Reading and storing are apart: a known caller costs one read, and with a call id
//! of its own one more statement, which stores the answer. A shared line, a weaker tier, a repeat,
//! a click, a stranger or a lost race for the call id may cost one more. Where the account looks
//! aside, a stranger's call waits for that (`look_aside`), and looks again.
//!
//! Who comes first of several is the account's policy, `domain::match_policy`.

use std::time::Instant;

use phone_key::{PhoneKey, Reading};

use crate::{
    domain::{
        account::MatchRules,
        call::{
            CLICK_TTL, Call, CallDirection, MatchAnswer, MatchHints, MatchOutcome, MatchRequest, MatchTier, OnNoMatch,
            RULE_CLICKED,
        },
        contact::Contact,
        ids::{AccountId, ContactId},
        integration::is_complete,
    },
    identity::placeholder,
    store::{
        StoreError,
        caller_lookup::{self, LookupRequest},
        calls,
        contact_writes::placeholders::UnknownCaller,
        contacts,
        expected_calls::{self, ConsumedClick},
        sources,
    },
    telemetry::chain,
};

use super::{
    MatchContext, MatchError,
    answers::{answer_of, name_clicked, put_first},
    look_aside::{AsideQuestion, AsideReport},
    tiers,
};

/// How often a stranger is looked up again: because somebody else was making the same contact, and
/// after a look aside.
const LOOKS_MAX: usize = 5;

/// Names the caller of one call. `answer_by`: until then it may wait while CRMs are asked, where
/// its account wishes that; `None`: it does not.
pub async fn match_caller(
    context: &MatchContext,
    account_id: AccountId,
    request: &MatchRequest,
    answer_by: Option<Instant>,
) -> Result<MatchAnswer, MatchError> {
    let rules = context.rules.find(account_id).await?.ok_or(MatchError::AccountNotFound)?;
    let reading = if request.caller_id_withheld {
        Reading::Withheld
    } else {
        phone_key::read(&request.phone_number, request.region.or(Some(rules.default_region)))
    };
    let outcome = match reading {
        Reading::Numbers(numbers) => {
            let key = numbers.first().key;
            let matcher = CallMatcher { context, account_id, request, rules: &rules, key, answer_by };
            return matcher.answer_with_hints().await;
        }
        Reading::Withheld => MatchOutcome::Withheld,
        Reading::Unparseable => MatchOutcome::Unparseable,
    };
    answer_without_key(context, account_id, request, &rules, outcome).await
}

/// A number that nobody can be looked up by: it never becomes a contact.
async fn answer_without_key(
    context: &MatchContext,
    account_id: AccountId,
    request: &MatchRequest,
    rules: &MatchRules,
    outcome: MatchOutcome,
) -> Result<MatchAnswer, MatchError> {
    let now = context.clock.now();
    let sources = sources::list(&context.call_db, account_id).await?;
    let complete = !rules.is_reparsing && is_complete(&sources, now);
    let mut answer = MatchAnswer {
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
        look_asides: Vec::new(),
        look_aside_wait: None,
    };
    let Some(call_id) = &request.call_id else { return Ok(answer) };
    let stored = calls::store_answer(&context.call_db, account_id, call_id, request, &answer, None, now).await;
    let Some(stored) = unless_in_trouble(stored)? else {
        answer.is_degraded = true;
        return Ok(answer);
    };
    let stored = match stored {
        Some(stored) => stored,
        // Stored by somebody else in the same moment: it is there now.
        None => calls::find(&context.call_db, account_id, call_id).await?.ok_or(StoreError::Conflict)?,
    };
    if stored.key.is_some() || stored.raw.as_deref() != Some(request.kept_number()) {
        return Err(MatchError::CallIdReused);
    }
    answer.outcome = stored.outcome.unwrap_or(outcome);
    answer.selection = resolve_live(context, account_id, stored.selection_id, &[]).await?;
    answer.is_degraded = !is_agent_stored(context, account_id, request, &stored).await?;
    Ok(answer)
}

/// Of a call whose answer stands: stores who has it by now, if that is news. False: it could not be
/// stored.
async fn is_agent_stored(
    context: &MatchContext,
    account_id: AccountId,
    request: &MatchRequest,
    call: &Call,
) -> Result<bool, StoreError> {
    let (Some(call_id), Some(agent_id)) = (&request.call_id, request.agent()) else { return Ok(true) };
    if call.agent_id.as_deref() == Some(agent_id) {
        return Ok(true);
    }
    let stored = calls::set_agent(&context.call_db, account_id, call_id, agent_id, context.clock.now()).await;
    Ok(unless_in_trouble(stored)?.is_some())
}

/// The contact, or its survivor, read only if it is not among those at hand.
async fn resolve_live(
    context: &MatchContext,
    account_id: AccountId,
    contact_id: Option<ContactId>,
    at_hand: &[Contact],
) -> Result<Option<Contact>, MatchError> {
    let Some(contact_id) = contact_id else { return Ok(None) };
    if let Some(contact) = at_hand.iter().find(|contact| contact.id == contact_id) {
        return Ok(Some(contact.clone()));
    }
    let found = contacts::find_live(&context.call_db, account_id, &[contact_id]).await?;
    Ok(found.into_iter().map(|(_, contact)| contact).next())
}

/// One call with a number, until it has its answer.
#[derive(Clone, Copy)]
struct CallMatcher<'a> {
    context: &'a MatchContext,
    account_id: AccountId,
    request: &'a MatchRequest,
    rules: &'a MatchRules,
    /// The number as read.
    key: PhoneKey,
    /// Until then CRMs may be waited for.
    answer_by: Option<Instant>,
}

/// What the look-up says: an answer, unless the call or a click says otherwise.
struct LookupOutcome {
    answer: MatchAnswer,
    /// The call as it is stored.
    call: Option<Call>,
    /// A click on the number waits for this call.
    has_expected_call: bool,
}

impl CallMatcher<'_> {
    async fn answer_with_hints(self) -> Result<MatchAnswer, MatchError> {
        let mut answer = self.answer().await?;
        let hints = self.request.hints;
        if hints != MatchHints::default() && answer.candidates.iter().all(|contact| contact.is_placeholder) {
            answer.possible = tiers::find_possible(self.context, self.account_id, self.key, self.rules, hints).await?;
        }
        Ok(answer)
    }

    async fn answer(self) -> Result<MatchAnswer, MatchError> {
        let desk = &self.context.aside;
        let mut aside: Option<AsideReport> = None;
        for _ in 0..LOOKS_MAX {
            let found = self.look_up().await?;
            let call = found.call.as_ref();
            if let Some(call) = call.filter(|call| call.outcome.is_some()) {
                if call.key != Some(self.key) {
                    return Err(MatchError::CallIdReused);
                }
                if let Some(answer) = self.stored_answer(call, &found.answer).await? {
                    return Ok(answer);
                }
            }
            // A call that was bound by its id leaves other agents' clicks alone.
            let is_bound = call.is_some_and(|call| call.selection_id.is_some());
            if found.has_expected_call && !is_bound {
                match self.answer_clicked(&found).await? {
                    ClickOutcome::Answer(answer) => return Ok(*answer),
                    ClickOutcome::LookAgain => continue,
                    ClickOutcome::Nothing => {}
                }
            }
            if aside.is_none()
                && let Some(question) = self.aside_question(&found)
            {
                let report = Box::pin(desk.look(self.context, &question)).await;
                let looks_again = report.looks_again;
                aside = Some(report);
                if looks_again {
                    continue;
                }
            }
            if let Some(mut answer) = self.fresh_answer(found).await? {
                if let Some(report) = aside {
                    desk.tell(self.account_id, report, &mut answer);
                }
                return Ok(answer);
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// What CRMs are asked for a new inbound call from a number that nobody with a record has,
    /// where the account looks aside.
    fn aside_question(self, found: &LookupOutcome) -> Option<AsideQuestion<'_>> {
        let budget = self.rules.look_aside;
        if budget.is_zero() || found.call.is_some() || self.request.direction != CallDirection::Inbound {
            return None;
        }
        let (LookupOutcome { answer, .. }, answer_by) = (found, self.answer_by?);
        if !answer.candidates.iter().all(|contact| contact.is_placeholder) {
            return None;
        }
        let (account_id, key, sources) = (self.account_id, self.key, answer.sources.as_slice());
        Some(AsideQuestion { account_id, key, sources, budget, answer_by })
    }

    async fn look_up(self) -> Result<LookupOutcome, MatchError> {
        let Self { context, account_id, request, rules, key, .. } = self;
        let now = context.clock.now();
        let wanted = LookupRequest {
            call_id: request.call_id.as_deref(),
            direction: request.direction,
            clicks_since: now - CLICK_TTL,
            policy: rules.policy,
        };
        let mut lookup = caller_lookup::look_up(&context.call_db, account_id, key, &wanted).await?;
        let weaker = if tiers::has_weaker(key, rules) {
            tiers::widen(context, account_id, key, rules, &mut lookup).await?
        } else {
            None
        };
        let how = weaker.unwrap_or((MatchTier::Exact, rules.policy.rule()));
        let complete = !rules.is_reparsing && is_complete(&lookup.sources, now);
        let (call, has_expected_call) = (lookup.call.take(), lookup.has_expected_call);
        let answer = answer_of(key, lookup, how, complete, now);
        Ok(LookupOutcome { answer, call, has_expected_call })
    }

    /// The answer of a call that has no stored one that stands. `None`: look again.
    async fn fresh_answer(self, found: LookupOutcome) -> Result<Option<MatchAnswer>, MatchError> {
        let LookupOutcome { mut answer, call, .. } = found;
        let selection_id = call.as_ref().and_then(|call| call.selection_id);
        if let Some(contact) = self.resolve_live(selection_id, &answer.candidates).await? {
            let is_only_clicked = call.as_ref().is_some_and(|call| call.outcome.is_none());
            if is_only_clicked && self.request.direction == CallDirection::Outbound {
                name_clicked(&mut answer, contact.clone());
            }
            answer.selection = Some(contact);
        }
        if answer.selected.is_none() && self.request.on_no_match == OnNoMatch::Create {
            let replaces = call.as_ref().and_then(|call| call.contact_id);
            let created = self.create_placeholder(replaces).await?;
            return Ok(created.map(|placeholder| {
                answer.outcome = MatchOutcome::Created;
                answer.candidates = vec![placeholder.clone()];
                answer.selected = Some(placeholder);
                answer.total = 1;
                answer
            }));
        }
        let is_stored = self.store_answer(&mut answer, call.as_ref()).await?;
        Ok(is_stored.then_some(answer))
    }

    /// Stores the answer of a call that has an id. False: another router asked with the same id at
    /// the same moment, and both must hear the same; look again.
    async fn store_answer(self, answer: &mut MatchAnswer, known: Option<&Call>) -> Result<bool, MatchError> {
        let Self { context, account_id, request, .. } = self;
        let Some(call_id) = request.call_id.as_deref() else { return Ok(true) };
        let now = context.clock.now();
        let Some(known) = known else {
            let stored = calls::insert_answer(&context.call_db, account_id, call_id, request, answer, now).await;
            let is_first = unless_in_trouble(stored)?;
            answer.is_degraded = is_first.is_none();
            return Ok(is_first.unwrap_or(true));
        };
        let stored =
            calls::store_answer(&context.call_db, account_id, call_id, request, answer, known.contact_id, now).await;
        let Some(stored) = unless_in_trouble(stored)? else {
            answer.is_degraded = true;
            return Ok(true);
        };
        let selected_id = answer.selected.as_ref().map(|contact| contact.id);
        let Some(stored) = stored.filter(|stored| {
            stored.key == answer.key
                && stored.outcome == Some(answer.outcome)
                && stored.contact_id == selected_id
                && stored.tier == answer.tier
        }) else {
            return Ok(false);
        };
        if stored.selection_id != known.selection_id {
            // The agent chose between the read and this.
            answer.selection = self.resolve_live(stored.selection_id, &answer.candidates).await?;
        }
        Ok(true)
    }

    /// A repeat returns the stored outcome and the same contact, or its survivor, and the selection
    /// beside it. `None`: that answer was "nobody", or its contact is gone, and it is asked anew.
    async fn stored_answer(self, call: &Call, found: &MatchAnswer) -> Result<Option<MatchAnswer>, MatchError> {
        let Some(outcome) = call.outcome.filter(|outcome| !outcome.is_asked_anew()) else { return Ok(None) };
        let Some(selected) = self.resolve_live(call.contact_id, &found.candidates).await? else {
            return Ok(None);
        };
        let selection = self.resolve_live(call.selection_id, &found.candidates).await?;
        let mut answer = found.clone();
        answer.selection = selection;
        put_first(&mut answer, selected);
        answer.outcome = outcome;
        answer.tier = call.tier;
        match call.tier {
            Some(MatchTier::Clicked) => answer.rule = RULE_CLICKED,
            Some(_) if answer.rule.is_empty() => answer.rule = self.rules.policy.rule(),
            Some(_) => {}
            None => answer.rule = "",
        }
        answer.is_degraded = !is_agent_stored(self.context, self.account_id, self.request, call).await?;
        Ok(Some(answer))
    }

    /// The contact that an agent clicked to make this call.
    async fn answer_clicked(self, found: &LookupOutcome) -> Result<ClickOutcome, MatchError> {
        let Self { context, account_id, request, key, .. } = self;
        let has_id = request.call_id.is_some();
        match expected_calls::consume(&context.call_db, account_id, key, request, context.clock.now()).await? {
            ConsumedClick::Nothing => Ok(ClickOutcome::Nothing),
            // A repeat of the call was quicker, and has stored its answer.
            ConsumedClick::Taken { is_stored: false, .. } if has_id => Ok(ClickOutcome::LookAgain),
            ConsumedClick::Taken { contact_id, .. } => {
                let Some(contact) = self.resolve_live(Some(contact_id), &found.answer.candidates).await? else {
                    return Ok(ClickOutcome::LookAgain);
                };
                let mut answer = found.answer.clone();
                name_clicked(&mut answer, contact.clone());
                answer.selection = has_id.then_some(contact);
                Ok(ClickOutcome::Answer(Box::new(answer)))
            }
            ConsumedClick::SeveralAgents(contact_ids) => {
                let mut clicked = contacts::find_live(&context.call_db, account_id, &contact_ids).await?;
                clicked.sort_by_key(|(_, contact)| (contact.is_placeholder, contact.created_at, contact.id));
                let mut answer = found.answer.clone();
                // Before everyone else with the number: one of them was meant.
                for (_, contact) in clicked.into_iter().rev() {
                    put_first(&mut answer, contact);
                }
                answer.outcome = MatchOutcome::Ambiguous;
                answer.tier = Some(MatchTier::Clicked);
                answer.rule = RULE_CLICKED;
                let is_stored = self.store_answer(&mut answer, found.call.as_ref()).await?;
                Ok(if is_stored { ClickOutcome::Answer(Box::new(answer)) } else { ClickOutcome::LookAgain })
            }
        }
    }

    async fn create_placeholder(self, replaces: Option<ContactId>) -> Result<Option<Contact>, MatchError> {
        let Self { context, account_id, request, key, .. } = self;
        let now = context.clock.now();
        let caller = UnknownCaller { contact_id: ContactId(context.ids.new_v7(now)), key, request, replaces };
        Ok(placeholder::create(&context.call_db, &context.db, account_id, &caller, now).await?)
    }

    async fn resolve_live(
        self,
        contact_id: Option<ContactId>,
        at_hand: &[Contact],
    ) -> Result<Option<Contact>, MatchError> {
        resolve_live(self.context, self.account_id, contact_id, at_hand).await
    }
}

/// What became of the clicks that wait for a call.
enum ClickOutcome {
    /// The call is the clicked contact's (or one of several).
    Answer(Box<MatchAnswer>),
    /// Things have moved on meanwhile.
    LookAgain,
    /// None was for this call.
    Nothing,
}

/// `None`: the database does not store it at the moment. The phone rings now, so the answer is
/// given although it is not kept; a repeat of its call is looked up again, and kept as soon as that
/// is possible (decision 45).
fn unless_in_trouble<T>(stored: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match stored {
        Err(error) if error.is_transient() && !matches!(error, StoreError::Conflict) => {
            tracing::warn!(error = %chain(&error), "an answer is given, and could not be stored with its call");
            Ok(None)
        }
        stored => stored.map(Some),
    }
}
