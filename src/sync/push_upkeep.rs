//! Looks after an integration's hook in its CRM, at the beginning of a run and by the run's lease:
//! makes it, mends it, removes it when it is not wished any more. A run begins at least once a day,
//! and at once after an integration is enabled, authorized or changed. Nothing here fails a run:
//! polling is the truth.

use chrono::{DateTime, TimeDelta, Utc};
use rand::Rng as _;
use tracing::warn;

use super::{error::RunError, push_losses::EVENTS_MISSED, session::CrmSession};
use crate::{
    crm::{CrmFuture, HookStanding, HookWish, KeptHook},
    domain::{
        credentials::CredentialKind,
        hook::{HookAddress, HookSecret, PushChannel, PushState, hook_name, hook_url},
        notice::Notice,
        options::PushWish,
        push_losses::PushLosses,
        sync_run::SyncKind,
    },
    store::{
        StoreError, Transaction, Tx, access,
        lease::{self, Lease},
        push_channels, push_streams,
    },
    telemetry::chain,
};

/// From one to the next time that a hook is made anew because it is silent.
const RENEW_EVERY: TimeDelta = TimeDelta::days(1);
/// How long a CRM that does not tell of failed deliveries is asked again for those of before.
const UNCOUNTED_MAX: TimeDelta = TimeDelta::hours(6);
/// From look to look while it is not as it should be.
const MEND_EVERY: TimeDelta = TimeDelta::minutes(15);

const PENDING: Notice = Notice::fixed(
    "PUSH_PENDING",
    "the webhook is being made, or the CRM did not answer for it: the next run tries again, and changes are polled until then",
);
const ADDRESS_MISSING: Notice = Notice::fixed(
    "PUSH_ADDRESS_MISSING",
    "this deployment has no public https address, so changes are polled: its operator must set http.listen and http.public_url",
);

/// One look at a hook, if it is due. What is made while the integration is disabled is removed.
pub(super) async fn keep_push(session: &mut CrmSession<'_>) -> Result<(), RunError> {
    let looked = look(session).await;
    if matches!(looked, Err(RunError::LeaseLost)) {
        remove_orphan(session).await?;
    }
    looked
}

/// Whoever has the lease now looks after the hook; nobody does where there is nothing stored of it
/// any more.
async fn remove_orphan(session: &CrmSession<'_>) -> Result<(), RunError> {
    let (context, lease) = (session.pacer.context, session.pacer.job.lease());
    if push_channels::find(&context.db, lease.account_id, lease.integration_id).await?.is_some() {
        return Ok(());
    }
    let (Some(base), Ok(client)) = (&context.push_base, session.beside()) else { return Ok(()) };
    let name = hook_name(base, lease.integration_id);
    // In a task of its own: without a lease the run is dropped.
    let removed: Result<(), RunError> =
        context.db.task(async move { Ok(client.remove_hook(&name, None).await?) }).await;
    if let Err(error) = removed {
        warn!(error = %chain(&error), "the webhook of a disabled integration could not be removed, and sends to nobody");
    }
    Ok(())
}

