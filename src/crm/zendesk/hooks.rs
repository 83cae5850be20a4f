//! Zendesk's event webhooks: one of ours for an integration, found by its name, made, mended,
//! removed. Zendesk makes the secret, and tells how its calls went. Source: Zendesk developer
//! documentation, "Webhooks API". What is not documented is tried, and marked so.

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    client::{RawReply, ZendeskClient},
    hook_events::{CUSTOM_FIELD, EVENTS, bare_type},
};
use crate::{
    crm::{
        CrmError,
        hook::{HookStanding, HookWish, KeptHook},
    },
    domain::{hook::HookSecret, notice::Notice},
};

const PATH: &str = "/api/v2/webhooks";
/// Pages of calls that are looked through; more are not counted.
const CALL_PAGES_MAX: usize = 5;
/// Types that the reference spells with a slash, where all others have a colon.
const WITH_SLASH: [&str; 3] = ["user.merged", "user.identity_created", "user.identity_changed"];
const NO_HOOKS: CrmError = CrmError::Unreadable("it is not the JSON of webhooks that Zendesk documents");

pub(super) const SCOPE_MISSING: Notice = Notice::fixed(
    "PUSH_SCOPE_MISSING",
    "the authorization does not allow webhooks, so changes are polled: authorize again (`sync authorize --integration`), or bring a token with the scope webhooks:write; where scopes of an OAuth client are chosen (Admin Center, Apps and integrations, APIs, OAuth clients), it must have that one",
);
const ROLE_MISSING: Notice = Notice::fixed(
    "PUSH_ROLE_MISSING",
    "the token's user may not make webhooks, so changes are polled: use an administrator's token",
);
const HOOKS_FULL: Notice = Notice::fixed(
    "PUSH_HOOKS_FULL",
    "Zendesk takes no more webhooks, so changes are polled: delete those that nobody needs (Admin Center, Apps and integrations, Webhooks)",
);
const REFUSED: Notice = Notice::fixed(
    "PUSH_REFUSED",
    "Zendesk refuses the webhook for a reason that is not known here, so changes are polled: the log has its status",
);
const INTERRUPTED: Notice = Notice::fixed(
    "PUSH_INTERRUPTED",
    "Zendesk has stopped sending for a while because deliveries failed: see whether http.public_url can be reached from the internet; runs make up for what is lost",
);

#[derive(Deserialize)]
struct HookList {
    webhooks: Vec<StoredHook>,
}

#[derive(Deserialize)]
struct HookAnswer {
    webhook: StoredHook,
}

#[derive(Deserialize)]
struct StoredHook {
    id: String,
    name: String,
    endpoint: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    subscriptions: Vec<String>,
}

#[derive(Deserialize)]
struct SecretAnswer {
    signing_secret: SigningSecret,
}

#[derive(Deserialize)]
struct SigningSecret {
    secret: String,
}

#[derive(Deserialize)]
struct CallList {
    #[serde(default)]
    invocations: Vec<StoredCall>,
    #[serde(default)]
    meta: Option<CallPaging>,
}

#[derive(Deserialize)]
struct StoredCall {
    #[serde(default)]
    status: String,
    #[serde(default)]
    latest_completed_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct CallPaging {
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    after_cursor: Option<String>,
}

impl StoredHook {
    fn is_as_wished(&self, wish: &HookWish, events: &[&str]) -> bool {
        self.name == wish.name && self.endpoint == wish.url && self.status == "active" && self.has_types(events)
    }

    /// As it was wished before somebody has said otherwise of custom fields: no event is lost.
    fn is_of_other_options(&self, wish: &HookWish) -> bool {
        let with_custom: Vec<&str> = EVENTS.into_iter().chain([CUSTOM_FIELD]).collect();
        self.is_as_wished(wish, &EVENTS) || self.is_as_wished(wish, &with_custom)
    }

