//! Click-to-call, and the report of a record that an automation has just created: the record is
//! known before the next sync, and tied to the call that goes with it. Works for any provider, with
//! sync on or off; never talks to a CRM.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use phone_key::{PhoneKey, Reading, Region};
use thiserror::Error;

use crate::{
    credentials::{SuppressionKeyError, SuppressionKeys},
    domain::{
        call::CLICK_TTL,
        clock::Clock,
        contact::Contact,
        descriptor::Descriptors,
        ids::{AccountId, ContactId, ExpectedCallId, IdSource, IntegrationId},
        record::{InvalidRecordKey, NormalNumber, NormalRecord, RecordKey},
        suppression::SuppressionKey,
    },
    identity::{
        adoption,
        registration::{self, RecordRegistration, RegisterError},
    },
    store::{
        self, Db, StoreError, Transaction, Tx, TxError,
        accounts::RulesCache,
        calls::{self, CallBinding},
        contacts, expected_calls, stored_records,
    },
};

/// A click, or a report.
#[derive(Clone)]
pub struct ClickRequest {
    /// `user`, `Contact`, `Lead` or `person`.
    pub object_type: String,
    /// The CRM's id.
    pub record_id: String,
    /// The number clicked or called.
    pub phone_number: String,
    /// The record's name; empty: the number.
    pub display_name: String,
    /// The record's e-mail; may be empty.
    pub email: String,
    /// Who clicked; may be empty.
    pub agent_id: String,
    /// A call of another agent, or of nobody known, is as if it were not there.
    pub only_own: bool,
    /// The call that it belongs to, if there is one already.
    pub call_id: Option<String>,
    /// The placeholder that the record is.
    pub contact_id: Option<ContactId>,
    /// The region of a number without one; `None`: that of the record's address or the account's.
    pub region: Option<Region>,
}

/// What became of it.
pub struct RegisteredContact {
    /// The record's contact.
    pub contact: Contact,
    /// Until when an outbound call to the number takes this contact.
    pub expected_until: Option<DateTime<Utc>>,
}

/// What click-to-call works with.
#[derive(Clone)]
pub struct ClickToCall {
    /// For its transaction.
    pub db: Db,
    /// The accounts' regions, at most five seconds old.
    pub rules: RulesCache,
    /// The accounts' secrets, by which erased records are known.
    pub suppression_keys: SuppressionKeys,
    /// By whose rules records are named.
    pub descriptors: Descriptors,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<IdSource>,
}

impl ClickToCall {
    /// Registers the record and returns its contact.
    pub async fn pre_register(
        &self,
        account_id: AccountId,
        integration_id: IntegrationId,
        click: ClickRequest,
    ) -> Result<RegisteredContact, ClickError> {
        let rules = self.rules.find(account_id).await?.ok_or(ClickError::AccountNotFound)?;
        let integration = store::integrations::find(&self.db, account_id, integration_id)
            .await?
            .ok_or(ClickError::IntegrationNotFound)?;
        if !integration.freshness.is_enabled {
            return Err(ClickError::IntegrationDisabled);
        }
        let descriptor = self.descriptors[integration.freshness.provider];
        let key = descriptor.parse_record_key(&click.object_type, &click.record_id);
        let country = match (click.region, &key) {
            (Some(region), _) => Some(region),
            (None, Ok(key)) => stored_records::find_country(&self.db, account_id, integration_id, key).await?,
            (None, Err(_)) => None,
        };
        let (reading, region) = phone_key::read_near(&click.phone_number, country, rules.default_region);
        let (key, (number, extension)) = match (key, first_of(&reading)) {
            (Ok(key), Some(number)) => (key, number),
            (Ok(_), None) => return Err(ClickError::NumberUnreadable),
            (Err(wrong), Some(_)) => return Err(ClickError::Record(wrong)),
            (Err(wrong), None) => return Err(ClickError::RecordAndNumber(wrong)),
        };
        let suppression = self.suppression_keys.find_or_make(account_id).await?;
        let now = self.clock.now();
        let expected_until = click.call_id.is_none().then_some(now + CLICK_TTL);
        let record = record_of(key, number, extension, region, &click);
        let ids = Arc::clone(&self.ids);
        let work = RegisterClick { integration_id, record, number, click, suppression, now, ids };
        let db = self.db.clone();
        // Together, so that an adapter that hangs up leaves no half of it.
        let contact_id = self
            .db
            .task(async move {
                let contact_id = db.of(account_id).run(work).await?;
                // A stranger's call may have made a placeholder that this transaction could not
                // see.
                adoption::adopt_late(&db, account_id, vec![number], now).await?;
                Ok::<ContactId, ClickError>(contact_id)
            })
            .await?;
        let contact = self.find_living(account_id, contact_id).await?;
        Ok(RegisteredContact { contact, expected_until })
    }