async fn look(session: &mut CrmSession<'_>) -> Result<(), RunError> {
    let (context, job) = (session.pacer.context, session.pacer.job);
    let (lease, now) = (job.lease(), context.clock.now());
    let Some(check_every) = context.crms.hook_check_every(job.provider()) else { return wish_stream(session).await };
    let stored = push_channels::find(&context.db, lease.account_id, lease.integration_id).await?;
    if job.claimed.options.push != PushWish::On {
        return if let Some(channel) = stored { remove(session, lease, &channel).await } else { Ok(()) };
    }
    // A sweep begins with other options, too, which may want other events.
    let is_sweep = job.run.kind == SyncKind::Sweep;
    if !is_sweep && stored.as_ref().is_some_and(|channel| !is_due(channel, check_every, now)) {
        return Ok(());
    }
    let opened = stored.and_then(|channel| {
        let opened = context.access_tokens.vault.open_hook(lease.account_id, lease.integration_id, &channel.secret);
        match opened {
            Ok(secret) => Some((channel, secret)),
            Err(error) => {
                warn!(error = %chain(&error), "the secret of the webhook does not open: it gets a new one");
                None
            }
        }
    });
    let (mut channel, secret) = match opened {
        Some(known) => known,
        // Stored before the CRM hears of it: a crash in between leaves a secret without a hook.
        None => new_channel(session, lease).await?,
    };
    let mut is_counted = true;
    let (lost, is_new) = match (&context.push_base, missing_scope(session, lease).await?) {
        (_, Some(notice)) => (take(&mut channel, Err(notice)), false),
        (Some(base), None) if context.crms.sends_to(job.provider(), base) => {
            let wish = HookWish {
                name: hook_name(base, lease.integration_id),
                url: url_of(session, base, lease, &channel),
                hook_id: channel.hook_id.clone(),
                secret,
                since: channel.checked_at,
                until: now,
                anew: is_to_be_renewed(&channel, now),
            };
            let mut kept = ask_to_keep(session, &wish).await?;
            if lacks_scope(kept.as_ref())
                && !channel.notice.as_ref().is_some_and(is_of_scope)
                && is_own_client(session, lease).await?
            {
                // The access may be from when nobody wished for pushed changes.
                session.renew_access().await?;
                kept = ask_to_keep(session, &wish).await?;
            }
            let Some(kept) = kept else {
                // Left for the next run, if there is one.
                return save(session, SaveChannel { lease, channel, lost: 0 }).await;
            };
            is_counted = kept.as_ref().map_or(true, |standing| standing.lost.is_some());
            let given = kept.as_ref().ok().and_then(|standing| wish.secret.replaced_by(standing.secret.as_ref()?, now));
            if let Some(secret) = given {
                channel.secret = sealed(session, lease, &secret)?;
            }
            (take(&mut channel, kept), wish.anew)
        }
        _ => (take(&mut channel, Err(ADDRESS_MISSING)), false),
    };
    watch(&mut channel, is_new, lost > 0, now);
    channel.checked_at = Some(channel.checked_at.filter(|at| !is_counted && now - *at < UNCOUNTED_MAX).unwrap_or(now));
    save(session, SaveChannel { lease, channel, lost }).await
}

/// What is said if the stored authorization is known not to allow hooks: the CRM is not asked then.
async fn missing_scope(session: &CrmSession<'_>, lease: Lease) -> Result<Option<Notice>, RunError> {
    let (context, provider) = (session.pacer.context, session.pacer.job.provider());
    let Some(CredentialKind::RefreshToken { scopes: Some(scopes), .. }) = stored_kind(session, lease).await? else {
        return Ok(None);
    };
    Ok(context.crms.lacks_push_scope(provider, &scopes))
}

/// Whether access is got by a client that asks for its scopes anew each time.
async fn is_own_client(session: &CrmSession<'_>, lease: Lease) -> Result<bool, RunError> {
    Ok(matches!(stored_kind(session, lease).await?, Some(CredentialKind::ClientCredentials { .. })))
}

async fn stored_kind(session: &CrmSession<'_>, lease: Lease) -> Result<Option<CredentialKind>, RunError> {
    let context = session.pacer.context;
    let stored = access::find(&context.db, lease.account_id, lease.integration_id).await?;
    let Some(sealed) = stored.and_then(|stored| stored.credentials) else { return Ok(None) };
    let opened = context.access_tokens.vault.open(lease.account_id, lease.integration_id, &sealed);
    Ok(opened.ok().map(|opened| opened.kind))
}

/// In every vendor's words.
fn is_of_scope(notice: &Notice) -> bool {
    notice.reason == "PUSH_SCOPE_MISSING"
}

fn lacks_scope(kept: Option<&KeptHook>) -> bool {
    kept.is_some_and(|kept| kept.as_ref().is_err_and(is_of_scope))
}

/// A CRM without hooks may have streams: somebody is to follow this one's, beside all runs. Whether
/// it is wished no more, whoever follows sees by itself.
async fn wish_stream(session: &CrmSession<'_>) -> Result<(), RunError> {
    let (context, job) = (session.pacer.context, session.pacer.job);
    if job.claimed.options.push == PushWish::On && context.crms.has_streams(job.provider()) {
        let (lease, now) = (job.lease(), context.clock.now());
        if push_streams::wish(&context.db, lease.account_id, lease.integration_id, now).await? {
            context.stream_wake.notify_one();
        }
    }
    Ok(())
}

