//! Salesforce's API over a model of one organisation. Owns: the organisation, its configuration and
//! the calls of tests and demo that need no HTTP. Read: `http` (a request's way), `objects` and
//! `state` (the organisation), `changes` (what happens to records), `soql` and `query` (what a sync
//! reads), `oracle` (the truth to compare with). Invariant: calls from inside the process and over
//! HTTP go through the same functions. No lock is held across an await.

mod bulk;
mod changes;
mod describe;
mod eventbus;
mod guard;
mod http;
mod id;
mod input;
mod load;
mod login;
mod objects;
mod oracle;
mod persons;
mod query;
mod record;
mod refusal;
mod replication;
mod rest;
mod schema;
mod search;
mod session;
mod soap;
mod soql;
mod state;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{
    SimulatorClock,
    call::ApiCall,
    faults::Faults,
    oauth::{OAuth, OAuthConfig, StaticGrant},
    requests::{RequestLog, RequestReport},
};
use bulk::Jobs;
use id::RecordId;
use objects::ObjectKind;
use query::Cursors;
use record::Millis;
use schema::Schema;
use session::Usage;
use state::State;

pub use super::oauth::TokenRequests;
pub use eventbus::{CERTIFICATE, EventBus, EventBusPlan, EventBusReport, GapKind, SubscriptionStart, serve_eventbus};
pub use http::router;
pub use load::LoadError;
pub use oracle::TrueRecord;
pub use refusal::SalesforceRefusal;

/// The client application, and its defaults.
pub const DEFAULT_CLIENT_ID: &str = "client";
/// The client's secret.
pub const DEFAULT_CLIENT_SECRET: &str = "secret";
/// An access token that is there from the beginning.
pub const DEFAULT_ACCESS_TOKEN: &str = "salesforce-token";
/// The refresh token that goes with it.
pub const DEFAULT_REFRESH_TOKEN: &str = "salesforce-refresh";
/// The administrator.
pub const DEFAULT_USERNAME: &str = "admin@example.com";
/// The administrator's password, for the SOAP login.
pub const DEFAULT_PASSWORD: &str = "secret";
/// What may follow the password, for the SOAP login.
pub const DEFAULT_SECURITY_TOKEN: &str = "token";

/// The id of the simulated organisation.
pub fn organization_id() -> String {
    session::organization().to_string()
}

/// A search finds a change after one to three minutes, while little waits to be indexed.
pub const SEARCH_LAG_SECONDS: u32 = 120;

/// What the simulated organisation is like.
#[expect(clippy::struct_excessive_bools, reason = "independent answers to independent questions")]
#[derive(Clone)]
pub struct SalesforceConfig {
    /// Salesforce's clock: `Date` headers, times of change, lives of tokens and locators.
    pub clock: SimulatorClock,
    /// Of the faults' chances and the tokens.
    pub seed: u64,
    /// The one client application.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// An access token that is there from the beginning.
    pub access_token: String,
    /// The refresh token that goes with it.
    pub refresh_token: String,
    /// The administrator, who consents to every authorization.
    pub username: String,
    /// For the SOAP login.
    pub password: String,
    /// For the SOAP login.
    pub security_token: String,
    /// Checks the assertions of the JWT bearer flow; without it their signature is not looked at.
    pub jwt_public_key_pem: Option<String>,
    /// Life of an access token, seconds; `None`: until it is ended.
    pub session_seconds: Option<u32>,
    /// A refresh ends the refresh token and the access token, and gives new ones.
    pub rotates_refresh_tokens: bool,
    /// Where tokens say that the API is; `None`: where they were asked for.
    pub instance_url: Option<String>,
    /// The administrator has "View All Data". Off: no permission promises all records of any
    /// object, until a test makes the `ObjectPermissions` for one; for use with
    /// [`Salesforce::hide_from_user`].
    pub administrator_sees_all: bool,
    /// Changes are invisible to queries for so many seconds; 0 makes them visible at once.
    pub visibility_lag_seconds: u32,
    /// Searches show records as they were so many seconds ago: [`SEARCH_LAG_SECONDS`].
    pub search_lag_seconds: u32,
    /// Accounts may be persons; then there are the fields for them.
    pub has_person_accounts: bool,
    /// There are Leads.
    pub has_leads: bool,
    /// Fields that field-level security hides: object and field.
    pub hidden_fields: Vec<(String, String)>,
    /// Custom fields of the type phone: object and field (`Direct_Line__c`).
    pub custom_phones: Vec<(String, String)>,
    /// Calls in 24 hours.
    pub daily_limit: u32,
    /// Answers tell of that limit in a header. On by default, as at Salesforce.
    pub tells_limits: bool,
    /// Rows of a page at most, whatever the client asks for; up to 2,000.
    pub page_rows_max: usize,
    /// Rows of one answer of a query job at most.
    pub bulk_rows_max: usize,
    /// How often a query job must be looked at until it is complete.
    pub bulk_polls: u32,
    /// Objects that are selected for change events.
    pub captured: Vec<String>,
    /// Events that are delivered in 24 hours at most, to all subscribers together.
    pub deliveries_max: u32,
}