    async fn find_living(&self, account_id: AccountId, contact_id: ContactId) -> Result<Contact, ClickError> {
        let contact = contacts::find(&self.db, account_id, contact_id).await?;
        let survivor_id = contact.as_ref().and_then(|contact| contact.survivor_id);
        let contact = match survivor_id {
            Some(survivor_id) => contacts::find(&self.db, account_id, survivor_id).await?,
            None => contact,
        };
        contact.ok_or(ClickError::Store(StoreError::Conflict))
    }
}

/// The record, what it absorbs, and the call or the expected call: all or nothing.
struct RegisterClick {
    integration_id: IntegrationId,
    record: NormalRecord,
    number: PhoneKey,
    click: ClickRequest,
    suppression: SuppressionKey,
    now: DateTime<Utc>,
    ids: Arc<IdSource>,
}

impl Transaction for RegisterClick {
    const NAME: &'static str = "register_click";
    type Output = ContactId;
    type Error = ClickError;

    async fn run(&self, tx: &mut Tx) -> Result<ContactId, ClickError> {
        let account_id = tx.account_id();
        let Self { integration_id, record, number, click, suppression, now, ids } = self;
        let integration_id = *integration_id;
        self.check_agent(tx).await?;
        let registration = RecordRegistration { record, bind_to: click.contact_id, suppression };
        let contact_id = registration::register(tx, account_id, integration_id, &registration, *now, ids).await?;
        if !store::integrations::is_enabled(tx, account_id, integration_id).await? {
            return Err(ClickError::IntegrationDisabled);
        }
        adoption::adopt(tx, account_id, &[*number], *now).await?;
        if let Some(call_id) = &click.call_id {
            let same_line: Vec<i64> = phone_key::variants(*number).map(|variant| variant.key.as_i64()).collect();
            let binding = CallBinding {
                call_id,
                key: *number,
                same_line: &same_line,
                named_id: click.contact_id,
                contact_id,
                agent_id: &click.agent_id,
                only_own: click.only_own,
            };
            let is_bound = calls::bind(tx, account_id, &binding, *now).await?;
            if !is_bound {
                // It may have been handed over meanwhile.
                self.check_agent(tx).await?;
                return Err(ClickError::CallIdReused);
            }
        } else {
            let id = ExpectedCallId(ids.new_v7(*now));
            expected_calls::insert(tx, account_id, id, *number, contact_id, &click.agent_id, *now).await?;
        }
        Ok(contact_id)
    }
}

impl RegisterClick {
    /// `CallNotFound` if the agent may touch own calls only, and the call is none of these.
    async fn check_agent(&self, tx: &mut Tx) -> Result<(), ClickError> {
        let Some(call_id) = self.click.call_id.as_ref().filter(|_| self.click.only_own) else { return Ok(()) };
        let call = calls::find_in(tx, tx.account_id(), call_id).await?;
        let is_own = call.is_some_and(|call| call.agent_id.as_ref() == Some(&self.click.agent_id));
        if is_own { Ok(()) } else { Err(ClickError::CallNotFound) }
    }
}

fn first_of(reading: &Reading) -> Option<(PhoneKey, String)> {
    reading.first().map(|number| (number.key, number.extension.clone().unwrap_or_default()))
}

fn record_of(
    key: RecordKey,
    number: PhoneKey,
    extension: String,
    region: Region,
    click: &ClickRequest,
) -> NormalRecord {
    NormalRecord {
        key,
        updated_at: None,
        answered_at: None,
        is_gone: false,
        successor: None,
        display_name: click.display_name.trim().to_owned(),
        organization: String::new(),
        emails: Some(click.email.trim()).filter(|email| !email.is_empty()).map(str::to_owned).into_iter().collect(),
        numbers: vec![NormalNumber {
            raw: click.phone_number.clone(),
            label: "clicked".to_owned(),
            region: Some(region),
            key: Some(number),
            extension,
            local_digits: None,
        }],
        role: String::new(),
        url: String::new(),
        // For reading the number again; the record's address, should a sync bring it, counts more.
        region: click.region,
        fingerprint: None,
    }
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
    /// No such call, or not one that this agent may touch.
    #[error("there is no such call of this agent; leave `call_id` empty: then the click waits for its call")]
    CallNotFound,
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
