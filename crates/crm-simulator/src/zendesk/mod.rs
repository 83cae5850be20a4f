//! Zendesk's API over a model of one account. Owns: the account, its configuration and the calls of
//! tests and demo that need no HTTP. Read: `http` (a request's way), `state` and `changes` (the
//! account), `export` (what a sync reads), `oracle` (the truth to compare with). Invariant: calls
//! from inside the process and over HTTP go through the same functions. No lock is held across an
//! await.

mod changes;
mod export;
mod hooks;
mod http;
mod input;
mod lists;
mod load;
mod me;
mod oracle;
mod refusal;
mod search;
mod state;
mod tokens;
mod user;
mod user_fields;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    SimulatorClock,
    call::ApiCall,
    faults::Faults,
    oauth::{OAuth, OAuthConfig, StaticGrant, TokenRequests},
    push::HookQueue,
    requests::{RequestLog, RequestReport},
};
use hooks::Hooks;
use input::UserInput;
use state::State;
use user::User;
use user_fields::UserField;

pub use hooks::{EventSpelling, HookAccess, HookQuirks};
pub use http::router;
pub use input::FieldError;
pub use load::LoadError;
pub use oracle::{TrueIdentity, TrueUser};
pub use refusal::ZendeskRefusal;

/// The user of the API token, and its defaults.
pub const DEFAULT_EMAIL: &str = "admin@example.com";
/// Basic credentials are `{email}/token` and this.
pub const DEFAULT_API_TOKEN: &str = "secret";
/// The OAuth access token.
pub const DEFAULT_BEARER_TOKEN: &str = "zendesk-token";
/// The OAuth refresh token that goes with it.
pub const DEFAULT_REFRESH_TOKEN: &str = "zendesk-refresh";
/// The client application.
pub const DEFAULT_CLIENT_ID: &str = "client";
/// The client application's secret.
pub const DEFAULT_CLIENT_SECRET: &str = "secret";
/// Life of an access token unless the client asks otherwise, seconds: what new global clients get.
pub const ACCESS_TOKEN_SECONDS: u32 = 1_800;

/// The export tells nothing of the last minute: so Zendesk's reference says.
pub const EXPORT_LAG_SECONDS: u32 = 60;
/// A search finds a change after "a few minutes".
pub const SEARCH_LAG_SECONDS: u32 = 180;

/// What the simulated account is like.
#[derive(Clone)]
pub struct ZendeskConfig {
    /// Zendesk's clock: `Date` headers, times of change, rate limit windows.
    pub clock: SimulatorClock,
    /// Of tokens and the faults' chances.
    pub seed: u64,
    /// The administrator's address.
    pub email: String,
    /// The administrator's API token.
    pub api_token: String,
    /// An OAuth access token of the administrator, without an end of its own.
    pub bearer_token: String,
    /// The refresh token that goes with it.
    pub refresh_token: String,
    /// The client application.
    pub client_id: String,
    /// The client application's secret.
    pub client_secret: String,
    /// Life of an access token unless the client asks otherwise, seconds.
    pub access_token_seconds: u32,
    /// The export does not tell what changed in so many last seconds: [`EXPORT_LAG_SECONDS`]; 0
    /// makes every change visible at once.
    pub freshness_lag_seconds: u32,
    /// Searches show users as they were so many seconds ago: [`SEARCH_LAG_SECONDS`].
    pub search_lag_seconds: u32,
    /// Rate limits; none by default.
    pub limits: RateLimits,
    /// Answers tell of the limits in headers. On by default, as at Zendesk.
    pub tells_limits: bool,
    /// Behaviour that Zendesk does not document.
    pub quirks: Quirks,
    /// The same of its webhooks.
    pub hooks: HookQuirks,
}

impl ZendeskConfig {
    /// An account with the default credentials, that lags as Zendesk does, and without limits.
    pub fn new(clock: SimulatorClock) -> Self {
        Self {
            clock,
            seed: 0,
            email: DEFAULT_EMAIL.to_owned(),
            api_token: DEFAULT_API_TOKEN.to_owned(),
            bearer_token: DEFAULT_BEARER_TOKEN.to_owned(),
            refresh_token: DEFAULT_REFRESH_TOKEN.to_owned(),
            client_id: DEFAULT_CLIENT_ID.to_owned(),
            client_secret: DEFAULT_CLIENT_SECRET.to_owned(),
            access_token_seconds: ACCESS_TOKEN_SECONDS,
            freshness_lag_seconds: EXPORT_LAG_SECONDS,
            search_lag_seconds: SEARCH_LAG_SECONDS,
            limits: RateLimits::default(),
            tells_limits: true,
            quirks: Quirks::default(),
            hooks: HookQuirks::default(),
        }
    }

