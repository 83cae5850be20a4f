//! Follows one kind of object: opens its stream, stores what comes before it asks for more, and
//! begins again after whatever ends it, until it has to rest.

use std::{cmp, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use rand::Rng as _;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::{
    next_step::{NextStep, ShownState, StreamTries, next_step, pass_unstorable, rest_without_access},
    standing::StreamBoard,
    writes::{SaveBatch, StartAnew, StreamHints, whole},
};
use crate::{
    credentials::AccessError,
    crm::{ClientTarget, CrmClient, CrmError, EventReach, RetryAdvice, StreamBatch, StreamFailure, StreamRequest},
    domain::{
        hint::{HintReason, NewHint},
        hook::PushState,
        integration::Organization,
        options::Options,
        provider::Provider,
        record::ObjectType,
        stream::StreamPlace,
    },
    store::{StoreError, push_channels, push_streams::PushLease},
    sync::{backoff::backoff, context::SyncContext},
    telemetry::{chain, metrics},
};

/// A stream that has said nothing of an error for so long is open: one of an organisation where
/// nothing happens says nothing else for minutes.
const OPEN_AFTER: Duration = Duration::from_secs(10);
/// What changes before a stream that begins at now is open is covered by a poll, which speaks for
/// so long; where the stream takes longer to say something, by another one.
const COVERED_FOR: TimeDelta = TimeDelta::seconds(5);
/// A stream is opened anew so often, from where it stands: what is copied, and what its user sees,
/// may be something else by now.
const OPEN_FOR: TimeDelta = TimeDelta::hours(1);
/// A place before which there was nothing to hint is stored so often.
const PLACE_EVERY: Duration = Duration::from_secs(30);
/// The time of the newest event is noted so often.
const NOTE_EVERY: Duration = Duration::from_secs(10);
/// An event that is later than this from now has no time.
const AHEAD_MAX: TimeDelta = TimeDelta::days(1);
/// The first wait of a database that does not store what came.
const STORE_WAIT: Duration = Duration::from_millis(200);
/// Refusals of what came that would be the same at the next try, before it is passed.
const STORE_REFUSALS_MAX: u32 = 3;

/// Why nobody follows a kind any more.
pub(super) enum FollowEnd {
    /// It is tried again after this.
    Rest(Duration),
    /// Somebody else does, or nobody is to.
    LeaseLost,
}

/// What ends an attempt.
enum AttemptEnd {
    Failed(StreamFailure),
    /// There is no access, and asking again is of no use before somebody has done something.
    NoAccess,
    Store(StoreError),
    /// It was open long enough: at once from where it stands.
    Aged,
    LeaseLost,
}

impl From<StreamFailure> for AttemptEnd {
    fn from(failure: StreamFailure) -> Self {
        Self::Failed(failure)
    }
}

/// Of which integration, for all its followers.
pub(super) struct FollowedIntegration {
    pub context: Arc<SyncContext>,
    pub lease: PushLease,
    pub organization: Organization,
    pub options: Options,
    pub board: StreamBoard,
}

/// Follows one kind.
pub(super) struct StreamFollower {
    pub of: Arc<FollowedIntegration>,
    object: ObjectType,
    place: Option<StreamPlace>,
    tries: StreamTries,
    /// The version of a token that was refused.
    used: Option<i64>,
    version: i64,
}

/// How a stream is doing.
struct OpenStream {
    began_at: DateTime<Utc>,
    /// Of one that begins at now: until when what changed is covered by a poll.
    covered_until: Option<DateTime<Utc>>,
    /// It has said something.
    is_heard: bool,
    /// Time alone shows it as open no more: it was shown, or failures say that time is no proof.
    is_shown: bool,
    place_saved: Instant,
    noted: Option<Instant>,
    note: Option<DateTime<Utc>>,
}

impl StreamFollower {
    /// Where what is shown `is_degraded`, what it says alone makes that good.
    pub(super) fn new(
        of: Arc<FollowedIntegration>,
        object: ObjectType,
        place: Option<StreamPlace>,
        is_degraded: bool,
    ) -> Self {
        Self { of, object, place, tries: StreamTries::after(is_degraded.into()), used: None, version: 0 }
    }

    /// Until it has to rest. Dropped at any await, it has stored a batch wholly or not at all.
    pub(super) async fn follow(&mut self) -> FollowEnd {
        // A token that was refused before a rest may be good now.
        self.used = None;
        loop {
            let end = self.attempt().await;
            let (step, shown) = match self.step_after(end) {
                Ok(next) => next,
                Err(end) => return end,
            };
            if let Some(shown) = shown {
                self.show(shown).await;
            }
            match step {
                NextStep::Again(wait) => sleep(wait).await,
                NextStep::Renew => self.used = Some(self.version),
                NextStep::Anew(wait) => {
                    info!(object = self.object.as_str(), "the stream begins anew, and a poll covers what was missed");
                    self.place = None;
                    sleep(wait).await;
                }
                NextStep::Rest(wait) => return FollowEnd::Rest(wait),
            }
        }
    }

    fn step_after(&mut self, end: AttemptEnd) -> Result<(NextStep, Option<ShownState>), FollowEnd> {
        let jitter = self.jitter();
        let provider = self.provider().as_str();
        match end {
            AttemptEnd::Failed(failure) => {
                metrics::push_stream_ended(provider, failure.as_str());
                Ok(next_step(failure, &mut self.tries, Instant::now(), jitter))
            }
            AttemptEnd::NoAccess => {
                metrics::push_stream_ended(provider, "credentials");
                Ok(rest_without_access(jitter))
            }
            AttemptEnd::Aged => Ok((NextStep::Again(Duration::ZERO), None)),
            AttemptEnd::LeaseLost => Err(FollowEnd::LeaseLost),
            AttemptEnd::Store(error) if !error.is_transient() => {
                warn!(error = %chain(&error), "the database refuses what a stream of changes brought, which is passed");
                metrics::push_stream_ended(provider, "not_stored");
                // Also after a rest.
                self.place = None;
                Ok(pass_unstorable(&mut self.tries, jitter))
            }
            AttemptEnd::Store(error) => {
                warn!(error = %chain(&error), "the database did not do its part for a stream of changes");
                self.tries.failures = self.tries.failures.saturating_add(1);
                Ok((NextStep::Again(backoff(STORE_WAIT, self.tries.failures, jitter)), None))
            }
        }
    }

    /// One subscription, to its end.
    async fn attempt(&mut self) -> AttemptEnd {
        match self.try_once().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn try_once(&mut self) -> Result<std::convert::Infallible, AttemptEnd> {
        let client = self.connect().await?;
        let request = StreamRequest {
            object: self.object,
            after: self.place.clone(),
            events_max: self.tries.events_max(Instant::now()),
            port_turn: self.tries.port_turn,
        };
        client.check_stream(&request).await?;
        let covered_until = if self.place.is_none() { Some(self.cover_what_was_missed().await?) } else { None };
        let mut changes = client.follow(request);
        drop(client);
        let now = Instant::now();
        let mut open = OpenStream {
            began_at: self.of.context.clock.now(),
            covered_until,
            is_heard: false,
            is_shown: self.tries.failures > 0,
            place_saved: now,
            noted: None,
            note: None,
        };
        let silence_max = self.of.context.settings.stream_silence;
        let mut heard_at = now;
        loop {
            let silence_left = (heard_at + silence_max).saturating_duration_since(Instant::now());
            let first = if open.is_shown { silence_left } else { OPEN_AFTER };
            let noting = open.note.map_or(silence_left, |_| NOTE_EVERY);
            // Dropping the wait leaves the stream where it is.
            let next = timeout(cmp::min(silence_left, first.min(noting)), changes.next()).await;
            self.note(&mut open).await;
            match next {
                Ok(Some(batch)) => {
                    heard_at = Instant::now();
                    self.store(batch?, &mut open).await?;
                    self.tries.succeed();
                    (open.is_heard, open.is_shown) = (true, true);
                    self.show((PushState::Active, None)).await;
                    if self.of.context.clock.now() - open.began_at >= OPEN_FOR {
                        return Err(AttemptEnd::Aged);
                    }
                }
                Ok(None) => return Err(self.silent().into()),
                Err(_) if heard_at.elapsed() >= silence_max => return Err(self.silent().into()),
                Err(_) if open.is_shown => {}
                Err(_) => {
                    open.is_shown = true;
                    self.show((PushState::Active, None)).await;
                }
            }
        }
    }

    fn silent(&self) -> StreamFailure {
        StreamFailure::Broke(CrmError::TimedOut { host: self.of.organization.name.clone() })
    }

    async fn connect(&mut self) -> Result<Box<dyn CrmClient>, AttemptEnd> {
        let FollowedIntegration { context, lease, organization, options, .. } = &*self.of;
        let (account_id, integration_id) = (lease.account_id, lease.integration_id);
        let access = context.access_tokens.current(account_id, integration_id, organization, self.used).await;
        let access = match access {
            Ok(access) => access,
            Err(AccessError::Store(error)) => return Err(AttemptEnd::Store(error)),
            Err(AccessError::Crm(error)) if error.retry() != RetryAdvice::Never => {
                return Err(StreamFailure::Broke(error).into());
            }
            Err(error) => {
                info!(error = %chain(&error), "there is no access for a stream of changes");
                return Err(AttemptEnd::NoAccess);
            }
        };
        (self.used, self.version) = (None, access.version);
        let target = ClientTarget {
            is_trial: false,
            is_first_copy: false,
            is_beside: false,
            organization,
            options: options.clone(),
            access,
        };
        context.crms.client(target).map_err(|error| AttemptEnd::Failed(error.into()))
    }

    /// Until when what changes is covered by a poll, which waits until its lists show that.
    async fn cover_what_was_missed(&self) -> Result<DateTime<Utc>, AttemptEnd> {
        let until = self.of.context.clock.now() + COVERED_FOR;
        let listing_lag = self.of.context.crms.descriptor(self.provider()).listing_lag;
        let hint = NewHint { not_before: Some(until + listing_lag), ..whole(Some(until)) };
        let work = StartAnew { lease: self.of.lease, object: self.object, hints: self.hints(vec![hint]) };
        let is_held = self.of.context.db.of(self.of.lease.account_id).run(work).await.map_err(AttemptEnd::Store)?;
        if !is_held {
            return Err(AttemptEnd::LeaseLost);
        }
        self.of.context.wake.notify_one();
        Ok(until)
    }

    /// Stores what came, however long the database takes: what is not stored is not passed.
    async fn store(&mut self, batch: StreamBatch, open: &mut OpenStream) -> Result<(), AttemptEnd> {
        let context = &self.of.context;
        let now = context.clock.now();
        let event_at = batch.newest_event_at.filter(|time| *time <= now + AHEAD_MAX);
        metrics::push_events(self.provider().as_str(), &batch.counts.named());
        if let Some(event_at) = event_at {
            metrics::push_lag(self.provider().as_str(), (now - event_at).to_std().unwrap_or_default());
            open.note = open.note.max(Some(event_at));
        }
        let mut hints: Vec<NewHint> = match batch.reach {
            EventReach::Nothing => Vec::new(),
            EventReach::Everything => vec![whole(event_at)],
            EventReach::Records(records) => records
                .into_iter()
                .map(|record| NewHint {
                    event_time: event_at,
                    record_updated_at: record.updated_at,
                    successor: record.successor,
                    ..NewHint::of_record(record.key, HintReason::Event)
                })
                .collect(),
        };
        if open.covered_until.take().is_some_and(|until| now > until) {
            hints.push(whole(Some(now)));
        }
        self.place = Some(batch.place.clone());
        let has_hints = !hints.is_empty();
        if !has_hints && open.is_heard && open.place_saved.elapsed() < PLACE_EVERY {
            return Ok(());
        }
        let hints = self.hints(hints);
        let work = SaveBatch { lease: self.of.lease, object: self.object, place: batch.place, hints };
        let (mut failures, mut refusals) = (0, 0);
        loop {
            match context.db.of(self.of.lease.account_id).run(work.clone()).await {
                Ok(true) => break,
                Ok(false) => return Err(AttemptEnd::LeaseLost),
                Err(error) => {
                    failures += 1;
                    refusals += u32::from(!error.is_transient());
                    if refusals >= STORE_REFUSALS_MAX {
                        return Err(AttemptEnd::Store(error));
                    }
                    if failures == 1 {
                        warn!(error = %chain(&error), "changes that came are not stored yet, and are tried again");
                    }
                    sleep(backoff(STORE_WAIT, failures, self.jitter())).await;
                }
            }
        }
        open.place_saved = Instant::now();
        if has_hints {
            context.wake.notify_one();
        }
        Ok(())
    }

    /// Notes the newest event's time now and then; losing it costs a figure.
    async fn note(&self, open: &mut OpenStream) {
        if open.noted.is_some_and(|noted| noted.elapsed() < NOTE_EVERY) {
            return;
        }
        let Some(event_at) = open.note.take() else { return };
        open.noted = Some(Instant::now());
        let (context, lease) = (&self.of.context, self.of.lease);
        let lag_ms = (context.clock.now() - event_at).num_milliseconds().max(0);
        let noted =
            push_channels::note_event(&context.db, lease.account_id, lease.integration_id, event_at, lag_ms).await;
        if let Err(error) = noted {
            warn!(error = %chain(&error), "the time of the newest change could not be noted");
        }
    }

    fn hints(&self, hints: Vec<NewHint>) -> StreamHints {
        let context = &self.of.context;
        let now = context.clock.now();
        let listing_lag = context.crms.descriptor(self.provider()).listing_lag;
        StreamHints { hints, listing_lag, write_id: context.ids.new_v7(now), now }
    }

    async fn show(&self, shown: ShownState) {
        self.of.board.show(&self.of.context, self.object, shown).await;
    }

    fn provider(&self) -> Provider {
        self.of.organization.provider
    }

    fn jitter(&self) -> u8 {
        self.of.context.ids.with_rng(|rng| {
            let mut byte = [0; 1];
            rng.fill_bytes(&mut byte);
            byte[0]
        })
    }
}
