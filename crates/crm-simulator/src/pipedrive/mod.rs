//! Pipedrive's API over a model of one company. Owns: the company, its configuration and the calls
//! of tests and demo that need no HTTP. Read: `http` (a request's way), `state` (the company),
//! `lists` and `listing` (what a sync reads), `access` (tokens), `oracle` (the truth to compare
//! with). Invariant: calls from inside the process and over HTTP go through the same functions. No
//! lock is held across an await.

mod access;
mod hooks;
mod http;
mod input;
mod limits;
mod listing;
mod lists;
mod load;
mod oracle;
mod person;
mod refusal;
mod search;
mod state;
mod v1;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{
    SimulatorClock,
    faults::Faults,
    oauth::{OAuth, OAuthConfig, StaticGrant, TokenRequests},
    push::{HookCall, HookQueue},
    requests::{RequestLog, RequestReport},
};
use hooks::Hooks;
use input::PersonInput;
use limits::Budget;
use state::State;

pub use http::router;
pub use input::FieldError;
pub use limits::RateLimits;
pub use load::LoadError;
pub use oracle::TruePerson;
pub use refusal::PipedriveRefusal;

/// The API token, and an OAuth access token of the same user.
pub const DEFAULT_API_TOKEN: &str = "pipedrive-token";
/// The OAuth refresh token.
pub const DEFAULT_REFRESH_TOKEN: &str = "pipedrive-refresh";
/// The client application.
pub const DEFAULT_CLIENT_ID: &str = "client";
/// The client application's secret.
pub const DEFAULT_CLIENT_SECRET: &str = "secret";
/// Life of an access token, seconds.
pub const ACCESS_TOKEN_SECONDS: u32 = 3_599;

/// The company and its one user.
pub const COMPANY_ID: i64 = 7_000_001;
/// The first part of the company's host name.
pub const COMPANY_DOMAIN: &str = "acme";
/// The user behind every token.
pub const USER_ID: i64 = 1;
const USER_EMAIL: &str = "admin@example.com";

/// A search finds a change after a minute or so.
pub const SEARCH_LAG_SECONDS: u32 = 60;

/// What a person hidden from the token's user answers when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenAnswer {
    /// 404, as if it did not exist.
    NotFound,
    /// 403.
    Forbidden,
}

/// What the simulated company is like. Fields that say "quirk" are behaviour that Pipedrive does
/// not document.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent answers to independent questions")]
pub struct PipedriveConfig {
    /// Pipedrive's clock: `Date` headers, times of change, limits, lives of tokens.
    pub clock: SimulatorClock,
    /// Of tokens and the faults' chances.
    pub seed: u64,
    /// The user's API token.
    pub api_token: String,
    /// An OAuth refresh token of the user.
    pub refresh_token: String,
    /// The client application.
    pub client_id: String,
    /// The client application's secret.
    pub client_secret: String,
    /// Life of an access token, seconds.
    pub access_token_seconds: u32,
    /// A refresh ends the refresh token and gives a new one. Off by default, as in life.
    pub rotates_refresh_tokens: bool,
    /// The base URL in token answers; the request's own host if absent.
    pub api_domain: Option<String>,
    /// Searches show persons as they were so many seconds ago: [`SEARCH_LAG_SECONDS`].
    pub search_lag_seconds: u32,
    /// Rate limits; none by default.
    pub limits: RateLimits,
    /// Answers tell of the limits in headers. On by default, as at Pipedrive.
    pub tells_limits: bool,
    /// `is_admin` of the token's user. True by default.
    pub company_user_is_admin: bool,
    /// The company's own phone fields of persons: code and name.
    pub custom_phones: Vec<(String, String)>,
    /// Quirk: a delete or a merge changes the `update_time` of the person that goes. Off by
    /// default.
    pub deletes_touch_update_time: bool,
    /// Quirk: a restore changes `update_time`. On by default.
    pub restores_touch_update_time: bool,
    /// Quirk: a merge changes the winner's `update_time`. On by default.
    pub merges_touch_winner: bool,
    /// Quirk: lists show deleted persons, with `is_deleted`. Off by default.
    pub lists_deleted: bool,
    /// Quirk: a deleted person answers 404 instead of 200 with `is_deleted`. Off by default.
    pub deleted_answers_not_found: bool,
    /// Quirk: a person without a number has one entry with an empty value. Off by default.
    pub empty_phone_entries: bool,
    /// Quirk: what a hidden person answers.
    pub hidden_answer: HiddenAnswer,
    /// Whoever asks may make webhooks, and the app has that scope. True by default.
    pub allows_webhooks: bool,
    /// Quirk: the list of webhooks shows their names. On by default.
    pub lists_hook_names: bool,
}