impl SalesforceConfig {
    /// An organisation with the default credentials, Leads, no person accounts, searches that lag
    /// as Salesforce's do, and 100,000 calls a day.
    pub fn new(clock: SimulatorClock) -> Self {
        Self {
            clock,
            seed: 0,
            client_id: DEFAULT_CLIENT_ID.to_owned(),
            client_secret: DEFAULT_CLIENT_SECRET.to_owned(),
            access_token: DEFAULT_ACCESS_TOKEN.to_owned(),
            refresh_token: DEFAULT_REFRESH_TOKEN.to_owned(),
            username: DEFAULT_USERNAME.to_owned(),
            password: DEFAULT_PASSWORD.to_owned(),
            security_token: DEFAULT_SECURITY_TOKEN.to_owned(),
            jwt_public_key_pem: None,
            session_seconds: None,
            rotates_refresh_tokens: false,
            instance_url: None,
            administrator_sees_all: true,
            visibility_lag_seconds: 0,
            search_lag_seconds: SEARCH_LAG_SECONDS,
            has_person_accounts: false,
            has_leads: true,
            hidden_fields: Vec::new(),
            custom_phones: Vec::new(),
            daily_limit: 100_000,
            tells_limits: true,
            page_rows_max: query::PAGE_ROWS_MAX,
            bulk_rows_max: bulk::RESULT_ROWS,
            bulk_polls: 2,
            captured: vec!["Contact".to_owned(), "Lead".to_owned()],
            deliveries_max: EventBusPlan::default().deliveries_max,
        }
    }

    /// The same, where every change is visible at once: for tests of something else.
    #[must_use]
    pub fn without_lag(self) -> Self {
        Self { visibility_lag_seconds: 0, search_lag_seconds: 0, ..self }
    }
}

/// A simulated Salesforce organisation.
pub struct Salesforce {
    config: SalesforceConfig,
    // Locked in this order, where more than one is.
    state: Mutex<State>,
    eventbus: EventBus,
    cursors: Mutex<Cursors>,
    jobs: Mutex<Jobs>,
    usage: Mutex<Usage>,
    oauth: OAuth,
    faults: Faults,
    requests: RequestLog,
}

impl Salesforce {
    /// An organisation without records but for its administrator.
    pub fn new(config: SalesforceConfig) -> Arc<Self> {
        let lag = Millis::from(config.visibility_lag_seconds) * 1_000;
        let mut state = State::new(Schema::new(&config), lag);
        let now = (config.clock)().timestamp_millis();
        let administrator = session::administrator_record(&state.schema, &config.username, now);
        let permissions = session::permission_records(&state.schema, config.administrator_sees_all, now);
        for (kind, record) in [(ObjectKind::User, administrator)].into_iter().chain(permissions) {
            // An empty organisation takes any record.
            let _ = state.insert(kind, record, None);
        }
        let oauth = OAuth::new(OAuthConfig {
            seed: config.seed,
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            requires_secret: false,
            access_prefix: "00D5g0000000001!AQ",
            refresh_prefix: "5Aep861",
            static_grants: vec![StaticGrant {
                access_token: config.access_token.clone(),
                refresh_token: Some(config.refresh_token.clone()),
                scope: "api refresh_token".to_owned(),
            }],
        });
        let faults = Faults::new(config.seed);
        let eventbus = EventBus::new(&config, &state.schema);
        Arc::new(Self {
            config,
            eventbus,
            state: Mutex::new(state),
            cursors: Mutex::default(),
            jobs: Mutex::default(),
            usage: Mutex::default(),
            oauth,
            faults,
            requests: RequestLog::default(),
        })
    }

    // Records.

    /// Makes a record from the fields that `POST /sobjects/{object}` takes, and gives its long id.
    pub fn create(&self, object: &str, fields: &Value) -> Result<String, SalesforceRefusal> {
        let mut state = self.state();
        let kind = state.schema.find(object)?.kind;
        Ok(state.create(kind, object_of(fields)?, self.now_millis())?.to_string())
    }

    /// Changes fields of a record.
    pub fn update(&self, object: &str, id: &str, fields: &Value) -> Result<(), SalesforceRefusal> {
        let mut state = self.state();
        let id = state.id_of(object, id)?;
        state.update(id, object_of(fields)?, self.now_millis())
    }

    /// Moves a record's `SystemModstamp`, and not its `LastModifiedDate`, as automated processes
    /// do.
    pub fn touch_system(&self, object: &str, id: &str) -> Result<(), SalesforceRefusal> {
        let mut state = self.state();
        let id = state.id_of(object, id)?;
        state.touch(id, self.now_millis())
    }

