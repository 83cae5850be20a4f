//! Pipedrive's webhooks: one of ours for an integration, found by its name, made, mended, removed.
//! There is no call that changes one: what is not as wished is made anew. Source: Pipedrive's API
//! reference, "Webhooks".

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{client::PipedriveClient, map::NO_PAGE, model::SingleAnswer, refusal::HttpReply};
use crate::{
    crm::{
        CrmError,
        hook::{HookStanding, HookWish, KeptHook},
        json,
    },
    domain::notice::Notice,
};

const PATH: &str = "/api/v1/webhooks";

pub(super) const SCOPE_MISSING: Notice = Notice::fixed(
    "PUSH_SCOPE_MISSING",
    "the authorization does not allow webhooks, so changes are polled: give the app the scope Webhooks: full access (Marketplace Manager, the app, OAuth & access scopes), then authorize again",
);
const ROLE_MISSING: Notice = Notice::fixed(
    "PUSH_ROLE_MISSING",
    "the token's user may not make webhooks, so changes are polled: use an administrator's token",
);
const HOOKS_FULL: Notice = Notice::fixed(
    "PUSH_HOOKS_FULL",
    "Pipedrive takes no more webhooks of the token's user (40), so changes are polled: delete those that nobody needs (Settings, Tools and apps, Webhooks)",
);
const REFUSED: Notice = Notice::fixed(
    "PUSH_REFUSED",
    "Pipedrive refuses the webhook for a reason that is not known here, so changes are polled: the log has its status",
);
const INTERRUPTED: Notice = Notice::fixed(
    "PUSH_INTERRUPTED",
    "Pipedrive's last event could not be delivered: see whether http.public_url can be reached from the internet; runs make up for what is lost",
);

#[derive(Deserialize)]
struct StoredHook {
    id: u64,
    #[serde(default)]
    name: Option<String>,
    subscription_url: String,
    #[serde(default)]
    event_action: String,
    #[serde(default)]
    event_object: String,
    #[serde(default)]
    version: Option<Value>,
    #[serde(default)]
    is_active: Option<Value>,
    #[serde(default)]
    last_http_status: Option<u16>,
}

#[derive(Deserialize)]
struct NewHook {
    id: u64,
}

impl StoredHook {
    fn is_called(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    /// Its secret was stored with the address, before it was made.
    fn is_as_wished(&self, wish: &HookWish) -> bool {
        let is_text = |value: &Option<Value>, texts: &[&str]| {
            value.as_ref().is_none_or(|value| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                texts.contains(&text.as_str())
            })
        };
        self.subscription_url == wish.url
            && self.event_action == "*"
            && self.event_object == "person"
            && is_text(&self.version, &["2.0", "2"])
            && is_text(&self.is_active, &["1", "true"])
    }
}

impl PipedriveClient {
    /// Sees to it that there is one hook of this name, as wished.
    pub(super) async fn keep(&self, wish: &HookWish) -> Result<KeptHook, CrmError> {
        let all = match self.hooks().await? {
            Ok(all) => all,
            Err(notice) => return Ok(Err(notice)),
        };
        // By its address, too: a list that left the names out would have one more made each time.
        let ours = all.into_iter().filter(|hook| hook.is_called(&wish.name) || hook.subscription_url == wish.url);
        let (mut right, wrong): (Vec<_>, Vec<_>) = ours.partition(|hook| !wish.anew && hook.is_as_wished(wish));
        let kept = if right.is_empty() { None } else { Some(right.remove(0)) };
        for hook in wrong.into_iter().chain(right) {
            self.delete_hook(hook.id).await?;
        }
        if let Some(hook) = kept {
            let trouble = hook.last_http_status.filter(|status| *status >= 400).map(|_| INTERRUPTED);
            return Ok(Ok(standing(hook.id, false, trouble)));
        }
        let made = self.make_hook(wish).await?;
        Ok(made.map(|id| standing(id, wish.hook_id.is_some() && !wish.anew, None)))
    }

    /// Removes every hook of this name, and every one that sends to this address.
    pub(super) async fn remove(&self, name: &str, url: Option<&str>) -> Result<(), CrmError> {
        let is_ours = |hook: &&StoredHook| hook.is_called(name) || Some(hook.subscription_url.as_str()) == url;
        for hook in self.hooks().await?.unwrap_or_default().iter().filter(is_ours) {
            self.delete_hook(hook.id).await?;
        }
        Ok(())
    }

    async fn hooks(&self) -> Result<Result<Vec<StoredHook>, Notice>, CrmError> {
        let reply = self.request(Method::GET, PATH, &[], None).await?;
        if let Some(notice) = refusal_of_hooks(&reply)? {
            return Ok(Err(notice));
        }
        let body = String::from_utf8(reply.body).map_err(|_| NO_PAGE)?;
        // Without any it is null.
        let all = json::parse::<SingleAnswer<Option<Vec<StoredHook>>>>(&body).ok_or(NO_PAGE)?.data;
        Ok(Ok(all.unwrap_or_default()))
    }

    async fn make_hook(&self, wish: &HookWish) -> Result<Result<u64, Notice>, CrmError> {
        let (user, password) = wish.secret.expose().split_once(':').unwrap_or_default();
        let body = json!({
            "name": wish.name,
            "subscription_url": wish.url,
            "event_action": "*",
            "event_object": "person",
            "version": "2.0",
            "http_auth_user": user,
            "http_auth_password": password,
        });
        let reply = self.request(Method::POST, PATH, &[], Some(&body)).await?;
        if let Some(notice) = refusal_of_hooks(&reply)? {
            return Ok(Err(notice));
        }
        let body = String::from_utf8(reply.body).map_err(|_| NO_PAGE)?;
        Ok(Ok(json::parse::<SingleAnswer<NewHook>>(&body).ok_or(NO_PAGE)?.data.id))
    }

    /// One that is gone already is as good as deleted.
    async fn delete_hook(&self, id: u64) -> Result<(), CrmError> {
        let reply = self.request(Method::DELETE, &format!("{PATH}/{id}"), &[], None).await?;
        match reply.refusal() {
            Some(error) if !matches!(reply.status.as_u16(), 404 | 410) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Its secret is ours, and what was not delivered is told nowhere.
fn standing(id: u64, was_mended: bool, trouble: Option<Notice>) -> HookStanding {
    HookStanding { hook_id: id.to_string(), secret: None, was_mended, lost: Some(0), trouble }
}

/// What Pipedrive says of webhooks in particular; an error: what it says of any request.
fn refusal_of_hooks(reply: &HttpReply) -> Result<Option<Notice>, CrmError> {
    let Some(error) = reply.refusal() else { return Ok(None) };
    let words = reply.words();
    match (reply.status.as_u16(), &error) {
        (_, CrmError::RateLimited { .. } | CrmError::QuotaSpent { .. } | CrmError::Uninstalled) => Err(error),
        (400 | 403 | 409 | 422, _) if words.contains("limit") || words.contains("maximum") => Ok(Some(HOOKS_FULL)),
        (403, _) if words.contains("scope") => Ok(Some(SCOPE_MISSING)),
        (403, CrmError::PermissionMissing(_)) => Ok(Some(ROLE_MISSING)),
        (400 | 403 | 409 | 422, _) => {
            tracing::warn!(status = reply.status.as_u16(), "the CRM refuses the webhook, changes are polled");
            Ok(Some(REFUSED))
        }
        _ => Err(error),
    }
}