impl PipedriveConfig {
    /// A company with the default credentials, that lags as Pipedrive does, and without limits.
    pub fn new(clock: SimulatorClock) -> Self {
        Self {
            clock,
            seed: 0,
            api_token: DEFAULT_API_TOKEN.to_owned(),
            refresh_token: DEFAULT_REFRESH_TOKEN.to_owned(),
            client_id: DEFAULT_CLIENT_ID.to_owned(),
            client_secret: DEFAULT_CLIENT_SECRET.to_owned(),
            access_token_seconds: ACCESS_TOKEN_SECONDS,
            rotates_refresh_tokens: false,
            api_domain: None,
            search_lag_seconds: SEARCH_LAG_SECONDS,
            limits: RateLimits::default(),
            tells_limits: true,
            company_user_is_admin: true,
            custom_phones: Vec::new(),
            deletes_touch_update_time: false,
            restores_touch_update_time: true,
            merges_touch_winner: true,
            lists_deleted: false,
            deleted_answers_not_found: false,
            empty_phone_entries: false,
            hidden_answer: HiddenAnswer::NotFound,
            allows_webhooks: true,
            lists_hook_names: true,
        }
    }

    /// The same, where every change is visible at once: for tests of something else.
    #[must_use]
    pub fn without_lag(self) -> Self {
        Self { search_lag_seconds: 0, ..self }
    }
}

/// A simulated Pipedrive company.
pub struct Pipedrive {
    config: PipedriveConfig,
    state: Mutex<State>,
    oauth: OAuth,
    /// Where the administrator was sent back to last.
    redirect_uri: Mutex<Option<String>>,
    hooks: Mutex<Hooks>,
    queue: HookQueue,
    budget: Budget,
    faults: Faults,
    requests: RequestLog,
}

impl Pipedrive {
    /// An empty company.
    pub fn new(config: PipedriveConfig) -> Arc<Self> {
        let oauth = OAuth::new(OAuthConfig {
            seed: config.seed,
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            requires_secret: true,
            access_prefix: "v1u:",
            refresh_prefix: "7000001:",
            static_grants: vec![StaticGrant {
                access_token: config.api_token.clone(),
                refresh_token: Some(config.refresh_token.clone()),
                scope: access::scope(&config).to_owned(),
            }],
        });
        let (faults, config_seed) = (Faults::new(config.seed), config.seed);
        Arc::new(Self {
            config,
            state: Mutex::default(),
            oauth,
            redirect_uri: Mutex::default(),
            hooks: Mutex::default(),
            queue: HookQueue::new(config_seed),
            budget: Budget::default(),
            faults,
            requests: RequestLog::default(),
        })
    }

    /// Creates a person from the fields that `POST /api/v2/persons` takes; the id is the company's
    /// to give.
    pub fn create_person(&self, person: &Value) -> Result<i64, PipedriveRefusal> {
        let input = read_person(person)?;
        let id = self.state().create(input, self.now().timestamp())?;
        self.emit("create", id, &json!({}));
        Ok(id)
    }

    /// Puts in a person as it is said to be (id, times, state, `org_name`), as from a line of a
    /// persons file.
    pub fn load_person(&self, person: &Value) -> Result<i64, PipedriveRefusal> {
        let input = read_person(person)?;
        self.state().load(input, self.now().timestamp())
    }

    /// Updates a person from the fields that `PATCH /api/v2/persons/{id}` takes.
    pub fn update_person(&self, id: i64, person: &Value) -> Result<(), PipedriveRefusal> {
        let input = read_person(person)?;
        self.state().update(id, input, self.now().timestamp())?;
        self.emit("change", id, &json!({}));
        Ok(())
    }

