//! Zendesk's event webhooks: one of ours for an integration, found by its name, made, mended,
//! removed. Zendesk makes the secret, and tells how its calls went. Source: Zendesk developer
//! documentation, "Webhooks API". What is not documented is tried, and marked so.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
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
/// Pages of webhooks that are looked through, of a hundred each.
const HOOK_PAGES_MAX: usize = 20;
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
    #[serde(default)]
    meta: Option<Paging>,
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
    meta: Option<Paging>,
}

#[derive(Deserialize)]
struct StoredCall {
    #[serde(default)]
    status: String,
    #[serde(default)]
    latest_completed_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Paging {
    #[serde(default)]
    has_more: bool,
    #[serde(default)]
    after_cursor: Option<String>,
}

impl Paging {
    /// Where the list goes on; `None`: it does not.
    fn next(self) -> Option<String> {
        self.after_cursor.filter(|_| self.has_more)
    }
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
            Ok(ours) => ours,
            Err(notice) => return Ok(Err(notice)),
        };
        // The one that was made last first, if it is there.
        ours.sort_by_key(|hook| Some(&hook.id) != wish.hook_id.as_ref());
        let first = if wish.anew || ours.is_empty() { None } else { Some(ours.remove(0)) };
        let kept = match first {
            Some(hook) if hook.is_as_wished(wish, &self.events()) => Ok((hook.id, false)),
            Some(hook) => {
                let was_mended = !hook.is_of_other_options(wish);
                self.change_hook(hook, wish).await?.map(|id| (id, was_mended))
            }
            None => {
                let was_mended = wish.hook_id.is_some() && !wish.anew;
                self.make_in_place_of(std::mem::take(&mut ours), wish).await?.map(|id| (id, was_mended))
            }
        };
        let (hook_id, was_mended) = match kept {
            Ok(kept) => kept,
            Err(notice) => return Ok(Err(notice)),
        };
        for hook in ours {
            self.delete_hook(&hook.id).await?;
        }
        let reply = self.raw(Method::GET, &format!("{PATH}/{hook_id}/signing_secret"), &[], None).await?;
        let secret = match refusal_of_hooks(&reply)? {
            Some(notice) => return Ok(Err(notice)),
            None => read::<SecretAnswer>(&reply)?.signing_secret.secret,
        };
        let (lost, is_interrupted) = self.failed_calls(&hook_id, wish).await;
        let trouble = is_interrupted.then_some(INTERRUPTED);
        Ok(Ok(HookStanding { hook_id, secret: Some(HookSecret::new(secret.into())), was_mended, lost, trouble }))
    }

    fn events(&self) -> Vec<&'static str> {
        let custom = (!self.mapping.phone_fields.is_empty()).then_some(CUSTOM_FIELD);
        EVENTS.into_iter().chain(custom).collect()
    }

    /// Removes every hook of this name, and every one that sends to this address.
    pub(super) async fn remove(&self, name: &str, url: Option<&str>) -> Result<(), CrmError> {
        for hook in self.hooks_of(name, url).await?.unwrap_or_default() {
            self.delete_hook(&hook.id).await?;
        }
        Ok(())
    }

    /// Those of this name, and those that send to this address, whatever they are called now.
    async fn hooks_of(&self, name: &str, url: Option<&str>) -> Result<Result<Vec<StoredHook>, Notice>, CrmError> {
        let (mut ours, mut after) = (Vec::new(), None::<String>);
        for _ in 0..HOOK_PAGES_MAX {
            let mut query = vec![("page[size]", "100")];
            query.extend(after.as_deref().map(|after| ("page[after]", after)));
            let reply = self.raw(Method::GET, PATH, &query, None).await?;
            if let Some(notice) = refusal_of_hooks(&reply)? {
                return Ok(Err(notice));
            }
            let page = read::<HookList>(&reply)?;
            let is_ours = |hook: &StoredHook| hook.name == name || Some(hook.endpoint.as_str()) == url;
            ours.extend(page.webhooks.into_iter().filter(is_ours));
            let next = page.meta.and_then(Paging::next);
            if next.is_none() || next == after {
                break;
            }
            after = next;
        }
        Ok(Ok(ours))
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
    async fn change_hook(&self, hook: StoredHook, wish: &HookWish) -> Result<Result<String, Notice>, CrmError> {
        let spelled = |kind: &str| {
            let known = hook.subscriptions.iter().find(|known| bare_type(known) == kind);
            // Spelled as the others of it are.
            let mark = if hook.subscriptions.iter().all(|known| known.contains('/')) { '/' } else { ':' };
            known.cloned().unwrap_or_else(|| format!("zen:event-type{mark}{kind}"))
        };
        let body = hook_body(wish, &self.events().into_iter().map(spelled).collect::<Vec<_>>());
        let reply = self.raw(Method::PATCH, &format!("{PATH}/{}", hook.id), &[], Some(&body)).await?;
        match refusal_of_hooks(&reply)? {
            None => Ok(Ok(hook.id)),
            Some(_) if matches!(reply.status.as_u16(), 400 | 404 | 422) => {
                self.make_in_place_of(vec![hook], wish).await
            }
            Some(notice) => Ok(Err(notice)),
        }
    }

    /// Made before others are deleted, so that what delivers stays where it cannot be made. Where
    /// there is no room for one more, they go first.
    async fn make_in_place_of(
        &self,
        others: Vec<StoredHook>,
        wish: &HookWish,
    ) -> Result<Result<String, Notice>, CrmError> {
        let mut made = self.make_hook(wish).await?;
        let is_full = matches!(&made, Err(notice) if notice.reason == HOOKS_FULL.reason);
        if made.is_err() && (!is_full || others.is_empty()) {
            return Ok(made);
        }
        for hook in others {
            if let Err(error) = self.delete_hook(&hook.id).await {
                if is_full {
                    return Err(error);
                }
                // The next look deletes it: it is not the one that was made last.
                tracing::warn!(%error, "a webhook that another one takes the place of could not be deleted yet");
            }
        }
        if is_full {
            made = self.make_hook(wish).await?;
        }
        Ok(made)
    }

    /// One that is gone already is as good as deleted.
    async fn delete_hook(&self, id: &str) -> Result<(), CrmError> {
        let reply = self.raw(Method::DELETE, &format!("{PATH}/{id}"), &[], None).await?;
        if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND { Ok(()) } else { Err(reply.meaning()) }
    }

    /// How many calls came to nothing in the time that is to be counted, each in one look alone,
    /// and whether some were not even made. Where the list is refused nothing is known of it; where
    /// it does not come, the next look counts: nothing else that this one has found is lost.
    async fn failed_calls(&self, hook_id: &str, wish: &HookWish) -> (Option<u32>, bool) {
        let Some(since) = wish.since else { return (Some(0), false) };
        let seconds = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let (from, to) = (seconds(since), seconds(wish.until + TimeDelta::seconds(1)));
        let (path, mut after) = (format!("{PATH}/{hook_id}/invocations"), None::<String>);
        let (mut lost, mut is_interrupted) = (0, false);
        for _ in 0..CALL_PAGES_MAX {
            // The newest first: of too many the oldest are left out.
            let mut query = vec![("filter[from_ts]", from.as_str()), ("filter[to_ts]", to.as_str())];
            query.extend([("sort", "-latest_completed_at"), ("page[size]", "100")]);
            query.extend(after.as_deref().map(|after| ("page[after]", after)));
            let page = match self.raw(Method::GET, &path, &query, None).await {
                Ok(reply) if matches!(reply.status.as_u16(), 400 | 403 | 404 | 422) => break,
                Ok(reply) if reply.status.is_success() => read::<CallList>(&reply).ok(),
                Ok(_) | Err(_) => None,
            };
            let Some(page) = page else { return (None, is_interrupted) };
            // One without a time is still under way.
            let is_of_this_look =
                |call: &&StoredCall| call.latest_completed_at.is_some_and(|at| since < at && at <= wish.until);
            for call in page.invocations.iter().filter(is_of_this_look) {
                let status = call.status.replace('_', " ");
                lost += u32::from(!matches!(status.as_str(), "success" | "accepted"));
                is_interrupted |= matches!(status.as_str(), "circuit broken" | "throttled");
            }
            let next = page.meta.and_then(Paging::next);
            if next.is_none() || next == after {
                break;
            }
            after = next;
        }
        (Some(lost), is_interrupted)
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
