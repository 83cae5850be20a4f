//! Takes what CRMs push: whose it is, whether it is the CRM's, and what may have changed, which
//! becomes hints. An event is never data. What costs anything comes after what a stranger cannot
//! pass; what holds memory or the database has a place first. Must not know HTTP's ways of saying
//! no: that is the listener's.

mod pressure;

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use http::HeaderMap;
use moka::sync::Cache;
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::pressure::{COVERED_FOR, HookPressure, PressureVerdict};
use super::context::IntegrationContext;
use crate::{
    credentials::CredentialsError,
    crm::{EventReach, HookDelivery, HookRefusal},
    domain::{
        hint::{HintBatch, HintReason, NewHint},
        hook::{HookAddress, HookSecret},
        ids::{AccountId, IntegrationId},
        provider::Provider,
    },
    store::{self, StoreError, push_channels},
    telemetry::{chain, metrics},
};

/// Requests of hooks that are worked on at once, of the process: of the listener's 256 connections
/// some are always left for others.
const REQUESTS_MAX: usize = 192;
/// Of one address at once ..
const REQUESTS_OF_ADDRESS_MAX: usize = 8;
/// .. and as many more that wait a moment: of all that the process has, no address takes more.
const PLACES_OF_ADDRESS_MAX: usize = 2 * REQUESTS_OF_ADDRESS_MAX;
/// Statements at once: a burst leaves connections for everybody else who uses the pool.
const STATEMENTS_MAX: usize = 2;
/// How long a place is waited for.
const PLACE_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long hints may take to be written.
const WRITE_MAX: Duration = Duration::from_secs(1);
/// Addresses that are remembered: as many as were ever given out, at most.
const ADDRESSES_MAX: u64 = 10_000;
/// How long it is remembered whose an address is, or that it is nobody's.
const OWNER_KEPT: Duration = Duration::from_secs(10);
/// How old what is remembered must be to be doubted by an event that does not show the secret: a
/// run may have taken up a new one.
const DOUBTED_AFTER: TimeDelta = TimeDelta::seconds(1);
/// How long it is remembered what has come to an address.
const PRESSURE_KEPT: Duration = Duration::from_mins(10);
/// From writing to writing of the newest events' times.
const NOTE_EVERY: Duration = Duration::from_secs(10);
/// Integrations whose newest event waits to be noted.
const NOTES_MAX: usize = 10_000;

/// Takes events.
pub struct HookReceiver {
    context: IntegrationContext,
    owners: Cache<HookAddress, Option<Arc<KnownHook>>>,
    senders: Cache<HookAddress, Arc<HookSender>>,
    room: Arc<Semaphore>,
    statements: Arc<Semaphore>,
    notes: Mutex<HashMap<(AccountId, IntegrationId), EventNote>>,
}

/// Whose events an address is for. The secret is in the clear for [`OWNER_KEPT`].
pub struct KnownHook {
    account_id: AccountId,
    integration_id: IntegrationId,
    provider: Provider,
    secret: HookSecret,
    is_on: bool,
    looked_at: DateTime<Utc>,
}

/// What comes to one address.
struct HookSender {
    /// Those that wait among them.
    places: Arc<Semaphore>,
    working: Arc<Semaphore>,
    pressure: Mutex<HookPressure>,
}

/// The newest event of an integration.
#[derive(Debug, Clone, Copy)]
struct EventNote {
    event_at: DateTime<Utc>,
    lag: TimeDelta,
}

