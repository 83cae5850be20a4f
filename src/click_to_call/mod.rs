//! Click-to-call, and the report of a record that an automation has just created: the record is known before the next sync.
//! Works for any provider, with sync on or off; never talks to a CRM.

mod pre_register;

use std::sync::Arc;

use thiserror::Error;

pub use pre_register::{Click, Registered};

use crate::{
    credentials::{SuppressionKeyError, SuppressionKeys},
    domain::{clock::Clock, ids::IdSource, record::InvalidRecordKey},
    identity::registration::RegisterError,
    store::{Db, StoreError, TxError, accounts::RulesCache},
};

/// What click-to-call works with.
#[derive(Clone)]
pub struct ClickToCall {
    /// For its transaction.
    pub db: Db,
    /// The accounts' regions, at most five seconds old.
    pub rules: RulesCache,
    /// The accounts' secrets, by which erased records are known.
    pub suppression_keys: SuppressionKeys,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<IdSource>,
}

/// Why a click or report was not taken.
#[derive(Debug, Error)]
pub enum ClickError {
    /// No such account.
    #[error("there is no such account")]
    AccountNotFound,
    /// No such integration.
    #[error("there is no such integration")]
    IntegrationNotFound,
    /// It was disabled.
    #[error("the integration is disabled; enable it first (sync may be OFF)")]
    IntegrationDisabled,
    /// A bug of the caller's: nothing is stored.
    #[error("this call id was used with another number; use a new id for each call")]
    CallIdReused,
    /// The record cannot be one of this provider.
    #[error(transparent)]
    Record(#[from] InvalidRecordKey),
    /// The number cannot be read.
    #[error("is not a number that can be called; give it in E.164, such as +13108675309")]
    NumberUnreadable,
    /// Neither the record nor the number is one.
    #[error("the record and the number are wrong")]
    RecordAndNumber(InvalidRecordKey),
    /// Identity refused it.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// Whether the record was erased cannot be told.
    #[error(transparent)]
    SuppressionKey(#[from] SuppressionKeyError),
    /// The database did not do it.
    #[error("the record could not be stored")]
    Store(#[from] StoreError),
}

impl TxError for ClickError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Store(error) => error.is_conflict(),
            Self::Register(error) => error.is_conflict(),
            _ => false,
        }
    }
}
