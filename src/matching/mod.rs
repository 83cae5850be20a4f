//! What is asked of a call: who is calling, whom the agent chose, whom a ticket belongs to. Never
//! talks to a CRM, and waits for one only as `look_aside` says. Each question is a function of
//! [`MatchContext`], in a file of its own.

mod answers;
mod explain;
mod look_aside;
mod match_caller;
mod resolve_requester;
mod select_match;
mod tiers;
mod wait_room;

use std::sync::Arc;

use thiserror::Error;

pub use explain::{ExplainRequest, MatchExplanation, explain_match};
pub use look_aside::AsideDesk;
pub use match_caller::match_caller;
pub use resolve_requester::{RequesterQuery, RequesterResolution, resolve_requester};
pub use select_match::{CallChoice, select_match};

use crate::{
    domain::{clock::Clock, ids::IdSource},
    store::{CallDb, Db, StoreError, accounts::RulesCache},
};

/// What matching works with.
#[derive(Clone)]
pub struct MatchContext {
    /// For the call itself: single statements only.
    pub call_db: CallDb,
    /// For adoption, which needs a transaction.
    pub db: Db,
    /// How the accounts' numbers are read and who comes first, at most five seconds old.
    pub rules: RulesCache,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<IdSource>,
    /// Has CRMs asked for callers whom nobody here knows.
    pub aside: AsideDesk,
}

/// Why a question about a call has no answer.
#[derive(Debug, Error)]
pub enum MatchError {
    /// No such account.
    #[error("there is no such account")]
    AccountNotFound,
    /// The call id belongs to a call with another number.
    #[error("this call id was used with another number; use a new id for each call")]
    CallIdReused,
    /// No such call.
    #[error("there is no such call; MatchCaller with this call id comes first, and calls are kept 90 days")]
    CallNotFound,
    /// No such contact, or it is not live.
    #[error("there is no such live contact")]
    ContactNotFound,
    /// No such integration.
    #[error("there is no such integration")]
    IntegrationNotFound,
    /// The number asked about cannot be read.
    #[error("is not a number that can be called; give it in E.164, such as +13108675309")]
    NumberUnreadable,
    /// The database did not answer.
    #[error("the contacts could not be read")]
    Store(#[from] StoreError),
}
