//! What is written for a stream: each a transaction under the stream's lease, whose number fences
//! it. The place and the hints of what came before it are one.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::next_step::ShownState;
use crate::{
    domain::{
        hint::{HintBatch, HintReason, NewHint},
        record::ObjectType,
        stream::StreamPlace,
    },
    store::{
        StoreError, Transaction, Tx, hints, push_channels,
        push_streams::{self, PushLease, StreamRest},
    },
};

/// Hints of one write.
#[derive(Debug, Clone)]
pub(super) struct StreamHints {
    pub hints: Vec<NewHint>,
    pub listing_lag: TimeDelta,
    pub write_id: Uuid,
    pub now: DateTime<Utc>,
}

impl StreamHints {
    async fn write(&self, tx: &mut Tx, lease: PushLease) -> Result<(), StoreError> {
        let Self { hints, listing_lag, write_id, now } = self;
        if hints.is_empty() {
            return Ok(());
        }
        let PushLease { account_id, integration_id, .. } = lease;
        let (listing_lag, write_id, now) = (*listing_lag, *write_id, *now);
        hints::write_in(tx, &HintBatch { account_id, integration_id, hints, listing_lag, write_id, now }).await
    }
}

/// Stores what came, and how far the stream was read. False: the lease is lost.
#[derive(Clone)]
pub(super) struct SaveBatch {
    pub lease: PushLease,
    pub object: ObjectType,
    pub place: StreamPlace,
    pub hints: StreamHints,
}

impl Transaction for SaveBatch {
    const NAME: &'static str = "save_batch";
    type Output = bool;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        if !push_streams::save_place(tx, self.lease, self.object, self.place.clone()).await? {
            return Ok(false);
        }
        self.hints.write(tx, self.lease).await?;
        Ok(true)
    }
}

/// Before a stream that begins at now: any record may have changed. False: the lease is lost.
#[derive(Clone)]
pub(super) struct StartAnew {
    pub lease: PushLease,
    pub object: ObjectType,
    pub hints: StreamHints,
}

impl Transaction for StartAnew {
    const NAME: &'static str = "start_anew";
    type Output = bool;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        if !push_streams::forget_place(tx, self.lease, self.object).await? {
            return Ok(false);
        }
        self.hints.write(tx, self.lease).await?;
        Ok(true)
    }
}

/// Stores how changes arrive. False: the lease is lost.
pub(super) struct SaveStanding {
    pub lease: PushLease,
    pub shown: ShownState,
    pub now: DateTime<Utc>,
}

impl Transaction for SaveStanding {
    const NAME: &'static str = "save_standing";
    type Output = bool;
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        if !push_streams::lock(tx, self.lease).await? {
            return Ok(false);
        }
        let (state, notice) = &self.shown;
        push_channels::save_standing(tx, self.lease, *state, notice.as_ref(), self.now).await?;
        Ok(true)
    }
}

/// Gives a stream back; of one that is over nothing is shown any more.
pub(super) struct RestStreams {
    pub lease: PushLease,
    pub rest: StreamRest,
    pub now: DateTime<Utc>,
}

impl Transaction for RestStreams {
    const NAME: &'static str = "rest_streams";
    type Output = ();
    type Error = StoreError;

    async fn run(&self, tx: &mut Tx) -> Result<(), StoreError> {
        let Self { lease, rest, now } = *self;
        if push_streams::rest(tx, lease, rest, now).await? && rest == StreamRest::Over {
            push_channels::remove(tx, lease.account_id, lease.integration_id).await?;
        }
        Ok(())
    }
}

/// A hint of anything.
pub(super) const fn whole(event_at: Option<DateTime<Utc>>) -> NewHint {
    NewHint::of_integration(HintReason::Event, event_at)
}
