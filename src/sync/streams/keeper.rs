//! Holds the streams of one integration under their lease: a follower for each kind that is copied,
//! and a heartbeat that sees whether they are still wished. When all of them rest, the lease is
//! given back.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use chrono::TimeDelta;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, error_span, info, warn};

use super::{
    follower::{FollowEnd, FollowedIntegration, StreamFollower},
    standing::StreamBoard,
    writes::RestStreams,
};
use crate::{
    store::push_streams::{self, ClaimedStreams, PushLease, StreamRest, StreamWish},
    sync::{context::SyncContext, heartbeat},
    telemetry::{chain, metrics, traces},
};

/// Why nobody here holds the streams any more.
#[derive(Debug)]
enum KeeperEnd {
    /// Somebody else may.
    LeaseLost,
    /// Nobody is to.
    Unwished,
    /// Nobody can, before somebody has brought other credentials.
    NoAccess,
    /// The process stops, or something else is copied now: to be taken up anew at once.
    GivenBack,
    /// All of them rest for so long.
    Resting(Duration),
}

/// Follows what was claimed until it is lost, not wished, rests, or `stop` is cancelled.
pub(super) async fn keep(context: Arc<SyncContext>, claimed: ClaimedStreams, stop: CancellationToken) {
    let lease = claimed.lease;
    let span = error_span!(target: traces::ROOT_TARGET, "push_stream", account.id = %lease.account_id, integration.id = %lease.integration_id);
    let provider = claimed.organization.provider.as_str();
    let _counted = metrics::CountedStream::new(provider);
    let keeping = async {
        let end = hold(&context, claimed, &stop).await;
        // Why they rest is counted already, each kind's.
        if !matches!(end, KeeperEnd::Resting(_)) {
            metrics::push_stream_ended(provider, "stopped");
        }
        give_back(&context, lease, &end).await;
    };
    keeping.instrument(span).await;
}

async fn hold(context: &Arc<SyncContext>, claimed: ClaimedStreams, stop: &CancellationToken) -> KeeperEnd {
    let ClaimedStreams { lease, organization, wish, places, is_degraded } = claimed;
    if let Some(end) = not_to_follow(&wish) {
        return end;
    }
    debug!("streams of changes are followed");
    let kinds = wish.options.copied(organization.provider);
    let of = Arc::new(FollowedIntegration {
        context: Arc::clone(context),
        lease,
        organization,
        options: wish.options.clone(),
        board: StreamBoard::new(lease),
    });
    let followers: Vec<StreamFollower> = kinds
        .into_iter()
        .map(|object| StreamFollower::new(Arc::clone(&of), object, places.get(object).cloned(), is_degraded))
        .collect();
    tokio::select! {
        biased;
        () = stop.cancelled() => KeeperEnd::GivenBack,
        end = follow_all(followers) => match end {
            KeeperEnd::LeaseLost => why_refused(context, lease).await,
            end => end,
        },
        end = keep_lease(context, lease, wish) => end,
    }
}

/// Why nobody is to follow what is wished so; `None`: somebody is.
fn not_to_follow(wish: &StreamWish) -> Option<KeeperEnd> {
    match (wish.is_wished(), wish.has_access) {
        (false, _) => Some(KeeperEnd::Unwished),
        (true, false) => Some(KeeperEnd::NoAccess),
        (true, true) => None,
    }
}

/// The heartbeat, and the end of what is not wished any more.
async fn keep_lease(context: &SyncContext, lease: PushLease, wish: StreamWish) -> KeeperEnd {
    let extend = || async {
        Ok(match push_streams::extend(&context.db, lease, context.settings.lease).await? {
            None => ControlFlow::Break(KeeperEnd::LeaseLost),
            Some(now) => match not_to_follow(&now) {
                Some(end) => ControlFlow::Break(end),
                None if now != wish => ControlFlow::Break(KeeperEnd::GivenBack),
                None => ControlFlow::Continue(()),
            },
        })
    };
    heartbeat::keep(&context.settings, extend).await.unwrap_or(KeeperEnd::LeaseLost)
}

/// A write was refused: the lease is lost, or nobody wishes for the streams any more and no
/// heartbeat has seen that yet.
async fn why_refused(context: &SyncContext, lease: PushLease) -> KeeperEnd {
    match push_streams::extend(&context.db, lease, context.settings.lease).await {
        Ok(Some(now)) => not_to_follow(&now).unwrap_or(KeeperEnd::GivenBack),
        Ok(None) | Err(_) => KeeperEnd::LeaseLost,
    }
}

/// Each kind by itself; one that rests waits here while another is followed.
async fn follow_all(followers: Vec<StreamFollower>) -> KeeperEnd {
    let mut running: FuturesUnordered<BoxFuture<'static, (StreamFollower, FollowEnd)>> =
        followers.into_iter().map(run).collect();
    let mut resting: Vec<(Instant, StreamFollower)> = Vec::new();
    loop {
        let earliest = resting.iter().map(|(until, _)| *until).min();
        if running.is_empty() {
            let rest = earliest.map(|until| until.saturating_duration_since(Instant::now()));
            return KeeperEnd::Resting(rest.unwrap_or(super::next_step::REST));
        }
        let woken = async {
            match earliest {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((follower, end)) = running.next() => match end {
                FollowEnd::LeaseLost => return KeeperEnd::LeaseLost,
                FollowEnd::Rest(wait) => resting.push((Instant::now() + wait, follower)),
            },
            () = woken => {
                let now = Instant::now();
                let (due, others): (Vec<_>, Vec<_>) = resting.into_iter().partition(|(until, _)| *until <= now);
                resting = others;
                running.extend(due.into_iter().map(|(_, follower)| run(follower)));
            }
        }
    }
}

fn run(mut follower: StreamFollower) -> BoxFuture<'static, (StreamFollower, FollowEnd)> {
    Box::pin(async move {
        let end = follower.follow().await;
        (follower, end)
    })
}

async fn give_back(context: &SyncContext, lease: PushLease, end: &KeeperEnd) {
    let now = context.clock.now();
    let rest = match end {
        KeeperEnd::LeaseLost => {
            warn!("the lease of a stream is lost: it is followed elsewhere");
            return;
        }
        KeeperEnd::Unwished => StreamRest::Over,
        KeeperEnd::NoAccess => StreamRest::Paused,
        KeeperEnd::GivenBack => StreamRest::Until(now),
        KeeperEnd::Resting(wait) => {
            info!(seconds = wait.as_secs(), "a stream of changes rests, and changes are polled");
            StreamRest::Until(now + TimeDelta::from_std(*wait).unwrap_or_default())
        }
    };
    if let Err(error) = context.db.of(lease.account_id).run(RestStreams { lease, rest, now }).await {
        warn!(error = %chain(&error), "a stream could not be given back: it is taken up when its lease is over");
    }
}