    fn has_types(&self, events: &[&str]) -> bool {
        let mut types: Vec<&str> = self.subscriptions.iter().map(|subscribed| bare_type(subscribed)).collect();
        let mut wished = events.to_vec();
        types.sort_unstable();
        wished.sort_unstable();
        types == wished
    }
}

impl ZendeskClient {
    /// Sees to it that there is one hook of this name, as wished.
    pub(super) async fn keep(&self, wish: &HookWish) -> Result<KeptHook, CrmError> {
        let mut ours = match self.hooks_of(&wish.name, Some(&wish.url)).await? {
            Ok(ours) => ours.into_iter(),
            Err(notice) => return Ok(Err(notice)),
        };
        let first = if wish.anew { None } else { ours.next() };
        for hook in ours {
            self.delete_hook(&hook.id).await?;
        }
        let (hook_id, was_mended) = match first {
            Some(hook) if hook.is_as_wished(wish, &self.events()) => (hook.id, false),
            Some(hook) => match self.change_hook(&hook, wish).await? {
                Ok(id) => (id, !hook.is_of_other_options(wish)),
                Err(notice) => return Ok(Err(notice)),
            },
            None => match self.make_hook(wish).await? {
                Ok(id) => (id, wish.hook_id.is_some() && !wish.anew),
                Err(notice) => return Ok(Err(notice)),
            },
        };
        let reply = self.raw(Method::GET, &format!("{PATH}/{hook_id}/signing_secret"), &[], None).await?;
        let secret = match refusal_of_hooks(&reply)? {
            Some(notice) => return Ok(Err(notice)),
            None => read::<SecretAnswer>(&reply)?.signing_secret.secret,
        };
        let (lost, is_interrupted) = self.failed_calls(&hook_id, wish.since).await?;
        let trouble = is_interrupted.then_some(INTERRUPTED);
        Ok(Ok(HookStanding { hook_id, secret: Some(HookSecret::new(secret.into())), was_mended, lost, trouble }))
    }

    fn events(&self) -> Vec<&'static str> {
        let custom = (!self.mapping.phone_fields.is_empty()).then_some(CUSTOM_FIELD);
        EVENTS.into_iter().chain(custom).collect()
    }

    /// Removes every hook of this name.
    pub(super) async fn remove(&self, name: &str) -> Result<(), CrmError> {
        for hook in self.hooks_of(name, None).await?.unwrap_or_default() {
            self.delete_hook(&hook.id).await?;
        }
        Ok(())
    }

    /// Those of this name, and those that send to this address, whatever they are called now.
    async fn hooks_of(&self, name: &str, url: Option<&str>) -> Result<Result<Vec<StoredHook>, Notice>, CrmError> {
        // By its last word, which no other has: what else a filter makes of blanks is not known.
        let part = name.rsplit(' ').next().unwrap_or(name);
        let query = [("filter[name_contains]", part), ("page[size]", "100")];
        let reply = self.raw(Method::GET, PATH, &query, None).await?;
        if let Some(notice) = refusal_of_hooks(&reply)? {
            return Ok(Err(notice));
        }
        let all = read::<HookList>(&reply)?.webhooks.into_iter();
        Ok(Ok(all.filter(|hook| hook.name == name || Some(hook.endpoint.as_str()) == url).collect()))
    }

    /// The reference spells the types in two ways, and real accounts take one of them: three tries.
    async fn make_hook(&self, wish: &HookWish) -> Result<Result<String, Notice>, CrmError> {
        let spellings: [fn(&str) -> String; 3] = [
            |kind| format!("zen:event-type:{kind}"),
            |kind| format!("zen:event-type/{kind}"),
            |kind| format!("zen:event-type{}{kind}", if WITH_SLASH.contains(&kind) { '/' } else { ':' }),
        ];
        let mut refused = REFUSED;
        for spell in spellings {
            let body = hook_body(wish, &self.events().into_iter().map(spell).collect::<Vec<_>>());
            let reply = self.raw(Method::POST, PATH, &[], Some(&body)).await?;
            match refusal_of_hooks(&reply)? {
                None => return Ok(Ok(read::<HookAnswer>(&reply)?.webhook.id)),
                Some(notice) if reply.status == StatusCode::BAD_REQUEST => refused = notice,
                Some(notice) => return Ok(Err(notice)),
            }
        }
        Ok(Err(refused))
    }