    /// Deletes a person; it is still there, marked.
    pub fn delete_person(&self, id: i64) -> Result<(), PipedriveRefusal> {
        self.state().delete(id, self.config.deletes_touch_update_time, self.now().timestamp())?;
        self.emit("delete", id, &json!({}));
        Ok(())
    }

    /// Takes a person away for good, as Pipedrive does 30 days after a delete: it answers 404 from
    /// now on.
    pub fn purge_person(&self, id: i64) -> Result<(), PipedriveRefusal> {
        self.state().purge(id, self.now().timestamp())
    }

    /// Brings a deleted person back.
    pub fn restore_person(&self, id: i64) -> Result<(), PipedriveRefusal> {
        self.state().restore(id, self.config.restores_touch_update_time, self.now().timestamp())?;
        self.emit("change", id, &json!({}));
        Ok(())
    }

    /// Merges `loser` into `winner`: the loser is deleted for ever, the winner gets its numbers and
    /// addresses.
    pub fn merge_persons(&self, loser: i64, winner: i64) -> Result<(), PipedriveRefusal> {
        let touches = (self.config.deletes_touch_update_time, self.config.merges_touch_winner);
        self.state().merge(loser, winner, touches, self.now().timestamp())?;
        self.emit("delete", loser, &json!({"merged_to_id": winner}));
        self.emit("change", winner, &json!({"merged_from_id": loser}));
        Ok(())
    }

    /// Hides a person from the token's user: it is in no list, and answers as [`HiddenAnswer`]
    /// says.
    pub fn hide_from_token(&self, id: i64) -> Result<(), PipedriveRefusal> {
        self.state().set_hidden(id, true)
    }

    /// Shows a hidden person again.
    pub fn show_to_token(&self, id: i64) -> Result<(), PipedriveRefusal> {
        self.state().set_hidden(id, false)
    }

    /// Makes an organisation and gives its id.
    pub fn create_organization(&self, name: &str) -> i64 {
        self.state().create_organization(name, self.now().timestamp())
    }

    /// Ends every OAuth access token; the API token stays.
    pub fn expire_access_tokens(&self) {
        self.oauth.expire_all_access_tokens();
    }

    /// Ends every refresh token, as when the app is uninstalled.
    pub fn revoke_refresh_tokens(&self) {
        self.oauth.revoke_refresh_tokens();
    }

    /// Ends every OAuth code and token; the API token stays.
    pub fn revoke_all_tokens(&self) {
        self.oauth.revoke_all();
    }

    /// The company removes the app: its tokens are over. What Pipedrive then tells the app; `None`:
    /// nobody has authorized it.
    pub fn uninstall_app(&self) -> Option<HookCall> {
        self.oauth.revoke_all();
        self.remove_hooks();
        let url = self.redirect_uri.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let body = json!({
            "client_id": self.config.client_id,
            "company_id": COMPANY_ID,
            "user_id": USER_ID,
            "timestamp": self.now().to_rfc3339_opts(SecondsFormat::Millis, true),
        });
        let client = format!("{}:{}", self.config.client_id, self.config.client_secret);
        Some(HookCall {
            method: "DELETE",
            url,
            headers: vec![
                ("authorization", format!("Basic {}", STANDARD.encode(client))),
                ("content-type", "application/json".to_owned()),
            ],
            body: body.to_string(),
        })
    }

    /// How often OAuth tokens were asked for.
    pub fn token_requests(&self) -> TokenRequests {
        self.oauth.token_requests()
    }

    /// Tokens of the daily budget used since midnight UTC, whether or not there is a limit.
    pub fn daily_tokens_used(&self) -> u32 {
        self.budget.tokens_used(self.now())
    }

    /// How many persons there are, deleted ones included.
    pub fn person_count(&self) -> usize {
        self.state().persons().len()
    }

    /// What goes wrong with requests over HTTP.
    pub fn faults(&self) -> &Faults {
        &self.faults
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

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_person(person: &Value) -> Result<PersonInput, PipedriveRefusal> {
    let fields = person.as_object().ok_or(PipedriveRefusal::Unreadable)?;
    Ok(PersonInput::read(fields)?)
}