    /// The same, where every change is visible at once: for tests of something else.
    #[must_use]
    pub fn without_lag(self) -> Self {
        Self { freshness_lag_seconds: 0, search_lag_seconds: 0, ..self }
    }
}

/// Requests per minute of the account's clock, by whole minutes; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// All requests but the exports. 700 on Zendesk's Enterprise plan.
    pub account_per_minute: Option<u32>,
    /// The incremental exports. 20, or 60 with Zendesk's add-on.
    pub export_per_minute: Option<u32>,
}

/// What Zendesk does not document or leaves to the account's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent answers to independent questions")]
pub struct Quirks {
    /// The account's setting "validate phone numbers": only `+` and 8 to 15 digits are stored. Off
    /// by default, as in old accounts.
    pub validates_phones: bool,
    /// A change of an identity changes the user's `updated_at`, so that the export shows it. On by
    /// default.
    pub identity_change_touches_user: bool,
    /// A merge changes the winner's `updated_at`. On by default.
    pub merge_touches_winner: bool,
    /// A merge gives the loser's numbers to the winner. Off by default.
    pub merge_moves_phones: bool,
    /// Users deleted for good stay in the export, anonymised. On by default.
    pub exports_purged_users: bool,
    /// Users who are asked for by id come with their identities, if those are asked for. On by
    /// default: Zendesk's people say so, its reference does not.
    pub sideloads_of_many: bool,
    /// The same of users who are searched for. On by default: the reference names the parameter,
    /// and not what it takes.
    pub sideloads_of_search: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            validates_phones: false,
            identity_change_touches_user: true,
            merge_touches_winner: true,
            merge_moves_phones: false,
            exports_purged_users: true,
            sideloads_of_many: true,
            sideloads_of_search: true,
        }
    }
}

/// A simulated Zendesk account.
pub struct Zendesk {
    config: ZendeskConfig,
    state: Mutex<State>,
    oauth: OAuth,
    faults: Faults,
    requests: RequestLog,
    windows: Mutex<http::Windows>,
    hooks: Mutex<Hooks>,
    queue: HookQueue,
    user_fields: Mutex<Vec<UserField>>,
}

impl Zendesk {
    /// An empty account.
    pub fn new(config: ZendeskConfig) -> Arc<Self> {
        let state = Mutex::new(State::new(config.quirks));
        let oauth = OAuth::new(OAuthConfig {
            seed: config.seed,
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            requires_secret: true,
            access_prefix: "",
            refresh_prefix: "",
            static_grants: vec![StaticGrant {
                access_token: config.bearer_token.clone(),
                refresh_token: Some(config.refresh_token.clone()),
                scope: "read write".to_owned(),
            }],
        });
        let faults = Faults::new(config.seed);
        Arc::new(Self {
            state,
            oauth,
            faults,
            requests: RequestLog::default(),
            windows: Mutex::default(),
            hooks: Mutex::default(),
            queue: HookQueue::new(config.seed),
            user_fields: Mutex::default(),
            config,
        })
    }

    /// Creates a user from the fields that `POST /api/v2/users` takes under `user`; the id is the
    /// account's to give.
    pub fn create_user(&self, user: &Value) -> Result<i64, ZendeskRefusal> {
        let input = read_user(user)?;
        let id = self.state().create(input, self.now())?;
        self.emit("user.created", id, &json!({}));
        Ok(id)
    }

    /// Puts in a user as it is said to be (id, times, state, identities), as from a line of a users
    /// file.
    pub fn load_user(&self, user: &Value) -> Result<i64, ZendeskRefusal> {
        let input = read_user(user)?;
        let input = UserInput { are_identities_complete: input.identities.is_some(), ..input };
        let now = self.now().timestamp_micros();
        self.state().load(input, now)
    }