    /// Puts a record into the recycle bin.
    pub fn delete(&self, object: &str, id: &str) -> Result<(), SalesforceRefusal> {
        let mut state = self.state();
        let id = state.id_of(object, id)?;
        state.delete(id, self.now_millis())
    }

    /// Removes a record for good, so that `queryAll` does not show it either.
    pub fn hard_delete(&self, object: &str, id: &str) -> Result<(), SalesforceRefusal> {
        let mut state = self.state();
        let id = state.id_of(object, id)?;
        state.hard_delete(id, self.now_millis())
    }

    /// Takes a record out of the recycle bin.
    pub fn undelete(&self, id: &str) -> Result<(), SalesforceRefusal> {
        self.state().undelete(read_id(id)?, self.now_millis())
    }

    /// Merges one or two records into another of the same object.
    pub fn merge(&self, object: &str, master: &str, losers: &[&str]) -> Result<(), SalesforceRefusal> {
        let mut state = self.state();
        let master = state.id_of(object, master)?;
        let losers = losers.iter().map(|loser| state.id_of(object, loser)).collect::<Result<Vec<_>, _>>()?;
        state.merge(master, &losers, &Map::new(), self.now_millis())
    }

    /// Converts a Lead into a Contact, a new one at a new Account if none is given. Gives the
    /// Contact's id.
    pub fn convert_lead(&self, lead: &str, contact: Option<&str>) -> Result<String, SalesforceRefusal> {
        let (lead, contact) = (read_id(lead)?, contact.map(read_id).transpose()?);
        Ok(self.state().convert_lead(lead, contact, self.now_millis())?.to_string())
    }

    /// Hides the newest change of a record, and those to come, from queries until it is revealed:
    /// they see the record as it was before, or not at all.
    pub fn hide(&self, id: &str) -> Result<(), SalesforceRefusal> {
        let id = read_id(id)?;
        self.state().hide(id, None);
        Ok(())
    }

    /// Makes hidden changes of a record visible.
    pub fn reveal(&self, id: &str) -> Result<(), SalesforceRefusal> {
        let id = read_id(id)?;
        self.state().reveal(id);
        Ok(())
    }

    /// Hides a record from the administrator, as sharing does: nothing that reads shows it until it
    /// is shown again, and nothing tells it from one that is not there. Its name still stands in
    /// the records that refer to it.
    pub fn hide_from_user(&self, id: &str) -> Result<(), SalesforceRefusal> {
        let id = read_id(id)?;
        self.state().hide_from_user(id)
    }

    /// Shares a hidden record with the administrator again.
    pub fn show_to_user(&self, id: &str) -> Result<(), SalesforceRefusal> {
        let id = read_id(id)?;
        self.state().show_to_user(id);
        Ok(())
    }

    // Sessions.

    /// Ends every access token given out so far, the configured one too, and the subscriptions that
    /// are open.
    pub fn expire_sessions(&self) {
        self.oauth.expire_all_access_tokens();
        self.eventbus.end_streams("service.auth.error");
    }

    /// Ends every refresh token given out so far, the configured one too.
    pub fn revoke_refresh_tokens(&self) {
        self.oauth.revoke_refresh_tokens();
    }

    /// How often tokens were asked for.
    pub fn token_requests(&self) -> TokenRequests {
        self.oauth.token_requests()
    }

    /// Forgets every result whose pages are being read.
    pub fn expire_locators(&self) {
        self.cursors().clear();
    }

    // The whole.

    /// Makes any call of the API as its administrator, free of faults, limits and the request log.
    /// Returns status and body (null if it is not JSON).
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), &'static str> {
        let reply = self.answer(&ApiCall::local(method, path, body)?, &[]);
        Ok((reply.status, serde_json::from_slice(&reply.body).unwrap_or_default()))
    }

    /// What goes wrong with requests over HTTP.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Changes of records as they are streamed, and what goes wrong with that.
    pub fn eventbus(&self) -> &EventBus {
        &self.eventbus
    }

    /// What was asked over HTTP.
    pub fn requests(&self) -> RequestReport {
        self.requests.report()
    }

    /// Forgets what was asked.
    pub fn clear_requests(&self) {
        self.requests.clear();
    }

    fn now(&self) -> DateTime<Utc> {
        (self.config.clock)()
    }

    fn now_millis(&self) -> Millis {
        self.now().timestamp_millis()
    }

    fn cursors(&self) -> MutexGuard<'_, Cursors> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn object_of(fields: &Value) -> Result<&Map<String, Value>, SalesforceRefusal> {
    fields.as_object().ok_or_else(SalesforceRefusal::unreadable)
}

fn read_id(text: &str) -> Result<RecordId, SalesforceRefusal> {
    RecordId::parse(text).ok_or_else(|| SalesforceRefusal::malformed_id(text))
}
