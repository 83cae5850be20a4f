//! What the router told us of one call, and the answer it got.

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use phone_key::{PhoneKey, RAW_LENGTH_MAX, Region};
use strum::{EnumString, IntoStaticStr};

use super::{
    contact::Contact,
    ids::{ContactId, IntegrationId},
    integration::Freshness,
    look_aside::AsideOutcome,
};

/// Most characters of a call id or an agent id.
pub const CALL_ID_CHARS_MAX: usize = 128;

/// How long a click waits for its call.
pub const CLICK_TTL: TimeDelta = TimeDelta::minutes(5);

/// Which way a call goes, seen from the call centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum CallDirection {
    /// The number is the caller's.
    Inbound,
    /// The number was dialled.
    Outbound,
}

impl CallDirection {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What to do when nobody matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNoMatch {
    /// Make a placeholder.
    Create,
    /// Only look.
    LookupOnly,
}

/// A call that asks who it is.
pub struct MatchRequest {
    /// As the carrier gave it.
    pub phone_number: String,
    /// The region of a number without one; `None`: the account's.
    pub region: Option<Region>,
    /// The router's id; `None`: nothing is stored.
    pub call_id: Option<String>,
    /// Which way the call goes.
    pub direction: CallDirection,
    /// The agent who dialled, or has the call by now; empty: not known.
    pub agent_id: String,
    /// The carrier says that the number is withheld.
    pub caller_id_withheld: bool,
    /// What to do when nobody matches.
    pub on_no_match: OnNoMatch,
    /// Weaker tiers that are asked when nobody matches.
    pub hints: MatchHints,
}

impl MatchRequest {
    /// What is kept of the raw number: at most [`RAW_LENGTH_MAX`] bytes, whole characters.
    pub fn kept_number(&self) -> &str {
        &self.phone_number[..self.phone_number.floor_char_boundary(RAW_LENGTH_MAX)]
    }

    /// The agent, if one is named.
    pub fn agent(&self) -> Option<&str> {
        Some(self.agent_id.as_str()).filter(|agent_id| !agent_id.is_empty())
    }
}

/// The outcome of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum MatchOutcome {
    /// One contact has the number.
    Matched,
    /// Several have it.
    Ambiguous,
    /// Nobody had it; a placeholder was made.
    Created,
    /// Nobody has it, surely.
    NotFound,
    /// Nobody here has it, but some CRM is not fully or freshly copied.
    NotKnownYet,
    /// The caller hides the number.
    Withheld,
    /// Not a number that can be called.
    Unparseable,
}

impl MatchOutcome {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Nobody was named and nothing was made: a repeat of the call asks anew.
    pub const fn is_asked_anew(self) -> bool {
        matches!(self, Self::NotFound | Self::NotKnownYet)
    }
}

/// How sure a match is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum MatchTier {
    /// The same E.164 number.
    Exact,
    /// Another form of the same line, such as Argentina's with and without the mobile 9.
    Variant,
    /// Stored without a country, and read with another region of the account.
    AssumedRegion,
    /// An agent clicked this record for this number.
    Clicked,
}

impl MatchTier {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The rule of a match by a click.
pub const RULE_CLICKED: &str = "clicked";
/// The rule of a match of the tier [`MatchTier::AssumedRegion`].
pub const RULE_ASSUMED_REGION: &str = "assumed_region";

/// Weaker tiers that a request may ask for. What they find is a hint, and never the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MatchHints {
    /// Numbers without a country or area code that the caller's number ends with.
    pub suffix: bool,
    /// Main lines of organisations that the caller's number begins with.
    pub organization: bool,
}

/// Who may be meant.
#[derive(Debug, Clone)]
pub enum PossibleCaller {
    /// The only contact with a number, without country or area code, that the caller's number ends
    /// with.
    Suffix(Contact),
    /// The organisation whose main line the caller's number begins with.
    Organization {
        /// As the CRM names it; of a contact without one, the contact's name.
        name: String,
        /// The main line.
        key: PhoneKey,
    },
}

/// A stored call.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// The number's key, if it has one.
    pub key: Option<PhoneKey>,
    /// The raw text, only where there is no key.
    pub raw: Option<String>,
    /// The answer; `None`: known from a click only.
    pub outcome: Option<MatchOutcome>,
    /// The contact of the answer.
    pub contact_id: Option<ContactId>,
    /// How it matched.
    pub tier: Option<MatchTier>,
    /// The agent's or a click's choice.
    pub selection_id: Option<ContactId>,
    /// Who has it, as far as somebody said so.
    pub agent_id: Option<String>,
}

// Personal data stays out of logs, also by accident.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("outcome", &self.outcome).field("tier", &self.tier).finish_non_exhaustive()
    }
}

impl Call {
    /// Whose call it is: what the agent or a click chose, else the answer.
    pub fn contact(&self) -> Option<ContactId> {
        self.selection_id.or(self.contact_id)
    }
}

/// The answer to "who is calling?".
#[derive(Debug, Clone)]
pub struct MatchAnswer {
    /// What came out.
    pub outcome: MatchOutcome,
    /// The contact to show.
    pub selected: Option<Contact>,
    /// Everyone who matches, best first, at most [`super::contact::CANDIDATES_MAX`].
    pub candidates: Vec<Contact>,
    /// How many match, counted up to [`super::contact::TOTAL_MAX`].
    pub total: usize,
    /// More than that match.
    pub total_is_capped: bool,
    /// What the agent or a click chose for this call.
    pub selection: Option<Contact>,
    /// How they matched.
    pub tier: Option<MatchTier>,
    /// The rule by which the selected contact was found, or came first; empty: nobody was.
    pub rule: &'static str,
    /// Who may be meant, of those who have no number that says so; only what was asked for.
    pub possible: Vec<PossibleCaller>,
    /// Each integration of the account.
    pub sources: Vec<Freshness>,
    /// Every integration that is not off is active, everything in it could be read, and no number
    /// is still to be read again: "nobody" means nobody.
    pub complete: bool,
    /// The number as read.
    pub key: Option<PhoneKey>,
    /// When it was true.
    pub as_of: DateTime<Utc>,
    /// It could not be stored with its call.
    pub is_degraded: bool,
    /// What a look into each CRM came to, by integration; empty: there was none. Not stored.
    pub look_asides: Vec<(IntegrationId, AsideOutcome)>,
    /// How long the call waited for CRMs; `None`: it did not.
    pub look_aside_wait: Option<Duration>,
}