/// A place to work in; given back when it is dropped.
pub struct HookPlace {
    _of_address: OwnedSemaphorePermit,
    _of_process: OwnedSemaphorePermit,
    _working: OwnedSemaphorePermit,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookOutcome {
    /// What it says is a hint now.
    Stored,
    /// There are so many that one hint speaks for all of them.
    Storm,
    /// Nothing that is copied, or copied no more.
    Ignored,
    /// The CRM's, and not understood: anything may have changed.
    Unreadable,
    /// Not the CRM's.
    Unsigned,
}

/// Why an event could not be taken. The CRM is to send it again.
#[derive(Debug, Error)]
pub enum HookError {
    /// All statements are under way, or the hook is being made.
    #[error("too many events at once")]
    Busy,
    /// The secret does not open.
    #[error("the hook's secret cannot be used")]
    Secret(#[from] CredentialsError),
    /// The database.
    #[error("the event could not be stored")]
    Store(#[from] StoreError),
}

impl HookReceiver {
    /// Takes nothing yet.
    pub fn new(context: IntegrationContext) -> Self {
        Self {
            context,
            owners: Cache::builder().max_capacity(ADDRESSES_MAX).time_to_live(OWNER_KEPT).build(),
            senders: Cache::builder().max_capacity(ADDRESSES_MAX).time_to_idle(PRESSURE_KEPT).build(),
            room: Arc::new(Semaphore::new(REQUESTS_MAX)),
            statements: Arc::new(Semaphore::new(STATEMENTS_MAX)),
            notes: Mutex::default(),
        }
    }

    /// Reads an address; `None`: this service has never given it out. By arithmetic alone.
    pub fn address(&self, provider: &str, text: &str) -> Option<(Provider, HookAddress)> {
        let provider = Provider::ALL.iter().copied().find(|known| known.setting_name() == provider)?;
        if !self.context.crms.has_hooks(provider) || text.len() != crate::domain::hook::ADDRESS_CHARS {
            return None;
        }
        let keys = self.context.vault.key_ring.hook_address_keys();
        keys.iter().find_map(|key| key.read(provider, text)).map(|address| (provider, address))
    }

    /// A place for a request; `None`: there are too many, of all or of this address.
    pub async fn admit(&self, address: HookAddress) -> Option<HookPlace> {
        let sender = self.sender(address);
        let of_address = Arc::clone(&sender.places).try_acquire_owned().ok()?;
        let of_process = Arc::clone(&self.room).try_acquire_owned().ok()?;
        let working = timeout(PLACE_WAIT_MAX, Arc::clone(&sender.working).acquire_owned()).await.ok()?.ok()?;
        Some(HookPlace { _of_address: of_address, _of_process: of_process, _working: working })
    }

    /// Whose an address is; `None`: nobody's any more.
    pub async fn open(&self, provider: Provider, address: HookAddress) -> Result<Option<Arc<KnownHook>>, HookError> {
        if let Some(known) = self.owners.get(&address) {
            return Ok(known);
        }
        let _statement = self.statement().await?;
        let found = push_channels::find_owner(&self.context.db, address).await?;
        let known = match found.filter(|owner| owner.provider == provider) {
            None => None,
            Some(owner) => {
                let (account_id, integration_id) = (address.account_id, owner.integration_id);
                let secret = self.context.vault.open_hook(account_id, integration_id, &owner.secret)?;
                if !secret.is_known() {
                    // The CRM has the hook, and has not said yet what its events show.
                    return Err(HookError::Busy);
                }
                let (is_on, looked_at) = (owner.is_on, self.context.clock.now());
                Some(Arc::new(KnownHook { account_id, integration_id, provider, secret, is_on, looked_at }))
            }
        };
        self.owners.insert(address, known.clone());
        Ok(known)
    }

    /// Takes an event that has come whole.
    pub async fn take(
        &self,
        known: &KnownHook,
        address: HookAddress,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<HookOutcome, HookError> {
        let now = self.context.clock.now();
        let read = |secret: &HookSecret| {
            self.context.crms.read_hook(known.provider, &HookDelivery { headers, body }, secret, now)
        };
        let read = match read(&known.secret) {
            Err(HookRefusal::Unsigned) if (now - known.looked_at).abs() > DOUBTED_AFTER => {
                self.owners.invalidate(&address);
                match self.open(known.provider, address).await? {
                    Some(anew) => read(&anew.secret),
                    None => return Ok(HookOutcome::Unsigned),
                }
            }
            read => read,
        };
        let (event_at, reach, outcome) = match read {
            Err(HookRefusal::Unsigned) => return Ok(HookOutcome::Unsigned),
            _ if !known.is_on => return Ok(HookOutcome::Ignored),
            Err(HookRefusal::Unreadable) => (None, EventReach::Everything, HookOutcome::Unreadable),
            Ok(message) => (message.event_at, message.reach, HookOutcome::Stored),
        };
        if let Some(event_at) = event_at {
            self.note(known, event_at, now);
        }
        let records = match reach {
            EventReach::Nothing => return Ok(HookOutcome::Ignored),
            EventReach::Everything => Vec::new(),
            EventReach::Records(records) => records,
        };
        // Who was merged into whom is in the event alone.
        let names_a_merge = records.iter().any(|record| record.successor.is_some());
        let (sender, begun) = (self.sender(address), Instant::now());
        let verdict = if names_a_merge { PressureVerdict::Store } else { lock(&sender.pressure).admit(begun) };
        let hints: Vec<NewHint> = match verdict {
            PressureVerdict::Covered => return Ok(HookOutcome::Storm),
            PressureVerdict::Store if !records.is_empty() => records
                .into_iter()
                .map(|record| NewHint {
                    event_time: event_at,
                    record_updated_at: record.updated_at,
                    successor: record.successor,
                    ..NewHint::of_record(record.key, HintReason::Event)
                })
                .collect(),
            PressureVerdict::Store => vec![NewHint::of_integration(HintReason::Event, event_at)],
            PressureVerdict::StoreWhole => vec![self.hint_of_whole(known.provider, now)],
        };
        self.write(known, &hints, now).await?;
        if verdict == PressureVerdict::StoreWhole {
            lock(&sender.pressure).cover(begun);
            return Ok(HookOutcome::Storm);
        }
        Ok(outcome)
    }

    /// Speaks for the events of the next second, too: it is taken up once the CRM's lists show
    /// them.
    fn hint_of_whole(&self, provider: Provider, now: DateTime<Utc>) -> NewHint {
        let covered_until = now + TimeDelta::from_std(COVERED_FOR).unwrap_or_default();
        let not_before = covered_until + self.context.crms.descriptor(provider).listing_lag;
        NewHint { not_before: Some(not_before), ..NewHint::of_integration(HintReason::Event, Some(covered_until)) }
    }

    async fn write(&self, known: &KnownHook, hints: &[NewHint], now: DateTime<Utc>) -> Result<(), HookError> {
        let _statement = self.statement().await?;
        let batch = HintBatch {
            account_id: known.account_id,
            integration_id: known.integration_id,
            hints,
            listing_lag: self.context.crms.descriptor(known.provider).listing_lag,
            write_id: self.context.ids.new_v7(now),
            now,
        };
        store::hints::write(&self.context.db, &batch, WRITE_MAX).await?;
        self.context.wake.notify_one();
        Ok(())
    }

    async fn statement(&self) -> Result<OwnedSemaphorePermit, HookError> {
        let place = timeout(PLACE_WAIT_MAX, Arc::clone(&self.statements).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or(HookError::Busy)
    }

    fn sender(&self, address: HookAddress) -> Arc<HookSender> {
        self.senders.get_with(address, || {
            Arc::new(HookSender {
                places: Arc::new(Semaphore::new(PLACES_OF_ADDRESS_MAX)),
                working: Arc::new(Semaphore::new(REQUESTS_OF_ADDRESS_MAX)),
                pressure: Mutex::new(HookPressure::new(Instant::now())),
            })
        })
    }

    fn note(&self, known: &KnownHook, event_at: DateTime<Utc>, now: DateTime<Utc>) {
        let lag = (now - event_at).max(TimeDelta::zero());
        metrics::push_lag(known.provider.as_str(), lag.to_std().unwrap_or_default());
        let (key, note) = ((known.account_id, known.integration_id), EventNote { event_at, lag });
        let mut notes = lock(&self.notes);
        if notes.len() < NOTES_MAX || notes.contains_key(&key) {
            let newest = notes.entry(key).or_insert(note);
            if newest.event_at < event_at {
                *newest = note;
            }
        }
    }

    /// Writes the times of the newest events now and then, until `stop` is cancelled; then once
    /// more. What a crash loses are figures of some seconds, and no hint.
    pub async fn note_until(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let is_over = tokio::select! {
                () = stop.cancelled() => true,
                () = sleep(NOTE_EVERY) => false,
            };
            self.write_notes().await;
            if is_over {
                return;
            }
        }
    }

    /// Writes the times of the newest events, as is done by itself now and then.
    pub async fn write_notes(&self) {
        let notes = mem::take(&mut *lock(&self.notes));
        for ((account_id, integration_id), EventNote { event_at, lag }) in notes {
            let lag_ms = lag.num_milliseconds();
            let written =
                push_channels::note_event(&self.context.db, account_id, integration_id, event_at, lag_ms).await;
            if let Err(error) = written {
                // The database has other troubles, and newer events come.
                warn!(error = %chain(&error), "the times of the newest events could not be noted");
                return;
            }
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