async fn ask_to_keep(session: &mut CrmSession<'_>, wish: &HookWish) -> Result<Option<KeptHook>, RunError> {
    session.ask_optional(wish, |client, wish| -> CrmFuture<'_, KeptHook> { client.keep_hook(wish) }).await
}

fn url_of(session: &CrmSession<'_>, base: &str, lease: Lease, channel: &PushChannel) -> String {
    let key = session.pacer.context.access_tokens.vault.key_ring.hook_address_keys().swap_remove(0);
    let address = HookAddress { account_id: lease.account_id, number: channel.number };
    hook_url(base, &key, session.pacer.job.provider(), address)
}

/// Whether the CRM is to be asked. A look that a clock has made which was ahead counts for nothing.
fn is_due(channel: &PushChannel, check_every: TimeDelta, now: DateTime<Utc>) -> bool {
    let every = if channel.state == PushState::Active { check_every } else { MEND_EVERY };
    channel.checked_at.is_none_or(|checked_at| checked_at > now || now - checked_at >= every)
}

/// What a look makes of what is stored. Gives how many events are known to be lost: of a hook that
/// was not as wished one at least.
fn take(channel: &mut PushChannel, kept: KeptHook) -> i64 {
    match kept {
        Ok(HookStanding { hook_id, was_mended, lost, trouble, .. }) => {
            channel.hook_id = Some(hook_id);
            channel.state = if trouble.is_some() { PushState::Degraded } else { PushState::Active };
            channel.notice = trouble;
            i64::from(was_mended) + i64::from(lost.unwrap_or(0))
        }
        // One that is there already may go on sending, whatever is not allowed any more.
        Err(notice) => {
            channel.state = PushState::Unavailable;
            channel.notice = Some(notice);
            0
        }
    }
}

/// Whether so many events are missed that the CRM is to get a new hook.
fn is_to_be_renewed(channel: &PushChannel, now: DateTime<Utc>) -> bool {
    let was_of_late = channel.renewed_at.is_some_and(|at| at <= now && now - at < RENEW_EVERY);
    channel.hook_id.is_some() && channel.losses.are_suspicious() && !was_of_late
}

/// Since when events are expected of it, and whether they come.
fn watch(channel: &mut PushChannel, is_new: bool, was_mended: bool, now: DateTime<Utc>) {
    if channel.state == PushState::Unavailable {
        channel.registered_at = None;
        return;
    }
    if is_new || was_mended || channel.registered_at.is_none() {
        channel.registered_at = Some(now);
    }
    if is_new {
        (channel.renewed_at, channel.losses) = (Some(now), PushLosses::default());
    }
    if channel.state == PushState::Active && channel.losses.are_suspicious() {
        (channel.state, channel.notice) = (PushState::Degraded, Some(EVENTS_MISSED));
    }
}

async fn new_channel(session: &CrmSession<'_>, lease: Lease) -> Result<(PushChannel, HookSecret), RunError> {
    let context = session.pacer.context;
    let (number, secret) = context.ids.with_rng(|rng| {
        let (mut number, mut user, mut password) = ([0; 8], [0; 16], [0; 32]);
        rng.fill_bytes(&mut number);
        rng.fill_bytes(&mut user);
        rng.fill_bytes(&mut password);
        (i64::from_be_bytes(number), HookSecret::of_bytes(&user, &password))
    });
    let is_ours = context.crms.chooses_hook_secret(session.pacer.job.provider());
    let secret = if is_ours { secret } else { HookSecret::unknown() };
    let channel = PushChannel {
        state: PushState::Unavailable,
        notice: Some(PENDING),
        number,
        hook_id: None,
        secret: sealed(session, lease, &secret)?,
        checked_at: None,
        registered_at: None,
        renewed_at: None,
        losses: PushLosses::default(),
    };
    save(session, SaveChannel { lease, channel: channel.clone(), lost: 0 }).await?;
    Ok((channel, secret))
}

fn sealed(session: &CrmSession<'_>, lease: Lease, secret: &HookSecret) -> Result<Vec<u8>, RunError> {
    let vault = &session.pacer.context.access_tokens.vault;
    let sealed = vault.seal_hook(lease.account_id, lease.integration_id, secret);
    sealed.map_err(|error| RunError::Credentials(Some(error)))
}

/// What cannot be removed from the CRM sends to an address that nobody has any more.
async fn remove(session: &mut CrmSession<'_>, lease: Lease, channel: &PushChannel) -> Result<(), RunError> {
    if let Some(base) = &session.pacer.context.push_base {
        let known = (hook_name(base, lease.integration_id), url_of(session, base, lease, channel));
        session.ask_optional(&known, |client, (name, url)| client.remove_hook(name, Some(url))).await?;
    }
    let is_held = session.pacer.context.db.of(lease.account_id).run(RemoveChannel { lease }).await?;
    if is_held { Ok(()) } else { Err(RunError::LeaseLost) }
}

async fn save(session: &CrmSession<'_>, work: SaveChannel) -> Result<(), RunError> {
    let is_held = session.pacer.context.db.of(work.lease.account_id).run(work).await?;
    if is_held { Ok(()) } else { Err(RunError::LeaseLost) }
}

/// Stores what a look has found. False: the lease is lost.
struct SaveChannel {
    lease: Lease,
    channel: PushChannel,
    lost: i64,
}

impl Transaction for SaveChannel {
    const NAME: &'static str = "save_channel";
    type Output = bool;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        if !lease::lock(tx, self.lease).await? {
            return Ok(false);
        }
        push_channels::save(tx, self.lease, &self.channel, self.lost).await?;
        Ok(true)
    }
}