    /// Made as wished, with its types as they were spelled; what cannot be changed so is made anew.
    async fn change_hook(&self, hook: &StoredHook, wish: &HookWish) -> Result<Result<String, Notice>, CrmError> {
        let spelled = |kind: &str| {
            let known = hook.subscriptions.iter().find(|known| bare_type(known) == kind);
            // Spelled as the others of it are.
            let mark = if hook.subscriptions.iter().all(|known| known.contains('/')) { '/' } else { ':' };
            known.cloned().unwrap_or_else(|| format!("zen:event-type{mark}{kind}"))
        };
        let body = hook_body(wish, &self.events().into_iter().map(spelled).collect::<Vec<_>>());
        let reply = self.raw(Method::PATCH, &format!("{PATH}/{}", hook.id), &[], Some(&body)).await?;
        match refusal_of_hooks(&reply)? {
            None => Ok(Ok(hook.id.clone())),
            Some(_) if matches!(reply.status.as_u16(), 400 | 404 | 422) => {
                self.delete_hook(&hook.id).await?;
                self.make_hook(wish).await
            }
            Some(notice) => Ok(Err(notice)),
        }
    }

    /// One that is gone already is as good as deleted.
    async fn delete_hook(&self, id: &str) -> Result<(), CrmError> {
        let reply = self.raw(Method::DELETE, &format!("{PATH}/{id}"), &[], None).await?;
        if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND { Ok(()) } else { Err(reply.meaning()) }
    }

    /// How many calls came to nothing since then, and whether some were not even made. Where the
    /// list is refused nothing is known of it: the names of its parameters are documented nowhere.
    async fn failed_calls(&self, hook_id: &str, since: Option<DateTime<Utc>>) -> Result<(u32, bool), CrmError> {
        let Some(since) = since else { return Ok((0, false)) };
        let from = since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let (path, mut after) = (format!("{PATH}/{hook_id}/invocations"), None::<String>);
        let (mut lost, mut is_interrupted) = (0, false);
        for _ in 0..CALL_PAGES_MAX {
            let mut query = vec![("filter[from_ts]", from.as_str()), ("page[size]", "100")];
            query.extend(after.as_deref().map(|after| ("page[after]", after)));
            let reply = self.raw(Method::GET, &path, &query, None).await?;
            if !reply.status.is_success() {
                return match reply.status.as_u16() {
                    400 | 403 | 404 | 422 => Ok((lost, is_interrupted)),
                    _ => Err(reply.meaning()),
                };
            }
            let page = read::<CallList>(&reply)?;
            let is_since = |call: &&StoredCall| call.latest_completed_at.is_none_or(|at| at > since);
            for call in page.invocations.iter().filter(is_since) {
                let status = call.status.replace('_', " ");
                lost += u32::from(!matches!(status.as_str(), "success" | "accepted"));
                is_interrupted |= matches!(status.as_str(), "circuit broken" | "throttled");
            }
            let next = page.meta.filter(|meta| meta.has_more).and_then(|meta| meta.after_cursor);
            if next.is_none() || next == after {
                break;
            }
            after = next;
        }
        Ok((lost, is_interrupted))
    }
}

fn hook_body(wish: &HookWish, subscriptions: &[String]) -> Value {
    json!({"webhook": {
        "name": wish.name,
        "endpoint": wish.url,
        "status": "active",
        "http_method": "POST",
        "request_format": "json",
        "subscriptions": subscriptions,
    }})
}

fn read<T: DeserializeOwned>(reply: &RawReply) -> Result<T, CrmError> {
    serde_json::from_slice(&reply.body).map_err(|_| NO_HOOKS)
}

/// What Zendesk says of webhooks in particular; an error: what it says of any request.
fn refusal_of_hooks(reply: &RawReply) -> Result<Option<Notice>, CrmError> {
    if reply.status.is_success() {
        return Ok(None);
    }
    let (status, words) = (reply.status.as_u16(), reply.words());
    match status {
        // An empty body is what it has for tokens without the scope.
        403 if reply.body.trim_ascii().is_empty() || words.contains("scope") => Ok(Some(SCOPE_MISSING)),
        403 if matches!(reply.meaning(), CrmError::PermissionMissing(_)) => Ok(Some(ROLE_MISSING)),
        400 | 402 | 422 if words.contains("limit") || words.contains("maximum") => Ok(Some(HOOKS_FULL)),
        400 | 402 | 422 => {
            tracing::warn!(status, "the CRM refuses the webhook, changes are polled");
            Ok(Some(REFUSED))
        }
        _ => Err(reply.meaning()),
    }
}
