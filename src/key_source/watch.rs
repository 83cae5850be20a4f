//! Keys that are read again for as long as the service runs: from time to time, sooner when
//! somebody asks for it, and at growing distances while they cannot be had. What was taken last
//! stays until something better comes.

use std::{error::Error, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{EarlyLook, KeySource};
use crate::{domain::ids::IdSource, telemetry::chain};

/// After a first look in vain; doubled after each further one, up to the usual distance.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Between the tries of a start; with them it takes a minute at most.
const START_PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// Keys that are read again.
pub struct KeyWatch {
    /// What they are, for the log: `key set`.
    pub name: &'static str,
    /// Where they are.
    pub source: KeySource,
    /// From look to look; up to a quarter sooner, so that processes do not come together.
    pub every: Duration,
    /// Who may have them read sooner.
    pub early: EarlyLook,
    /// For jitter.
    pub ids: Arc<IdSource>,
    /// Of the text that was taken last. The text itself may be a secret.
    taken: [u8; 32],
    fault: Option<String>,
    faults_in_a_row: u32,
}

/// Why there are no keys to start with.
#[derive(Debug, Error)]
#[error("{source_name}: {fault}")]
pub struct StartError {
    source_name: String,
    fault: String,
}

impl KeyWatch {
    /// Of keys of which this text was taken.
    pub fn new(name: &'static str, source: KeySource, taken: &str, every: Duration, ids: Arc<IdSource>) -> Self {
        let early = EarlyLook::default();
        Self { name, source, every, early, ids, taken: Sha256::digest(taken).into(), fault: None, faults_in_a_row: 0 }
    }

    /// Looks again and again until the stop, and has every other text taken.
    pub async fn watch_until<E: Error + 'static>(
        mut self,
        take: impl Fn(&str) -> Result<(), E>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(self.next_look()) => {}
                () = self.early.asked() => {}
            }
            // A disk or a name server that hangs must not hold the end of the process.
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look(&take) => {}
            }
        }
    }

    /// Looks once. A fault, and that it is over, is logged once.
    pub async fn look<E: Error + 'static>(&mut self, take: impl Fn(&str) -> Result<(), E>) {
        let (name, from) = (self.name, self.source.to_string());
        let looked = match self.source.read().await {
            Ok(text) => self.take(&text, take).map_err(|error| chain(&error).to_string()),
            Err(error) => Err(chain(&error).to_string()),
        };
        self.early.finish();
        match looked {
            Ok(is_new) => {
                self.faults_in_a_row = 0;
                if self.fault.take().is_some() || is_new {
                    info!(keys = name, from, "keys were read again");
                }
            }
            Err(error) => {
                self.faults_in_a_row = self.faults_in_a_row.saturating_add(1);
                if self.fault.as_ref() != Some(&error) {
                    warn!(keys = name, from, error, "keys cannot be read again; the last ones stay");
                }
                self.fault = Some(error);
            }
        }
    }

    /// Whether it is another text than before.
    fn take<E: Error + 'static>(&mut self, text: &str, take: impl Fn(&str) -> Result<(), E>) -> Result<bool, E> {
        let hash: [u8; 32] = Sha256::digest(text).into();
        if hash == self.taken {
            return Ok(false);
        }
        take(text)?;
        self.taken = hash;
        Ok(true)
    }

    fn next_look(&self) -> Duration {
        let full = match self.faults_in_a_row {
            0 => self.every,
            faults => RETRY_AFTER.saturating_mul(2_u32.saturating_pow(faults - 1)).min(self.every),
        };
        let jitter: u8 = self.ids.with_rng(rand::RngExt::random);
        full.saturating_sub(full / 4 * u32::from(jitter) / 255)
    }
}

/// The first keys. A file is read once; an address has five tries, since a network may come up with
/// the machine. Returns what `take` made of them, and the watch that goes on with them.
pub async fn read_at_start<T, E: Error + 'static>(
    name: &'static str,
    source: KeySource,
    every: Duration,
    ids: Arc<IdSource>,
    take: impl Fn(&str) -> Result<T, E>,
) -> Result<(T, KeyWatch), StartError> {
    let mut pauses = START_PAUSES.iter();
    loop {
        let fault = match source.read().await {
            Ok(text) => match take(&text) {
                Ok(taken) => return Ok((taken, KeyWatch::new(name, source, &text, every, ids))),
                Err(error) => chain(&error).to_string(),
            },
            Err(error) => chain(&error).to_string(),
        };
        let pause = pauses.next().filter(|_| matches!(source, KeySource::Address(_)));
        let Some(pause) = pause else { return Err(StartError { source_name: source.to_string(), fault }) };
        warn!(keys = name, from = %source, error = fault, "keys cannot be read yet, will try again");
        sleep(*pause).await;
    }
}