/// Forgets a hook. False: the lease is lost.
struct RemoveChannel {
    lease: Lease,
}

impl Transaction for RemoveChannel {
    const NAME: &'static str = "remove_channel";
    type Output = bool;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        if !lease::lock(tx, self.lease).await? {
            return Ok(false);
        }
        push_channels::remove(tx, self.lease.account_id, self.lease.integration_id).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(state: PushState, checked_minutes_ago: Option<i64>) -> PushChannel {
        let checked_at = checked_minutes_ago.map(|minutes| now() - TimeDelta::minutes(minutes));
        PushChannel {
            state,
            notice: None,
            number: 1,
            hook_id: Some("7".into()),
            secret: Vec::new(),
            checked_at,
            registered_at: None,
            renewed_at: None,
            losses: PushLosses::default(),
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_796_000_000, 0).unwrap()
    }

    #[test]
    fn hook_is_looked_at_when_time_or_trouble_says_so() {
        for (state, checked, due) in [
            (PushState::Active, Some(359), false),
            (PushState::Active, Some(360), true),
            (PushState::Active, Some(-1), true),
            (PushState::Active, None, true),
            (PushState::Degraded, Some(14), false),
            (PushState::Degraded, Some(15), true),
            (PushState::Unavailable, Some(15), true),
        ] {
            assert_eq!(is_due(&channel(state, checked), TimeDelta::hours(6), now()), due, "{state:?} {checked:?}");
        }
    }

    /// Made anew once a day at most; between, it is told.
    #[test]
    fn silent_hook_is_made_anew_once_a_day() {
        let silent = PushLosses { announced: 0, missed: 20 };
        for (renewed_hours_ago, is_renewed) in [(None, true), (Some(25), true), (Some(23), false), (Some(-1), true)] {
            let renewed_at = renewed_hours_ago.map(|hours| now() - TimeDelta::hours(hours));
            let mut channel = PushChannel { renewed_at, losses: silent, ..channel(PushState::Active, None) };
            assert_eq!(is_to_be_renewed(&channel, now()), is_renewed, "{renewed_hours_ago:?}");

            watch(&mut channel, is_renewed, false, now());

            let state = if is_renewed { PushState::Active } else { PushState::Degraded };
            assert_eq!((channel.state, channel.registered_at), (state, Some(now())));
            assert_eq!(channel.losses.are_suspicious(), !is_renewed);
        }
        let mut gone = PushChannel { registered_at: Some(now()), ..channel(PushState::Unavailable, None) };
        watch(&mut gone, false, false, now());
        assert_eq!(gone.registered_at, None, "of what comes meanwhile no event is missed");
    }

    #[test]
    fn look_makes_of_each_state_what_the_crm_says() {
        let standing = |was_mended, trouble| {
            Ok(HookStanding { hook_id: "8".into(), secret: None, was_mended, lost: Some(0), trouble })
        };
        for (kept, state, hook_id, lost) in [
            (standing(false, None), PushState::Active, Some("8"), 0),
            (standing(true, None), PushState::Active, Some("8"), 1),
            (standing(false, Some(PENDING)), PushState::Degraded, Some("8"), 0),
            (Err(ADDRESS_MISSING), PushState::Unavailable, Some("7"), 0),
        ] {
            for before in [PushState::Active, PushState::Degraded, PushState::Unavailable] {
                let mut channel = channel(before, None);
                assert_eq!(take(&mut channel, kept.clone()), lost);
                assert_eq!((channel.state, channel.hook_id.as_deref()), (state, hook_id));
                assert_eq!(channel.notice.is_none(), state == PushState::Active);
            }
        }
    }
}