    /// Updates a user from the fields that `PUT /api/v2/users/{id}` takes under `user`.
    pub fn update_user(&self, id: i64, user: &Value) -> Result<(), ZendeskRefusal> {
        let input = read_user(user)?;
        let custom = |user: &User| user.rest.get("user_fields").cloned();
        let told = |user: &User| (user.is_active, user.name.clone(), user.role, identities(user), custom(user));
        let before = self.state().find(id).map(told);
        self.state().update(id, input, self.now())?;
        let after = self.state().find(id).map(told);
        let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
        for (kind, has_changed) in [
            ("user.active_changed", before.0 != after.0),
            ("user.name_changed", before.1 != after.1),
            ("user.role_changed", before.2 != after.2),
            ("user.identity_created", before.3 != after.3),
            ("user.custom_field_changed", before.4 != after.4),
        ] {
            if has_changed {
                self.emit(kind, id, &json!({}));
            }
        }
        Ok(())
    }

    /// Deletes a user softly.
    pub fn delete_user(&self, id: i64) -> Result<(), ZendeskRefusal> {
        self.state().delete(id, self.now())?;
        if !self.config.hooks.deletes_as_inactive {
            self.emit("user.deleted", id, &json!({}));
        }
        self.emit("user.active_changed", id, &json!({"current": false, "previous": true}));
        Ok(())
    }

    /// Deletes a softly deleted user for good.
    pub fn purge_user(&self, id: i64) -> Result<(), ZendeskRefusal> {
        self.state().purge(id, self.now())
    }

    /// Brings a softly deleted user back.
    pub fn restore_user(&self, id: i64) -> Result<(), ZendeskRefusal> {
        self.update_user(id, &json!({"active": true}))
    }

    /// Merges `loser` into `winner`, both end users.
    pub fn merge_users(&self, loser: i64, winner: i64) -> Result<(), ZendeskRefusal> {
        self.state().merge(loser, winner, self.now())?;
        let (about, other) = if self.config.hooks.merge_names_winner_first { (winner, loser) } else { (loser, winner) };
        self.emit("user.merged", about, &json!({"user": {"id": other.to_string()}}));
        Ok(())
    }

    /// Adds an identity (`{"type": "phone_number", "value": ".."}`) to a user and gives its id.
    pub fn add_identity(&self, user_id: i64, identity: &Value) -> Result<i64, ZendeskRefusal> {
        let input = read_identity(identity)?;
        let id = self.state().add_identity(user_id, &input, self.now())?;
        let told = json!({"identity": {"id": id.to_string(), "type": input.kind, "value": input.value}});
        self.emit("user.identity_created", user_id, &told);
        Ok(id)
    }

    /// Deletes an identity of a user.
    pub fn delete_identity(&self, user_id: i64, identity_id: i64) -> Result<(), ZendeskRefusal> {
        self.state().delete_identity(user_id, identity_id, self.now())?;
        self.emit("user.identity_deleted", user_id, &json!({}));
        Ok(())
    }

    /// Ends every OAuth access token; the API token stays.
    pub fn expire_access_tokens(&self) {
        self.oauth.expire_all_access_tokens();
    }

    /// Ends every refresh token.
    pub fn revoke_refresh_tokens(&self) {
        self.oauth.revoke_refresh_tokens();
    }

    /// Ends every OAuth code and token; the API token stays.
    pub fn revoke_all_tokens(&self) {
        self.oauth.revoke_all();
    }

    /// How often OAuth tokens were asked for.
    pub fn token_requests(&self) -> TokenRequests {
        self.oauth.token_requests()
    }

    /// Makes any call of the API as its administrator, free of faults, limits and the request log.
    /// Returns status and body (null if it is not JSON).
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value), &'static str> {
        let reply = self.answer(&ApiCall::local(method, path, body)?, &[]);
        Ok((reply.status, serde_json::from_slice(&reply.body).unwrap_or_default()))
    }

    /// How many users there are, removed ones included.
    pub fn user_count(&self) -> usize {
        self.state().users().len()
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

/// Direct lines: a shared number is no identity, and fires nothing.
fn identities(user: &User) -> Vec<(i64, String)> {
    user.identities.iter().map(|identity| (identity.id, identity.value.clone())).collect()
}

fn read_user(user: &Value) -> Result<UserInput, ZendeskRefusal> {
    let fields = user.as_object().ok_or(ZendeskRefusal::Unreadable { expected: "user" })?;
    UserInput::read(fields).map_err(refused_field)
}

fn read_identity(identity: &Value) -> Result<input::IdentityInput, ZendeskRefusal> {
    let fields = identity.as_object().ok_or(ZendeskRefusal::Unreadable { expected: "identity" })?;
    input::IdentityInput::read(fields).map_err(refused_field)
}

fn refused_field(error: FieldError) -> ZendeskRefusal {
    ZendeskRefusal::Invalid { field: error.field, code: "InvalidValue", problem: error.expected }
}
